// Candidates' rows become tiles, and tiles become rows.
#pragma once

#include "pair/formats.hpp"
#include "pair/kernels.hpp"

namespace bowerbird::pair::BOWERBIRD_PAIR_ISA {
namespace {

// Row i's lane j becomes row j's lane i.
BOWERBIRD_INLINE void transpose(V (&rows)[kLanes]) {
#pragma GCC unroll 4
  for (std::size_t round = 1; round < kLanes; round *= 2) {
    V next[kLanes];
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kLanes / 2; ++i) {
      next[2 * i] = interleave_low(rows[i], rows[i + kLanes / 2]);
      next[2 * i + 1] = interleave_high(rows[i], rows[i + kLanes / 2]);
    }
#pragma GCC unroll 16
    for (std::size_t i = 0; i < kLanes; ++i) rows[i] = next[i];
  }
}

// The rows of one vector of candidates; `row_of` gives the row of candidate i, `size` of which there are.
template <typename Row>
BOWERBIRD_INLINE void gather_vector(const Stored& stored, std::size_t candidate, std::size_t size, std::size_t first,
                                    std::size_t count, float* out) {
  using Value = typename Row::Value;
  const Value* rows[kLanes];
  float scales[kLanes];
  for (std::size_t i = 0; i < kLanes; ++i) {
    const std::size_t at = candidate + (i < size ? i : size - 1);
    const std::size_t place = stored.places == nullptr ? at : static_cast<std::size_t>(stored.places[at]);
    rows[i] = static_cast<const Value*>(stored.values) + place * stored.width + first;
    scales[i] = stored.scales == nullptr ? 1.0f : stored.scales[place];
  }
  std::size_t column = 0;
  for (; column + kLanes <= count; column += kLanes) {
    V block[kLanes];
#pragma GCC unroll 16
    for (std::size_t i = 0; i < kLanes; ++i) {
      block[i] = Row::read(rows[i] + column, scales[i]);
      __builtin_prefetch(rows[i] + column + count);  // what the next call will read, if it goes on in these rows
    }
    transpose(block);
#pragma GCC unroll 16
    for (std::size_t i = 0; i < kLanes; ++i) store(out + (column + i) * kTile, block[i]);
  }
  if (column == count) return;
  for (std::size_t i = 0; i < kLanes; ++i) {
    Value rest[kLanes] = {};
    for (std::size_t c = column; c < count; ++c) rest[c - column] = rows[i][c];
    const V values = Row::read(rest, scales[i]);
    for (std::size_t c = column; c < count; ++c) out[c * kTile + i] = values[c - column];
  }
}

template <typename Row>
BOWERBIRD_INLINE void gather_rows(const Stored& stored, std::size_t candidate, std::size_t size, std::size_t first,
                                  std::size_t count, float* out) {
  for (std::size_t lane = 0; lane < size; lane += kLanes) {
    gather_vector<Row>(stored, candidate + lane, size - lane < kLanes ? size - lane : kLanes, first, count, out + lane);
  }
}

void gather(const Stored& stored, std::size_t candidate, std::size_t size, std::size_t first, std::size_t count,
            float* out) {
  switch (stored.format) {
    case Format::kFp32: return gather_rows<Fp32Row>(stored, candidate, size, first, count, out);
    case Format::kFp16: return gather_rows<Fp16Row>(stored, candidate, size, first, count, out);
    case Format::kBf16: return gather_rows<Bf16Row>(stored, candidate, size, first, count, out);
    case Format::kInt8: return gather_rows<Int8Row>(stored, candidate, size, first, count, out);
  }
}

void spread(const float* values, std::size_t count, std::size_t vectors, float* out) {
  for (std::size_t row = 0; row < count; ++row) {
    for (std::size_t v = 0; v < vectors; ++v) store(out + row * kTile + v * kLanes, all(values[row]));
  }
}

void scatter(const float* rows, std::size_t count, std::size_t size, float* out, std::size_t width) {
  for (std::size_t row = 0; row < count; ++row) {
    for (std::size_t i = 0; i < size; ++i) out[i * width + row] = rows[row * kTile + i];
  }
}

}  // namespace
}  // namespace bowerbird::pair::BOWERBIRD_PAIR_ISA
