// How 32-bit units multiply and add up: a float, two bfloat16, four bytes, two int16.
#pragma once

#include "pair/kernels.hpp"
#include "pair/simd.hpp"

namespace bowerbird::pair::BOWERBIRD_PAIR_ISA {
namespace {

struct FloatUnit {
  using Sum = V;
  static BOWERBIRD_INLINE V add(V sum, I weights, I values) { return as_float(weights) * as_float(values) + sum; }
};

struct Int16Unit {
  using Sum = I;
  static BOWERBIRD_INLINE I add(I sum, I weights, I values) {
#if defined(__AVX512F__)
    return sum + reinterpret_cast<I>(
                     _mm512_madd_epi16(reinterpret_cast<__m512i>(weights), reinterpret_cast<__m512i>(values)));
#elif defined(__AVX2__)
    return sum + reinterpret_cast<I>(
                     _mm256_madd_epi16(reinterpret_cast<__m256i>(weights), reinterpret_cast<__m256i>(values)));
#else
    return sum + ((weights << 16) >> 16) * ((values << 16) >> 16) + (weights >> 16) * (values >> 16);
#endif
  }
};

#if defined(__AVX512BF16__) && defined(__AVX512VNNI__)
#define BOWERBIRD_PAIR_DOTS

struct Bf16Unit {
  using Sum = V;
  static BOWERBIRD_INLINE V add(V sum, I weights, I values) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(values), reinterpret_cast<__m512bh>(weights));
  }
};

struct Int8Unit {
  using Sum = I;
  static BOWERBIRD_INLINE I add(I sum, I weights, I values) {
    return reinterpret_cast<I>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(values),
                                                   reinterpret_cast<__m512i>(weights)));
  }
};

// The bfloat16 of two vectors, lane by lane side by side.
BOWERBIRD_INLINE I halves_of(V first, V second) {
  typedef std::int16_t Halves __attribute__((vector_size(64)));
  const auto both = reinterpret_cast<Halves>(_mm512_cvtne2ps_pbh(second, first));
  return reinterpret_cast<I>(__builtin_shufflevector(both, both, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8,
                                                     24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31));
}
#endif

}  // namespace
}  // namespace bowerbird::pair::BOWERBIRD_PAIR_ISA
