#include "binding/table.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cerrno>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "table/arrays.hpp"
#include "table/table.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace bowerbird {
namespace {

using embedding::MappedTable;
using embedding::PoolJob;
using embedding::PooledGradients;
using embedding::PoolMode;
using embedding::Table;
using embedding::TableOptions;
using embedding::TableStatistics;

template <typename T>
T get(const nb::dict& from, const char* name) {
  return nb::cast<T>(from[name]);
}

embedding::Optimiser optimiser_from(const nb::dict& from) {
  embedding::Optimiser made;
  made.kind = static_cast<embedding::OptimiserKind>(get<std::uint32_t>(from, "kind"));
  made.learning_rate = get<float>(from, "learning_rate");
  made.l2 = get<float>(from, "l2");
  made.clip = get<float>(from, "clip");
  made.beta1 = get<float>(from, "beta1");
  made.beta2 = get<float>(from, "beta2");
  made.epsilon = get<float>(from, "epsilon");
  made.initial = get<float>(from, "initial");
  made.beta = get<float>(from, "beta");
  made.l1 = get<float>(from, "l1");
  made.exact = get<bool>(from, "exact");
  return made;
}

TableOptions options_from(const nb::dict& from) {
  TableOptions made;
  made.dimension = get<std::size_t>(from, "dimension");
  made.precision = static_cast<embedding::Precision>(get<std::uint32_t>(from, "precision"));
  made.stochastic = get<bool>(from, "stochastic");
  made.initial_scale = get<float>(from, "initial_scale");
  made.seed = get<std::uint64_t>(from, "seed");
  made.optimiser = optimiser_from(get<nb::dict>(from, "optimiser"));
  made.admission.minimum_count = get<std::uint32_t>(from, "minimum_count");
  made.admission.probability = get<double>(from, "probability");
  made.admission.filter_keys = get<std::uint64_t>(from, "filter_keys");
  made.admission.filter_error = get<double>(from, "filter_error");
  made.expiry.max_age = get<std::uint32_t>(from, "max_age");
  made.expiry.rare_age = get<std::uint32_t>(from, "rare_age");
  made.expiry.rare_uses = get<std::uint32_t>(from, "rare_uses");
  made.expiry.max_bytes = get<std::uint64_t>(from, "max_bytes");
  made.expiry.evicted = static_cast<embedding::Evicted>(get<std::uint32_t>(from, "evicted"));
  made.threads = get<std::size_t>(from, "threads");
  made.instructions = get<std::string>(from, "instructions");
  made.config = get<std::string>(from, "config");
  require(made.dimension >= 1 && made.threads >= 1, "a table needs a dimension and a thread");
  return made;
}

nb::object admit(Table& table, Keys keys, std::int64_t time, std::optional<Vector<std::uint32_t>> uses) {
  require(!uses || uses->shape(0) == keys.shape(0), "counts and keys differ in length");
  auto [array, rows] = empty_array<std::int64_t>({keys.shape(0)});
  {
    const nb::gil_scoped_release release;
    table.admit(keys.data(), keys.shape(0), uses ? uses->data() : nullptr, time, rows);
  }
  return array;
}

void check_bags(const Rows& rows, const Rows& offsets, const Weights& weights) {
  require(offsets.shape(0) >= 1 && offsets.data()[0] == 0, "offsets do not begin with 0");
  const std::int64_t* at = offsets.data();
  for (std::size_t i = 1; i < offsets.shape(0); ++i) require(at[i] >= at[i - 1], "offsets do not ascend");
  require(at[offsets.shape(0) - 1] == static_cast<std::int64_t>(rows.shape(0)), "offsets do not end with the number of rows");
  require(!weights || weights->shape(0) == rows.shape(0), "weights and rows differ in length");
}

template <typename AnyTable>
nb::object pool(const AnyTable& table, Rows rows, Rows offsets, bool mean, const Weights& weights, const nb::object& out) {
  check_bags(rows, offsets, weights);
  const std::size_t bags = offsets.shape(0) - 1;
  auto [array, floats] = floats_for(out, bags, table.dimension());
  const PoolJob job{rows.data(), offsets.data(), bags, mean ? PoolMode::kMean : PoolMode::kSum, weights ? weights->data() : nullptr};
  {
    const nb::gil_scoped_release release;
    table.pool(job, floats);
  }
  return array;
}

void check_matrix(const Table& table, const Floats& values, std::size_t count) {
  require(values.shape(0) == count && values.shape(1) == table.dimension(), "the numbers are not [rows, dimension]");
}

void update(Table& table, Rows rows, Floats gradients, float learning_rate) {
  check_matrix(table, gradients, rows.shape(0));
  const nb::gil_scoped_release release;
  table.update(rows.data(), rows.shape(0), gradients.data(), learning_rate);
}

void update_pooled(Table& table, Rows rows, Rows offsets, Floats gradients, bool mean, const Weights& weights, float learning_rate) {
  check_bags(rows, offsets, weights);
  const std::size_t bags = offsets.shape(0) - 1;
  check_matrix(table, gradients, bags);
  const PooledGradients pooled{rows.data(), offsets.data(), bags, mean ? PoolMode::kMean : PoolMode::kSum,
                               weights ? weights->data() : nullptr, gradients.data()};
  const nb::gil_scoped_release release;
  table.update_pooled(pooled, learning_rate);
}

void put(Table& table, Keys keys, Floats vectors) {
  check_matrix(table, vectors, keys.shape(0));
  const nb::gil_scoped_release release;
  table.put(keys.data(), keys.shape(0), vectors.data());
}

void set_rows(Table& table, Rows rows, Floats vectors) {
  check_matrix(table, vectors, rows.shape(0));
  const nb::gil_scoped_release release;
  table.set_rows(rows.data(), rows.shape(0), vectors.data());
}

std::uint64_t remove_keys(Table& table, Keys keys) {
  const nb::gil_scoped_release release;
  return table.remove(keys.data(), keys.shape(0));
}

nb::object take_state(const Table& table, Rows rows) {
  auto [array, floats] = empty_array<float>({rows.shape(0), table.options().state_floats()});
  {
    const nb::gil_scoped_release release;
    table.take_state(rows.data(), rows.shape(0), floats);
  }
  return array;
}

nb::tuple keys_and_rows(const Table& table) {
  std::pair<std::vector<std::uint64_t>, std::vector<std::int64_t>> found;
  {
    const nb::gil_scoped_release release;
    found = table.keys();
  }
  return nb::make_tuple(as_numpy(std::move(found.first)), as_numpy(std::move(found.second)));
}

nb::dict statistics_of(const Table& table) {
  const TableStatistics from = table.statistics();
  nb::dict made;
  made["keys"] = from.keys;
  made["rows"] = from.rows;
  made["free_rows"] = from.free_rows;
  made["index_bytes"] = from.index_bytes;
  made["row_bytes"] = from.row_bytes;
  made["filter_bytes"] = from.filter_bytes;
  made["admitted"] = from.admitted;
  made["refused"] = from.refused;
  made["expired"] = from.expired;
  made["evicted"] = from.evicted;
  made["steps"] = from.steps;
  made["version"] = from.version;
  made["load"] = from.load;
  return made;
}

// What a table's file says of itself: its configuration, its version, and of a delta the version that it starts from.
nb::dict file_header(const std::string& path) {
  const embedding::TableFile file(path, false);
  nb::dict made;
  made["config"] = file.config();
  made["is_delta"] = file.header().kind == embedding::FileKind::kDelta;
  made["version"] = file.header().version;
  made["base"] = file.header().base;
  made["keys"] = file.header().keys;
  return made;
}

// A failed system call is an OSError with its number.
void translate_system_error(const std::exception_ptr& error, void*) {
  try {
    std::rethrow_exception(error);
  } catch (const std::system_error& failed) {
    errno = failed.code().value();
    PyErr_SetObject(PyExc_OSError, nb::make_tuple(failed.code().value(), failed.what()).ptr());
  }
}

}  // namespace

void bind_table(nb::module_& module) {
  nb::register_exception_translator(translate_system_error);
  nb::exception<embedding::DamagedFile>(module, "DamagedTableFile");
  nb::exception<embedding::WrongOrder>(module, "WrongTableOrder");
  module.def("table_instruction_sets", &embedding::table_instruction_sets);
  module.def("table_file_header", &file_header, "path"_a);
  const nb::call_guard<nb::gil_scoped_release> freely;
  nb::class_<Table>(module, "Table")
      .def("__init__", [](Table* self, const nb::dict& options) { new (self) Table(options_from(options)); }, "options"_a)
      .def_prop_ro("version", &Table::version)
      .def_prop_ro("rows", &Table::rows)
      .def("find", &find<Table>, "keys"_a.noconvert())
      .def("admit", &admit, "keys"_a.noconvert(), "time"_a, "counts"_a.none().noconvert())
      .def("take", &take<Table>, "rows"_a.noconvert(), "out"_a.none() = nb::none())
      .def("pool", &pool<Table>, "rows"_a.noconvert(), "offsets"_a.noconvert(), "mean"_a, "weights"_a.none().noconvert(), "out"_a.none() = nb::none())
      .def("update", &update, "rows"_a.noconvert(), "gradients"_a.noconvert(), "learning_rate"_a)
      .def("update_pooled", &update_pooled, "rows"_a.noconvert(), "offsets"_a.noconvert(), "gradients"_a.noconvert(), "mean"_a, "weights"_a.none().noconvert(), "learning_rate"_a)
      .def("put", &put, "keys"_a.noconvert(), "vectors"_a.noconvert())
      .def("set_rows", &set_rows, "rows"_a.noconvert(), "vectors"_a.noconvert())
      .def("remove", &remove_keys, "keys"_a.noconvert())
      .def("expire", &Table::expire, "now"_a, freely)
      .def("keys_and_rows", &keys_and_rows)
      .def("take_state", &take_state, "rows"_a.noconvert())
      .def("statistics", &statistics_of)
      .def("snapshot", &Table::snapshot, "path"_a, freely)
      .def("restore", &Table::restore, "path"_a, freely)
      .def("delta", &Table::delta, "path"_a, "since"_a, freely)
      .def("apply_delta", &Table::apply_delta, "path"_a, freely);
  nb::class_<MappedTable>(module, "MappedTable")
      .def(nb::init<const std::string&, bool, const std::string&>(), "path"_a, "verify"_a = true, "instructions"_a = "")
      .def_prop_ro("config", &MappedTable::config)
      .def_prop_ro("version", [](const MappedTable& self) { return self.header().version; })
      .def_prop_ro("rows", [](const MappedTable& self) { return self.header().rows; })
      .def("__len__", [](const MappedTable& self) { return self.header().keys; })
      .def("find", &find<MappedTable>, "keys"_a.noconvert())
      .def("take", &take<MappedTable>, "rows"_a.noconvert(), "out"_a.none() = nb::none())
      .def("pool", &pool<MappedTable>, "rows"_a.noconvert(), "offsets"_a.noconvert(), "mean"_a, "weights"_a.none().noconvert(), "out"_a.none() = nb::none());
}

}  // namespace bowerbird
