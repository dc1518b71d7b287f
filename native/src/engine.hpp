// The state machine of features: applies log records in LSN order, answers point-in-time reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <shared_mutex>
#include <vector>

#include "attributes.hpp"
#include "family.hpp"
#include "plan.hpp"

namespace bowerbird {

struct Records {
  const std::int32_t* types;
  const std::int64_t* times;
  const std::uint64_t* slots;  // [slots, count]
  std::size_t count;
};

struct Reads {
  const std::int64_t* positions;
  const std::int64_t* times;
  const std::uint64_t* slots;  // [slots, count]
  std::size_t count;
};

// A sequence feature's rows end to end, oldest event first.
struct RaggedOutput {
  std::vector<std::int64_t> offsets{0};
  std::vector<std::vector<std::uint64_t>> keys;    // by category field
  std::vector<std::vector<float>> numbers;         // by number field
  std::vector<float> age;
};

// Columns of `rows` rows, feature after feature, in plan order within each kind.
struct Columns {
  std::size_t rows = 0;
  std::size_t category_count = 0;
  std::size_t number_count = 0;
  std::vector<std::uint64_t> categories;
  std::vector<float> numbers;
  std::vector<RaggedOutput> sequences;
};

struct Answer {
  std::int64_t lsn = 0;
  Columns request;
  Columns candidates;
};

struct Usage {
  std::vector<std::uint32_t> family_keys;
  std::vector<std::size_t> family_bytes;
  std::vector<std::size_t> table_bytes;
};

class Engine {
 public:
  explicit Engine(Plan plan);

  std::int64_t lsn() const;
  void apply(const Records& records);
  // Reads are ascending by position; each sees the records before it. All features have one row per read.
  Columns replay(const Records& records, const Reads& reads);
  // `request` is one value per slot; the item's slot is replaced by each candidate.
  Answer read(std::int64_t time, const std::uint64_t* request, const std::uint64_t* candidates, std::size_t count) const;
  Usage usage() const;

 private:
  struct Step {
    const Node* node;
    int index;
    int locate;          // place of the located record among the registers' records, or -1
    bool locates;        // whether this step finds the record itself
    std::size_t offset;  // of the aggregate's state in the record
  };
  struct Program {
    std::vector<Step> steps;
    std::vector<const Feature*> categories;
    std::vector<const Feature*> numbers;
    std::vector<const Feature*> sequences;
  };
  struct FeedPlan {
    const Feed* feed;
    const Aggregate* aggregate;
    std::size_t offset;
    bool same_key_as_previous;
  };
  // Candidates are read kLanes at a time, so that the memory of one is fetched while another is computed.
  static constexpr std::size_t kLanes = 16;
  struct Registers {
    std::vector<std::uint64_t> values;      // [nodes, kLanes]
    std::vector<const std::byte*> records;  // [locates, kLanes]

    std::uint64_t& value(int node, std::size_t lane) { return values[static_cast<std::size_t>(node) * kLanes + lane]; }
    std::uint64_t value(int node, std::size_t lane) const { return values[static_cast<std::size_t>(node) * kLanes + lane]; }
    const std::byte* record(int locate, std::size_t lane) const {
      return records[static_cast<std::size_t>(locate) * kLanes + lane];
    }
  };

  void build_programs();
  void build_feeds();
  Registers registers() const;
  Columns columns(const Program& program, std::size_t rows) const;

  std::uint64_t follow(const Path& path, const std::uint64_t* row) const;
  bool passes(const Test& test, const std::uint64_t* row) const;
  std::uint64_t key_of(const std::vector<Path>& paths, const std::uint64_t* row) const;
  void apply_row(std::int32_t type, std::int64_t time, const std::uint64_t* row);
  void advance(const FeedPlan& plan, std::int64_t time, const std::uint64_t* row, std::byte* record);
  void gather(const RecordType& type, const Records& records, std::size_t at, std::uint64_t* row) const;

  // `rows` holds `lanes` rows of one value per slot.
  void run(const Program& program, std::int64_t time, const std::uint64_t* rows, std::size_t lanes, Registers& registers) const;
  void spread(const Program& program, Registers& registers) const;
  std::uint64_t evaluate(const Step& step, std::int64_t time, const std::uint64_t* row, std::size_t lane,
                         const Registers& registers) const;
  double read_aggregate(const Step& step, std::int64_t time, std::size_t lane, const Registers& registers) const;
  double match(const Step& step, std::int64_t time, std::size_t lane, const Registers& registers) const;
  void locate(const Step& step, std::size_t lanes, Registers& registers) const;
  std::uint64_t located_key(const Node& node, std::size_t lane, const Registers& registers) const;
  void emit(const Program& program, std::int64_t time, std::size_t row, std::size_t lane, const Registers& registers,
            Columns& out) const;
  void emit_sequence(const Feature& feature, std::int64_t time, std::size_t lane, const Registers& registers,
                     RaggedOutput& out) const;

  Plan plan_;
  std::vector<Attributes> attributes_;  // by record type
  std::vector<Family> families_;
  std::vector<std::size_t> offsets_;              // by aggregate
  std::vector<std::vector<FeedPlan>> feeds_;      // by record type
  Program whole_;
  Program request_;
  Program candidate_;
  int locates_ = 0;
  std::int64_t lsn_ = 0;
  mutable std::shared_mutex mutex_;
};

}  // namespace bowerbird
