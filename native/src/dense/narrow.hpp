// A linear layer of few outputs (the tasks' logits) over a part of its inputs: sums in float32, whatever the inputs are.
#pragma once

#include <cstddef>

#include "base/bfloat16.hpp"

namespace bowerbird {

// Inputs [rows, width] and the columns of the layer's weights that belong to them: float32 [outputs, width], a row
// `stride` values after the one before.
template <typename T>
struct NarrowLayer {
  const T* x;
  std::size_t rows;
  std::size_t width;
  const float* weights;
  std::size_t stride;
  std::size_t outputs;
};

// out += x weights^T, float32 [rows, outputs].
void narrow_forward(const NarrowLayer<float>& layer, float* out, std::size_t threads);
void narrow_forward(const NarrowLayer<BFloat16>& layer, float* out, std::size_t threads);

// Gradients of narrow_forward: `gradient_x` [rows, width], `gradient_weights`, laid out as the weights are, and, unless it is
// null, `gradient_bias` [outputs], of what the layer adds to all rows.
// Sums are formed per block of rows, in block order: the same for every number of threads.
void narrow_backward(const NarrowLayer<float>& layer, const float* gradient, float* gradient_x,
                     float* gradient_weights, float* gradient_bias, std::size_t threads);
void narrow_backward(const NarrowLayer<BFloat16>& layer, const float* gradient, BFloat16* gradient_x,
                     float* gradient_weights, float* gradient_bias, std::size_t threads);

}  // namespace bowerbird
