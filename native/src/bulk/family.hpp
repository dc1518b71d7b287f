// One key family of a bulk replay: its operations are put into buckets of keys, then each key's are run one after another.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/scratch.hpp"
#include "bulk/cells.hpp"
#include "bulk/direct.hpp"
#include "bulk/windows.hpp"
#include "plan/program.hpp"
#include "state/operation_log.hpp"
#include "state/state.hpp"

namespace bowerbird {

// What a bucket's operations are sorted in; one for each thread.
struct BulkLane {
  struct Item {
    const std::byte* words;  // that follow the operation
    std::byte* cell;
    std::int64_t time;
    std::uint32_t kind;
  };
  std::vector<std::uint32_t> groups;      // of the operations in log order
  std::vector<Item> items;                // of one group after another
  std::vector<std::uint32_t> starts;      // by group
  std::vector<std::uint64_t> hashes;      // by group, less the bits that the bucket tells
  std::vector<std::uint32_t> slots;       // where a hash is looked up: 1 + group, or 0
  std::vector<BulkCells::Chain> chains;  // by lookup
  std::vector<ListTrack> tracks;
  std::uint8_t width = BulkCells::kWidest;  // of counts in cells
  std::vector<std::int32_t> tiles;       // of one operation, by clock
  std::vector<std::int32_t> running;     // by stream: a key's events before each of its operations
  std::vector<const Item*> begins;       // by span: the first operation within the window
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
  // Puts a shard's keys that ran as they came into the state, where it is kept.
  void store_direct(std::size_t shard);

  const Family& family() const { return family_; }
  std::vector<BulkCells>& cells() { return cells_; }
  const std::vector<BulkList>& lists() const { return lists_; }
  std::size_t bytes() const { return log_.bytes() + direct_lane_.pool.bytes(); }

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
    std::size_t type = 0;
    BulkCells* read = nullptr;
    std::size_t cells = 0;  // the lookup's number
    std::int64_t sign = 1;
    std::size_t bytes = 0;   // of words
    std::size_t wanted = 0;  // where the wanted values begin
  };
  // An operation begins with 64 bits: its key's hash, less the bits that its bucket tells, the upper bits of its time
  // since its block's, and its kind. The 32 lower bits of the time follow, or, where all of them are set, those and the
  // time itself; then words.
  static constexpr std::size_t kHead = 12;
  static std::size_t bucket_of(std::uint64_t hash) { return hash >> (64 - kBucketBits); }
  static std::uint64_t hash_of(std::uint64_t lower, std::size_t bucket) {
    return (static_cast<std::uint64_t>(bucket) << (64 - kBucketBits)) | lower;
  }
  std::uint32_t kind_of(std::uint64_t packed) const { return static_cast<std::uint32_t>(packed & ((std::uint64_t{1} << kind_bits_) - 1)); }
  // The time since its block's; kFar and more stand for a time that is written in full.
  std::uint64_t since(const std::byte* operation) const {
    const std::uint64_t upper = (load<std::uint64_t>(operation) & (kBuckets - 1)) >> kind_bits_;
    return upper << 32 | load<std::uint32_t>(operation + 8);
  }
  // An operation on its way to its bucket.
  struct Planned {
    std::uint64_t hash;
    std::int64_t time;
    std::uint32_t kind;
    std::uint32_t read_row;   // of the segment's reads,
    std::uint32_t event_row;  // and of its type's rows
  };

  void plan_event(const State::FamilyFeeds& feeds, EventPlan& plan) const;
  std::uint32_t add_kind(std::size_t type, std::int64_t sign, std::size_t cells);
  void hash_rows(const Program::Values& values, std::size_t reads);
  bool is_wanted(const EventPlan& plan, const State::TypeRows& rows, std::size_t row) const;
  // Writes an operation; returns where its words go.
  std::byte* append(std::uint64_t hash, std::int64_t time, std::uint32_t kind);
  // The key, where it is one whose operations run as they come.
  BulkDirect::Key* direct(std::uint64_t hash);
  void choose_direct(std::size_t reads);
  // Runs an operation whose words are in direct_words_.
  void run_direct(BulkDirect::Key& key, std::uint32_t number, std::int64_t time);
  void add_read(std::size_t lookup, std::size_t row, std::int64_t time, const Program::Values& values);
  void add_event(std::size_t type, std::size_t at, std::int64_t time, bool retracts, const Program::Values& values);
  void prepare(BulkLane& lane) const;
  void load_key(std::uint64_t hash, Scratch& scratch, bool& empty) const;
  void keep_key(std::uint64_t hash, Scratch& scratch);
  // Plans an operation; they are written some at a time, so that their buckets' ends are on their way meanwhile.
  void plan(const Planned& operation, const Program::Values& values);
  void write_planned(const Program::Values& values);
  void write_event(const EventPlan& plan, const State::TypeRows& rows, std::size_t row, std::byte* to) const;
  void group(std::size_t bucket, BulkLane& lane);
  std::uint32_t group_of(std::uint64_t hash, BulkLane& lane) const;
  // A key while its operations run.
  struct Running {
    Scratch& scratch;
    std::vector<ListTrack>& tracks;
    std::size_t bucket;
    bool empty;
    bool counted;  // whether its windows' counts are found along the way, and not in its state
  };
  void run_key(std::uint64_t hash, const BulkLane::Item* first, const BulkLane::Item* last, std::size_t bucket, Scratch& scratch,
               BulkLane& lane);
  // Whether a key's operations, before which it had no state, may be counted along the way.
  bool can_count(const BulkLane::Item* first, const BulkLane::Item* last) const;
  template <typename Counted>
  void count_windows(const BulkLane::Item* first, const BulkLane::Item* last, BulkLane& lane) const;
  // What a read and an event need of a key's state; `is_last`: nothing comes after it.
  void run_operation(const BulkLane::Item& item, bool is_last, Running& key, BulkLane& lane);
  void run_event(const BulkLane::Item& item, Running& key, BulkLane& lane) const;
  static bool passes(const std::byte* words, int condition) {
    return condition < 0 || (load<std::uint64_t>(words + 8 * (condition / 64)) >> (condition % 64) & 1) != 0;
  }
  void note_change(const FeedPlan& feed, const Update& update, Running& key) const;

  State& state_;
  const Program& program_;
  Family& family_;
  bool keep_;
  bool begins_empty_ = true;  // whether the state has no key yet
  bool retracts_ = false;      // whether an event was taken back
  bool has_rest_ = false;  // whether anything is read but windows' counts
  bool may_count_ = true;  // whether no window's events have a time to live
  std::int64_t latest_counted_ = TileDivider::kExact;  // times from here on are not counted along the way, nor are those before 1970
  BulkWindows windows_;
  std::vector<TileDivider> clocks_;
  std::vector<EventPlan> events_;  // by type
  std::vector<Kind> kinds_;        // reads of each lookup first
  unsigned kind_bits_ = 0;
  std::uint64_t far_ = 0;    // what since() says of a time that is written in full
  std::uint64_t slack_ = 0;  // how much earlier a block's time is than its first operation
  std::vector<BulkList> lists_;
  std::vector<BulkCells> cells_;
  std::vector<std::vector<std::uint64_t>> read_hashes_;  // of the segment's reads, by lookup
  OperationLog log_;
  static constexpr std::size_t kPlanned = 64;
  std::array<Planned, kPlanned> planned_;
  std::size_t planned_count_ = 0;
  bool has_chosen_ = false;
  std::unique_ptr<BulkDirect> direct_;
  BulkLane direct_lane_;
  std::vector<std::byte> direct_words_;
};

}  // namespace bowerbird
