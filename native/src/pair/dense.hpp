// One layer of a network, ready to be multiplied with tiles.
#pragma once

#include "pair/pack.hpp"

namespace bowerbird::pair {

class Dense {
 public:
  Dense(LayerSpec layer, const Kernels& kernels)
      : packed_(pack(layer, kernels)), inputs_(layer.inputs), bias_(std::move(layer.bias)), map_(std::move(layer.map)) {}

  Unit unit() const { return packed_.unit; }
  bool tiled() const { return packed_.tiled; }
  std::size_t inputs() const { return inputs_; }
  std::size_t outputs() const { return packed_.outputs; }
  std::size_t groups() const { return packed_.groups; }
  // Whether no output is below 0: then integers stand for it without a zero point.
  bool nonnegative() const {
    return map_.function == Function::kRelu || map_.function == Function::kSigmoid || map_.function == Function::kExp ||
           map_.function == Function::kAbs || map_.function == Function::kSquare || map_.function == Function::kSoftplus;
  }

  // Outputs [first, first + count) without operand, adds and places for the answer; `first` is a multiple of 16.
  Product product(std::size_t first, std::size_t count) const {
    Product made{};
    made.unit = packed_.unit;
    made.tiled = packed_.tiled;
    made.weights = packed_.units.data() + start_of(packed_, first);
    made.outputs = count;
    made.bias = from(bias_, first);
    made.map.function = map_.function;
    for (std::size_t i = 0; i < map_.arrays.size(); ++i) made.map.arrays[i] = map_.arrays[i].data() + first;
    for (std::size_t i = 0; i < 2; ++i) made.map.numbers[i] = map_.numbers[i];
    made.weight_scale = from(packed_.scale, first);
    made.weight_sum = from(packed_.sum, first);
    return made;
  }

 private:
  static const float* from(const std::vector<float>& values, std::size_t first) {
    return values.empty() ? nullptr : values.data() + first;
  }

  Packed packed_;
  std::size_t inputs_;
  std::vector<float> bias_;
  MapSpec map_;
};

}  // namespace bowerbird::pair
