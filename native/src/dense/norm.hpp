// The length of many arrays as one vector.
#pragma once

#include <cstddef>
#include <span>

namespace bowerbird {

// The square root of the sum of all squares. Sums are formed per block, in block order: the same for every number of threads.
double norm_of(std::span<const std::span<const float>> arrays, std::size_t threads);

}  // namespace bowerbird
