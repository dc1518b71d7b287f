#include "binding/dense.hpp"

#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "base/require.hpp"
#include "binding/dense_arrays.hpp"
#include "dense/attention.hpp"
#include "dense/hidden.hpp"
#include "dense/rows.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace bowerbird {
namespace {

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

using Strided = Lent<nb::ndim<2>, nb::device::cpu>;
using Places = Lent<const std::int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Cube = Lent<nb::ndim<3>, nb::c_contig, nb::device::cpu>;

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

using FieldPlaces = Lent<const std::int32_t, nb::ndim<2>, nb::device::cpu>;
using FieldColumns = std::vector<std::tuple<std::size_t, std::size_t>>;

Fields fields_of(const FieldPlaces& places, const FieldColumns& columns) {
  require(places.stride(1) == 1 && places.stride(0) >= 0, "a sample's places are not side by side");
  Fields fields{places.data(), static_cast<std::size_t>(places.stride(0)), places.shape(0), {}};
  for (const auto& [column, first] : columns) {
    require(column < places.shape(1), "a column is beyond the places");
    fields.fields.push_back({column, first});
  }
  return fields;
}

void require_fields(const Fields& of, std::size_t rows) {
  bool inside = true;
  for (const Field& field : of.fields) {
    const std::size_t most = rows - std::min(rows, field.first);
    for (std::size_t i = 0; i < of.samples; ++i) {
      inside &= static_cast<std::size_t>(static_cast<std::uint32_t>(of.places[i * of.stride + field.column])) < most;
    }
  }
  require(inside, "a place is beyond the table");
}

void gather_side_by_side(Matrix table, FieldPlaces places, const FieldColumns& columns, Matrix out,
                         std::size_t threads) {
  const Fields fields = fields_of(places, columns);
  require(out.shape(0) == fields.samples && out.shape(1) == columns.size() * table.shape(1), "out does not fit");
  const nb::gil_scoped_release release;
  require_fields(fields, table.shape(0));
  gather_fields(table.data(), fields, table.shape(1), out.data(), threads);
}

void scatter_side_by_side(Matrix values, FieldPlaces places, const FieldColumns& columns, Matrix table,
                          std::size_t threads) {
  const Fields fields = fields_of(places, columns);
  require(values.shape(0) == fields.samples && values.shape(1) == columns.size() * table.shape(1),
          "values do not fit");
  const nb::gil_scoped_release release;
  require_fields(fields, table.shape(0));
  scatter_fields(values.data(), fields, table.shape(1), table.data(), threads);
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

}  // namespace

void bind_dense(nb::module_& module) {
  module.def("column_moments", &moments_of, array("x"), array("mean"), array("variance"), "threads"_a = 1);
  module.def("hidden_forward", &forward_of, array("x"), array("y"), array("scale").none(), array("shift").none(),
             "keep"_a, "seed"_a, "threads"_a = 1);
  module.def("hidden_backward", &backward_of, array("x"), array("y"), array("gradient_y"), array("gradient_x"),
             array("mean").none(), array("inverse_deviation").none(), array("weight").none(),
             array("gradient_weight").none(), array("gradient_bias").none(), "keep"_a, "threads"_a = 1);
  module.def("gather_rows", &gather, array("table"), array("places"), array("out"), "threads"_a = 1);
  module.def("scatter_rows", &scatter, array("values"), array("places"), array("table"), "threads"_a = 1);
  module.def("gather_fields", &gather_side_by_side, array("table"), array("places"), "columns"_a, array("out"),
             "threads"_a = 1);
  module.def("scatter_fields", &scatter_side_by_side, array("values"), array("places"), "columns"_a, array("table"),
             "threads"_a = 1);
  module.def("attention_inputs", &inputs_forward, array("events"), array("query"), "parts"_a, array("out"),
             "threads"_a = 1);
  module.def("attention_inputs_backward", &inputs_backward, array("gradient"), array("events"), array("query"),
             "parts"_a, array("gradient_events"), array("gradient_query"), "threads"_a = 1);
  module.def("shifted_rectifier", &rectifier_forward, array("x"), array("shift"), "threads"_a = 1);
  module.def("shifted_rectifier_backward", &rectifier_backward, array("y"), array("gradient_y"), array("gradient_x"),
             array("gradient_shift"), "threads"_a = 1);
}

}  // namespace bowerbird
