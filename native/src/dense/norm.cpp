#include "dense/norm.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/clones.hpp"
#include "base/team.hpp"

namespace bowerbird {
namespace {

constexpr std::size_t kBlock = 8192;  // values that one task takes
constexpr std::size_t kLanes = 32;    // sums that go on side by side

BOWERBIRD_CLONES float squares(const float* values, std::size_t count) {
  float lanes[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += values[i + lane] * values[i + lane];
  }
  for (std::size_t lane = 0; i < count; ++i, ++lane) lanes[lane] += values[i] * values[i];
  float sum = 0.0f;
  for (const float lane : lanes) sum += lane;
  return sum;
}

}  // namespace

double norm_of(std::span<const std::span<const float>> arrays, std::size_t threads) {
  std::vector<std::span<const float>> blocks;
  for (const std::span<const float> array : arrays) {
    for (std::size_t at = 0; at < array.size(); at += kBlock) {
      blocks.push_back(array.subspan(at, std::min(kBlock, array.size() - at)));
    }
  }
  std::vector<float> sums(blocks.size());
  run_team(threads, blocks.size(), [&](std::size_t block) { sums[block] = squares(blocks[block].data(), blocks[block].size()); });
  double total = 0.0;
  for (const float sum : sums) total += static_cast<double>(sum);
  return std::sqrt(total);
}

}  // namespace bowerbird
