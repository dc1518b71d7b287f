#include "binding/dense.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "base/require.hpp"
#include "dense/attention.hpp"
#include "dense/cross.hpp"
#include "dense/cross_network.hpp"
#include "dense/hidden.hpp"
#include "dense/linear.hpp"
#include "dense/narrow.hpp"
#include "dense/rows.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace bowerbird {
namespace {

using Values = nb::ndarray<nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Column = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using OptionalColumn = std::optional<Column>;

bool is_bfloat16(const Values& values) {
  if (values.dtype() == nb::dtype<float>()) return false;
  const bool half = values.dtype().code == static_cast<std::uint8_t>(nb::dlpack::dtype_code::Bfloat) &&
                    values.dtype().bits == 16;
  require(half, "values are neither float32 nor bfloat16");
  return true;
}

Shape shape_of(const Values& values) {
  require(values.shape(0) > 0 && values.shape(1) > 0, "values are empty");
  return {values.shape(0), values.shape(1)};
}

void require_same(const Values& left, const Values& right) {
  require(left.shape(0) == right.shape(0) && left.shape(1) == right.shape(1) && left.dtype() == right.dtype(),
          "arrays differ in shape or type");
}

float* column(const OptionalColumn& values, std::size_t width) {
  if (!values) return nullptr;
  require(values->shape(0) == width, "a column's length is not the width");
  return values->data();
}

void require_keep(float keep) { require(keep > 0.0f && keep <= 1.0f, "keep is not in (0, 1]"); }

void moments_of(Values x, Column mean, Column variance, std::size_t threads) {
  const Shape shape = shape_of(x);
  require(mean.shape(0) == shape.width && variance.shape(0) == shape.width, "a column's length is not the width");
  const bool half = is_bfloat16(x);
  const nb::gil_scoped_release release;
  if (half) {
    column_moments(static_cast<const BFloat16*>(x.data()), shape, mean.data(), variance.data(), threads);
  } else {
    column_moments(static_cast<const float*>(x.data()), shape, mean.data(), variance.data(), threads);
  }
}

void forward_of(Values x, Values y, OptionalColumn scale, OptionalColumn shift, float keep, std::uint64_t seed,
                std::size_t threads) {
  const Shape shape = shape_of(x);
  require_same(x, y);
  require_keep(keep);
  require(scale.has_value() == shift.has_value(), "scale and shift go together");
  const float* factors = column(scale, shape.width);
  const float* offsets = column(shift, shape.width);
  const bool half = is_bfloat16(x);
  const nb::gil_scoped_release release;
  if (half) {
    hidden_forward(static_cast<const BFloat16*>(x.data()), shape, factors, offsets, {keep, seed},
                   static_cast<BFloat16*>(y.data()), threads);
  } else {
    hidden_forward(static_cast<const float*>(x.data()), shape, factors, offsets, {keep, seed},
                   static_cast<float*>(y.data()), threads);
  }
}

void backward_of(Values x, Values y, Values gradient_y, Values gradient_x, OptionalColumn mean,
                 OptionalColumn inverse_deviation, OptionalColumn weight, OptionalColumn gradient_weight,
                 OptionalColumn gradient_bias, float keep, std::size_t threads) {
  const Shape shape = shape_of(x);
  require_same(x, y), require_same(x, gradient_y), require_same(x, gradient_x);
  require_keep(keep);
  const std::size_t width = shape.width;
  const Normalised normalised{column(mean, width), column(inverse_deviation, width), column(weight, width)};
  float* const weights = column(gradient_weight, width);
  float* const biases = column(gradient_bias, width);
  const int given = int{mean.has_value()} + int{inverse_deviation.has_value()} + int{weight.has_value()} +
                    int{gradient_weight.has_value()} + int{gradient_bias.has_value()};
  require(given == 0 || given == 5, "normalisation's columns go together");
  const bool half = is_bfloat16(x);
  const nb::gil_scoped_release release;
  if (half) {
    hidden_backward(static_cast<const BFloat16*>(x.data()), static_cast<const BFloat16*>(y.data()),
                    static_cast<const BFloat16*>(gradient_y.data()), shape, normalised, keep,
                    static_cast<BFloat16*>(gradient_x.data()), weights, biases, threads);
  } else {
    hidden_backward(static_cast<const float*>(x.data()), static_cast<const float*>(y.data()),
                    static_cast<const float*>(gradient_y.data()), shape, normalised, keep,
                    static_cast<float*>(gradient_x.data()), weights, biases, threads);
  }
}

using Matrix = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Strided = nb::ndarray<nb::ndim<2>, nb::device::cpu>;
using Places = nb::ndarray<const std::int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Cube = nb::ndarray<nb::ndim<3>, nb::c_contig, nb::device::cpu>;

void require_places(const Places& places, std::size_t rows) {
  const std::int64_t* const at = places.data();
  const std::size_t count = places.shape(0);
  bool inside = true;
  for (std::size_t i = 0; i < count; ++i) inside &= static_cast<std::uint64_t>(at[i]) < rows;
  require(inside, "a place is beyond the table");
}

void gather(Matrix table, Places places, Matrix out, std::size_t threads) {
  require(out.shape(0) == places.shape(0) && out.shape(1) == table.shape(1), "out does not fit");
  const nb::gil_scoped_release release;
  require_places(places, table.shape(0));
  gather_rows(table.data(), places.data(), places.shape(0), table.shape(1), out.data(), threads);
}

void scatter(Strided values, Places places, Matrix table, std::size_t threads) {
  require(values.shape(0) == places.shape(0) && values.shape(1) == table.shape(1), "values do not fit");
  require(values.stride(1) == 1 && values.stride(0) >= 0, "a row's values are not side by side");
  const bool half = values.dtype() != nb::dtype<float>();
  require(!half || (values.dtype().code == static_cast<std::uint8_t>(nb::dlpack::dtype_code::Bfloat) &&
                    values.dtype().bits == 16),
          "values are neither float32 nor bfloat16");
  const auto stride = static_cast<std::size_t>(values.stride(0));
  const nb::gil_scoped_release release;
  require_places(places, table.shape(0));
  if (half) {
    scatter_rows(static_cast<const BFloat16*>(values.data()), stride, places.data(), places.shape(0), table.shape(1),
                 table.data(), threads);
  } else {
    scatter_rows(static_cast<const float*>(values.data()), stride, places.data(), places.shape(0), table.shape(1),
                 table.data(), threads);
  }
}

bool is_bfloat16(const Cube& values) {
  if (values.dtype() == nb::dtype<float>()) return false;
  const bool half = values.dtype().code == static_cast<std::uint8_t>(nb::dlpack::dtype_code::Bfloat) &&
                    values.dtype().bits == 16;
  require(half, "values are neither float32 nor bfloat16");
  return true;
}

using Parts = std::vector<std::tuple<std::size_t, std::size_t, std::size_t>>;

Events events_of(const Cube& events, const Matrix& query, const Cube& wide, const Parts& parts) {
  Events shape{events.shape(0), events.shape(1), events.shape(2), query.shape(1), {}};
  require(events.dtype() == nb::dtype<float>(), "events are not float32");
  require(query.shape(0) == shape.samples && wide.shape(0) == shape.samples && wide.shape(1) == shape.length &&
              wide.shape(2) == shape.width + shape.query_width,
          "arrays differ in shape");
  std::size_t covered = 0;
  for (const auto& [query_at, event_at, width] : parts) {
    require(query_at == covered && event_at + width <= shape.width, "meetings do not fit");
    shape.meetings.push_back({query_at, event_at, width});
    covered += width;
  }
  require(covered == shape.query_width, "meetings do not cover the query");
  return shape;
}

void inputs_forward(Cube events, Matrix query, const Parts& parts, Cube out, std::size_t threads) {
  const Events shape = events_of(events, query, out, parts);
  const bool half = is_bfloat16(out);
  const nb::gil_scoped_release release;
  const auto* given = static_cast<const float*>(events.data());
  if (half) {
    attention_inputs(given, query.data(), shape, static_cast<BFloat16*>(out.data()), threads);
  } else {
    attention_inputs(given, query.data(), shape, static_cast<float*>(out.data()), threads);
  }
}

void inputs_backward(Cube gradient, Cube events, Matrix query, const Parts& parts, Cube gradient_events,
                     Matrix gradient_query, std::size_t threads) {
  const Events shape = events_of(events, query, gradient, parts);
  require(gradient_events.shape(0) == shape.samples && gradient_events.shape(1) == shape.length &&
              gradient_events.shape(2) == shape.width && gradient_events.dtype() == nb::dtype<float>() &&
              gradient_query.shape(0) == shape.samples && gradient_query.shape(1) == shape.query_width,
          "arrays differ in shape");
  const bool half = is_bfloat16(gradient);
  const nb::gil_scoped_release release;
  const auto* given = static_cast<const float*>(events.data());
  auto* back = static_cast<float*>(gradient_events.data());
  if (half) {
    attention_inputs_backward(static_cast<const BFloat16*>(gradient.data()), given, query.data(), shape, back,
                              gradient_query.data(), threads);
  } else {
    attention_inputs_backward(static_cast<const float*>(gradient.data()), given, query.data(), shape, back,
                              gradient_query.data(), threads);
  }
}

void rectifier_forward(Cube x, Values shift, std::size_t threads) {
  require(shift.shape(0) == x.shape(0) && shift.shape(1) == x.shape(2) && shift.dtype() == x.dtype(),
          "arrays differ in shape or type");
  const bool half = is_bfloat16(x);
  const nb::gil_scoped_release release;
  if (half) {
    shifted_rectifier(static_cast<BFloat16*>(x.data()), static_cast<const BFloat16*>(shift.data()), x.shape(0),
                      x.shape(1), x.shape(2), threads);
  } else {
    shifted_rectifier(static_cast<float*>(x.data()), static_cast<const float*>(shift.data()), x.shape(0), x.shape(1),
                      x.shape(2), threads);
  }
}

void rectifier_backward(Cube y, Cube gradient_y, Cube gradient_x, Matrix gradient_shift, std::size_t threads) {
  require(y.dtype() == gradient_y.dtype() && y.dtype() == gradient_x.dtype() && y.size() == gradient_y.size() &&
              y.size() == gradient_x.size() && gradient_shift.shape(0) == y.shape(0) &&
              gradient_shift.shape(1) == y.shape(2),
          "arrays differ in shape or type");
  const bool half = is_bfloat16(y);
  const nb::gil_scoped_release release;
  if (half) {
    shifted_rectifier_backward(static_cast<const BFloat16*>(y.data()), static_cast<const BFloat16*>(gradient_y.data()),
                               y.shape(0), y.shape(1), y.shape(2), static_cast<BFloat16*>(gradient_x.data()),
                               gradient_shift.data(), threads);
  } else {
    shifted_rectifier_backward(static_cast<const float*>(y.data()), static_cast<const float*>(gradient_y.data()),
                               y.shape(0), y.shape(1), y.shape(2), static_cast<float*>(gradient_x.data()),
                               gradient_shift.data(), threads);
  }
}

using Floats = nb::ndarray<float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

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

using Weights = nb::ndarray<float, nb::ndim<2>, nb::device::cpu>;

template <typename T>
NarrowLayer<T> layer_of(const Values& x, const Weights& weights) {
  return {data_of<T>(x), x.shape(0), x.shape(1), weights.data(), static_cast<std::size_t>(weights.stride(0)),
          weights.shape(0)};
}

void require_weights(const Values& x, const Weights& weights) {
  require(weights.shape(0) > 0 && weights.shape(1) == x.shape(1), "weights do not fit");
  require(weights.stride(1) == 1 && weights.stride(0) >= 0, "an output's weights are not side by side");
}

void narrow_of(Values x, Weights weights, Matrix out, std::size_t threads) {
  const Shape shape = shape_of(x);
  require_weights(x, weights);
  require_shape(out, {shape.rows, weights.shape(0)});
  const bool half = is_bfloat16(x);
  const nb::gil_scoped_release release;
  if (half) {
    narrow_forward(layer_of<BFloat16>(x, weights), out.data(), threads);
  } else {
    narrow_forward(layer_of<float>(x, weights), out.data(), threads);
  }
}

void narrow_back(Values x, Weights weights, Matrix gradient, Values gradient_x, Weights gradient_weights,
                 OptionalColumn gradient_bias, std::size_t threads) {
  const Shape shape = shape_of(x);
  require_weights(x, weights), require_weights(x, gradient_weights);
  require(weights.shape(0) == gradient_weights.shape(0) && weights.stride(0) == gradient_weights.stride(0),
          "gradients of the weights are laid out in another way");
  require_shape(gradient, {shape.rows, weights.shape(0)});
  require_same(x, gradient_x);
  float* const of_bias = column(gradient_bias, weights.shape(0));
  const bool half = is_bfloat16(x);
  const nb::gil_scoped_release release;
  if (half) {
    narrow_backward(layer_of<BFloat16>(x, weights), gradient.data(), data_of<BFloat16>(gradient_x),
                    gradient_weights.data(), of_bias, threads);
  } else {
    narrow_backward(layer_of<float>(x, weights), gradient.data(), data_of<float>(gradient_x), gradient_weights.data(),
                    of_bias, threads);
  }
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
    linear_weight_gradient(layer, data_of<const BFloat16>(gradient), data_of<const BFloat16>(x), of_weights.data(), bias,
                           threads);
  } else {
    linear_weight_gradient(layer, data_of<const BFloat16>(gradient), data_of<const float>(x), of_weights.data(), bias,
                           threads);
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
                      Matrix gradient, Matrix of_first, const Matrices& of_weights, const Columns& of_biases,
                      std::size_t threads) {
  const CheckedCross network = checked(first, weights, biases, given, products);
  const Shape shape{network.layers.rows, network.layers.width};
  require_shape(gradient, shape), require_shape(of_first, shape);
  require(of_weights.size() == weights.size(), "gradients are of other layers");
  require_layers(of_weights, of_biases, shape.width);
  const std::vector<float*> to_weights = pointers<float*>(of_weights), to_biases = pointers<float*>(of_biases);
  const nb::gil_scoped_release release;
  cross_network_backward(network.layers, first.data(), network.values, gradient.data(), of_first.data(),
                         to_weights.data(), to_biases.data(), threads);
}

}  // namespace

void bind_dense(nb::module_& module) {
  module.def("column_moments", &moments_of, "x"_a.noconvert(), "mean"_a.noconvert(), "variance"_a.noconvert(), "threads"_a = 1);
  module.def("hidden_forward", &forward_of, "x"_a.noconvert(), "y"_a.noconvert(), "scale"_a.noconvert().none(), "shift"_a.noconvert().none(), "keep"_a, "seed"_a,
             "threads"_a = 1);
  module.def("hidden_backward", &backward_of, "x"_a.noconvert(), "y"_a.noconvert(), "gradient_y"_a.noconvert(), "gradient_x"_a.noconvert(), "mean"_a.noconvert().none(),
             "inverse_deviation"_a.noconvert().none(), "weight"_a.noconvert().none(), "gradient_weight"_a.noconvert().none(), "gradient_bias"_a.noconvert().none(),
             "keep"_a, "threads"_a = 1);
  module.def("gather_rows", &gather, "table"_a.noconvert(), "places"_a.noconvert(), "out"_a.noconvert(), "threads"_a = 1);
  module.def("scatter_rows", &scatter, "values"_a.noconvert(), "places"_a.noconvert(), "table"_a.noconvert(), "threads"_a = 1);
  module.def("attention_inputs", &inputs_forward, "events"_a.noconvert(), "query"_a.noconvert(), "parts"_a, "out"_a.noconvert(), "threads"_a = 1);
  module.def("attention_inputs_backward", &inputs_backward, "gradient"_a.noconvert(), "events"_a.noconvert(), "query"_a.noconvert(), "parts"_a,
             "gradient_events"_a.noconvert(), "gradient_query"_a.noconvert(), "threads"_a = 1);
  module.def("pool_events", &pool_forward, "weights"_a.noconvert(), "events"_a.noconvert(), "out"_a.noconvert(), "threads"_a = 1);
  module.def("pool_events_backward", &pool_backward, "weights"_a.noconvert(), "events"_a.noconvert(), "gradient"_a.noconvert(), "of_weights"_a.noconvert(),
             "of_events"_a.noconvert(), "threads"_a = 1);
  module.def("shifted_rectifier", &rectifier_forward, "x"_a.noconvert(), "shift"_a.noconvert(), "threads"_a = 1);
  module.def("cross_forward", &crossed_forward, "first"_a.noconvert(), "product"_a.noconvert(), "crossed"_a.noconvert(), "next"_a.noconvert(), "low"_a.noconvert().none(),
             "threads"_a = 1);
  module.def("cross_backward", &crossed_backward, "first"_a.noconvert(), "product"_a.noconvert(), "gradient_next"_a.noconvert().none(),
             "gradient_low"_a.noconvert().none(), "gradient_first"_a.noconvert().none(), "of_crossed"_a.noconvert(), "of_product"_a.noconvert(), "of_first"_a.noconvert(),
             "threads"_a = 1);
  module.def("narrow_forward", &narrow_of, "x"_a.noconvert(), "weights"_a.noconvert(), "out"_a.noconvert(), "threads"_a = 1);
  module.def("narrow_backward", &narrow_back, "x"_a.noconvert(), "weights"_a.noconvert(), "gradient"_a.noconvert(), "gradient_x"_a.noconvert(), "gradient_weights"_a.noconvert(),
             "gradient_bias"_a.noconvert().none(), "threads"_a = 1);
  module.def("has_tiles", &has_tiles);
  module.def("cross_network_forward", &crosses_forward, "first"_a.noconvert(), "weights"_a.noconvert(), "biases"_a.noconvert(), "given"_a.noconvert(), "products"_a.noconvert(),
             "out"_a.noconvert(), "threads"_a = 1);
  module.def("cross_network_backward", &crosses_backward, "first"_a.noconvert(), "weights"_a.noconvert(), "biases"_a.noconvert(), "given"_a.noconvert(), "products"_a.noconvert(),
             "gradient"_a.noconvert(), "of_first"_a.noconvert(), "of_weights"_a.noconvert(), "of_biases"_a.noconvert(), "threads"_a = 1);
  module.def("linear_forward", &linear_of_rows, "x"_a.noconvert(), "weights"_a.noconvert(), "bias"_a.noconvert().none(), "out"_a.noconvert(), "threads"_a = 1);
  module.def("linear_input_gradient", &linear_back_to_rows, "gradient"_a.noconvert(), "weights"_a.noconvert(), "of_x"_a.noconvert(), "threads"_a = 1);
  module.def("linear_weight_gradient", &linear_back_to_weights, "gradient"_a.noconvert(), "x"_a.noconvert(), "of_weights"_a.noconvert(),
             "of_bias"_a.noconvert().none(), "threads"_a = 1);
  module.def("shifted_rectifier_backward", &rectifier_backward, "y"_a.noconvert(), "gradient_y"_a.noconvert(), "gradient_x"_a.noconvert(),
             "gradient_shift"_a.noconvert(), "threads"_a = 1);
}

}  // namespace bowerbird
