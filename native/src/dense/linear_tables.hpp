// Who computes a linear layer's products: the processor's tile registers, or their imitation in tests.
#pragma once

#include "dense/linear.hpp"

namespace bowerbird::tiled {

template <typename T>
using Forward = void (*)(const Linear&, const T*, const float*, BFloat16*, std::size_t);
template <typename T>
using InputGradient = void (*)(const Linear&, const BFloat16*, T*, std::size_t);
template <typename T>
using WeightGradient = void (*)(const Linear&, const BFloat16*, const T*, float*, float*, std::size_t);

struct LinearProducts {
  Forward<float> forward_floats;
  Forward<BFloat16> forward_halves;
  InputGradient<float> input_floats;
  InputGradient<BFloat16> input_halves;
  WeightGradient<float> weight_floats;
  WeightGradient<BFloat16> weight_halves;
};

const LinearProducts& amx_products();
const LinearProducts& amx_emulated_products();

}  // namespace bowerbird::tiled
