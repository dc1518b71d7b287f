#include "pair/peak.hpp"

#include <algorithm>
#include <chrono>

#include "pair/pack.hpp"

namespace bowerbird::pair {

double multiply_adds_a_second(Precision precision, const Kernels& kernels) {
  constexpr std::size_t kRounds = 20000;
  constexpr int kTrials = 20;
  using Clock = std::chrono::steady_clock;
  const Unit unit = unit_of(precision, kernels);
  std::vector<std::uint32_t> units(kernels.block * kernels.tile, 0);
  double best = 0.0;
  for (int trial = 0; trial < kTrials; ++trial) {
    const auto started = Clock::now();
    kernels.spin(unit, kRounds, units.data());
    const double seconds = std::chrono::duration<double>(Clock::now() - started).count();
    best = std::max(best, static_cast<double>(kRounds * kernels.block * kernels.tile * values_in(unit)) / seconds);
  }
  return best;
}

}  // namespace bowerbird::pair
