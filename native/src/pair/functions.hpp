// Functions of one value on vectors; errors below 2e-7 of the result or, where that cancels, of the argument.
#pragma once

#include "pair/kernels.hpp"
#include "pair/simd.hpp"

namespace bowerbird::pair::BOWERBIRD_PAIR_ISA {
namespace {

// 2^n · value, in two steps so that results below the normal numbers and above the greatest come out right.
BOWERBIRD_INLINE V scale_by_power(V value, I n) {
  const I half = n >> 1;
  const V first = as_float((half + 127) << 23);
  const V second = as_float((n - half + 127) << 23);
  return value * first * second;
}

// e^x = 2^n e^r with |r| <= ln 2 / 2; e^r by its Taylor series.
BOWERBIRD_INLINE V exponential(V x) {
  x = minimum(all(90.0f), maximum(all(-110.0f), x));
  const I n = to_whole(x * 1.44269504f);
  const V whole = to_float(n);
  V r = x - whole * 0.693359375f;  // ln 2 in two parts: the product with the first is exact
  r = r + whole * 2.12194440e-4f;
  V sum = r * (1.0f / 5040.0f) + 1.0f / 720.0f;
  sum = sum * r + 1.0f / 120.0f;
  sum = sum * r + 1.0f / 24.0f;
  sum = sum * r + 1.0f / 6.0f;
  sum = sum * r + 0.5f;
  sum = sum * r + 1.0f;
  sum = sum * r + 1.0f;
  return scale_by_power(sum, n);
}

// ln x = e ln 2 + ln m with m in [sqrt(1/2), sqrt 2); ln m by the series of the inverse hyperbolic tangent.
BOWERBIRD_INLINE V logarithm(V x) {
  const I tiny = x < all(1.17549435e-38f);
  const V scaled = tiny ? x * 8388608.0f : x;
  const I bits = as_bits(scaled);
  const I exponent = ((bits - 0x3f3504f3) >> 23);
  const V m = as_float(bits - (exponent << 23));
  const V e = to_float(exponent) - (tiny ? all(23.0f) : all(0.0f));
  const V s = (m - 1.0f) / (m + 1.0f);
  const V square = s * s;
  V sum = square * (1.0f / 9.0f) + 1.0f / 7.0f;
  sum = sum * square + 1.0f / 5.0f;
  sum = sum * square + 1.0f / 3.0f;
  sum = sum * square + 1.0f;
  V result = e * 0.693147180f + 2.0f * s * sum;
  const V infinite = all(__builtin_inff());
  result = x < infinite ? result : x;  // infinity, or no number
  result = x == all(0.0f) ? -infinite : result;
  return x < all(0.0f) ? all(__builtin_nanf("")) : result;
}

BOWERBIRD_INLINE V absolute(V x) { return as_float(as_bits(x) & 0x7fffffff); }
BOWERBIRD_INLINE V with_sign(V magnitude, V sign) { return as_float(as_bits(magnitude) | (as_bits(sign) & ~0x7fffffff)); }
BOWERBIRD_INLINE V sigmoid(V x) { return 1.0f / (1.0f + exponential(-x)); }

BOWERBIRD_INLINE V hyperbolic_tangent(V x) {
  const V power = exponential(-2.0f * absolute(x));
  return with_sign((1.0f - power) / (1.0f + power), x);
}

// Abramowitz and Stegun, 7.1.26.
BOWERBIRD_INLINE V error_function(V x) {
  const V magnitude = absolute(x);
  const V t = 1.0f / (1.0f + 0.3275911f * magnitude);
  V sum = t * 1.061405429f - 1.453152027f;
  sum = sum * t + 1.421413741f;
  sum = sum * t - 0.284496736f;
  sum = sum * t + 0.254829592f;
  return with_sign(1.0f - sum * t * exponential(-magnitude * magnitude), x);
}

BOWERBIRD_INLINE V rectified(V x) { return maximum(V{}, x); }
BOWERBIRD_INLINE V softplus(V x) { return rectified(x) + logarithm(1.0f + exponential(-absolute(x))); }
BOWERBIRD_INLINE V gelu(V x) { return 0.5f * x * (1.0f + error_function(x * 0.70710678f)); }
BOWERBIRD_INLINE V gelu_tanh(V x) {
  return 0.5f * x * (1.0f + hyperbolic_tangent(0.797884561f * (x + 0.044715f * x * x * x)));
}
BOWERBIRD_INLINE V elu(V x, V alpha) { return x > V{} ? x : alpha * (exponential(minimum(V{}, x)) - 1.0f); }
BOWERBIRD_INLINE V dice(V x, V alpha, V scale, V shift) {
  return x * (alpha + (1.0f - alpha) * sigmoid(x * scale + shift));
}

}  // namespace
}  // namespace bowerbird::pair::BOWERBIRD_PAIR_ISA
