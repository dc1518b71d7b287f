// Arrays that go between tables and Python.
#pragma once

#include <nanobind/ndarray.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "base/require.hpp"

namespace bowerbird {

namespace nb = nanobind;

template <typename T>
using Vector = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using FloatsOut = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Keys = Vector<std::uint64_t>;
using Rows = Vector<std::int64_t>;
using Weights = std::optional<Vector<float>>;

template <typename T>
nb::object as_numpy(std::vector<T>&& values) {
  auto* owned = new std::vector<T>(std::move(values));
  const std::size_t count = owned->size();
  nb::capsule owner(owned, [](void* pointer) noexcept { delete static_cast<std::vector<T>*>(pointer); });
  return nb::cast(nb::ndarray<nb::numpy, T>(owned->data(), {count}, owner));
}

// An array that nobody has written yet, and its memory.
template <typename T>
std::pair<nb::object, T*> empty_array(std::vector<std::size_t> shape) {
  std::size_t size = 1;
  for (const std::size_t length : shape) size *= length;
  T* data = static_cast<T*>(::operator new(size * sizeof(T), std::align_val_t{64}));
  nb::capsule owner(data, [](void* pointer) noexcept { ::operator delete(pointer, std::align_val_t{64}); });
  return {nb::cast(nb::ndarray<nb::numpy, T>(data, shape.size(), shape.data(), owner)), data};
}

template <typename AnyTable>
nb::object find(const AnyTable& table, Keys keys) {
  auto [array, rows] = empty_array<std::int64_t>({keys.shape(0)});
  {
    const nb::gil_scoped_release release;
    table.find(keys.data(), keys.shape(0), rows);
  }
  return array;
}

// `out` where it is given, or else a new array; in both cases of that shape.
inline std::pair<nb::object, float*> floats_for(const nb::object& out, std::size_t count, std::size_t dimension) {
  if (out.is_none()) return empty_array<float>({count, dimension});
  const auto array = nb::cast<FloatsOut>(out);
  require(array.shape(0) == count && array.shape(1) == dimension, "out has another shape than the answer");
  return {out, array.data()};
}

template <typename AnyTable>
nb::object take(const AnyTable& table, Rows rows, const nb::object& out) {
  auto [array, floats] = floats_for(out, rows.shape(0), table.dimension());
  {
    const nb::gil_scoped_release release;
    table.take(rows.data(), rows.shape(0), floats);
  }
  return array;
}

}  // namespace bowerbird
