// Powers of two from additions and multiplications alone, so that they are the same bits on every machine.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

namespace bowerbird {

// Taylor coefficients of 2^f: (ln 2)^k / k!. The twin is bowerbird/kernels/exp2.py.
inline constexpr std::array<double, 13> kExp2Coefficients = {
    1.0, 0.6931471805599453, 0.24022650695910072, 0.05550410866482158, 0.009618129107628477,
    0.0013333558146428443, 0.0001540353039338161, 1.5252733804059841e-05, 1.321548679014431e-06,
    1.01780860092397e-07, 7.054911620801123e-09, 4.4455382718708116e-10, 2.5678435993488206e-11};

// 2 to a whole power that a double holds as a normal number.
inline double power_of_two(int exponent) { return std::bit_cast<double>(static_cast<std::uint64_t>(1023 + exponent) << 52); }

// Relative error below 1e-11; beyond what a double holds, 0 or infinity.
inline double exp2_exact(double x) {
  x = std::clamp(x, -4096.0, 4096.0);
  const double whole = std::floor(x);
  const double fraction = x - whole;
  double power = kExp2Coefficients[12];
  for (int k = 11; k >= 0; --k) power = power * fraction + kExp2Coefficients[static_cast<std::size_t>(k)];
  const int exponent = static_cast<int>(whole);
  if (exponent < -1000 || exponent > 1000) return std::ldexp(power, exponent);
  return power * power_of_two(exponent);
}

}  // namespace bowerbird
