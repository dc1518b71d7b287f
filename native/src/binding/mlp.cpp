#include "binding/mlp.hpp"

#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <tuple>
#include <vector>

#include "binding/dense_arrays.hpp"
#include "dense/mlp.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace bowerbird {
namespace {

using Bits = Lent<std::int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
// Weights, bias, gain and offset; values, kept, mean and variance; seed. Gradients: of the first four.
using Layer = std::tuple<Matrix, Column, OptionalColumn, OptionalColumn, Values, Bits, OptionalColumn, OptionalColumn,
                         std::uint64_t>;
using Gradients = std::tuple<Matrix, Column, OptionalColumn, OptionalColumn>;

HiddenLayer layer_of(const Layer& given, std::size_t rows, std::size_t inputs) {
  const auto& [weights, bias, gain, offset, values, kept, mean, variance, seed] = given;
  const std::size_t outputs = weights.shape(0);
  require(outputs > 0 && weights.shape(1) == inputs, "weights do not fit");
  require(bias.shape(0) == outputs, "a column's length is not the width");
  require(gain.has_value() == offset.has_value() && gain.has_value() == mean.has_value() &&
              gain.has_value() == variance.has_value(), "a normalised layer has gain, offset, mean and variance");
  require(is_bfloat16(values), "a layer's values are not bfloat16");
  require(values.shape(0) == rows && values.shape(1) == stride_of(outputs), "arrays differ in shape");
  require(kept.shape(0) == rows && kept.shape(1) == words_of(outputs), "what is kept has another shape");
  return {inputs, outputs, weights.data(), bias.data(), column(gain, outputs), column(offset, outputs), seed,
          static_cast<BFloat16*>(values.data()), reinterpret_cast<std::uint32_t*>(kept.data()),
          column(mean, outputs), column(variance, outputs)};
}

std::vector<HiddenLayer> layers_of(const Values& x, const std::vector<Layer>& given, const Values& result) {
  const Shape shape = shape_of(x);
  require(!given.empty(), "there are no layers");
  std::vector<HiddenLayer> layers;
  std::size_t inputs = shape.width;
  for (const Layer& each : given) {
    layers.push_back(layer_of(each, shape.rows, inputs));
    inputs = layers.back().outputs;
  }
  require(is_bfloat16(result), "results are not bfloat16");
  require(result.shape(0) == shape.rows && result.shape(1) == inputs, "arrays differ in shape");
  return layers;
}

HiddenGradients gradients_of(const Gradients& given, const HiddenLayer& layer) {
  const auto& [weights, bias, gain, offset] = given;
  require(weights.shape(0) == layer.outputs && weights.shape(1) == layer.inputs, "gradients are of other layers");
  require(bias.shape(0) == layer.outputs, "a column's length is not the width");
  const bool normalised = layer.gain != nullptr;
  require(gain.has_value() == normalised && offset.has_value() == normalised, "gradients are of other layers");
  return {weights.data(), bias.data(), column(gain, layer.outputs), column(offset, layer.outputs)};
}

void forward(Values x, const std::vector<Layer>& given, float keep, float epsilon, Values out, std::size_t threads) {
  const std::vector<HiddenLayer> layers = layers_of(x, given, out);
  require(keep > 0.0f, "dropout keeps nothing");
  const bool half = is_bfloat16(x);
  const nb::gil_scoped_release release;
  const HiddenLayers network{x.shape(0), keep, epsilon, layers};
  auto* const to = static_cast<BFloat16*>(out.data());
  if (half) {
    mlp_forward(network, static_cast<const BFloat16*>(x.data()), to, threads);
  } else {
    mlp_forward(network, static_cast<const float*>(x.data()), to, threads);
  }
}

void backward(Values x, const std::vector<Layer>& given, float keep, float epsilon, Values gradient, Values of_x,
              const std::vector<Gradients>& of_given, std::size_t threads) {
  const std::vector<HiddenLayer> layers = layers_of(x, given, gradient);
  require(keep > 0.0f, "dropout keeps nothing");
  require_same(x, of_x);
  require(of_given.size() == layers.size(), "gradients are of other layers");
  std::vector<HiddenGradients> of_layers;
  for (std::size_t i = 0; i < layers.size(); ++i) of_layers.push_back(gradients_of(of_given[i], layers[i]));
  const bool half = is_bfloat16(x);
  const nb::gil_scoped_release release;
  const HiddenLayers network{x.shape(0), keep, epsilon, layers};
  const auto* const from = static_cast<const BFloat16*>(gradient.data());
  if (half) {
    mlp_backward(network, static_cast<const BFloat16*>(x.data()), from, static_cast<BFloat16*>(of_x.data()), of_layers, threads);
  } else {
    mlp_backward(network, static_cast<const float*>(x.data()), from, static_cast<float*>(of_x.data()), of_layers, threads);
  }
}

}  // namespace

void bind_mlp(nb::module_& module) {
  module.def("mlp_forward", &forward, array("x"), array("layers"), "keep"_a, "epsilon"_a, array("out"), "threads"_a = 1);
  module.def("mlp_backward", &backward, array("x"), array("layers"), "keep"_a, "epsilon"_a, array("gradient"),
             array("of_x"), array("of_layers"), "threads"_a = 1);
}

}  // namespace bowerbird
