#include "dense/entropy.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/team.hpp"

namespace bowerbird {
namespace {

constexpr std::size_t kBlock = 512;  // rows that one task takes
constexpr double kLeastMass = 1e-12;

double mass_of(const Labelled& batch) {
  double mass = 0.0;
  for (std::size_t row = 0; row < batch.rows; ++row) {
    if (!std::isnan(batch.labels[row])) mass += static_cast<double>(batch.weights[row]);
  }
  return std::isnan(mass) ? mass : std::max(mass, kLeastMass);
}

// With e = exp(-|x|), softplus(-x) is max(-x, 0) + log(1 + e), and the logistic function 1 / (1 + e) or e / (1 + e).
double block_of(const Labelled& batch, std::size_t first, std::size_t last, float scale, float* gradient) {
  double total = 0.0;
  for (std::size_t row = first; row < last; ++row) {
    const bool known = !std::isnan(batch.labels[row]);
    const float label = known ? batch.labels[row] : 0.0f, share = known ? batch.weights[row] * scale : 0.0f;
    for (std::size_t at = row * batch.members; at < (row + 1) * batch.members; ++at) {
      const float x = batch.logits[at], e = std::exp(-std::fabs(x));
      const float entropy = std::max(-x, 0.0f) + std::log1p(e) + (1.0f - label) * x;
      gradient[at] = ((x < 0.0f ? e : 1.0f) / (1.0f + e) - label) * share;
      total += static_cast<double>(entropy * share);
    }
  }
  return total;
}

}  // namespace

double cross_entropy(const Labelled& batch, float* gradient, std::size_t threads) {
  const auto scale = static_cast<float>(1.0 / (mass_of(batch) * static_cast<double>(batch.members)));
  std::vector<double> sums((batch.rows + kBlock - 1) / kBlock);
  run_team(threads, sums.size(), [&](std::size_t block) {
    sums[block] = block_of(batch, block * kBlock, std::min(batch.rows, (block + 1) * kBlock), scale, gradient);
  });
  double total = 0.0;
  for (const double sum : sums) total += sum;
  return total;
}

}  // namespace bowerbird
