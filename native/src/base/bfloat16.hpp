// bfloat16: the upper half of a float.
#pragma once

#include <bit>
#include <cstdint>

#include "base/clones.hpp"

namespace bowerbird {

struct BFloat16 {
  std::uint16_t bits;
};

BOWERBIRD_INLINE float to_float(float value) { return value; }
BOWERBIRD_INLINE float to_float(BFloat16 value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

// Rounds to the nearest, ties to even; a NaN stays one.
BOWERBIRD_INLINE void store(float value, float& to) { to = value; }
BOWERBIRD_INLINE void store(float value, BFloat16& to) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  to.bits = static_cast<std::uint16_t>(value != value ? 0x7fc0u : rounded);
}

}  // namespace bowerbird
