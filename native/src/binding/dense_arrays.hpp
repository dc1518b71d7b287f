// The arrays that dense kernels take, and what is asked of them.
#pragma once

#include <nanobind/stl/optional.h>

#include <cstdint>
#include <optional>

#include "base/require.hpp"
#include "binding/lent.hpp"
#include "dense/hidden.hpp"

namespace bowerbird {

namespace nb = nanobind;

using Values = Lent<nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Column = Lent<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using OptionalColumn = std::optional<Column>;

inline bool is_bfloat16(const Values& values) {
  if (values.dtype() == nb::dtype<float>()) return false;
  const bool half = values.dtype().code == static_cast<std::uint8_t>(nb::dlpack::dtype_code::Bfloat) &&
                    values.dtype().bits == 16;
  require(half, "values are neither float32 nor bfloat16");
  return true;
}

inline Shape shape_of(const Values& values) {
  require(values.shape(0) > 0 && values.shape(1) > 0, "values are empty");
  return {values.shape(0), values.shape(1)};
}

inline void require_same(const Values& left, const Values& right) {
  require(left.shape(0) == right.shape(0) && left.shape(1) == right.shape(1) && left.dtype() == right.dtype(),
          "arrays differ in shape or type");
}

inline float* column(const OptionalColumn& values, std::size_t width) {
  if (!values) return nullptr;
  require(values->shape(0) == width, "a column's length is not the width");
  return values->data();
}

using Matrix = Lent<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// An argument that is taken as it is: what is written to a converted copy would be lost.
inline auto array(const char* name) { return nb::arg(name).noconvert(); }

}  // namespace bowerbird
