// Thirty-two float32 values at once. For AVX-512 with BW and BF16 alone.
#pragma once

#include <immintrin.h>

#include "base/bfloat16.hpp"
#include "pair/tile_registers.hpp"

namespace bowerbird::tiled {

using pair::kSide;

// Thirty-two values, side by side.
struct Values {
  __m512 low, high;
};

inline Values load_values(const float* from, __mmask32 there) {
  return {_mm512_maskz_loadu_ps(static_cast<__mmask16>(there), from),
          _mm512_maskz_loadu_ps(static_cast<__mmask16>(there >> kSide), from + kSide)};
}
inline Values values_of(__m512i units) {
  const auto floats = [](__m256i halves) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  };
  return {floats(_mm512_castsi512_si256(units)), floats(_mm512_extracti64x4_epi64(units, 1))};
}
inline Values load_values(const BFloat16* from, __mmask32 there) { return values_of(_mm512_maskz_loadu_epi16(there, from)); }
inline void store_values(const Values& values, float* to, __mmask32 there) {
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>(there), values.low);
  _mm512_mask_storeu_ps(to + kSide, static_cast<__mmask16>(there >> kSide), values.high);
}
inline __m512i rounded(const Values& values) {
  const __m512bh halves = _mm512_cvtne2ps_pbh(values.high, values.low);
  return reinterpret_cast<const __m512i&>(halves);
}
inline Values times(const Values& a, const Values& b) {
  return {_mm512_mul_ps(a.low, b.low), _mm512_mul_ps(a.high, b.high)};
}
inline Values plus(const Values& a, const Values& b) {
  return {_mm512_add_ps(a.low, b.low), _mm512_add_ps(a.high, b.high)};
}

}  // namespace bowerbird::tiled
