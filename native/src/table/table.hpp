// An embedding table: 64-bit keys, rows with their optimiser state, admission, expiry, snapshots and deltas.
//
// Calls may come from any thread: those that only read share the table, one that changes it has it to itself. Row numbers stay a
// key's own until a later admit (with a memory budget), expire, remove or restore.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/workers.hpp"
#include "table/admission.hpp"
#include "table/batch.hpp"
#include "table/config.hpp"
#include "table/file.hpp"
#include "table/index.hpp"
#include "table/kernels.hpp"
#include "table/rows.hpp"

namespace bowerbird::embedding {

// Rows that a pooled gradient belongs to; see PoolJob.
struct PooledGradients {
  const std::int64_t* rows;
  const std::int64_t* offsets;
  std::size_t bags;
  PoolMode mode;
  const float* weights;
  const float* gradients;  // [bags, dimension]
};

class Table {
 public:
  static constexpr std::int64_t kOwnClock = -1;

  explicit Table(TableOptions options);

  const TableOptions& options() const { return options_; }
  std::size_t dimension() const { return options_.dimension; }
  std::uint64_t version() const;
  std::uint64_t rows() const;

  // Rows of keys: 0 for the missing key, 1 for keys without a row of their own.
  void find(const std::uint64_t* keys, std::size_t count, std::int64_t* rows) const;
  // As find, in training: counts uses, gives rows to keys that are admitted, and notes the time (seconds, or kOwnClock).
  void admit(const std::uint64_t* keys, std::size_t count, const std::uint32_t* uses, std::int64_t time, std::int64_t* rows);
  void take(const std::int64_t* rows, std::size_t count, float* out) const;
  void pool(const PoolJob& job, float* out) const;
  // One optimiser step; a negative learning rate stands for the configured one.
  void update(const std::int64_t* rows, std::size_t count, const float* gradients, float learning_rate);
  void update_pooled(const PooledGradients& pooled, float learning_rate);

  // Gives rows with these weights and fresh states to keys, whatever the admission says.
  void put(const std::uint64_t* keys, std::size_t count, const float* weights);
  // Sets the weights of rows.
  void set_rows(const std::int64_t* rows, std::size_t count, const float* weights);
  std::uint64_t remove(const std::uint64_t* keys, std::size_t count);
  std::uint64_t expire(std::uint32_t now);
  // All keys with their rows, in row order.
  std::pair<std::vector<std::uint64_t>, std::vector<std::int64_t>> keys() const;
  // The optimiser's floats of rows, [count, state_floats].
  void take_state(const std::int64_t* rows, std::size_t count, float* out) const;
  TableStatistics statistics() const;

  void snapshot(const std::string& path);
  void restore(const std::string& path);
  void delta(const std::string& path, std::uint64_t since);
  void apply_delta(const std::string& path);

 private:
  struct Published {
    std::uint64_t version;
    std::uint64_t id;
  };
  struct Removed {
    std::uint64_t key;
    std::uint64_t version;
  };
  // Where the search for a key to evict goes on.
  struct Hand {
    std::size_t shard = 0;
    std::size_t bucket = 0;
  };

  void check_rows(const std::int64_t* rows, std::size_t count) const;
  void find_all(const std::uint64_t* keys, std::size_t count, std::int64_t* rows) const;
  void touch(const std::int64_t* rows, std::size_t count, const std::uint32_t* uses, std::uint32_t time);
  void admit_piece(const std::uint64_t* keys, std::size_t count, const std::uint32_t* uses, std::uint32_t now, std::int64_t* rows);
  std::uint32_t admit_one(std::uint64_t key, const TableIndex::Place& place, std::uint32_t uses, std::uint32_t time);
  std::uint32_t new_row(std::uint64_t key, std::uint32_t uses, std::uint32_t time, const float* weights);
  void begin_state(std::uint32_t row, const float* weights);
  void step(const std::int64_t* rows, std::size_t count, const Gradients& gradients, float learning_rate);
  UpdateJob job_of(float learning_rate);

  std::uint64_t bytes() const { return index_.bytes() + rows_.bytes() + filter_.bytes(); }
  bool room_for_one_more() const;
  bool evict_one();
  void hold(std::uint32_t row);
  bool is_held(std::uint32_t row) const { return row / 64 < held_.size() && ((held_[row / 64] >> (row % 64)) & 1) != 0; }
  void let_go(std::uint64_t key);

  TableFileHeader header_of(FileKind kind, const Published& made) const;
  void adopt_counters(const TableFileHeader& header);
  void check_layout(const TableFile& file, FileKind kind) const;
  std::uint64_t base_id(std::uint64_t since) const;
  void check_base(const TableFile& file) const;
  std::vector<std::int64_t> rows_for(const std::vector<std::uint64_t>& keys);
  void publish(const Published& made);

  std::uint32_t next_version() const { return static_cast<std::uint32_t>(version_ + 1); }

  TableOptions options_;
  const TableKernels& kernels_;
  TableIndex index_;
  RowStore rows_;
  AdmissionFilter filter_;
  std::unique_ptr<Workers> workers_;
  std::vector<RowGroups> groups_;
  std::vector<float> drawn_;
  std::vector<std::uint64_t> held_;        // rows of the call in progress, a bit each
  std::vector<std::uint32_t> held_rows_;
  std::vector<Removed> removed_;           // keys that went, for deltas
  std::vector<Published> published_;       // the versions that a delta may start from
  std::uint64_t version_ = 0;
  bool changed_ = false;                   // since the version was made
  std::uint64_t steps_ = 0;
  std::uint64_t calls_ = 0;
  Hand hand_;
  std::uint64_t admitted_ = 0, refused_ = 0, expired_ = 0, evicted_ = 0;
  mutable std::shared_mutex mutex_;
  mutable std::mutex workers_mutex_;
};

// A snapshot read where it lies: for servers, which share its pages and copy none. Any thread may read.
class MappedTable {
 public:
  // With `verify` the whole file is read once and its checksums compared.
  MappedTable(const std::string& path, bool verify, const std::string& instructions);

  const TableFileHeader& header() const { return file_.header(); }
  std::size_t dimension() const { return file_.header().dimension; }
  std::string config() const { return file_.config(); }
  void find(const std::uint64_t* keys, std::size_t count, std::int64_t* rows) const;
  void take(const std::int64_t* rows, std::size_t count, float* out) const;
  void pool(const PoolJob& job, float* out) const;

 private:
  IndexView index() const;
  void check_rows(const std::int64_t* rows, std::size_t count) const;

  TableFile file_;
  const TableKernels& kernels_;
  RowLayout layout_;
  std::vector<IndexShard> shards_;
  std::vector<std::byte*> chunks_;
};

// What a delta says of rows, for servers: without optimiser state.
struct DeltaRows {
  std::size_t dimension = 0;
  std::vector<std::uint64_t> keys;
  std::vector<float> vectors;  // [keys + 2, dimension], the reserved rows first
  std::vector<std::uint64_t> removed;
};
DeltaRows read_delta(const std::string& path);

}  // namespace bowerbird::embedding
