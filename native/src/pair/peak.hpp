// How many multiply-adds a second one core of this machine can do.
#pragma once

#include "pair/plan.hpp"

namespace bowerbird::pair {

// The best of a few trials on the calling thread, about 20 ms together. Throws std::invalid_argument for emulated kernels.
double multiply_adds_a_second(Precision precision, const Kernels& kernels);

}  // namespace bowerbird::pair
