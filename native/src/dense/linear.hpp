// The three products of a linear layer in training, on tile registers: bfloat16 factors, float32 sums.
#pragma once

#include <cstddef>

#include "base/bfloat16.hpp"

namespace bowerbird {

// Whether this machine has tile registers, and BOWERBIRD_ISA does not forbid them. The rest may be called only then.
bool has_tiles();

// A layer of weights float32 [outputs, inputs], which are rounded to bfloat16 as a product begins.
struct Linear {
  std::size_t rows;
  std::size_t inputs;
  std::size_t outputs;
  const float* weights;
};

// out = x weights^T + bias, [rows, outputs]; x is [rows, inputs], rounded where it is float32; a null bias stands for zeros.
void linear_forward(const Linear& layer, const float* x, const float* bias, BFloat16* out, std::size_t threads);
void linear_forward(const Linear& layer, const BFloat16* x, const float* bias, BFloat16* out, std::size_t threads);

// The gradient of x, [rows, inputs], from that of the result, [rows, outputs].
void linear_input_gradient(const Linear& layer, const BFloat16* gradient, float* of_x, std::size_t threads);
void linear_input_gradient(const Linear& layer, const BFloat16* gradient, BFloat16* of_x, std::size_t threads);

// The gradients of the weights, float32 [outputs, inputs], and of the bias, float32 [outputs] (null: not wanted).
// Rows are added up in blocks whose size the layer alone decides: any number of threads gives the same bits.
void linear_weight_gradient(const Linear& layer, const BFloat16* gradient, const float* x, float* of_weights,
                            float* of_bias, std::size_t threads);
void linear_weight_gradient(const Linear& layer, const BFloat16* gradient, const BFloat16* x, float* of_weights,
                            float* of_bias, std::size_t threads);

}  // namespace bowerbird
