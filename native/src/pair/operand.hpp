// Float rows become operands of narrower units.
#pragma once

#include "pair/units.hpp"

namespace bowerbird::pair::BOWERBIRD_PAIR_ISA {
namespace {

BOWERBIRD_INLINE V row_or_zero(const Rows& given, std::size_t row, std::size_t lane) {
  return row < given.count ? load(given.rows[row] + lane) : V{};
}

#if defined(BOWERBIRD_PAIR_DOTS)
void to_halves(const Rows& given, std::uint32_t* out) {
  for (std::size_t row = 0; row < given.count; row += 2) {
    for (std::size_t v = 0; v < given.vectors; ++v) {
      const std::size_t lane = v * kLanes;
      store(out + row / 2 * kTile + lane, halves_of(load(given.rows[row] + lane), row_or_zero(given, row + 1, lane)));
    }
  }
}

void scale_to_halves(const float* rows, const float* factors, std::size_t count, std::size_t vectors,
                     std::uint32_t* out) {
  for (std::size_t row = 0; row < count; row += 2) {
    for (std::size_t lane = 0; lane < vectors * kLanes; lane += kLanes) {
      const V first = load(rows + row * kTile + lane) * factors[row];
      const V second = row + 1 < count ? load(rows + (row + 1) * kTile + lane) * factors[row + 1] : V{};
      store(out + row / 2 * kTile + lane, halves_of(first, second));
    }
  }
}
#endif

void widen_range(const Rows& given, float* range) {
  for (std::size_t v = 0; v < given.vectors; ++v) {
    const std::size_t lane = v * kLanes;
    V least = load(range + lane), greatest = load(range + kTile + lane);
    for (std::size_t row = 0; row < given.count; ++row) {
      const V x = load(given.rows[row] + lane);
      least = minimum(least, x);
      greatest = maximum(greatest, x);
    }
    store(range + lane, least);
    store(range + kTile + lane, greatest);
  }
}

// Whole numbers in [0, 254]: the zero point is rounded up, so nothing has to be cut off.
void find_scale(const float* range, std::size_t vectors, float* scale, float* zero, float* inverse) {
  for (std::size_t lane = 0; lane < vectors * kLanes; lane += kLanes) {
    const V least = load(range + lane);
    const V span = load(range + kTile + lane) - least;
    const V factor = span > V{} ? 254.0f / span : V{};
    const V exact = -least * factor;
    const V near = to_float(to_whole(exact));
    store(scale + lane, span * (1.0f / 254.0f));
    store(zero + lane, near < exact ? near + 1.0f : near);
    store(inverse + lane, factor);
  }
}

// Units of rows [row, row + count), of which there are `Values` or, at the end, fewer.
template <std::size_t Values>
BOWERBIRD_INLINE void quantise_unit(const Rows& given, std::size_t row, std::size_t count, const float* inverse,
                                    const float* zero, std::uint32_t* out) {
  for (std::size_t lane = 0; lane < given.vectors * kLanes; lane += kLanes) {
    const V factor = load(inverse + lane), shift = load(zero + lane);
    I unit{};
#pragma GCC unroll 4
    for (std::size_t i = 0; i < count; ++i) {
      unit |= to_whole(load(given.rows[row + i] + lane) * factor + shift) << static_cast<int>(32 / Values * i);
    }
    store(out + row / Values * kTile + lane, unit);
  }
}

template <std::size_t Values>
BOWERBIRD_INLINE void quantise_rows(const Rows& given, const float* inverse, const float* zero, std::uint32_t* out) {
  std::size_t row = 0;
  for (; row + Values <= given.count; row += Values) quantise_unit<Values>(given, row, Values, inverse, zero, out);
  if (row < given.count) quantise_unit<Values>(given, row, given.count - row, inverse, zero, out);
}

void quantise(const Rows& given, const float* range, float* scale, float* zero, std::uint32_t* out) {
  float inverse[kTile];
  find_scale(range, given.vectors, scale, zero, inverse);
#if defined(BOWERBIRD_PAIR_DOTS)
  quantise_rows<4>(given, inverse, zero, out);
#else
  quantise_rows<2>(given, inverse, zero, out);
#endif
}

}  // namespace
}  // namespace bowerbird::pair::BOWERBIRD_PAIR_ISA
