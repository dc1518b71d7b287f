// The loss of a batch and its gradient, in one pass.
#pragma once

#include <cstddef>

namespace bowerbird {

// Logits x float32 [rows, members], labels y and weights of rows. A label that is no number is not known yet.
struct Labelled {
  std::size_t rows;
  std::size_t members;
  const float* logits;
  const float* labels;
  const float* weights;
};

// The weighted mean over rows with a label, and over members, of the cross entropy softplus(-x) + (1 - y) x; `gradient`
// [rows, members] becomes its gradient. Sums are formed per block of rows, in block order: the same for every number of threads.
double cross_entropy(const Labelled& batch, float* gradient, std::size_t threads);

}  // namespace bowerbird
