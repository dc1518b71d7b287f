// Hidden layers in training, one after another, on tile registers: what lies between two products is done as factors are made
// and sums are taken, so that a layer's values are written once and read once on each way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/bfloat16.hpp"

namespace bowerbird {

constexpr std::size_t words_of(std::size_t width) { return (width + 31) / 32; }
// Rows of values begin at whole lines of memory.
constexpr std::size_t stride_of(std::size_t width) { return words_of(width) * 32; }

// x -> relu(norm(W x + b)), then dropout. Without normalisation `gain`, `offset`, `mean` and `variance` are null.
struct HiddenLayer {
  std::size_t inputs;
  std::size_t outputs;
  const float* weights;  // [outputs, inputs]
  const float* bias;     // [outputs]
  const float* gain;     // of the normalised values
  const float* offset;
  std::uint64_t seed;    // of dropout
  BFloat16* values;      // W x + b, [rows, stride_of(outputs)]: the way forth writes them, the way back reads them
  std::uint32_t* kept;   // [rows, words_of(outputs)], likewise: a bit for each value that is neither rectified nor dropped
  float* mean;           // of the values, and their (biased) variance, likewise
  float* variance;
};

struct HiddenLayers {
  std::size_t rows;
  float keep;     // chance that dropout keeps a value, 1 for all
  float epsilon;  // is added to variances
  std::span<const HiddenLayer> layers;
};

// A layer's gradients; null pointers where the layer has no normalisation.
struct HiddenGradients {
  float* weights;
  float* bias;
  float* gain;
  float* offset;
};


// For machines that have tile registers alone (see has_tiles). `out` is [rows, outputs of the last layer].
void mlp_forward(const HiddenLayers& network, const float* x, BFloat16* out, std::size_t threads);
void mlp_forward(const HiddenLayers& network, const BFloat16* x, BFloat16* out, std::size_t threads);

// Gradients of x and of the layers, from that of the result. Any number of threads gives the same bits.
void mlp_backward(const HiddenLayers& network, const float* x, const BFloat16* gradient, float* of_x,
                  std::span<const HiddenGradients> of_layers, std::size_t threads);
void mlp_backward(const HiddenLayers& network, const BFloat16* x, const BFloat16* gradient, BFloat16* of_x,
                  std::span<const HiddenGradients> of_layers, std::size_t threads);

}  // namespace bowerbird
