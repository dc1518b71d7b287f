#include "dense/rows.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "base/team.hpp"
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace bowerbird {
namespace {

constexpr std::size_t kBlock = 2048;  // rows that one task gathers
constexpr std::size_t kSamples = 512;  // samples whose fields one task gathers
constexpr std::size_t kAhead = 16;    // rows between a prefetch and its use
constexpr std::size_t kVector = 4;    // floats that go past the caches together
constexpr std::size_t kLanes = 16;    // floats that are added to others before any is stored
using Usual = std::integral_constant<std::size_t, 16>;  // a row's width
constexpr std::size_t kCached = std::size_t{1} << 18;  // floats that stay in a cache until they are read

BOWERBIRD_INLINE void prefetch(const void* address) {
#if defined(__GNUC__)
  __builtin_prefetch(address);
#else
  static_cast<void>(address);
#endif
}

// Copies past the caches, where they would not hold the copy until it is read. `to` is at a whole vector.
BOWERBIRD_INLINE void copy_past(const float* from, std::size_t width, float* to) {
#if defined(__SSE2__)
  for (std::size_t i = 0; i < width; i += kVector) _mm_stream_ps(to + i, _mm_loadu_ps(from + i));
#else
  std::memcpy(to, from, width * sizeof(float));
#endif
}

BOWERBIRD_INLINE void end_copies() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

template <typename T, typename Width>
BOWERBIRD_INLINE void add_row(const T* from, Width width, float* to) {
  std::size_t at = 0;
  for (; at + kLanes <= width; at += kLanes) {
    float sums[kLanes];
    for (std::size_t i = 0; i < kLanes; ++i) sums[i] = to[at + i] + to_float(from[at + i]);
    for (std::size_t i = 0; i < kLanes; ++i) to[at + i] = sums[i];
  }
  for (; at < width; ++at) to[at] += to_float(from[at]);
}

// Adds the values of the rows whose number leaves `lane` when divided by `lanes`.
template <typename T, typename Width>
BOWERBIRD_INLINE void add_lane(const T* values, std::size_t stride, const std::int64_t* places, std::size_t count,
                               Width width, float* table, std::size_t lane, std::size_t lanes) {
  for (std::size_t i = 0; i < count; ++i) {
    const auto row = static_cast<std::size_t>(places[i]);
    if (lanes == 1 || row % lanes == lane) add_row(values + i * stride, width, table + row * width);
  }
}

// The usual width is known to the compiler.
template <typename T>
BOWERBIRD_INLINE void add_any(const T* values, std::size_t stride, const std::int64_t* places, std::size_t count,
                              std::size_t width, float* table, std::size_t lane, std::size_t lanes) {
  if (width == Usual::value) return add_lane(values, stride, places, count, Usual{}, table, lane, lanes);
  add_lane(values, stride, places, count, width, table, lane, lanes);
}

// Copies the rows of some samples; a usual width is known to the compiler.
template <typename Width>
BOWERBIRD_INLINE void copy_fields(const float* table, const Fields& of, Width width, std::size_t first,
                                  std::size_t last, float* out) {
  for (std::size_t i = first; i < last; ++i) {
    const std::int32_t* const places = of.places + i * of.stride;
    float* to = out + i * of.fields.size() * width;
    for (const Field& field : of.fields) {
      const std::size_t row = field.first + static_cast<std::size_t>(places[field.column]);
      std::memcpy(to, table + row * width, width * sizeof(float));
      to += width;
    }
  }
}

template <typename Width>
BOWERBIRD_INLINE void add_field(const float* values, std::size_t stride, const Fields& of, const Field& field,
                                Width width, float* table) {
  for (std::size_t i = 0; i < of.samples; ++i) {
    const auto place = static_cast<std::size_t>(of.places[i * of.stride + field.column]);
    add_row(values + i * stride, width, table + (field.first + place) * width);
  }
}

BOWERBIRD_CLONES void add_field_of(const float* values, std::size_t stride, const Fields& of, const Field& field,
                                   std::size_t width, float* table) {
  if (width == Usual::value) return add_field(values, stride, of, field, Usual{}, table);
  add_field(values, stride, of, field, width, table);
}

// For each field, which of the ranges that there are it adds to: fields of one range are added by one thread.
std::vector<std::size_t> ranges_of(const Fields& of, std::size_t* count) {
  std::vector<std::size_t> firsts;
  std::vector<std::size_t> ranges;
  for (const Field& field : of.fields) {
    const auto at = std::find(firsts.begin(), firsts.end(), field.first);
    ranges.push_back(static_cast<std::size_t>(at - firsts.begin()));
    if (at == firsts.end()) firsts.push_back(field.first);
  }
  *count = firsts.size();
  return ranges;
}

BOWERBIRD_CLONES void add_floats(const float* values, std::size_t stride, const std::int64_t* places,
                                 std::size_t count, std::size_t width, float* table, std::size_t lane,
                                 std::size_t lanes) {
  add_any(values, stride, places, count, width, table, lane, lanes);
}

BOWERBIRD_CLONES void add_halves(const BFloat16* values, std::size_t stride, const std::int64_t* places,
                                 std::size_t count, std::size_t width, float* table, std::size_t lane,
                                 std::size_t lanes) {
  add_any(values, stride, places, count, width, table, lane, lanes);
}

}  // namespace

void gather_rows(const float* table, const std::int64_t* places, std::size_t count, std::size_t width, float* out,
                 std::size_t threads) {
  const bool aligned = width % kVector == 0 && reinterpret_cast<std::uintptr_t>(out) % (kVector * sizeof(float)) == 0;
  const bool past = aligned && count * width > kCached;
  run_team(threads, (count + kBlock - 1) / kBlock, [&](std::size_t block) {
    const std::size_t last = std::min(count, (block + 1) * kBlock);
    for (std::size_t i = block * kBlock; i < last; ++i) {
      if (i + kAhead < last) prefetch(table + static_cast<std::size_t>(places[i + kAhead]) * width);
      const float* const from = table + static_cast<std::size_t>(places[i]) * width;
      if (past) {
        copy_past(from, width, out + i * width);
      } else {
        std::memcpy(out + i * width, from, width * sizeof(float));
      }
    }
    if (past) end_copies();
  });
}

void scatter_rows(const float* values, std::size_t stride, const std::int64_t* places, std::size_t count,
                  std::size_t width, float* table, std::size_t threads) {
  const std::size_t lanes = std::max<std::size_t>(threads, 1);
  run_team(threads, lanes, [&](std::size_t lane) { add_floats(values, stride, places, count, width, table, lane, lanes); });
}

void scatter_rows(const BFloat16* values, std::size_t stride, const std::int64_t* places, std::size_t count,
                  std::size_t width, float* table, std::size_t threads) {
  const std::size_t lanes = std::max<std::size_t>(threads, 1);
  run_team(threads, lanes, [&](std::size_t lane) { add_halves(values, stride, places, count, width, table, lane, lanes); });
}

void gather_fields(const float* table, const Fields& fields, std::size_t width, float* out, std::size_t threads) {
  run_team(threads, (fields.samples + kSamples - 1) / kSamples, [&](std::size_t block) {
    const std::size_t first = block * kSamples;
    const std::size_t last = std::min(fields.samples, first + kSamples);
    if (width == Usual::value) return copy_fields(table, fields, Usual{}, first, last, out);
    copy_fields(table, fields, width, first, last, out);
  });
}

void scatter_fields(const float* values, const Fields& fields, std::size_t width, float* table, std::size_t threads) {
  const std::size_t stride = fields.fields.size() * width;
  std::size_t count = 0;
  const std::vector<std::size_t> ranges = ranges_of(fields, &count);
  run_team(threads, count, [&](std::size_t range) {
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      if (ranges[i] == range) add_field_of(values + i * width, stride, fields, fields.fields[i], width, table);
    }
  });
}

}  // namespace bowerbird
