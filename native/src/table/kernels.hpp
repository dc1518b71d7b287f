// The arithmetic of tables, compiled for several instruction sets; all give the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "table/batch.hpp"
#include "table/index.hpp"
#include "table/rows.hpp"

namespace bowerbird::embedding {

enum class PoolMode : std::uint32_t { kSum = 0, kMean = 1 };

// One optimiser step of some rows; the numbers of Adam hold its bias corrections already.
struct UpdateJob {
  RowsView rows;
  const Optimiser* optimiser;
  float learning_rate;
  float step_size;        // Adam: the learning rate over 1 - beta1^t
  float root_correction;  // Adam: the root of 1 - beta2^t
  bool stochastic;
  std::uint64_t stream;   // of the random bits of this step
  std::uint32_t version;
};

struct PoolJob {
  const std::int64_t* rows;
  const std::int64_t* offsets;
  std::size_t bags;
  PoolMode mode;
  const float* weights;  // of the rows, or nullptr
};

struct TableKernels {
  std::string name;
  // Rows of keys: 0 for the missing key, 1 for one that is not in the index.
  void (*find)(const IndexView& index, const std::uint64_t* keys, std::size_t count, std::int64_t* rows);
  void (*take)(const RowsView& rows, Precision precision, const std::int64_t* numbers, std::size_t count, float* out);
  void (*pool)(const RowsView& rows, Precision precision, const PoolJob& job, float* out);
  // Writes normal(0, scale) numbers: a pure function of the stream.
  void (*draw)(std::uint64_t stream, float scale, std::size_t count, float* out);
  // Steps the rows of `groups`.
  void (*update)(const UpdateJob& job, Precision precision, const RowGroups& groups);
  // Steps every row that is one: the groups' with their gradient, the others with none.
  void (*sweep)(const UpdateJob& job, const RowGroups& groups, std::size_t lane, std::size_t lanes);
};

// The kernels of a name ("plain", "avx2", "avx512"), the best ones for ""; throws std::invalid_argument when this machine lacks them.
const TableKernels& table_kernels(const std::string& name);
// The names that this machine can use, the best one last.
std::vector<std::string> table_instruction_sets();

void store_weights(Precision precision, const float* from, std::size_t count, std::byte* to);

}  // namespace bowerbird::embedding
