// One key family of a bulk replay: its operations are put into buckets of keys, then each key's are run one after another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "bulk_cells.hpp"
#include "operation_log.hpp"
#include "program.hpp"
#include "scratch.hpp"
#include "state.hpp"

namespace bowerbird {

// What a bucket's operations are sorted in; one for each thread.
struct BulkLane {
  struct Item {
    const std::byte* operation;
    std::uint32_t cell;
    std::uint32_t group;
  };
  struct Slot {
    std::uint64_t hash;
    std::uint32_t group;
    std::uint32_t used;
  };
  std::vector<Item> items;    // in log order
  std::vector<Item> grouped;  // by key
  std::vector<std::uint32_t> starts;
  std::vector<Slot> slots;
  std::vector<std::uint32_t> cells;  // by lookup: how many so far
  std::vector<ListTrack> tracks;
  std::vector<std::int32_t> tiles;
  std::vector<std::uint64_t> fields;
  Pool pool;  // of cells
};

class BulkFamily {
 public:
  static constexpr unsigned kBucketBits = 11;
  static constexpr std::size_t kBuckets = std::size_t{1} << kBucketBits;
  static std::size_t bucket_of(std::uint64_t hash) { return hash >> (64 - kBucketBits); }

  BulkFamily(State& state, const Program& program, std::size_t index, bool keep);

  // Takes a segment's events and reads, whose keys are `located`.
  void add(const Records& records, const State::Segment& segment, const Reads& reads, const std::vector<LocatedReads>& located,
           const Program::Values& values);
  // Runs the operations of a bucket; buckets of one shard must not run at once where state is kept.
  void run(std::size_t bucket, Scratch& scratch, BulkLane& lane);

  const Family& family() const { return family_; }
  std::vector<BulkCells>& cells() { return cells_; }
  const std::vector<BulkList>& lists() const { return lists_; }
  std::size_t bytes() const { return log_.bytes(); }
  void release() { log_.release(); }

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
  };
  // An operation's first bytes. An event and the read before it are one where their keys and times are the same.
  struct Operation {
    static constexpr std::size_t kBytes = 20;
    static constexpr std::uint32_t kEvent = 1, kRead = 2, kRetracts = 4;
    std::uint64_t hash;
    std::int64_t time;
    std::uint32_t what;

    static Operation load_from(const std::byte* at) {
      return {load<std::uint64_t>(at), load<std::int64_t>(at + 8), load<std::uint32_t>(at + 16)};
    }
    bool has_event() const { return (what & kEvent) != 0; }
    bool has_read() const { return (what & kRead) != 0; }
    std::size_t type() const { return (what >> 3) & 0xFFF; }
    std::size_t cells() const { return what >> 15; }
  };
  // A read that may yet be joined with the event after it.
  struct Pending {
    std::uint64_t hash = 0;
    std::int64_t time = 0;
    std::size_t cells = 0;
    std::size_t row = 0;
    bool waits = false;
  };

  void plan_events();
  EventPlan plan_event(const State::FamilyFeeds& feeds) const;
  bool is_wanted(const EventPlan& plan, const State::TypeRows& rows, std::size_t row) const;
  void write(const Operation& operation, const Program::Values* values, std::size_t read_row, const EventPlan* plan,
             const State::TypeRows* rows, std::size_t event_row);
  void write_event(const EventPlan& plan, const State::TypeRows& rows, std::size_t row, std::byte* to) const;
  std::size_t size_of(const Operation& operation) const;
  void group(std::size_t bucket, BulkLane& lane);
  std::uint32_t group_of(std::uint64_t hash, BulkLane& lane) const;
  void run_key(const BulkLane::Item* first, const BulkLane::Item* last, std::size_t bucket, Scratch& scratch, BulkLane& lane);
  void run_event(const Operation& operation, const std::byte* words, Scratch& scratch, BulkLane& lane) const;
  void note_change(const FeedPlan& feed, const Update& update, const Scratch& scratch, BulkLane& lane) const;

  State& state_;
  Family& family_;
  std::size_t index_;
  bool keep_;
  std::vector<TileDivider> clocks_;
  std::vector<EventPlan> events_;  // by type
  std::vector<BulkList> lists_;
  std::vector<BulkCells> cells_;
  OperationLog log_;
  Pending pending_;
};

}  // namespace bowerbird
