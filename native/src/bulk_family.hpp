// One key family of a bulk replay: its operations are put into buckets of keys, then each key's are run one after another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "bulk_cells.hpp"
#include "bulk_windows.hpp"
#include "operation_log.hpp"
#include "program.hpp"
#include "scratch.hpp"
#include "state.hpp"

namespace bowerbird {

// What a bucket's operations are sorted in; one for each thread.
struct BulkLane {
  struct Item {
    const std::byte* operation;
    std::byte* cell;
  };
  std::vector<std::uint32_t> groups;      // of the operations in log order
  std::vector<Item> items;                // of one group after another
  std::vector<std::uint32_t> starts;      // by group
  std::vector<std::uint64_t> hashes;      // by group
  std::vector<std::uint32_t> slots;       // where a hash is looked up: 1 + group, or 0
  std::vector<BulkCells::Chain> chains;  // by lookup
  std::vector<ListTrack> tracks;
  std::vector<std::int32_t> tiles;       // of one operation, by clock
  std::vector<std::int32_t> all_tiles;   // of a key's operations, by clock
  std::vector<std::int32_t> running;     // by stream: a key's events before each of its operations
  std::vector<std::size_t> begins;       // by span: the first operation within the window
  std::vector<std::uint64_t> fields;
  Pool pool;  // of cells
  Program::Values values;  // of rows being emitted
};

class BulkFamily {
 public:
  static constexpr unsigned kBucketBits = 11;
  static constexpr std::size_t kBuckets = std::size_t{1} << kBucketBits;

  BulkFamily(State& state, const Program& program, std::size_t index, bool keep);

  // Takes a segment's events, and its reads, whose values are known.
  void add(const Records& records, const State::Segment& segment, const Reads& reads, const Program::Values& values);
  // Runs the operations of a bucket; buckets of one shard must not run at once where state is kept.
  void run(std::size_t bucket, Scratch& scratch, BulkLane& lane);

  const Family& family() const { return family_; }
  std::vector<BulkCells>& cells() { return cells_; }
  const std::vector<BulkList>& lists() const { return lists_; }
  std::size_t bytes() const { return log_.bytes(); }

 private:
  struct FeedPlan {
    const Aggregate* aggregate;
    std::size_t place;
    std::size_t clock;
    int condition;  // a bit of the passes, or -1
    int amount;     // a word behind the passes, or -1
    std::vector<std::size_t> fields;  // words behind the amounts
    bool counts_tiles;
    std::vector<std::size_t> lists;   // that show the aggregate
  };
  // What an event of a type brings, and the words that follow its operation: passes, amounts, fields.
  struct EventPlan {
    const State::FamilyFeeds* source = nullptr;
    std::vector<int> conditions, amounts, fields;
    std::vector<FeedPlan> feeds;
    std::size_t pass_words = 0;
    std::size_t words = 0;
    std::vector<std::pair<std::size_t, int>> streams;  // that it belongs to, under conditions
    bool has_rest = false;                             // whether it feeds more than windows' counts
    std::vector<std::uint64_t> hashes;                 // of the segment's rows
    std::uint32_t kind = 0;  // of an event alone; then that of a retraction, then those of an event after a read of each lookup
  };
  // An event, a read, or a read and the event that comes right after it, of one key at one time.
  struct Kind {
    const EventPlan* event = nullptr;
    BulkCells* read = nullptr;
    std::size_t cells = 0;  // the lookup's number
    std::int64_t sign = 1;
    std::size_t bytes = 0;
    std::size_t wanted = 0;  // where the wanted values begin
  };
  // An operation begins with its key's hash, less the bits that its bucket tells, and its kind; then its time.
  static constexpr std::size_t kHead = 16;
  static std::size_t bucket_of(std::uint64_t hash) { return hash >> (64 - kBucketBits); }
  static std::uint64_t packed(std::uint64_t hash, std::uint32_t kind) { return (hash << kBucketBits) | kind; }
  const Kind& kind_of(std::uint64_t packed) const { return kinds_[packed & (kBuckets - 1)]; }
  static std::uint64_t hash_of(std::uint64_t packed, std::size_t bucket) {
    return (static_cast<std::uint64_t>(bucket) << (64 - kBucketBits)) | (packed >> kBucketBits);
  }
  // A read that may yet be joined with the event after it.
  struct Pending {
    std::uint64_t hash = 0;
    std::int64_t time = 0;
    std::size_t cells = 0;
    std::size_t row = 0;
    bool waits = false;
  };

  void plan_event(const State::FamilyFeeds& feeds, EventPlan& plan) const;
  std::uint32_t add_kind(const EventPlan* event, std::int64_t sign, std::size_t cells);
  void hash_rows(const Program::Values& values, std::size_t reads);
  bool is_wanted(const EventPlan& plan, const State::TypeRows& rows, std::size_t row) const;
  std::byte* append(std::uint64_t hash, std::int64_t time, std::uint32_t kind);
  void flush(const Program::Values& values);
  void write_event(const EventPlan& plan, const State::TypeRows& rows, std::size_t row, std::byte* to) const;
  void group(std::size_t bucket, BulkLane& lane);
  std::uint32_t group_of(std::uint64_t hash, BulkLane& lane) const;
  void run_key(const BulkLane::Item* first, const BulkLane::Item* last, std::size_t bucket, Scratch& scratch, BulkLane& lane);
  // Whether a key's operations, before which it had no state, may be counted along the way.
  bool can_count(const BulkLane::Item* first, const BulkLane::Item* last) const;
  void count_windows(const BulkLane::Item* first, const BulkLane::Item* last, BulkLane& lane) const;
  // What reads and events need of a key's state; `counted`: but for its windows' counts.
  void run_state(const BulkLane::Item* first, const BulkLane::Item* last, std::size_t bucket, bool counted, bool& empty, Scratch& scratch,
                 BulkLane& lane);
  void run_event(const Kind& kind, std::int64_t time, const std::byte* words, bool counted, Scratch& scratch, BulkLane& lane) const;
  static bool passes(const std::byte* words, int condition) {
    return condition < 0 || (load<std::uint64_t>(words + 8 * (condition / 64)) >> (condition % 64) & 1) != 0;
  }
  void note_change(const FeedPlan& feed, const Update& update, const Scratch& scratch, BulkLane& lane) const;

  State& state_;
  const Program& program_;
  Family& family_;
  bool keep_;
  bool begins_empty_ = true;  // whether the state has no key yet
  bool has_rest_ = false;  // whether anything is read but windows' counts
  bool may_count_ = true;  // whether no window's events have a time to live
  BulkWindows windows_;
  std::vector<TileDivider> clocks_;
  std::vector<EventPlan> events_;  // by type
  std::vector<Kind> kinds_;        // reads of each lookup first
  std::vector<BulkList> lists_;
  std::vector<BulkCells> cells_;
  std::vector<std::vector<std::uint64_t>> read_hashes_;  // of the segment's reads, by lookup
  OperationLog log_;
  Pending pending_;
};

}  // namespace bowerbird
