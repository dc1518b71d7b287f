#include "dense_binding.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

#include "dense_hidden.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace bowerbird {
namespace {

using Values = nb::ndarray<nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Column = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using OptionalColumn = std::optional<Column>;

void require(bool holds, const std::string& what) {
  if (!holds) throw std::invalid_argument(what);
}

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

}  // namespace

void bind_dense(nb::module_& module) {
  module.def("column_moments", &moments_of, "x"_a, "mean"_a, "variance"_a, "threads"_a = 1);
  module.def("hidden_forward", &forward_of, "x"_a, "y"_a, "scale"_a.none(), "shift"_a.none(), "keep"_a, "seed"_a,
             "threads"_a = 1);
  module.def("hidden_backward", &backward_of, "x"_a, "y"_a, "gradient_y"_a, "gradient_x"_a, "mean"_a.none(),
             "inverse_deviation"_a.none(), "weight"_a.none(), "gradient_weight"_a.none(), "gradient_bias"_a.none(),
             "keep"_a, "threads"_a = 1);
}

}  // namespace bowerbird
