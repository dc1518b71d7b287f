// Vectors of float32 read from what rows and weights are stored as.
#pragma once

#include "pair/simd.hpp"

namespace bowerbird::pair::BOWERBIRD_PAIR_ISA {
namespace {

typedef std::uint16_t HalvesAt __attribute__((vector_size(kLanes * 2), aligned(2), may_alias));
typedef std::int8_t BytesAt __attribute__((vector_size(kLanes), aligned(1), may_alias));

struct Fp32Row {
  using Value = float;
  static BOWERBIRD_INLINE V read(const float* at, float) { return load(at); }
};

struct Bf16Row {
  using Value = std::uint16_t;
  static BOWERBIRD_INLINE V read(const std::uint16_t* at, float) {
    return as_float(__builtin_convertvector(*reinterpret_cast<const HalvesAt*>(at), I) << 16);
  }
};

struct Fp16Row {
  using Value = std::uint16_t;
  static BOWERBIRD_INLINE V read(const std::uint16_t* at, float) {
    const I bits = __builtin_convertvector(*reinterpret_cast<const HalvesAt*>(at), I);
    const V magnitude = as_float((bits & 0x7fff) << 13) * 0x1p112f;  // moves the exponent's origin
    const I special = (bits & 0x7c00) == 0x7c00;
    return as_float(as_bits(magnitude) | ((bits & 0x8000) << 16) | (special & 0x7f800000));
  }
};

struct Int8Row {
  using Value = std::int8_t;
  static BOWERBIRD_INLINE V read(const std::int8_t* at, float scale) {
    return to_float(__builtin_convertvector(*reinterpret_cast<const BytesAt*>(at), I)) * scale;
  }
};

}  // namespace
}  // namespace bowerbird::pair::BOWERBIRD_PAIR_ISA
