// Half-precision numbers, initial values and rounding, of integer and IEEE operations alone, so that they are the same bits on
// every instruction set; the twin is bowerbird/kernels/table_numbers.py.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "base/keys.hpp"

namespace bowerbird::embedding {

inline float float_of_bfloat16(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

// To the nearest, ties to even; a NaN stays one.
inline std::uint16_t bfloat16_of(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  return static_cast<std::uint16_t>((bits & 0x7FFFFFFF) > 0x7F800000 ? (bits >> 16) | 0x40 : rounded);
}

// Up or down, with a chance that is the distance from the other; `chance` is of 16 random bits.
inline std::uint16_t bfloat16_of(float value, std::uint32_t chance) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const bool finite = (bits & 0x7F800000) != 0x7F800000;
  return finite ? static_cast<std::uint16_t>((bits + (chance & 0xFFFF)) >> 16) : bfloat16_of(value);
}

inline float float_of_float16(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000) << 16;
  const std::uint32_t rest = static_cast<std::uint32_t>(bits & 0x7FFF) << 13;
  const bool special = (bits & 0x7C00) == 0x7C00;
  const float scaled = std::bit_cast<float>(rest) * 0x1p112F;
  return std::bit_cast<float>(sign | (special ? rest | 0x7F800000 : std::bit_cast<std::uint32_t>(scaled)));
}

// To the nearest, ties to even; what is too large becomes infinite.
inline std::uint16_t float16_of(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000;
  const std::uint32_t size = bits & 0x7FFFFFFF;
  const std::uint32_t normal = (size - 0x38000000 + 0xFFF + ((size >> 13) & 1)) >> 13;
  const std::uint32_t small = std::bit_cast<std::uint32_t>(std::bit_cast<float>(size) + 0.5F) - 0x3F000000;
  std::uint32_t half = size < 0x38800000 ? small : normal;
  half = size >= 0x477FF000 ? 0x7C00 : half;
  half = size > 0x7F800000 ? 0x7E00 : half;
  return static_cast<std::uint16_t>(sign | half);
}

// As bfloat16_of(value, chance); below the smallest normal number, to the nearest.
inline std::uint16_t float16_of(float value, std::uint32_t chance) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t size = bits & 0x7FFFFFFF;
  const std::uint32_t drawn = (size - 0x38000000 + (chance & 0x1FFF)) >> 13;
  const bool plain = size < 0x38800000 || size >= 0x477FE000;
  return plain ? float16_of(value) : static_cast<std::uint16_t>(((bits >> 16) & 0x8000) | drawn);
}

inline std::uint64_t stream_of(std::uint64_t seed, std::uint64_t key) { return mix(seed ^ mix(key)); }

// Sixteen and more random bits of a position of a stream.
inline std::uint32_t chance_at(std::uint64_t stream, std::uint64_t position) {
  return static_cast<std::uint32_t>(mix(stream + position) >> 32);
}

// A number that is nearly standard normal, times 2^24 sqrt(16 + 1/6): heads of 64 coins, spread by two uniform numbers. Its
// distribution function is within 0.001 of the normal one.
inline std::int32_t coins_at(std::uint64_t stream, std::uint64_t position) {
  const std::uint64_t coins = mix(stream + position);
  const std::uint64_t spread = (coins * 0xD6E8FEB86659FD93ULL) >> 16;
  const auto heads = static_cast<std::int32_t>(std::popcount(coins)) - 32;
  const auto between = static_cast<std::int32_t>((spread & 0xFFFFFF) + ((spread >> 24) & 0xFFFFFF)) - 0xFFFFFF;
  return heads * 0x1000000 + between;
}

// What coins_at is to be multiplied by.
inline float coin_scale(float deviation) { return static_cast<float>(deviation / (0x1p24 * std::sqrt(16.0 + 1.0 / 6.0))); }

}  // namespace bowerbird::embedding
