// A whole cross network (DCN-V2) in training on tile registers: rows pass all layers while they are in the cache.
#pragma once

#include <cstddef>

#include "base/bfloat16.hpp"

namespace bowerbird {

// `layers` times x = first * (W x + b) + x; W are float32 [width, width], b float32 [width].
struct CrossLayers {
  std::size_t rows;
  std::size_t width;
  std::size_t layers;
  const float* const* weights;
  const float* const* biases;
};

// What the way back needs of the way forth, [layers, rows, width] each: what layers were given, and what their matrices made.
struct CrossValues {
  BFloat16* given;
  BFloat16* products;
};

// For machines that have tile registers alone (see has_tiles). `first` and `out` are float32 [rows, width].
void cross_network_forward(const CrossLayers& network, const float* first, const CrossValues& values, float* out,
                           std::size_t threads);

// The gradients that come back, of `out`, and of `first` from elsewhere (null: zeros).
struct CrossBack {
  const float* out;
  const float* first;
};

// Gradients of `first`, and of each layer's weights and biases.
void cross_network_backward(const CrossLayers& network, const float* first, const CrossValues& values,
                            const CrossBack& back, float* of_first, float* const* of_weights, float* const* of_biases,
                            std::size_t threads);

}  // namespace bowerbird
