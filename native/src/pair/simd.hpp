// Vectors of one instruction set. Each pair_ISA.cpp defines BOWERBIRD_PAIR_ISA as a name of its own and includes the
// pair_*.hpp kernels; all of it lies in that namespace, so that no linker can take one set's code for another's.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/clones.hpp"

namespace bowerbird::pair::BOWERBIRD_PAIR_ISA {
namespace {

#if defined(__AVX512F__)
constexpr std::size_t kLanes = 16;
constexpr std::size_t kBlock = 8;  // outputs whose sums are held in registers, for kVectors vectors each
#elif defined(__AVX2__)
constexpr std::size_t kLanes = 8;
constexpr std::size_t kBlock = 4;
#else
constexpr std::size_t kLanes = 4;
constexpr std::size_t kBlock = 4;
#endif
constexpr std::size_t kVectors = 3;
constexpr std::size_t kTile = kVectors * kLanes;

typedef float V __attribute__((vector_size(kLanes * 4)));
typedef std::int32_t I __attribute__((vector_size(kLanes * 4)));
typedef float VAt __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef std::int32_t IAt __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

BOWERBIRD_INLINE V load(const float* at) { return *reinterpret_cast<const VAt*>(at); }
BOWERBIRD_INLINE void store(float* at, V value) { *reinterpret_cast<VAt*>(at) = value; }
BOWERBIRD_INLINE I load(const std::uint32_t* at) { return *reinterpret_cast<const IAt*>(at); }
BOWERBIRD_INLINE void store(std::uint32_t* at, I value) { *reinterpret_cast<IAt*>(at) = value; }
BOWERBIRD_INLINE V all(float value) { return value - V{}; }
BOWERBIRD_INLINE I all(std::int32_t value) { return value - I{}; }
BOWERBIRD_INLINE V as_float(I bits) { return reinterpret_cast<V>(bits); }
BOWERBIRD_INLINE I as_bits(V value) { return reinterpret_cast<I>(value); }
BOWERBIRD_INLINE V to_float(I value) { return __builtin_convertvector(value, V); }

// The second operand where one is no number.
BOWERBIRD_INLINE V maximum(V a, V b) {
#if defined(__AVX512F__)
  return _mm512_max_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}

BOWERBIRD_INLINE V minimum(V a, V b) {
#if defined(__AVX512F__)
  return _mm512_min_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_min_ps(a, b);
#else
  return a < b ? a : b;
#endif
}

BOWERBIRD_INLINE V square_root(V a) {
#if defined(__AVX512F__)
  return _mm512_sqrt_ps(a);
#elif defined(__AVX2__)
  return _mm256_sqrt_ps(a);
#else
  for (std::size_t i = 0; i < kLanes; ++i) a[i] = __builtin_sqrtf(a[i]);
  return a;
#endif
}

// The nearest whole numbers, ties to even, of magnitudes below 2^22.
BOWERBIRD_INLINE I to_whole(V a) {
#if defined(__AVX512F__)
  return reinterpret_cast<I>(_mm512_cvtps_epi32(a));
#elif defined(__AVX2__)
  return reinterpret_cast<I>(_mm256_cvtps_epi32(a));
#else
  const V shift = all(12582912.0f);  // 1.5 · 2^23: what is below the point is rounded away
  return as_bits(a + shift) - as_bits(shift);
#endif
}

// a's and b's lanes in turn: those of the lower halves, those of the upper halves.
#if defined(__AVX512F__)
BOWERBIRD_INLINE V interleave_low(V a, V b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
BOWERBIRD_INLINE V interleave_high(V a, V b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#elif defined(__AVX2__)
BOWERBIRD_INLINE V interleave_low(V a, V b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
BOWERBIRD_INLINE V interleave_high(V a, V b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
#else
BOWERBIRD_INLINE V interleave_low(V a, V b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
BOWERBIRD_INLINE V interleave_high(V a, V b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
#endif

}  // namespace
}  // namespace bowerbird::pair::BOWERBIRD_PAIR_ISA
