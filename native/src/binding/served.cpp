#include "binding/served.hpp"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <string>

#include "table/arrays.hpp"
#include "table/padding.hpp"
#include "table/row_hash.hpp"
#include "table/served.hpp"
#include "table/served_columns.hpp"
#include "table/table.hpp"

using namespace nanobind::literals;

namespace bowerbird {
namespace {

using embedding::RowFormat;
using embedding::ServedColumns;
using embedding::ServedTable;

RowFormat format_of(const std::string& name) {
  if (name == "fp32") return RowFormat::kFloat32;
  if (name == "fp16") return RowFormat::kFloat16;
  if (name == "int8") return RowFormat::kInt8;
  throw std::invalid_argument("rows are kept as fp32, fp16 or int8");
}

std::string name_of(RowFormat format) {
  return format == RowFormat::kFloat32 ? "fp32" : format == RowFormat::kFloat16 ? "fp16" : "int8";
}

void write(const std::string& path, Keys keys, Floats rows, const std::string& format) {
  require(rows.shape(0) == keys.shape(0) + embedding::kReservedRows, "there are not two rows more than keys");
  const nb::gil_scoped_release release;
  ServedTable::write(path, keys.data(), keys.shape(0), rows.data(), rows.shape(1), format_of(format));
}

std::unique_ptr<ServedTable> with_changes(const ServedTable& table, Keys keys, Floats vectors, Keys removed, std::optional<Floats> reserved) {
  require(vectors.shape(0) == keys.shape(0) && vectors.shape(1) == table.dimension(), "the vectors are not [keys, dimension]");
  require(!reserved || (reserved->shape(0) == embedding::kReservedRows && reserved->shape(1) == table.dimension()),
          "the reserved rows are not [2, dimension]");
  const nb::gil_scoped_release release;
  return table.with({keys.data(), vectors.data(), keys.shape(0), removed.data(), removed.shape(0), reserved ? reserved->data() : nullptr});
}

nb::tuple file_keys(const ServedTable& table) {
  std::pair<std::vector<std::uint64_t>, std::vector<std::int64_t>> found;
  {
    const nb::gil_scoped_release release;
    found = table.file_keys();
  }
  return nb::make_tuple(as_numpy(std::move(found.first)), as_numpy(std::move(found.second)));
}

nb::tuple changed(const ServedTable& table) {
  return nb::make_tuple(as_numpy(std::vector<std::uint64_t>(table.changed())), as_numpy(std::vector<std::int64_t>(table.changed_rows())));
}

// The vectors of a training table's delta: (keys, [keys + 2, dimension] with the reserved rows first, keys that went).
nb::tuple delta_rows(const std::string& path) {
  embedding::DeltaRows found;
  {
    const nb::gil_scoped_release release;
    found = embedding::read_delta(path);
  }
  auto [array, floats] = empty_array<float>({found.vectors.size() / found.dimension, found.dimension});
  std::copy(found.vectors.begin(), found.vectors.end(), floats);
  return nb::make_tuple(as_numpy(std::move(found.keys)), array, as_numpy(std::move(found.removed)));
}

nb::object find_columns(const ServedColumns& columns, Keys keys, std::size_t count) {
  require(keys.shape(0) == columns.columns() * count, "keys are not [columns, count]");
  auto [array, rows] = empty_array<std::int64_t>({keys.shape(0)});
  {
    const nb::gil_scoped_release release;
    columns.find(keys.data(), count, rows);
  }
  return array;
}

nb::object take_columns(const ServedColumns& columns, Rows rows, std::size_t count) {
  require(rows.shape(0) == columns.columns() * count, "rows are not [columns, count]");
  auto [array, floats] = empty_array<float>({count * columns.width()});
  {
    const nb::gil_scoped_release release;
    columns.take(rows.data(), count, floats);
  }
  return array;
}

using Offsets = nb::ndarray<const std::int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <typename Value>
using Column = nb::ndarray<const Value, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <typename Value>
using EventRows = nb::ndarray<const Value, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

template <typename Value>
nb::object pad_columns(const embedding::Sequences& sequences, const nb::list& given) {
  auto [array, out] = empty_array<Value>({given.size(), sequences.count, sequences.length});
  for (const nb::handle each : given) {
    Column<Value> column;
    require(nb::try_cast(each, column, false), "a column is not contiguous or of another type");
    require(sequences.within(column.shape(0)), "offsets do not ascend within a column");
    embedding::pad(sequences, column.data(), 1, out);
    out += sequences.count * sequences.length;
  }
  return array;
}

nb::object mask_of(const embedding::Sequences& sequences) {
  auto [mask, marks] = empty_array<bool>({sequences.count, sequences.length});
  embedding::mark(sequences, marks);
  return mask;
}

// Keys uint64 [keys, sequences, length], numbers float32 [numbers, sequences, length], mask [sequences, length].
nb::tuple pad_sequences(const Offsets& offsets, const nb::list& keys, const nb::list& numbers, std::size_t length) {
  require(offsets.shape(0) > 0, "there are no offsets");
  const embedding::Sequences sequences{offsets.data(), offsets.data() + 1, offsets.shape(0) - 1, length};
  require(sequences.within(std::numeric_limits<std::int64_t>::max()), "offsets do not ascend");
  return nb::make_tuple(pad_columns<std::uint64_t>(sequences, keys), pad_columns<float>(sequences, numbers), mask_of(sequences));
}

template <typename Value>
nb::object padded(const embedding::Sequences& sequences, const EventRows<Value>& events) {
  const std::size_t width = events.shape(1);
  auto [array, out] = empty_array<Value>({sequences.count, sequences.length, width});
  const nb::gil_scoped_release release;
  embedding::pad(sequences, events.data(), width, out);
  return array;
}

// Rows int32 [sequences, length, columns] and numbers float32 likewise, of events that have both; mask [sequences, length].
nb::tuple pad_events(const Offsets& starts, const Offsets& ends, const EventRows<std::int32_t>& rows,
                     const EventRows<float>& numbers, std::size_t length) {
  require(starts.shape(0) == ends.shape(0), "starts and ends differ in length");
  const embedding::Sequences sequences{starts.data(), ends.data(), starts.shape(0), length};
  require(sequences.within(std::min(rows.shape(0), numbers.shape(0))), "a sequence is not within the events");
  return nb::make_tuple(padded(sequences, rows), padded(sequences, numbers), mask_of(sequences));
}

using HashedArray = nb::ndarray<nb::ndim<2>, nb::c_contig, nb::device::cpu, nb::ro>;

nb::object hash_rows(const nb::list& matrices, std::size_t rows) {
  std::vector<embedding::HashedColumns> columns;
  for (const nb::handle each : matrices) {
    HashedArray matrix;
    require(nb::try_cast(each, matrix, false) && matrix.shape(1) == rows, "a matrix is not [columns, rows] and contiguous");
    require(matrix.itemsize() == 1 || matrix.itemsize() == 4 || matrix.itemsize() == 8, "elements have 1, 4 or 8 bytes");
    columns.push_back({matrix.data(), matrix.shape(0), matrix.itemsize()});
  }
  auto [array, hashes] = empty_array<std::uint64_t>({rows});
  {
    const nb::gil_scoped_release release;
    embedding::hash_rows(columns, rows, hashes);
  }
  return array;
}

}  // namespace

void bind_served(nb::module_& module) {
  const nb::call_guard<nb::gil_scoped_release> freely;
  module.def("write_served_table", &write, "path"_a, "keys"_a.noconvert(), "rows"_a.noconvert(), "format"_a);
  module.def("table_delta_rows", &delta_rows, "path"_a);
  nb::class_<ServedTable>(module, "ServedTable")
      .def(nb::init<const std::string&, bool>(), "path"_a, "verify"_a = false)
      .def_prop_ro("dimension", &ServedTable::dimension)
      .def_prop_ro("format", [](const ServedTable& self) { return name_of(self.format()); })
      .def_prop_ro("file_bytes", &ServedTable::file_bytes)
      .def_prop_ro("changed_keys", &ServedTable::changed_keys)
      .def_prop_ro("changed_bytes", &ServedTable::changed_bytes)
      .def("__len__", &ServedTable::keys)
      .def("find", &find<ServedTable>, "keys"_a.noconvert())
      .def("take", &take<ServedTable>, "rows"_a.noconvert(), "out"_a.none() = nb::none())
      .def("file_keys", &file_keys)
      .def("changed", &changed)
      .def_prop_ro("unknown_row", &ServedTable::unknown_row)
      .def("with_changes", &with_changes, "keys"_a.noconvert(), "vectors"_a.noconvert(), "removed"_a.noconvert(), "reserved"_a.none().noconvert())
      .def("verify", &ServedTable::verify, freely);
  nb::class_<ServedColumns>(module, "ServedColumns")
      .def("__init__", [](ServedColumns* self, const nb::tuple& tables) {
        std::vector<const ServedTable*> each;
        for (const nb::handle table : tables) each.push_back(nb::cast<const ServedTable*>(table));
        new (self) ServedColumns(std::move(each));
      }, "tables"_a, nb::keep_alive<1, 2>())
      .def("find", &find_columns, "keys"_a.noconvert(), "count"_a)
      .def("take", &take_columns, "rows"_a.noconvert(), "count"_a);
  module.def("hash_rows", &hash_rows, "matrices"_a, "rows"_a);
  module.def("pad_sequences", &pad_sequences, "offsets"_a.noconvert(), "keys"_a, "numbers"_a, "length"_a);
  module.def("pad_events", &pad_events, "starts"_a.noconvert(), "ends"_a.noconvert(), "rows"_a.noconvert(), "numbers"_a.noconvert(), "length"_a);
}

}  // namespace bowerbird
