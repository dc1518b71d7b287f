// The state of all key families and tables: one writer applies the log in order, readers look on at a known position.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <shared_mutex>
#include <string>
#include <vector>

#include "base/workers.hpp"
#include "plan/columns.hpp"
#include "plan/plan.hpp"
#include "state/control.hpp"
#include "state/family.hpp"
#include "state/paths.hpp"

namespace bowerbird {

inline constexpr std::size_t kMostFields = 64;    // of a sequence
inline constexpr std::size_t kMostPlaces = 4096;  // of one record type in one family

struct StateOptions {
  std::size_t budget = 0;  // bytes; 0: what a block number can address
  std::string path = {};   // of the shared file; empty: private memory
  std::string plan_json = {};
  std::size_t threads = 1;
  bool versioned = false;  // readers look on while the writer writes
  Full full = Full::kFail;
  std::uint32_t part = 0;  // of `parts`: only keys of this partition have state
  std::uint32_t parts = 1;
};

struct Usage {
  std::vector<std::size_t> family_keys;
  std::vector<std::size_t> family_bytes;
  std::vector<std::size_t> table_keys;
  std::vector<std::size_t> table_bytes;
  std::size_t arena_bytes = 0;
  std::size_t refused = 0;
  std::size_t expired = 0;
  std::size_t retired_blocks = 0;
};

// One event or read on its way through a family.
struct KeyOperation {
  std::uint64_t key;
  std::uint64_t hash;
  std::uint32_t row;  // among its type's rows of the segment, or among the reads
  std::int32_t type;  // of the record, or -1 - locate for a read
};

// Takes what reads find, on several threads at once: a group of shards is one thread's.
class ReadSink {
 public:
  virtual ~ReadSink() = default;
  virtual void read(std::size_t group, std::size_t locate, std::uint32_t row, const std::byte* block) = 0;
};

// The reads of a replay: by locate, their family and keys.
struct LocatedReads {
  std::size_t family;
  std::vector<std::uint64_t> keys;  // by read
};

class State : public PathSet::Resolver {
 public:
  struct BoundTest {
    int value;
    const Test* test;
  };
  struct Condition {  // every test passes and the value is a number
    std::vector<BoundTest> tests;
    int value;
    bool operator==(const Condition& other) const;
  };
  struct Amount {
    int value;
    std::int64_t scale;
    bool limited;
    bool operator==(const Amount&) const = default;
  };
  struct FeedPlan {
    std::size_t place;
    std::size_t clock;
    int condition;  // or -1: always
    int amount;     // or -1: none
    bool counts_tiles;  // always, and nothing else: the most common feed
    std::vector<int> fields;
  };
  struct FamilyFeeds {
    std::size_t family;
    std::vector<int> keys;
    std::vector<FeedPlan> feeds;
    bool always;  // whether some feed has no condition
    std::vector<std::byte> image;  // the block of a new key, where no feed has a condition
  };
  struct TypePlan {
    bool is_table = false;
    PathSet paths;
    std::vector<Condition> conditions;
    std::vector<Amount> amounts;
    std::vector<FamilyFeeds> families;
  };
  // The rows of one type in a segment.
  struct TypeRows {
    std::vector<std::uint32_t> rows;
    PathSet::Space space;
    std::vector<std::uint8_t> passes;    // [conditions, rows]
    std::vector<std::int64_t> amounts;   // [amounts, rows]
  };
  // Records [begin, end) among which no table changes, and the reads among them.
  struct Segment {
    std::size_t begin, end;
    std::size_t first_read, last_read;
  };

  State(Plan plan, StateOptions options);
  // A reader's view of a file that another process writes; `plan` is the one in plan_json().
  State(Plan plan, const std::string& path);
  ~State() override;
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  static std::string plan_json(const std::string& path);

  const Plan& plan() const { return plan_; }
  std::int64_t lsn() const { return control_->published.load(std::memory_order_acquire); }
  bool versioned() const { return options_.versioned; }
  bool closed() const { return control_->closed.load(std::memory_order_acquire) != 0; }
  Control& control() const { return *control_; }
  std::shared_mutex& mutex() const { return mutex_; }
  const Family& family(std::size_t index) const { return *families_[index]; }
  // Where an aggregate stands, by fingerprint: family and place, or false.
  bool find_aggregate(const std::string& fingerprint, std::size_t& family, std::size_t& place) const;
  const AttributeTable* find_table(const std::string& name, const std::string& slot, int& offset) const;

  // Applies records in log order; readers see all of them or none.
  void apply(const Records& records);

  // Applies records and answers reads between them; only where no reader looks on.
  class Replayer {
   public:
    virtual ~Replayer() = default;
    // Reads [first, last) are next; returns where their keys are.
    virtual const std::vector<LocatedReads>& locate(std::size_t first, std::size_t last, std::size_t groups) = 0;
    virtual ReadSink& sink() = 0;
    virtual void finish(std::size_t first, std::size_t last) = 0;
  };
  void replay(const Records& records, const Reads& reads, Replayer& replayer);

  // A bulk replay takes the state over: until it is closed nothing else may use it, nor after it if it was not kept.
  void open_bulk();
  void close_bulk(bool kept);

  // Lets go of keys whose state reads as empty at `time` and ever after; returns how many.
  std::size_t expire(std::int64_t time);

  // From now on at most so many bytes (0: no limit but what was reserved).
  void set_budget(std::size_t bytes) { arena_->set_limit(bytes == 0 ? ~std::size_t{0} : bytes); }
  Usage usage() const;
  // Bytes by aggregate, found by looking at every key.
  std::vector<std::size_t> aggregate_bytes() const;

  // Writes every key's state to a file while the writer goes on. The file is complete or not there.
  void snapshot(const std::string& path) const;
  // Fills an empty state from a snapshot of the same aggregates; records from lsn() on follow. It may be read once
  // lsn() has come to restored_to().
  void restore(const std::string& path);
  std::int64_t restored_to() const { return restored_to_; }

  std::pair<const AttributeTable*, int> attribute(const Hop& hop) const override;

 private:
  friend class BulkReplay;
  friend class BulkFamily;

  struct TableColumns {
    int entity = -1;
    std::vector<std::pair<int, int>> words;    // (slot, offset in block)
    std::vector<std::pair<int, int>> vectors;  // (slot, offset)
  };

  void build(bool writer);
  void build_tables(bool writer);
  void build_types();
  void add_feed(TypePlan& type, const Aggregate& aggregate, const Feed& feed, std::size_t place);
  std::size_t directory_size() const;

  // Applies tables' records and visits what stands between them, in log order, at most so many records or reads at a time.
  void each_segment(const Records& records, const Reads* reads, std::size_t most, const std::function<void(const Segment&)>& visit);
  void check_reads(const Records& records, const Reads& reads) const;
  void run(const Records& records, const Reads* reads, Replayer* replayer);
  void run_segment(const Records& records, const Segment& segment, const std::vector<LocatedReads>* located, const Reads* reads, ReadSink* sink);
  void list_rows(const Records& records, std::size_t begin, std::size_t end);
  void prepare_rows(const Records& records, std::size_t begin, std::size_t end);
  void prepare_type(std::size_t type, const Records& records);
  void collect(const Records& records, const Segment& segment, const std::vector<LocatedReads>* located, const Reads* reads);
  std::uint64_t key_of(const FamilyFeeds& feeds, const TypeRows& rows, std::size_t at) const;
  bool is_own_part(std::uint64_t hash) const { return options_.parts == 1 || (hash >> 20) % options_.parts == options_.part; }
  void run_family(std::size_t family, const std::vector<KeyOperation>& operations, std::size_t group, const Records& records,
                  ReadSink* sink);
  std::byte* open_block(Family& family, const KeyOperation& operation, Entry*& entry, const FamilyFeeds& feeds,
                        const std::size_t* places, std::size_t count);
  void apply_event(Family& family, const KeyOperation& operation, Entry*& entry, const FamilyFeeds& feeds,
                   std::vector<TileClock>& clocks, const Records& records);
  void replace_attributes(const Records& records, std::size_t at);
  void refuse(Family& family, Shard& shard);
  void refresh_floor();
  void make_room();
  bool passes(const Condition& condition, const TypeRows& rows, std::size_t at) const;

  Plan plan_;
  StateOptions options_;
  std::unique_ptr<Arena> arena_;
  Control* control_ = nullptr;
  std::vector<std::unique_ptr<Family>> families_;
  std::vector<std::pair<std::size_t, std::size_t>> places_;  // by aggregate: family, place
  std::vector<AttributeTable> tables_;                       // by record type
  std::vector<TableColumns> table_columns_;                  // by record type
  std::vector<std::vector<Shard>> table_shards_;             // by record type
  std::vector<TypePlan> types_;
  std::vector<TypeRows> rows_;
  std::vector<std::uint32_t> row_of_;                        // by record of the segment: its place among its type's rows
  std::vector<std::vector<std::vector<KeyOperation>>> operations_;  // by family, by group of shards
  std::unique_ptr<Workers> workers_;
  std::int64_t lsn_ = 0;      // of the next record
  std::size_t segment_begin_ = 0;  // the segment's first record among those given, whose LSN lsn_ is
  std::int64_t version_ = 0;  // from which what is being written holds
  std::int64_t restored_to_ = 0;
  enum class Bulk { kNone, kOpen, kSpent };
  std::atomic<Bulk> bulk_{Bulk::kNone};
  void check_usable() const;
  std::int64_t table_lsn_ = 0;  // records below it are in the tables already
  std::atomic<std::size_t> refused_{0};
  std::atomic<std::size_t> expired_{0};
  // The writer excludes usage(), and, where nothing is versioned, readers; those of a versioned state never wait.
  mutable std::shared_mutex mutex_;
};

}  // namespace bowerbird
