// Weights in the order in which products read them.
#pragma once

#include <vector>

#include "base/aligned.hpp"
#include "pair/plan.hpp"

namespace bowerbird::pair {

// Units in the order of Product; integer weights with a scale per output and the sum of the whole weights.
struct Packed {
  Unit unit = Unit::kFloat;
  bool tiled = false;  // for tile registers
  std::size_t outputs = 0, groups = 0;
  AlignedVector<std::uint32_t> units;
  std::vector<float> scale, sum;
};

Unit unit_of(Precision precision, const Kernels& kernels);
Packed pack(const LayerSpec& layer, const Kernels& kernels);
// Where the units of outputs from `first` on begin, a multiple of 16.
std::size_t start_of(const Packed& packed, std::size_t first);

}  // namespace bowerbird::pair
