// 64-bit keys of integers, texts and crosses; the twin is bowerbird/kernels/keys.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace bowerbird {

inline constexpr std::uint64_t kMissingKey = 0;
inline constexpr std::uint64_t kTextSeed = 0x2545F4914F6CDD1DULL;
inline constexpr std::uint64_t kCrossSeed = 0x5851F42D4C957F2DULL;

constexpr std::uint64_t mix(std::uint64_t value) {
  value += 0x9E3779B97F4A7C15ULL;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ULL;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBULL;
  return value ^ (value >> 31);
}

// The value whose mix() this is.
constexpr std::uint64_t unmix(std::uint64_t mixed) {
  mixed = (mixed ^ (mixed >> 31) ^ (mixed >> 62)) * 0x319642B2D24D8EC3ULL;
  mixed = (mixed ^ (mixed >> 27) ^ (mixed >> 54)) * 0x96DE1B173F119089ULL;
  return (mixed ^ (mixed >> 30) ^ (mixed >> 60)) - 0x9E3779B97F4A7C15ULL;
}

inline std::uint64_t not_missing(std::uint64_t key) { return key == kMissingKey ? 1 : key; }

inline std::uint64_t key_integer(std::int64_t value) {
  return not_missing(mix(static_cast<std::uint64_t>(value)));
}

inline std::uint64_t load_little_endian(const char* bytes, std::size_t size) {
  std::uint64_t word = 0;
  for (std::size_t i = 0; i < size; ++i) {
    word |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  }
  return word;
}

inline std::uint64_t key_text(const char* bytes, std::size_t size) {
  std::uint64_t state = mix(kTextSeed ^ static_cast<std::uint64_t>(size));
  std::size_t start = 0;
  for (; start + 8 <= size; start += 8) state = mix(state ^ load_little_endian(bytes + start, 8));
  if (start < size) state = mix(state ^ load_little_endian(bytes + start, size - start));
  return not_missing(state);
}

inline std::uint64_t cross_step(std::uint64_t state, std::uint64_t key) { return mix(state ^ key); }

// The key of a family: of nothing, of one part, or of all parts together; missing where one is.
template <typename Parts, typename Value>
std::uint64_t family_key(const Parts& parts, Value value) {
  if (parts.empty()) return 1;
  if (parts.size() == 1) return value(parts.front());
  std::uint64_t state = kCrossSeed;
  for (const auto& part : parts) {
    const std::uint64_t key = value(part);
    if (key == kMissingKey) return kMissingKey;
    state = cross_step(state, key);
  }
  return not_missing(state);
}

}  // namespace bowerbird
