// Which elements dropout keeps, by a hash of a seed and their place: the same whoever asks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/clones.hpp"

namespace bowerbird {

// Each element with chance `keep` (1: all), by a hash of the seed and the element's place.
struct Dropout {
  float keep;
  std::uint64_t seed;
};

// A permutation of 32-bit integers whose output bits look independent of the input's.
BOWERBIRD_INLINE std::uint32_t mixed(std::uint32_t value) {
  value ^= value >> 16;
  value *= 0x7feb352du;
  value ^= value >> 15;
  value *= 0x846ca68bu;
  value ^= value >> 16;
  return value;
}

BOWERBIRD_INLINE std::uint32_t row_seed(std::uint64_t seed, std::size_t row) {
  const auto low = static_cast<std::uint32_t>(seed);
  const auto high = static_cast<std::uint32_t>(seed >> 32);
  return mixed(mixed(low + static_cast<std::uint32_t>(row)) ^ high);
}

// The element at a column of a row is kept where mixed(row_seed + column) is below this.
BOWERBIRD_INLINE std::uint32_t kept_below(float keep) {
  return static_cast<std::uint32_t>(std::min(static_cast<double>(keep) * 4294967296.0, 4294967295.0));
}

}  // namespace bowerbird
