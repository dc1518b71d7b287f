// The gradients of target attention's parameters, added up chunk by chunk of samples.
#pragma once

#include <vector>

#include "dense/attention_network.hpp"
#include "dense/linear_tiles.hpp"

namespace bowerbird::tiled {

// Where the gradients that all samples share are added up: the layers', filled up to whole registers, and the score's.
class AttentionSums {
 public:
  explicit AttentionSums(const AttentionNetwork& network) : network_(network) {
    for (const ScorerLayer& layer : network.layers) {
      weights_.push_back(taken(sides(layer.outputs) * sides(layer.inputs) * kUnits));
      biases_.push_back(taken(steps_of(layer.outputs) * kStep));
    }
    score_ = taken(steps_of(network.layers.back().outputs) * kStep);
    score_bias_ = taken(kSide);
  }

  std::size_t size() const { return size_; }
  float* weights(float* sums, std::size_t layer) const { return sums + weights_[layer]; }
  float* bias(float* sums, std::size_t layer) const { return sums + biases_[layer]; }
  float* score(float* sums) const { return sums + score_; }
  float* score_bias(float* sums) const { return sums + score_bias_; }

  // Adds chunks of sums up, in their order.
  void total(const float* sums, std::size_t chunks, const AttentionGradients& of) const {
    for (std::size_t layer = 0; layer < network_.layers.size(); ++layer) {
      const ScorerLayer& shape = network_.layers[layer];
      const std::size_t stride = sides(shape.inputs) * kSide;
      for (std::size_t output = 0; output < shape.outputs; ++output) {
        add(sums + weights_[layer] + output * stride, chunks, shape.inputs, of.weights[layer] + output * shape.inputs);
      }
      if (layer > 0) add(sums + biases_[layer], chunks, shape.outputs, of.biases[layer]);
    }
    add(sums + score_, chunks, network_.layers.back().outputs, of.score);
    add(sums + score_bias_, chunks, 1, of.score_bias);
  }

 private:
  std::size_t taken(std::size_t count) {
    size_ += count;
    return size_ - count;
  }

  void add(const float* sums, std::size_t chunks, std::size_t count, float* to) const {
    std::copy_n(sums, count, to);
    for (std::size_t chunk = 1; chunk < chunks; ++chunk) {
      for (std::size_t i = 0; i < count; ++i) to[i] += sums[chunk * size_ + i];
    }
  }

  const AttentionNetwork& network_;
  std::vector<std::size_t> weights_, biases_;
  std::size_t score_ = 0, score_bias_ = 0, size_ = 0;
};

}  // namespace bowerbird::tiled
