// Reading features live: a request and its candidates, at one log position.
#include "plan/program.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <limits>
#include <mutex>
#include <stdexcept>

#include "plan/program_values.hpp"
#include "plan/row_kernels.hpp"

namespace bowerbird {
namespace {

constexpr std::size_t kManyCandidates = 16;

// All states of a program held at one position.
class Held {
 public:
  explicit Held(const std::vector<std::shared_ptr<State>>& states) {
    for (;;) {
      lsn_ = std::numeric_limits<std::int64_t>::max();
      for (const auto& state : states) lsn_ = std::min(lsn_, state->lsn());
      if (hold(states)) return;
      guards_.clear();
      locks_.clear();
      const bool closed = std::any_of(states.begin(), states.end(), [](const auto& state) { return state->closed(); });
      if (closed) throw std::runtime_error("a state was closed by its writer");
    }
  }
  std::int64_t lsn() const { return lsn_; }

 private:
  bool hold(const std::vector<std::shared_ptr<State>>& states) {
    for (const auto& state : states) {
      if (!state->versioned()) {
        locks_.emplace_back(state->mutex());
        lsn_ = std::min(lsn_, state->lsn());
        continue;
      }
      guards_.push_back(std::make_unique<ReadGuard>(state->control(), lsn_));
      if (!guards_.back()->holds()) return false;
    }
    return true;
  }

  std::int64_t lsn_ = 0;
  std::vector<std::unique_ptr<ReadGuard>> guards_;
  std::vector<std::shared_lock<std::shared_mutex>> locks_;
};

}  // namespace

// A request's sequence by value, so that many candidates need not look through it each.
class Program::MatchTable {
 public:
  MatchTable(const BlockRead& read, const std::byte* block, std::int64_t time) {
    const std::byte* state = state_of(*read.place, block, time);
    if (state == nullptr) return;
    if (read.of_top) {
      const std::size_t size = Top::head(state).size;
      open(size);
      const Top::Entry* entries = Top::entries(state);
      for (std::size_t i = 0; i < size; ++i) {
        add(entries[i].key, static_cast<double>(entries[i].count), entries[i].latest);
        all_ += static_cast<double>(entries[i].count);
      }
      return;
    }
    const std::size_t size = Sequence::head(state).size;
    open(size);
    all_ = static_cast<double>(size);
    const std::uint64_t* words = Sequence::column(state, 1 + static_cast<std::size_t>(read.field));
    for (std::size_t i = 0; i < size; ++i) add(words[i], 1, Sequence::times(state)[i]);
  }

  Found find(std::uint64_t wanted) const {
    Found found;
    found.all = all_;
    if (wanted == kMissingKey || slots_.empty()) return found;
    for (std::size_t at = mix(wanted) & mask_; slots_[at].key != kMissingKey; at = (at + 1) & mask_) {
      if (slots_[at].key != wanted) continue;
      found.count = slots_[at].count;
      found.latest = slots_[at].latest;
      break;
    }
    return found;
  }

 private:
  struct Slot {
    std::uint64_t key = kMissingKey;
    double count = 0;
    std::int64_t latest = std::numeric_limits<std::int64_t>::min();
  };
  void open(std::size_t size) {
    slots_.resize(std::bit_ceil(2 * size + 2));
    mask_ = slots_.size() - 1;
  }
  void add(std::uint64_t key, double count, std::int64_t latest) {
    if (key == kMissingKey) return;
    std::size_t at = mix(key) & mask_;
    while (slots_[at].key != kMissingKey && slots_[at].key != key) at = (at + 1) & mask_;
    slots_[at].key = key;
    slots_[at].count += count;
    slots_[at].latest = std::max(slots_[at].latest, latest);
  }

  std::vector<Slot> slots_;
  std::size_t mask_ = 0;
  double all_ = 0;
};

// One answer while it is made: the request first, then its candidates, some at a time.
class Program::Live {
 public:
  // What a thread keeps from answer to answer, so that it need not be allocated again.
  struct Space {
    // The keys of a locate, each once, on their way to their blocks.
    struct Lookup {
      std::vector<std::uint64_t> keys;
      std::vector<std::uint64_t> hashes;
      std::vector<std::uint32_t> newest;
      std::vector<const std::byte*> blocks;
      std::vector<std::uint16_t> places;  // by row: its key's; empty where every row has its own
      std::vector<std::uint64_t> counts;  // of windows, by key
      std::size_t size = 0;
    };
    Values values;
    PathSet::Space request;
    PathSet::Space candidates;
    std::vector<const std::byte*> request_blocks;   // by locate
    Lookup lookup;
    std::vector<KeyPart> parts;
    std::vector<TileWindow> windows;
  };

  Live(const Program& program, Space& space, std::int64_t time, std::int64_t lsn)
      : program_(program), space_(space), values_(space.values), time_(time), lsn_(lsn) {
    values_.columns.resize(program_.plan_.nodes.size());
    values_.rows.resize(program_.plan_.nodes.size());
    values_.times = &time_;
    values_.one_time = true;
    space_.request_blocks.assign(program_.locates_.size(), nullptr);
  }
  Live(const Live&) = delete;
  Live& operator=(const Live&) = delete;

  // Room for the values of the request and of so many candidates at a time.
  void open(std::size_t rows) {
    std::size_t size = 0;
    for (const Node& node : program_.plan_.nodes) size += node.per_request ? 1 : rows;
    values_.storage.resize(size);
    std::uint64_t* next = values_.storage.data();
    for (std::size_t i = 0; i < program_.plan_.nodes.size(); ++i) {
      values_.columns[i] = next;
      next += program_.plan_.nodes[i].per_request ? 1 : rows;
    }
  }

  void answer_request(const std::uint64_t* request, Columns& out) {
    const Side& side = program_.request_;
    begin(true, 1);
    side.paths.evaluate({request, 1, nullptr, 0, 1}, lsn_, space_.request);
    take_values(side, space_.request, 1);
    compute(side.before);
    for (std::size_t i = 0; i < program_.locates_.size(); ++i) {
      const Locate& locate = program_.locates_[i];
      if (!locate.per_request) continue;
      const std::uint64_t own = program_.key(locate, values_, 0);
      space_.request_blocks[i] = keys(locate).find(own, mix(own), lsn_);
    }
    read_request_blocks(side, true, 1, out);
    compute(side.after);
    program_.emit(side, values_, space_.request, 0, 1, out);
  }

  void answer_candidates(const std::uint64_t* request, const std::uint64_t* candidates, std::size_t first, std::size_t rows, Columns& out) {
    const Side& side = program_.candidate_;
    begin(false, rows);
    side.paths.evaluate({request, 1, nullptr, first, rows, program_.plan_.item_slot, candidates}, lsn_, space_.candidates);
    take_values(side, space_.candidates, rows);
    compute(side.before);
    read_request_blocks(side, false, rows, out);
    for (std::size_t i = 0; i < program_.locates_.size(); ++i) {
      const Locate& locate = program_.locates_[i];
      if (locate.per_request) continue;
      look_up(locate, space_.lookup, rows);
      read_blocks(side, locate, space_.lookup, rows, out);
    }
    compute(side.after);
    program_.emit(side, values_, space_.candidates, first, rows, out);
  }

 private:
  const Keys& keys(const Locate& locate) const { return program_.states_[locate.state]->family(locate.family).keys; }

  void begin(bool request, std::size_t rows) {
    for (std::size_t i = 0; i < values_.rows.size(); ++i) {
      if (program_.plan_.nodes[i].per_request == request) values_.rows[i] = rows;
    }
  }

  // The nodes that are values of rows are found where the paths put them.
  void take_values(const Side& side, PathSet::Space& paths, std::size_t rows) {
    for (const auto& [node, value] : side.values) {
      values_.columns[static_cast<std::size_t>(node)] = &paths.values[static_cast<std::size_t>(value) * rows];
    }
  }

  void compute(const std::vector<int>& nodes) {
    for (const int node : nodes) program_.compute(node, values_);
  }

  // The newest blocks of the candidates' keys. Keys that candidates are likely to share are looked up once.
  void look_up(const Locate& locate, Space::Lookup& lookup, std::size_t rows) {
    lookup.size = rows;
    lookup.keys.resize(rows);
    lookup.hashes.resize(rows);
    lookup.places.clear();
    space_.parts.clear();
    for (const int node : locate.keys) {
      const auto number = static_cast<std::size_t>(node);
      space_.parts.push_back({values_.columns[number], program_.plan_.nodes[number].per_request});
    }
    const RowKernels& kernels = row_kernels();
    kernels.keys(space_.parts.data(), space_.parts.size(), rows, lookup.keys.data());
    kernels.hash(lookup.keys.data(), rows, lookup.hashes.data());
    if (locate.repeats) keep_each_once(lookup, rows);
    lookup.newest.resize(lookup.size);
    keys(locate).open(lookup.keys.data(), lookup.hashes.data(), lookup.size, lookup.newest.data());
  }

  // Keeps each key once and remembers which is whose.
  static void keep_each_once(Space::Lookup& lookup, std::size_t rows) {
    constexpr std::size_t kSlots = 2 * Keys::kGroup;
    constexpr std::uint16_t kFree = 0xFFFF;
    std::array<std::uint16_t, kSlots> slots;
    slots.fill(kFree);
    lookup.places.resize(rows);
    std::uint16_t size = 0;
    for (std::size_t row = 0; row < rows; ++row) {
      const std::uint64_t key = lookup.keys[row];
      const std::uint64_t hash = lookup.hashes[row];
      std::size_t at = hash % kSlots;
      while (slots[at] != kFree && lookup.keys[slots[at]] != key) at = (at + 1) % kSlots;
      if (slots[at] == kFree) {
        slots[at] = size;
        lookup.keys[size] = key;
        lookup.hashes[size] = hash;
        ++size;
      }
      lookup.places[row] = slots[at];
    }
    lookup.size = size;
  }

  void read_request_blocks(const Side& side, bool request, std::size_t rows, Columns& out) {
    for (std::size_t i = 0; i < program_.locates_.size(); ++i) {
      const Locate& locate = program_.locates_[i];
      if (!locate.per_request) continue;
      for (const BlockRead& read : locate.reads) {
        if (read.per_request == request) read_one_block(side, read, space_.request_blocks[i], rows, out);
      }
    }
  }

  // A read of the request's block for each row: where many rows look through a sequence, by a table of it.
  void read_one_block(const Side& side, const BlockRead& read, const std::byte* block, std::size_t rows, Columns& out) {
    emit_sequences(side, read, &block, 1, out);
    if (read.operation == Operation::kSequence || read.operation == Operation::kTop) return;
    std::uint64_t* column = values_.columns[static_cast<std::size_t>(read.node)];
    if (read.operation == Operation::kMatch && rows >= kManyCandidates) {
      const MatchTable table(read, block, time_);
      for (std::size_t row = 0; row < rows; ++row) column[row] = bits(match_value(table.find(values_.at(read.wanted, row)), read.what, time_));
      return;
    }
    const std::int32_t tile = tile_of(read);
    for (std::size_t row = 0; row < rows; ++row) {
      column[row] = program_.read_block(read, block, time_, tile, read.wanted < 0 ? 0 : values_.at(read.wanted, row));
    }
  }

  void read_blocks(const Side& side, const Locate& locate, Space::Lookup& lookup, std::size_t rows, Columns& out) {
    lookup.blocks.resize(rows);
    keys(locate).resolve(lookup.newest.data(), lookup.size, lsn_, lookup.blocks.data());
    count_tiles(locate, lookup);
    if (!lookup.places.empty()) spread(lookup.places, lookup.blocks);
    for (const BlockRead& read : locate.reads) {
      emit_sequences(side, read, lookup.blocks.data(), rows, out);
      if (read.counts_tiles || read.operation == Operation::kSequence || read.operation == Operation::kTop) continue;
      std::uint64_t* column = values_.columns[static_cast<std::size_t>(read.node)];
      if (read_total(read, lookup.blocks.data(), rows, column)) continue;
      const std::int32_t tile = tile_of(read);
      for (std::size_t row = 0; row < rows; ++row) {
        column[row] = program_.read_block(read, lookup.blocks[row], time_, tile, read.wanted < 0 ? 0 : values_.at(read.wanted, row));
      }
    }
  }

  // What is read most, a total's count, sum or mean, as a loop of its own; false for anything else.
  bool read_total(const BlockRead& read, const std::byte* const* blocks, std::size_t rows, std::uint64_t* column) const {
    const Place& place = *read.place;
    if (read.operation != Operation::kRead || place.aggregate->kind != AggregateKind::kTotal) return false;
    const auto each = [&](const auto& value) {
      for (std::size_t row = 0; row < rows; ++row) {
        const std::byte* state = state_of(place, blocks[row], time_);
        column[row] = bits(value(state == nullptr ? Moments{} : Total::read(state, {place.parts.sum})));
      }
      return true;
    };
    const std::int64_t scale = place.aggregate->scale;
    switch (read.what) {
      case What::kCount: return each([](const Moments& moments) { return static_cast<double>(moments.count); });
      case What::kSum: return each([=](const Moments& moments) { return moments_value(moments, What::kSum, scale); });
      case What::kMean: return each([=](const Moments& moments) { return moments_value(moments, What::kMean, scale); });
      default: return false;
    }
  }

  void count_tiles(const Locate& locate, Space::Lookup& lookup) {
    lookup.counts.resize(locate.reads.size() * lookup.size);
    space_.windows.clear();
    for (std::size_t i = 0; i < locate.reads.size(); ++i) {
      const BlockRead& read = locate.reads[i];
      if (!read.counts_tiles) continue;
      std::uint64_t* counts = lookup.places.empty() ? values_.columns[static_cast<std::size_t>(read.node)] : &lookup.counts[i * lookup.size];
      space_.windows.push_back({read.place->number, read.place->aggregate->reach, tile_of(read), counts});
    }
    row_kernels().count_tiles(space_.windows.data(), space_.windows.size(), lookup.blocks.data(), lookup.size);
    if (lookup.places.empty()) return;
    for (std::size_t i = 0; i < locate.reads.size(); ++i) {
      if (!locate.reads[i].counts_tiles) continue;
      std::uint64_t* column = values_.columns[static_cast<std::size_t>(locate.reads[i].node)];
      const std::uint64_t* counts = &lookup.counts[i * lookup.size];
      for (std::size_t row = 0; row < lookup.places.size(); ++row) column[row] = counts[lookup.places[row]];
    }
  }

  // Gives each row its key's block. A key stands no later than its first row, so that nothing is overwritten before use.
  static void spread(const std::vector<std::uint16_t>& places, std::vector<const std::byte*>& blocks) {
    for (std::size_t row = places.size(); row-- > 0;) blocks[row] = blocks[places[row]];
  }

  void emit_sequences(const Side& side, const BlockRead& read, const std::byte* const* blocks, std::size_t count, Columns& out) {
    for (const std::size_t feature : read.features) {
      const std::size_t at = side.sequence_places[feature];
      for (std::size_t i = 0; i < count; ++i) {
        program_.emit_sequence(read, program_.plan_.features[side.sequences[at]], blocks[i], time_, out.sequences[at]);
      }
    }
  }

  std::int32_t tile_of(const BlockRead& read) const {
    const Aggregate& aggregate = *read.place->aggregate;
    return aggregate.kind == AggregateKind::kTiles ? Tiles::index_of(time_, aggregate.tile) : 0;
  }

  const Program& program_;
  Space& space_;
  Values& values_;
  const std::int64_t time_;
  const std::int64_t lsn_;
};

Answer Program::read(std::int64_t time, const std::uint64_t* request, const std::uint64_t* candidates, std::size_t count) const {
  const Held held(states_);
  Answer answer{held.lsn(), columns(request_, 1), columns(candidate_, count)};
  static thread_local Live::Space space;
  Live live(*this, space, time, held.lsn());
  live.open(std::min(count, Keys::kGroup));
  live.answer_request(request, answer.request);
  for (std::size_t first = 0; first < count; first += Keys::kGroup) {
    live.answer_candidates(request, candidates, first, std::min(Keys::kGroup, count - first), answer.candidates);
  }
  return answer;
}

}  // namespace bowerbird
