// The Python module bowerbird._native.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "base/key_index.hpp"
#include "base/require.hpp"
#include "binding/attention.hpp"
#include "binding/dense.hpp"
#include "binding/layers.hpp"
#include "binding/mlp.hpp"
#include "binding/pair.hpp"
#include "binding/plan.hpp"
#include "binding/served.hpp"
#include "binding/table.hpp"
#include "binding/tensor.hpp"
#include "bulk/replay.hpp"
#include "plan/program.hpp"
#include "plan/row_kernels.hpp"
#include "state/state.hpp"

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

// Columns of a batch as Python holds them: (slot, rows, values) for each vector slot.
struct PythonVectors {
  std::vector<std::pair<Vector<std::int64_t>, Matrix<float>>> held;
  std::vector<VectorColumn> columns;

  PythonVectors(const nb::list& vectors, const Plan& plan, std::size_t count) {
    for (const nb::handle each : vectors) {
      const auto slot = nb::cast<int>(each[0]);
      held.emplace_back(nb::cast<Vector<std::int64_t>>(each[1]), nb::cast<Matrix<float>>(each[2]));
      const auto& [rows, values] = held.back();
      require(slot >= 0 && static_cast<std::size_t>(slot) < plan.slots.size(), "a vector's slot is not in the plan");
      require(values.shape(0) == rows.shape(0) && values.shape(1) == plan.slots[static_cast<std::size_t>(slot)].width,
              "a vector has another width than the plan");
      for (std::size_t i = 0; i < rows.shape(0); ++i) {
        require(rows.data()[i] >= (i == 0 ? 0 : rows.data()[i - 1]) && rows.data()[i] < static_cast<std::int64_t>(count),
                "vectors' rows do not ascend within the batch");
      }
      columns.push_back({slot, rows.data(), rows.shape(0), values.data()});
    }
  }
};

Records as_records(const Vector<std::int32_t>& types, const Vector<std::int64_t>& times, const Matrix<std::uint64_t>& slots,
                   const Plan& plan) {
  const std::size_t count = types.shape(0);
  require(times.shape(0) == count && slots.shape(1) == count, "types, times and slots differ in length");
  require(slots.shape(0) == plan.slots.size(), "slots has another number of rows than the plan");
  for (std::size_t i = 0; i < count; ++i) {
    const std::int32_t type = types.data()[i];
    require(type < 0 || (type & ~kRetraction) < static_cast<std::int32_t>(plan.types.size()), "a record type is not in the plan");
  }
  return {types.data(), times.data(), slots.data(), count, {}};
}

template <typename T>
nb::object to_numpy(Buffer<T>&& values, std::vector<std::size_t> shape) {
  T* data = values.release();
  nb::capsule owner(data, [](void* pointer) noexcept { std::free(pointer); });
  return nb::cast(nb::ndarray<nb::numpy, T>(data, shape.size(), shape.data(), owner));
}

nb::tuple ragged_to_python(Ragged&& output) {
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
  nb::list vectors;
  for (auto& vector : columns.vectors) {
    const std::size_t width = rows == 0 ? 0 : vector.size() / rows;
    vectors.append(to_numpy(std::move(vector), {rows, width}));
  }
  return nb::make_tuple(to_numpy(std::move(columns.categories), {columns.category_count, rows}),
                        to_numpy(std::move(columns.numbers), {columns.number_count, rows}), sequences, vectors);
}

using StatePointer = std::shared_ptr<State>;

StatePointer make_state(const nb::dict& plan, const std::string& plan_json, std::size_t budget, const std::string& path,
                        std::size_t threads, bool versioned, const std::string& full, std::uint32_t part, std::uint32_t parts) {
  require(full == "fail" || full == "refuse" || full == "expire", "full is fail, refuse or expire");
  require(threads >= 1 && threads <= 256, "threads is 1 to 256");
  require(parts >= 1 && part < parts, "part is below parts");
  StateOptions options;
  options.budget = budget;
  options.path = path;
  options.plan_json = plan_json;
  options.threads = threads;
  options.versioned = versioned;
  options.full = full == "fail" ? Full::kFail : full == "refuse" ? Full::kRefuse : Full::kExpire;
  options.part = part;
  options.parts = parts;
  return std::make_shared<State>(plan_from_python(plan), options);
}

StatePointer attach_state(const nb::dict& plan, const std::string& path) { return std::make_shared<State>(plan_from_python(plan), path); }

void apply_records(State& state, Vector<std::int32_t> types, Vector<std::int64_t> times, Matrix<std::uint64_t> slots, const nb::list& vectors) {
  Records records = as_records(types, times, slots, state.plan());
  const PythonVectors held(vectors, state.plan(), records.count);
  records.vectors = held.columns;
  const nb::gil_scoped_release release;
  state.apply(records);
}

nb::dict usage_to_python(const State& state) {
  const Usage usage = state.usage();
  nb::dict out;
  out["family_keys"] = usage.family_keys;
  out["family_bytes"] = usage.family_bytes;
  out["table_keys"] = usage.table_keys;
  out["table_bytes"] = usage.table_bytes;
  out["arena_bytes"] = usage.arena_bytes;
  out["refused"] = usage.refused;
  out["expired"] = usage.expired;
  out["retired_blocks"] = usage.retired_blocks;
  return out;
}

// What a replay is given from Python, with the arrays held.
struct PythonReplay {
  Records records;
  PythonVectors vectors;
  Reads reads;

  PythonReplay(const Plan& plan, const Vector<std::int32_t>& types, const Vector<std::int64_t>& times, const Matrix<std::uint64_t>& slots,
               const nb::list& vectors_, const Vector<std::int64_t>& positions, const Vector<std::int64_t>& read_times,
               const Matrix<std::uint64_t>& read_slots)
      : records(as_records(types, times, slots, plan)), vectors(vectors_, plan, records.count),
        reads{positions.data(), read_times.data(), read_slots.data(), positions.shape(0)} {
    require(read_times.shape(0) == reads.count && read_slots.shape(1) == reads.count, "the reads' arrays differ in length");
    require(read_slots.shape(0) == plan.slots.size(), "read slots has another number of rows than the plan");
    records.vectors = vectors.columns;
  }
};

nb::tuple replay_to_python(Program& program, Vector<std::int32_t> types, Vector<std::int64_t> times, Matrix<std::uint64_t> slots,
                           const nb::list& vectors, Vector<std::int64_t> positions, Vector<std::int64_t> read_times,
                           Matrix<std::uint64_t> read_slots) {
  const PythonReplay replay(program.plan(), types, times, slots, vectors, positions, read_times, read_slots);
  Columns out;
  {
    const nb::gil_scoped_release release;
    out = program.replay(replay.records, replay.reads);
  }
  return columns_to_python(std::move(out));
}

void add_to_bulk(BulkReplay& bulk, Vector<std::int32_t> types, Vector<std::int64_t> times, Matrix<std::uint64_t> slots,
                 const nb::list& vectors, Vector<std::int64_t> positions, Vector<std::int64_t> read_times, Matrix<std::uint64_t> read_slots) {
  const PythonReplay replay(bulk.plan(), types, times, slots, vectors, positions, read_times, read_slots);
  const nb::gil_scoped_release release;
  bulk.add(replay.records, replay.reads);
}

nb::tuple next_of_bulk(BulkReplay& bulk, std::size_t rows) {
  Columns out;
  {
    const nb::gil_scoped_release release;
    out = bulk.next(rows);
  }
  return columns_to_python(std::move(out));
}

nb::dict part_to_python(Program& program, Vector<std::int32_t> types, Vector<std::int64_t> times, Matrix<std::uint64_t> slots,
                        const nb::list& vectors, Vector<std::int64_t> positions, Vector<std::int64_t> read_times,
                        Matrix<std::uint64_t> read_slots) {
  const PythonReplay replay(program.plan(), types, times, slots, vectors, positions, read_times, read_slots);
  PartColumns part;
  {
    const nb::gil_scoped_release release;
    part = program.replay_part(replay.records, replay.reads);
  }
  nb::list owned;
  for (auto& rows : part.owned) {
    const std::size_t count = rows.size();
    owned.append(to_numpy(std::move(rows), {count}));
  }
  nb::list sequences;
  for (std::size_t i = 0; i < part.sequences.size(); ++i) {
    sequences.append(nb::make_tuple(part.sequences[i].first, part.sequence_locates[i], ragged_to_python(std::move(part.sequences[i].second))));
  }
  const std::size_t nodes = program.plan().nodes.size();
  nb::dict out;
  out["owned"] = owned;
  out["nodes"] = part.nodes;
  out["values"] = to_numpy(std::move(part.values), {nodes, part.rows});
  out["sequences"] = sequences;
  return out;
}

nb::tuple finish_to_python(const Program& program, Matrix<std::uint64_t> values, Vector<std::int64_t> times) {
  require(values.shape(0) == program.plan().nodes.size() && values.shape(1) == times.shape(0), "values is not [nodes, rows]");
  std::vector<std::uint64_t> copy(values.data(), values.data() + values.size());
  return columns_to_python(program.finish(std::move(copy), times.data(), times.shape(0)));
}

// How long this thread's last read took, without what Python adds.
thread_local double last_read_seconds = 0;

nb::tuple read_to_python(const Program& program, std::int64_t time, Vector<std::uint64_t> request, Vector<std::uint64_t> candidates) {
  require(request.shape(0) == program.plan().slots.size(), "the request has another number of slots than the plan");
  Answer answer;
  {
    const nb::gil_scoped_release release;
    const auto started = std::chrono::steady_clock::now();
    answer = program.read(time, request.data(), candidates.data(), candidates.shape(0));
    last_read_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  }
  return nb::make_tuple(answer.lsn, columns_to_python(std::move(answer.request)), columns_to_python(std::move(answer.candidates)));
}

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
  bind_table(module);
  bind_served(module);
  module.def("row_instruction_sets", &row_instruction_sets);
  module.def("use_instruction_set", &use_instruction_set, "name"_a);
  module.def("keys_of_integers", &keys_of_integers, "values"_a);
  module.def("keys_of_texts", &keys_of_texts, "data"_a, "offsets"_a);
  nb::class_<State>(module, "State")
      .def(nb::new_(&make_state), "plan"_a, "plan_json"_a = "", "budget"_a = 0, "path"_a = "", "threads"_a = 1, "versioned"_a = false,
           "full"_a = "fail", "part"_a = 0, "parts"_a = 1)
      .def_static("attach", &attach_state, "plan"_a, "path"_a)
      .def_static("plan_json", &State::plan_json, "path"_a)
      .def_prop_ro("lsn", &State::lsn)
      .def_prop_ro("restored_to", &State::restored_to)
      .def_prop_ro("closed", &State::closed)
      .def("apply", &apply_records, "types"_a, "times"_a, "slots"_a, "vectors"_a)
      .def("expire", &State::expire, "time"_a, nb::call_guard<nb::gil_scoped_release>())
      .def("set_budget", &State::set_budget, "bytes"_a)
      .def("usage", &usage_to_python)
      .def("aggregate_bytes", &State::aggregate_bytes, nb::call_guard<nb::gil_scoped_release>())
      .def("snapshot", &State::snapshot, "path"_a, nb::call_guard<nb::gil_scoped_release>())
      .def("restore", &State::restore, "path"_a, nb::call_guard<nb::gil_scoped_release>());
  nb::class_<Program>(module, "Program")
      .def("__init__", [](Program* self, const nb::dict& plan, std::vector<StatePointer> states) {
        new (self) Program(plan_from_python(plan), std::move(states));
      }, "plan"_a, "states"_a)
      .def("read", &read_to_python, "time"_a, "request"_a, "candidates"_a)
      .def_static("last_read_seconds", [] { return last_read_seconds; })
      .def("replay", &replay_to_python, "types"_a, "times"_a, "slots"_a, "vectors"_a, "positions"_a, "read_times"_a, "read_slots"_a)
      .def("replay_part", &part_to_python, "types"_a, "times"_a, "slots"_a, "vectors"_a, "positions"_a, "read_times"_a, "read_slots"_a)
      .def("finish", &finish_to_python, "values"_a, "times"_a);
  nb::class_<BulkReplay>(module, "BulkReplay")
      .def(nb::init<std::shared_ptr<Program>, bool>(), "program"_a, "keep"_a)
      .def("add", &add_to_bulk, "types"_a, "times"_a, "slots"_a, "vectors"_a, "positions"_a, "read_times"_a, "read_slots"_a)
      .def("run", &BulkReplay::run, nb::call_guard<nb::gil_scoped_release>())
      .def("next", &next_of_bulk, "rows"_a)
      .def_prop_ro("rows", &BulkReplay::rows)
      .def_prop_ro("bytes", &BulkReplay::bytes);
  nb::class_<PythonKeyIndex>(module, "KeyIndex")
      .def(nb::init<>())
      .def("__len__", &PythonKeyIndex::size)
      .def("find", &PythonKeyIndex::find, "keys"_a)
      .def("insert", &PythonKeyIndex::insert, "keys"_a);
  bind_dense(module);
  bind_layers(module);
  bind_attention(module);
  bind_mlp(module);
  bind_pair(module);
  bind_tensor(module);
}

}  // namespace bowerbird
