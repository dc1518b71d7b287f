// The read side of a plan: which keys are looked up where, what is read from their blocks, what is computed of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "plan/columns.hpp"
#include "plan/plan.hpp"
#include "state/state.hpp"

namespace bowerbird {

// What a replay of one partition of the keys found: values of nodes for the rows that the partition owns.
struct PartColumns {
  std::size_t rows = 0;
  std::vector<std::vector<std::uint32_t>> owned;        // by locate
  std::vector<std::vector<int>> nodes;                  // by locate
  std::vector<std::uint64_t> values;                    // [nodes of the plan, rows]
  std::vector<std::pair<std::size_t, Ragged>> sequences;  // (feature among sequences, its owned rows)
  std::vector<std::size_t> sequence_locates;
};

class Program : PathSet::Resolver {
 public:
  struct BlockRead {
    int node;
    Operation operation;
    What what;
    const Place* place;
    std::size_t clock;
    int field;
    std::uint32_t length;
    int wanted;                  // node of a match's candidate value
    bool of_top;                 // a match against a top
    bool per_request;
    bool is_category;
    bool counts_tiles;           // the most common read
    std::vector<std::size_t> features;  // sequence features that this read fills
  };
  struct Locate {
    std::size_t state;
    std::size_t family;
    std::vector<int> keys;  // nodes
    bool per_request;
    bool repeats;  // candidates are likely to share keys: they are made of attributes
    std::vector<BlockRead> reads;
  };
  struct VectorRead {
    std::size_t feature;  // among vectors
    std::size_t lookup;
    int offset;
    std::uint32_t width;
  };
  // The values that rows begin with, and what is computed before and after the blocks are read.
  struct Side {
    PathSet paths;
    std::vector<std::pair<int, int>> values;  // (node, path value)
    std::vector<VectorRead> vectors;
    std::vector<int> before;
    std::vector<int> after;
    std::vector<std::size_t> categories, numbers, sequences, vector_features;  // of the plan's features
    std::vector<std::size_t> sequence_places;  // by sequence feature of the plan: its place among `sequences`
  };
  // Node values of some rows; a node of the request has one row.
  struct Values {
    std::vector<std::uint64_t> storage;
    std::vector<std::uint64_t*> columns;
    std::vector<std::size_t> rows;
    const std::int64_t* times = nullptr;
    bool one_time = false;

    std::uint64_t at(int node, std::size_t row) const {
      const auto i = static_cast<std::size_t>(node);
      return columns[i][rows[i] == 1 ? 0 : row];
    }
    std::int64_t time(std::size_t row) const { return times[one_time ? 0 : row]; }
  };

  // Aggregates are found in the states by fingerprint, attributes by table and slot; throws where one is absent.
  Program(Plan plan, std::vector<std::shared_ptr<State>> states);

  const Plan& plan() const { return plan_; }

  // Features of candidates for a request of one value per slot, all states at one position.
  Answer read(std::int64_t time, const std::uint64_t* request, const std::uint64_t* candidates, std::size_t count) const;

  // Applies records to the only state and reads between them; every feature has one row per read.
  Columns replay(const Records& records, const Reads& reads);
  PartColumns replay_part(const Records& records, const Reads& reads);
  // Computes what follows from joined values [nodes, rows]; sequences are the caller's.
  Columns finish(std::vector<std::uint64_t> values, const std::int64_t* times, std::size_t rows) const;

 private:
  friend class BulkCells;
  friend class BulkFamily;
  friend class BulkReplay;
  class Live;
  class Replay;
  class MatchTable;

  std::pair<const AttributeTable*, int> attribute(const Hop& hop) const override;
  void build_locates();
  std::size_t locate_of(const Node& node, const Aggregate& aggregate, std::size_t& place);
  void build_side(Side& side, bool request, bool candidate);

  void allocate(Values& values, std::size_t rows) const;
  void compute(int node, Values& values) const;
  static bool takes_time(Operation operation) {
    return operation == Operation::kAge || operation == Operation::kHour || operation == Operation::kWeekday;
  }
  std::uint64_t read_block(const BlockRead& read, const std::byte* block, std::int64_t time, std::int32_t tile, std::uint64_t wanted) const;
  void emit_sequence(const BlockRead& read, const Feature& feature, const std::byte* block, std::int64_t time, Ragged& out) const;
  Columns columns(const Side& side, std::size_t rows) const;
  // By node: whether what is computed after the blocks are read takes it.
  std::vector<bool> computed_with() const;
  static void copy_vector(const VectorRead& vector, const std::byte* block, float* to);
  void emit(const Side& side, const Values& values, const PathSet::Space& space, std::size_t first, std::size_t count, Columns& out) const;
  std::uint64_t key(const Locate& locate, const Values& values, std::size_t row) const;

  Plan plan_;
  std::vector<std::shared_ptr<State>> states_;
  std::vector<Locate> locates_;
  Side whole_;
  Side request_;
  Side candidate_;
  std::vector<bool> on_blocks_;  // by node
};

}  // namespace bowerbird
