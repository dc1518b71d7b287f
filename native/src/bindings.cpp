// The Python module bowerbird._native.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "engine.hpp"
#include "key_index.hpp"
#include "plan_binding.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace bowerbird {
namespace {

template <typename T>
using Vector = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <typename T>
using Matrix = nb::ndarray<const T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// Hands a vector's memory to NumPy with the given shape.
template <typename T>
nb::object to_numpy(std::vector<T>&& values, std::vector<std::size_t> shape) {
  auto* owned = new std::vector<T>(std::move(values));
  nb::capsule owner(owned, [](void* pointer) noexcept { delete static_cast<std::vector<T>*>(pointer); });
  return nb::cast(nb::ndarray<nb::numpy, T>(owned->data(), shape.size(), shape.data(), owner));
}

void require(bool holds, const std::string& what) {
  if (!holds) throw std::invalid_argument(what);
}

nb::object keys_of_integers(Vector<std::int64_t> values) {
  std::vector<std::uint64_t> keys(values.shape(0));
  {
    const nb::gil_scoped_release release;
    for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = key_integer(values.data()[i]);
  }
  const std::size_t count = keys.size();
  return to_numpy(std::move(keys), {count});
}

nb::object keys_of_texts(Vector<std::uint8_t> bytes, Vector<std::int64_t> offsets) {
  require(offsets.shape(0) >= 1, "offsets has no element");
  std::vector<std::uint64_t> keys(offsets.shape(0) - 1);
  const std::int64_t* at = offsets.data();
  const auto end = static_cast<std::int64_t>(bytes.shape(0));
  for (std::size_t i = 0; i < keys.size(); ++i) {
    require(at[i] >= 0 && at[i] <= at[i + 1] && at[i + 1] <= end, "offsets leave the text's bytes");
  }
  {
    const nb::gil_scoped_release release;
    const char* text = reinterpret_cast<const char*>(bytes.data());
    for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = key_text(text + at[i], static_cast<std::size_t>(at[i + 1] - at[i]));
  }
  const std::size_t count = keys.size();
  return to_numpy(std::move(keys), {count});
}

Records as_records(const Vector<std::int32_t>& types, const Vector<std::int64_t>& times,
                   const Matrix<std::uint64_t>& slots, const Plan& plan) {
  const std::size_t count = types.shape(0);
  require(times.shape(0) == count && slots.shape(1) == count, "types, times and slots differ in length");
  require(slots.shape(0) == plan.slots.size(), "slots has another number of rows than the plan");
  for (std::size_t i = 0; i < count; ++i) {
    require(types.data()[i] < static_cast<std::int32_t>(plan.types.size()), "a record type is not in the plan");
  }
  return {types.data(), times.data(), slots.data(), count};
}

nb::tuple ragged_to_python(RaggedOutput&& output) {
  nb::list keys;
  nb::list numbers;
  const std::size_t total = output.age.size();
  const std::size_t offsets = output.offsets.size();
  for (auto& field : output.keys) keys.append(to_numpy(std::move(field), {total}));
  for (auto& field : output.numbers) numbers.append(to_numpy(std::move(field), {total}));
  return nb::make_tuple(to_numpy(std::move(output.offsets), {offsets}), keys, numbers, to_numpy(std::move(output.age), {total}));
}

nb::tuple columns_to_python(Columns&& columns) {
  const std::size_t rows = columns.rows;
  nb::list sequences;
  for (auto& sequence : columns.sequences) sequences.append(ragged_to_python(std::move(sequence)));
  return nb::make_tuple(to_numpy(std::move(columns.categories), {columns.category_count, rows}),
                        to_numpy(std::move(columns.numbers), {columns.number_count, rows}), sequences);
}

class PythonEngine {
 public:
  explicit PythonEngine(const nb::dict& plan) : plan_(plan_from_python(plan)), engine_(plan_) {}

  std::int64_t lsn() const { return engine_.lsn(); }

  void apply(Vector<std::int32_t> types, Vector<std::int64_t> times, Matrix<std::uint64_t> slots) {
    const Records records = as_records(types, times, slots, plan_);
    const nb::gil_scoped_release release;
    engine_.apply(records);
  }

  nb::tuple replay(Vector<std::int32_t> types, Vector<std::int64_t> times, Matrix<std::uint64_t> slots,
                   Vector<std::int64_t> positions, Vector<std::int64_t> read_times, Matrix<std::uint64_t> read_slots) {
    const Records records = as_records(types, times, slots, plan_);
    const std::size_t count = positions.shape(0);
    require(read_times.shape(0) == count && read_slots.shape(1) == count, "the reads' arrays differ in length");
    require(read_slots.shape(0) == plan_.slots.size(), "read slots has another number of rows than the plan");
    const Reads reads{positions.data(), read_times.data(), read_slots.data(), count};
    Columns out;
    {
      const nb::gil_scoped_release release;
      out = engine_.replay(records, reads);
    }
    return columns_to_python(std::move(out));
  }

  nb::tuple read(std::int64_t time, Vector<std::uint64_t> request, Vector<std::uint64_t> candidates) const {
    require(request.shape(0) == plan_.slots.size(), "the request has another number of slots than the plan");
    Answer answer;
    {
      const nb::gil_scoped_release release;
      answer = engine_.read(time, request.data(), candidates.data(), candidates.shape(0));
    }
    return nb::make_tuple(answer.lsn, columns_to_python(std::move(answer.request)), columns_to_python(std::move(answer.candidates)));
  }

  nb::tuple usage() const {
    const Usage usage = engine_.usage();
    return nb::make_tuple(nb::cast(usage.family_keys), nb::cast(usage.family_bytes), nb::cast(usage.table_bytes));
  }

 private:
  Plan plan_;
  Engine engine_;
};

class PythonKeyIndex {
 public:
  std::uint32_t size() const { return index_.size(); }

  // Rows of known keys; -1 for the others and for the missing key.
  nb::object find(Vector<std::uint64_t> keys) const {
    std::vector<std::int64_t> rows(keys.shape(0));
    {
      const nb::gil_scoped_release release;
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const std::uint32_t row = index_.find(keys.data()[i]);
        rows[i] = row == KeyIndex::kAbsent ? -1 : static_cast<std::int64_t>(row);
      }
    }
    const std::size_t count = rows.size();
    return to_numpy(std::move(rows), {count});
  }

  // Rows of all keys, new ones numbered in order of first appearance; -1 for the missing key.
  nb::object insert(Vector<std::uint64_t> keys) {
    std::vector<std::int64_t> rows(keys.shape(0));
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const std::uint64_t key = keys.data()[i];
      rows[i] = key == kMissingKey ? -1 : static_cast<std::int64_t>(index_.find_or_insert(key));
    }
    const std::size_t count = rows.size();
    return to_numpy(std::move(rows), {count});
  }

 private:
  KeyIndex index_;
};

}  // namespace

NB_MODULE(_native, module) {
  module.def("keys_of_integers", &keys_of_integers, "values"_a);
  module.def("keys_of_texts", &keys_of_texts, "data"_a, "offsets"_a);
  nb::class_<PythonEngine>(module, "Engine")
      .def(nb::init<const nb::dict&>(), "plan"_a)
      .def_prop_ro("lsn", &PythonEngine::lsn)
      .def("apply", &PythonEngine::apply, "types"_a, "times"_a, "slots"_a)
      .def("replay", &PythonEngine::replay, "types"_a, "times"_a, "slots"_a, "positions"_a, "read_times"_a, "read_slots"_a)
      .def("read", &PythonEngine::read, "time"_a, "request"_a, "candidates"_a)
      .def("usage", &PythonEngine::usage);
  nb::class_<PythonKeyIndex>(module, "KeyIndex")
      .def(nb::init<>())
      .def("__len__", &PythonKeyIndex::size)
      .def("find", &PythonKeyIndex::find, "keys"_a)
      .def("insert", &PythonKeyIndex::insert, "keys"_a);
}

}  // namespace bowerbird
