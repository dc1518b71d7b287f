// A replay of many records at once: keys take their turns, instead of records, so that memory is met in order.
//
// The records of the whole batch are taken first. Then each key's operations run one after another in a block that
// stays in the nearest cache, and what reads find is kept in cells. Last, cells become features in the reads' order.
// The state's own functions advance the block, so every answer is the same bits as the ordered replay's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "bulk/family.hpp"
#include "plan/columns.hpp"
#include "plan/program.hpp"

namespace bowerbird {

class BulkReplay {
 public:
  // With `keep` the state goes on from where the records end; without it the state is used up.
  BulkReplay(std::shared_ptr<Program> program, bool keep);

  // Takes records in log order and the reads between them. Nothing can be read before run().
  void add(const Records& records, const Reads& reads);
  void run();
  // The features of the next reads.
  Columns next(std::size_t rows);

  const Plan& plan() const { return program_->plan(); }
  std::size_t rows() const { return rows_; }
  // Memory taken by what was added.
  std::size_t bytes() const;

 private:
  void evaluate(const Reads& reads, std::size_t first, std::size_t last);
  void keep_values(std::size_t count);
  struct Rows {
    std::size_t begin, count;  // among those taken
    std::size_t first;         // where those taken begin in the columns
  };
  void emit(const Rows& rows, Program::Values& values, Columns& out) const;

  std::shared_ptr<Program> program_;
  State& state_;
  bool keep_;
  bool ran_ = false;
  std::vector<std::unique_ptr<BulkFamily>> families_;
  std::vector<BulkLane> lanes_;
  std::vector<BulkCells*> cells_;               // of all families
  std::vector<const BulkFamily*> families_of_;  // by lookup in cells_

  // A segment's values, while it is taken.
  Program::Values values_;
  PathSet::Space space_;

  // What is known of every read before its keys' states are: times, values that features are made of, vectors.
  std::size_t rows_ = 0;
  std::size_t emitted_ = 0;
  bool needs_times_ = true;
  Buffer<std::int64_t> times_;
  std::vector<int> kept_nodes_;
  std::vector<Buffer<std::uint64_t>> kept_;
  std::vector<Buffer<float>> vectors_;
  std::vector<std::pair<std::size_t, int>> numbers_;     // (feature among numbers, node) that are not in cells as they are
  std::vector<std::pair<std::size_t, int>> categories_;  // (feature among categories, node)
};

}  // namespace bowerbird
