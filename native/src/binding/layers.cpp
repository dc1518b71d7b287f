#include "binding/layers.hpp"

#include <nanobind/stl/vector.h>

#include <algorithm>
#include <span>
#include <vector>

#include "binding/dense_arrays.hpp"
#include "dense/attention.hpp"
#include "dense/cross.hpp"
#include "dense/cross_network.hpp"
#include "dense/entropy.hpp"
#include "dense/linear.hpp"
#include "dense/narrow.hpp"
#include "dense/norm.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace bowerbird {
namespace {

using Floats = Lent<float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

Events pooled_shape(const Matrix& weights, const Floats& events, const Matrix& pooled) {
  const Events shape{events.shape(0), events.shape(1), events.shape(2), 0, {}};
  require(weights.shape(0) == shape.samples && weights.shape(1) == shape.length, "weights do not fit");
  require(pooled.shape(0) == shape.samples && pooled.shape(1) == shape.width, "arrays differ in shape");
  return shape;
}

void pool_forward(Matrix weights, Floats events, Matrix out, std::size_t threads) {
  const Events shape = pooled_shape(weights, events, out);
  const nb::gil_scoped_release release;
  pool_events(weights.data(), events.data(), shape, out.data(), threads);
}

void pool_backward(Matrix weights, Floats events, Matrix gradient, Matrix of_weights, Floats of_events,
                   std::size_t threads) {
  const Events shape = pooled_shape(weights, events, gradient);
  pooled_shape(of_weights, of_events, gradient);
  require(of_events.shape(1) == shape.length, "arrays differ in shape");
  const nb::gil_scoped_release release;
  pool_events_backward(weights.data(), events.data(), gradient.data(), shape, of_weights.data(), of_events.data(),
                       threads);
}

using OptionalMatrix = std::optional<Matrix>;
using OptionalValues = std::optional<Values>;

void require_shape(const Matrix& values, Shape shape) {
  require(values.shape(0) == shape.rows && values.shape(1) == shape.width, "arrays differ in shape");
}

const float* fitting(const OptionalMatrix& values, Shape shape) {
  if (!values) return nullptr;
  require_shape(*values, shape);
  return values->data();
}

template <typename T>
T* data_of(const Values& values) {
  return static_cast<T*>(values.data());
}

void crossed_forward(Matrix first, Values product, Matrix crossed, Matrix next, OptionalValues low,
                     std::size_t threads) {
  const Shape shape = shape_of(product);
  require_shape(first, shape), require_shape(crossed, shape), require_shape(next, shape);
  if (low) require_same(product, *low);
  const bool half = is_bfloat16(product);
  const nb::gil_scoped_release release;
  const std::size_t count = shape.rows * shape.width;
  if (half) {
    cross_forward({first.data(), data_of<BFloat16>(product), count}, crossed.data(), next.data(),
                  low ? data_of<BFloat16>(*low) : nullptr, threads);
  } else {
    cross_forward({first.data(), data_of<float>(product), count}, crossed.data(), next.data(),
                  low ? data_of<float>(*low) : nullptr, threads);
  }
}

void crossed_backward(Matrix first, Values product, OptionalMatrix back_next, OptionalValues back_low,
                      OptionalMatrix back_first, Matrix of_crossed, Values of_product, Matrix of_first,
                      std::size_t threads) {
  const Shape shape = shape_of(product);
  require_shape(first, shape), require_shape(of_crossed, shape), require_shape(of_first, shape);
  require_same(product, of_product);
  if (back_low) require_same(product, *back_low);
  const float* const next = fitting(back_next, shape);
  const float* const earlier = fitting(back_first, shape);
  const bool half = is_bfloat16(product);
  const nb::gil_scoped_release release;
  const std::size_t count = shape.rows * shape.width;
  if (half) {
    cross_backward({first.data(), data_of<BFloat16>(product), count},
                   {next, back_low ? data_of<BFloat16>(*back_low) : nullptr, earlier}, of_crossed.data(),
                   data_of<BFloat16>(of_product), of_first.data(), threads);
  } else {
    cross_backward({first.data(), data_of<float>(product), count},
                   {next, back_low ? data_of<float>(*back_low) : nullptr, earlier}, of_crossed.data(),
                   data_of<float>(of_product), of_first.data(), threads);
  }
}

using Parts = std::vector<Values>;

// Calls apply(part's number, its first column among the weights' columns).
template <typename Apply>
void each_part(const Parts& parts, const Apply& apply) {
  std::size_t column = 0;
  for (std::size_t number = 0; number < parts.size(); column += parts[number++].shape(1)) apply(number, column);
}

void require_parts(const Parts& parts, const Matrix& weights, const Matrix& out) {
  std::size_t width = 0;
  for (const Values& part : parts) {
    require(shape_of(part).rows == out.shape(0), "arrays differ in shape");
    is_bfloat16(part);
    width += part.shape(1);
  }
  require(!parts.empty() && weights.shape(0) > 0 && weights.shape(1) == width, "weights do not fit");
  require(out.shape(1) == weights.shape(0), "arrays differ in shape");
}

template <typename T>
NarrowLayer<T> layer_of(const Values& x, const Matrix& weights, std::size_t column) {
  return {data_of<T>(x), x.shape(0), x.shape(1), weights.data() + column, weights.shape(1), weights.shape(0)};
}

void fill_rows(const float* bias, const Matrix& out) {
  const std::size_t width = out.shape(1);
  for (std::size_t at = 0; at < out.size(); at += width) {
    bias == nullptr ? std::fill_n(out.data() + at, width, 0.0f) : std::copy_n(bias, width, out.data() + at);
  }
}

void narrow_of(const Parts& parts, Matrix weights, OptionalColumn bias, Matrix out, std::size_t threads) {
  require_parts(parts, weights, out);
  const float* const added = column(bias, weights.shape(0));
  std::vector<bool> halves;
  for (const Values& part : parts) halves.push_back(is_bfloat16(part));
  const nb::gil_scoped_release release;
  fill_rows(added, out);
  each_part(parts, [&](std::size_t number, std::size_t first) {
    if (halves[number]) {
      narrow_forward(layer_of<BFloat16>(parts[number], weights, first), out.data(), threads);
    } else {
      narrow_forward(layer_of<float>(parts[number], weights, first), out.data(), threads);
    }
  });
}

void narrow_back(const Parts& parts, Matrix weights, Matrix gradient, const Parts& of_parts, Matrix of_weights,
                 OptionalColumn of_bias, std::size_t threads) {
  require_parts(parts, weights, gradient);
  require(of_parts.size() == parts.size(), "gradients are of other parts");
  for (std::size_t number = 0; number < parts.size(); ++number) require_same(parts[number], of_parts[number]);
  require_shape(of_weights, {weights.shape(0), weights.shape(1)});
  float* const biases = column(of_bias, weights.shape(0));
  std::vector<bool> halves;
  for (const Values& part : parts) halves.push_back(is_bfloat16(part));
  const nb::gil_scoped_release release;
  each_part(parts, [&](std::size_t number, std::size_t first) {
    float* const once = number == 0 ? biases : nullptr;
    float* const to = of_weights.data() + first;
    if (halves[number]) {
      narrow_backward(layer_of<BFloat16>(parts[number], weights, first), gradient.data(),
                      data_of<BFloat16>(of_parts[number]), to, once, threads);
    } else {
      narrow_backward(layer_of<float>(parts[number], weights, first), gradient.data(),
                      data_of<float>(of_parts[number]), to, once, threads);
    }
  });
}

Linear linear_of(const Values& x, const Matrix& weights, const Values& result) {
  const Shape shape = shape_of(x);
  require(weights.shape(0) > 0 && weights.shape(1) == shape.width, "weights do not fit");
  require(result.shape(0) == shape.rows && result.shape(1) == weights.shape(0), "arrays differ in shape");
  require(is_bfloat16(result), "a layer's result is not bfloat16");
  return {shape.rows, shape.width, weights.shape(0), weights.data()};
}

void linear_of_rows(Values x, Matrix weights, OptionalColumn bias, Values out, std::size_t threads) {
  const Linear layer = linear_of(x, weights, out);
  const float* const added = column(bias, layer.outputs);
  const bool half = is_bfloat16(x);
  const nb::gil_scoped_release release;
  if (half) {
    linear_forward(layer, data_of<const BFloat16>(x), added, data_of<BFloat16>(out), threads);
  } else {
    linear_forward(layer, data_of<const float>(x), added, data_of<BFloat16>(out), threads);
  }
}

void linear_back_to_rows(Values gradient, Matrix weights, Values of_x, std::size_t threads) {
  const Linear layer = linear_of(of_x, weights, gradient);
  const bool half = is_bfloat16(of_x);
  const nb::gil_scoped_release release;
  if (half) {
    linear_input_gradient(layer, data_of<const BFloat16>(gradient), data_of<BFloat16>(of_x), threads);
  } else {
    linear_input_gradient(layer, data_of<const BFloat16>(gradient), data_of<float>(of_x), threads);
  }
}

void linear_back_to_weights(Values gradient, Values x, Matrix of_weights, OptionalColumn of_bias, std::size_t threads) {
  const Linear layer = linear_of(x, of_weights, gradient);
  float* const bias = column(of_bias, layer.outputs);
  const bool half = is_bfloat16(x);
  const nb::gil_scoped_release release;
  if (half) {
    linear_weight_gradient(layer, data_of<const BFloat16>(gradient), data_of<const BFloat16>(x), of_weights.data(),
                           bias, threads);
  } else {
    linear_weight_gradient(layer, data_of<const BFloat16>(gradient), data_of<const float>(x), of_weights.data(),
                           bias, threads);
  }
}

using Matrices = std::vector<Matrix>;
using Columns = std::vector<Column>;

// A network's arrays, checked, with pointers to its layers.
struct CheckedCross {
  std::vector<const float*> weights, biases;
  CrossLayers layers{};
  CrossValues values{};
};

void require_layers(const Matrices& weights, const Columns& biases, std::size_t width) {
  require(!weights.empty() && weights.size() == biases.size(), "weights and biases go together");
  for (const Matrix& each : weights) require_shape(each, {width, width});
  for (const Column& each : biases) require(each.shape(0) == width, "a column's length is not the width");
}

template <typename Pointer, typename Arrays>
std::vector<Pointer> pointers(const Arrays& arrays) {
  std::vector<Pointer> found;
  for (const auto& each : arrays) found.push_back(each.data());
  return found;
}

CheckedCross checked(const Matrix& first, const Matrices& weights, const Columns& biases, const Values& given,
                     const Values& products) {
  const Shape shape{first.shape(0), first.shape(1)};
  require(shape.rows > 0 && shape.width > 0, "values are empty");
  require_layers(weights, biases, shape.width);
  require_same(given, products);
  require(is_bfloat16(given), "a network's values are not bfloat16");
  require(given.shape(0) == weights.size() * shape.rows && given.shape(1) == shape.width, "arrays differ in shape");
  CheckedCross found{pointers<const float*>(weights), pointers<const float*>(biases)};
  found.layers = {shape.rows, shape.width, weights.size(), found.weights.data(), found.biases.data()};
  found.values = {data_of<BFloat16>(given), data_of<BFloat16>(products)};
  return found;
}

void crosses_forward(Matrix first, const Matrices& weights, const Columns& biases, Values given, Values products,
                     Matrix out, std::size_t threads) {
  const CheckedCross network = checked(first, weights, biases, given, products);
  require_shape(out, {network.layers.rows, network.layers.width});
  const nb::gil_scoped_release release;
  cross_network_forward(network.layers, first.data(), network.values, out.data(), threads);
}

void crosses_backward(Matrix first, const Matrices& weights, const Columns& biases, Values given, Values products,
                      Matrix gradient, OptionalMatrix elsewhere, Matrix of_first, const Matrices& of_weights,
                      const Columns& of_biases, std::size_t threads) {
  const CheckedCross network = checked(first, weights, biases, given, products);
  const Shape shape{network.layers.rows, network.layers.width};
  require_shape(gradient, shape), require_shape(of_first, shape);
  require(of_weights.size() == weights.size(), "gradients are of other layers");
  require_layers(of_weights, of_biases, shape.width);
  const std::vector<float*> to_weights = pointers<float*>(of_weights), to_biases = pointers<float*>(of_biases);
  const CrossBack back{gradient.data(), fitting(elsewhere, shape)};
  const nb::gil_scoped_release release;
  cross_network_backward(network.layers, first.data(), network.values, back, of_first.data(),
                         to_weights.data(), to_biases.data(), threads);
}

void follow_all(const Columns& running, const Columns& values, float share, float scale) {
  require(running.size() == values.size(), "arrays differ in number");
  for (std::size_t number = 0; number < running.size(); ++number) {
    require(running[number].shape(0) == values[number].shape(0), "arrays differ in shape");
  }
  const nb::gil_scoped_release release;
  for (std::size_t number = 0; number < running.size(); ++number) {
    follow(values[number].data(), values[number].shape(0), share, scale, running[number].data());
  }
}

double entropy_of(Matrix logits, Column labels, Column weights, Matrix gradient, std::size_t threads) {
  const std::size_t rows = logits.shape(0), members = logits.shape(1);
  require(rows > 0 && members > 0, "values are empty");
  require(labels.shape(0) == rows && weights.shape(0) == rows, "labels and weights are of other rows");
  require_shape(gradient, {rows, members});
  const nb::gil_scoped_release release;
  return cross_entropy({rows, members, logits.data(), labels.data(), weights.data()}, gradient.data(), threads);
}

using Array = Lent<const float, nb::c_contig, nb::device::cpu>;

double norm_of_arrays(const std::vector<Array>& arrays, std::size_t threads) {
  std::vector<std::span<const float>> spans;
  for (const Array& each : arrays) spans.emplace_back(each.data(), each.size());
  const nb::gil_scoped_release release;
  return norm_of(spans, threads);
}

}  // namespace

void bind_layers(nb::module_& module) {
  module.def("pool_events", &pool_forward, array("weights"), array("events"), array("out"), "threads"_a = 1);
  module.def("pool_events_backward", &pool_backward, array("weights"), array("events"), array("gradient"),
             array("of_weights"), array("of_events"), "threads"_a = 1);
  module.def("cross_forward", &crossed_forward, array("first"), array("product"), array("crossed"), array("next"),
             array("low").none(), "threads"_a = 1);
  module.def("cross_backward", &crossed_backward, array("first"), array("product"), array("gradient_next").none(),
             array("gradient_low").none(), array("gradient_first").none(), array("of_crossed"), array("of_product"),
             array("of_first"), "threads"_a = 1);
  module.def("narrow_forward", &narrow_of, array("parts"), array("weights"), array("bias").none(), array("out"),
             "threads"_a = 1);
  module.def("narrow_backward", &narrow_back, array("parts"), array("weights"), array("gradient"), array("of_parts"),
             array("of_weights"), array("of_bias").none(), "threads"_a = 1);
  module.def("follow", &follow_all, array("running"), array("values"), "share"_a, "scale"_a = 1.0f);
  module.def("cross_entropy", &entropy_of, array("logits"), array("labels"), array("weights"), array("gradient"),
             "threads"_a = 1);
  module.def("norm", &norm_of_arrays, array("arrays"), "threads"_a = 1);
  module.def("has_tiles", &has_tiles);
  module.def("cross_network_forward", &crosses_forward, array("first"), array("weights"), array("biases"),
             array("given"), array("products"), array("out"), "threads"_a = 1);
  module.def("cross_network_backward", &crosses_backward, array("first"), array("weights"), array("biases"),
             array("given"), array("products"), array("gradient"), array("elsewhere").none(), array("of_first"),
             array("of_weights"), array("of_biases"), "threads"_a = 1);
  module.def("linear_forward", &linear_of_rows, array("x"), array("weights"), array("bias").none(), array("out"),
             "threads"_a = 1);
  module.def("linear_input_gradient", &linear_back_to_rows, array("gradient"), array("weights"), array("of_x"),
             "threads"_a = 1);
  module.def("linear_weight_gradient", &linear_back_to_weights, array("gradient"), array("x"), array("of_weights"),
             array("of_bias").none(), "threads"_a = 1);
}

}  // namespace bowerbird
