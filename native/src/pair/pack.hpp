// Weights in the order in which products read them.
#pragma once

#include <vector>

#include "pair/plan.hpp"

namespace bowerbird::pair {

// Units [block][group][output], see Product; integer weights with a scale per output and the sum of the whole weights.
struct Packed {
  Unit unit = Unit::kFloat;
  std::size_t outputs = 0, groups = 0;
  std::vector<std::uint32_t> units;
  std::vector<float> scale, sum;
};

Unit unit_of(Precision precision, const Kernels& kernels);
Packed pack(const LayerSpec& layer, Unit unit, std::size_t block);

}  // namespace bowerbird::pair
