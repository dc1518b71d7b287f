// The product of packed weights and a tile, with everything that follows it done while the sums are in registers.
#pragma once

#include "pair/map.hpp"
#include "pair/units.hpp"

namespace bowerbird::pair::BOWERBIRD_PAIR_ISA {
namespace {

BOWERBIRD_INLINE Map map_from(const Map& map, std::size_t row) {
  Map moved = map;
  for (const float*& array : moved.arrays) array = array == nullptr ? nullptr : array + row;
  return moved;
}

// Sums of the block's R outputs over N vectors of candidates; `weights` goes on to the next block.
template <typename Unit, std::size_t R, std::size_t N>
BOWERBIRD_INLINE void add_up(const Product& p, const std::uint32_t*& weights, typename Unit::Sum (&sums)[R][N]) {
  for (std::size_t s = 0; s < p.segment_count; ++s) {
    const auto* values = static_cast<const std::uint32_t*>(p.segments[s].data);
    for (std::size_t group = 0; group < p.segments[s].groups; ++group) {
      I loaded[N];
#pragma GCC unroll 3
      for (std::size_t n = 0; n < N; ++n) loaded[n] = load(values + n * kLanes);
#pragma GCC unroll 8
      for (std::size_t r = 0; r < R; ++r) {
        const I weight = all(static_cast<std::int32_t>(weights[r]));
#pragma GCC unroll 3
        for (std::size_t n = 0; n < N; ++n) sums[r][n] = Unit::add(sums[r][n], weight, loaded[n]);
      }
      values += kTile;
      weights += R;
    }
  }
}

template <std::size_t R, std::size_t N, typename Apply>
BOWERBIRD_INLINE void each_sum(V (&y)[R][N], const Apply& apply) {
#pragma GCC unroll 8
  for (std::size_t r = 0; r < R; ++r) {
#pragma GCC unroll 3
    for (std::size_t n = 0; n < N; ++n) y[r][n] = apply(y[r][n], r, n * kLanes);
  }
}

template <std::size_t R, std::size_t N>
BOWERBIRD_INLINE void add_terms(const Product& p, std::size_t row, V (&y)[R][N]) {
  if (p.bias != nullptr) each_sum(y, [&](V x, std::size_t r, std::size_t) { return x + p.bias[row + r]; });
  for (std::size_t a = 0; a < p.row_add_count; ++a) {
    each_sum(y, [&](V x, std::size_t r, std::size_t) { return x + p.row_adds[a][row + r]; });
  }
  for (std::size_t a = 0; a < p.tile_add_count; ++a) {
    const float* add = p.tile_adds[a] + row * kTile;
    each_sum(y, [&](V x, std::size_t r, std::size_t lane) { return x + load(add + r * kTile + lane); });
  }
}

// Floating sums begin with the terms: when the products are done, less waits for them.
template <typename Unit, std::size_t R, std::size_t N>
BOWERBIRD_INLINE void sum_up(const Product& p, std::size_t row, const std::uint32_t*& weights, V (&y)[R][N],
                             const V&) {
  add_terms(p, row, y);
  add_up<Unit, R, N>(p, weights, y);
}

// Integer sums become the numbers that they stand for.
template <std::size_t R, std::size_t N>
BOWERBIRD_INLINE void to_numbers(const Product& p, std::size_t row, const I (&sums)[R][N], V (&y)[R][N]) {
#pragma GCC unroll 3
  for (std::size_t n = 0; n < N; ++n) {
    const V scale = load(p.lane_scale + n * kLanes);
    const V zero = p.lane_zero == nullptr ? V{} : load(p.lane_zero + n * kLanes);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < R; ++r) {
      V number = to_float(sums[r][n]);
      if (p.lane_zero != nullptr) number -= zero * p.weight_sum[row + r];
      y[r][n] = number * scale * p.weight_scale[row + r];
    }
  }
}

template <typename Unit, std::size_t R, std::size_t N>
BOWERBIRD_INLINE void sum_up(const Product& p, std::size_t row, const std::uint32_t*& weights, V (&y)[R][N],
                             const I&) {
  I sums[R][N] = {};
  add_up<Unit, R, N>(p, weights, sums);
  to_numbers(p, row, sums, y);
  add_terms(p, row, y);
}

template <std::size_t R, std::size_t N>
BOWERBIRD_INLINE void apply_map(const Product& p, std::size_t row, V (&y)[R][N]) {
  if (p.map.function == Function::kRelu) {
    each_sum(y, [](V x, std::size_t, std::size_t) { return rectified(x); });
  } else if (p.map.function != Function::kNone) {
    float rows[R * kTile];
    each_sum(y, [&](V x, std::size_t r, std::size_t lane) { return store(rows + r * kTile + lane, x), x; });
    map_rows(map_from(p.map, row), rows, R, N);
    each_sum(y, [&](V, std::size_t r, std::size_t lane) { return load(rows + r * kTile + lane); });
  }
}

template <std::size_t R, std::size_t N>
BOWERBIRD_INLINE void multiply_add(const Product& p, std::size_t row, V (&y)[R][N]) {
  if (p.factor == nullptr) return;
  const std::size_t start = row * kTile;
  each_sum(y, [&](V x, std::size_t r, std::size_t lane) {
    const std::size_t at = start + r * kTile + lane;
    return x * load(p.factor + at) + load(p.after + at);
  });
}

template <std::size_t R, std::size_t N>
BOWERBIRD_INLINE void keep(const Product& p, std::size_t row, V (&y)[R][N]) {
  if (p.out != nullptr) {
    float* out = p.out + row * kTile;
    each_sum(y, [&](V x, std::size_t r, std::size_t lane) { return store(out + r * kTile + lane, x), x; });
  }
#if defined(BOWERBIRD_PAIR_DOTS)
  if (p.halves != nullptr) {
    std::uint32_t* out = p.halves + row / 2 * kTile;
#pragma GCC unroll 4
    for (std::size_t r = 0; r < R; r += 2) {
#pragma GCC unroll 3
      for (std::size_t n = 0; n < N; ++n) {
        store(out + r / 2 * kTile + n * kLanes, halves_of(y[r][n], r + 1 < R ? y[r + 1 < R ? r + 1 : r][n] : V{}));
      }
    }
  }
#endif
  if (p.range != nullptr) {
#pragma GCC unroll 3
    for (std::size_t n = 0; n < N; ++n) {
      V least = load(p.range + n * kLanes), greatest = load(p.range + kTile + n * kLanes);
#pragma GCC unroll 8
      for (std::size_t r = 0; r < R; ++r) greatest = maximum(greatest, y[r][n]);
      store(p.range + kTile + n * kLanes, greatest);
      if (p.map.function == Function::kRelu && p.factor == nullptr) continue;
#pragma GCC unroll 8
      for (std::size_t r = 0; r < R; ++r) least = minimum(least, y[r][n]);
      store(p.range + n * kLanes, least);
    }
  }
}

template <std::size_t R, std::size_t N>
BOWERBIRD_INLINE void complete(const Product& p, std::size_t row, V (&y)[R][N]) {
  apply_map(p, row, y);
  multiply_add(p, row, y);
  keep(p, row, y);
}

template <std::size_t kValue>
struct Constant {
  static constexpr std::size_t value = kValue;
};

// Calls apply(R, row) for blocks of R outputs from `first` on.
template <typename Apply>
BOWERBIRD_INLINE void each_block(std::size_t first, std::size_t count, const Apply& apply) {
  const std::size_t end = first + count;
  std::size_t row = first;
  for (; row + kBlock <= end; row += kBlock) apply(Constant<kBlock>{}, row);
  if (kBlock == 8 && row + 4 <= end) apply(Constant<4>{}, row), row += 4;
  if (row + 2 <= end) apply(Constant<2>{}, row), row += 2;
  if (row < end) apply(Constant<1>{}, row);
}

// Calls apply(N) for a product over N vectors of candidates.
template <typename Apply>
BOWERBIRD_INLINE void with_vectors(const Product& p, const Apply& apply) {
  switch (p.vectors) {
    case 1: return apply(Constant<1>{});
    case 2: return apply(Constant<2>{});
    default: return apply(Constant<3>{});
  }
}

template <typename Unit, std::size_t R, std::size_t N>
BOWERBIRD_INLINE const std::uint32_t* block(const Product& p, std::size_t row, const std::uint32_t* weights) {
  V y[R][N] = {};
  sum_up<Unit>(p, row, weights, y, typename Unit::Sum{});
  complete(p, row, y);
  return weights;
}

template <typename Unit, std::size_t N>
void blocks(const Product& p) {
  const std::uint32_t* weights = p.weights;
  each_block(0, p.outputs, [&](auto r, std::size_t row) { weights = block<Unit, r.value, N>(p, row, weights); });
}

template <typename Unit>
void blocks(const Product& p) {
  with_vectors(p, [&](auto n) { blocks<Unit, n.value>(p); });
}

void product(const Product& p) {
  switch (p.unit) {
#if defined(BOWERBIRD_PAIR_DOTS)
    case Unit::kBf16: return blocks<Bf16Unit>(p);
    case Unit::kInt8: return blocks<Int8Unit>(p);
#else
    case Unit::kInt16: return blocks<Int16Unit>(p);
#endif
    default: return blocks<FloatUnit>(p);
  }
}

#if defined(BOWERBIRD_PAIR_DOTS)
template <std::size_t R, std::size_t N>
BOWERBIRD_INLINE void finish_block(const Product& p, std::size_t row, const std::uint32_t* sums) {
  I known[R][N];
  V y[R][N];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < R; ++r) {
#pragma GCC unroll 3
    for (std::size_t n = 0; n < N; ++n) {
      known[r][n] = load(sums + r * kTile + n * kLanes);
      y[r][n] = as_float(known[r][n]);
    }
  }
  if (is_integer(p.unit)) to_numbers(p, row, known, y);
  add_terms(p, row, y);
  complete(p, row, y);
}

template <std::size_t N>
void finish_blocks(const Product& p, std::size_t first, std::size_t count, const std::uint32_t* sums) {
  each_block(first, count,
             [&](auto r, std::size_t row) { finish_block<r.value, N>(p, row, sums + (row - first) * kTile); });
}

void finish(const Product& p, std::size_t row, std::size_t count, const std::uint32_t* sums) {
  with_vectors(p, [&](auto n) { finish_blocks<n.value>(p, row, count, sums); });
}
#endif

}  // namespace
}  // namespace bowerbird::pair::BOWERBIRD_PAIR_ISA
