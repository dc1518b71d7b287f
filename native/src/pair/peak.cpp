#include "pair/peak.hpp"

#include <algorithm>
#include <chrono>
#include <stdexcept>

#include "pair/pack.hpp"

namespace bowerbird::pair {

double multiply_adds_a_second(Precision precision, const Kernels& kernels) {
  constexpr std::size_t kRounds = 20000;
  constexpr int kTrials = 20;
  using Clock = std::chrono::steady_clock;
  if (kernels.spin == nullptr) throw std::invalid_argument("Emulated instructions are for tests: their speed says nothing.");
  const Unit unit = unit_of(precision, kernels);
  std::vector<std::uint32_t> units(kernels.block * kernels.tile, 0);
  double best = 0.0;
  for (int trial = 0; trial < kTrials; ++trial) {
    const auto started = Clock::now();
    const auto count = static_cast<double>(kernels.spin(unit, kRounds, units.data()));
    best = std::max(best, count / std::chrono::duration<double>(Clock::now() - started).count());
  }
  return best;
}

}  // namespace bowerbird::pair
