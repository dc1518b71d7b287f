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

// Neighbouring columns share a hash, of which each looks at sixteen bits: those chances are exact to a hundred thousandth.
BOWERBIRD_INLINE std::uint32_t kept_below(float keep) {
  return static_cast<std::uint32_t>(std::clamp(keep * 65536.0f + 0.5f, 0.0f, 65535.0f));
}

// `limit` is of kept_below.
BOWERBIRD_INLINE bool is_kept(std::uint32_t row_seed, std::size_t column, std::uint32_t limit) {
  const auto place = static_cast<std::uint32_t>(column);
  return (mixed(row_seed + place / 2) >> (place % 2 * 16) & 0xffffu) < limit;
}

}  // namespace bowerbird
