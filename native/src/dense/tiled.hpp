// Who computes layers on tile registers: the processor's, or their imitation in tests.
#pragma once

#include "dense/attention_network.hpp"
#include "dense/cross_network.hpp"
#include "dense/linear.hpp"
#include "dense/mlp.hpp"

namespace bowerbird::tiled {

template <typename T>
using Forward = void (*)(const Linear&, const T*, const float*, BFloat16*, std::size_t);
template <typename T>
using InputGradient = void (*)(const Linear&, const BFloat16*, T*, std::size_t);
template <typename T>
using WeightGradient = void (*)(const Linear&, const BFloat16*, const T*, float*, float*, std::size_t);

using CrossForward = void (*)(const CrossLayers&, const float*, const CrossValues&, float*, std::size_t);
using CrossBackward = void (*)(const CrossLayers&, const float*, const CrossValues&, const CrossBack&, float*, float* const*,
                               float* const*, std::size_t);
using AttentionForward = void (*)(const AttentionNetwork&, float*, std::size_t);
using AttentionBackward = void (*)(const AttentionNetwork&, const float*, const AttentionGradients&, std::size_t);

template <typename T>
using MlpForward = void (*)(const HiddenLayers&, const T*, BFloat16*, std::size_t);
template <typename T>
using MlpBackward = void (*)(const HiddenLayers&, const T*, const BFloat16*, T*, std::span<const HiddenGradients>,
                             std::size_t);

struct Layers {
  Forward<float> forward_floats;
  Forward<BFloat16> forward_halves;
  InputGradient<float> input_floats;
  InputGradient<BFloat16> input_halves;
  WeightGradient<float> weight_floats;
  WeightGradient<BFloat16> weight_halves;
  CrossForward cross_forward;
  CrossBackward cross_backward;
  AttentionForward attention_forward;
  AttentionBackward attention_backward;
  MlpForward<float> mlp_forward_floats;
  MlpForward<BFloat16> mlp_forward_halves;
  MlpBackward<float> mlp_backward_floats;
  MlpBackward<BFloat16> mlp_backward_halves;
};

// For this machine; throws std::invalid_argument where it has no tile registers, or BOWERBIRD_ISA forbids them.
const Layers& layers();

const Layers& amx_layers();
const Layers& amx_emulated_layers();

}  // namespace bowerbird::tiled
