// Batch normalisation, rectifier and dropout of a hidden layer in one pass over its values.
#pragma once

#include <cstddef>

#include "base/bfloat16.hpp"
#include "dense/dropout.hpp"

namespace bowerbird {

struct Shape {
  std::size_t rows;
  std::size_t width;
};

// Mean and (biased) variance of each column, float32 [width]; the same for every number of threads.
void column_moments(const float* x, Shape shape, float* mean, float* variance, std::size_t threads);
void column_moments(const BFloat16* x, Shape shape, float* mean, float* variance, std::size_t threads);

// running += share * (scale * values - running): a running mean takes a batch's values, of `width` columns, into account.
void follow(const float* values, std::size_t width, float share, float scale, float* running);

// y = max(0, x * scale + shift) / keep where the element is kept, 0 elsewhere; without scale and shift they are 1 and 0.
void hidden_forward(const float* x, Shape shape, const float* scale, const float* shift, Dropout dropout, float* y,
                    std::size_t threads);
void hidden_forward(const BFloat16* x, Shape shape, const float* scale, const float* shift, Dropout dropout,
                    BFloat16* y, std::size_t threads);

// What normalisation did in the forward pass; null pointers where there was none.
struct Normalised {
  const float* mean;
  const float* inverse_deviation;
  const float* weight;
};

// Gradients of hidden_forward with batch statistics: `gradient_x` may be `gradient_y`'s memory.
// `gradient_weight` and `gradient_bias` are float32 [width] and stay untouched without normalisation.
void hidden_backward(const float* x, const float* y, const float* gradient_y, Shape shape, Normalised normalised,
                     float keep, float* gradient_x, float* gradient_weight, float* gradient_bias, std::size_t threads);
void hidden_backward(const BFloat16* x, const BFloat16* y, const BFloat16* gradient_y, Shape shape,
                     Normalised normalised, float keep, BFloat16* gradient_x, float* gradient_weight,
                     float* gradient_bias, std::size_t threads);

}  // namespace bowerbird
