// Reading features live: a request and its candidates, at one log position.
#include "program.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <limits>
#include <mutex>
#include <stdexcept>

#include "program_values.hpp"

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

void Program::read_rows(const Side& side, const Locate& locate, bool request, Values& values, const std::vector<TileClock>& clocks,
                        const std::byte* const* blocks, std::size_t step, std::size_t first, std::size_t last, Columns& out) const {
  const std::int64_t time = values.times[0];
  for (const BlockRead& read : locate.reads) {
    if (read.per_request != request) continue;
    for (const std::size_t feature : read.features) {
      const std::size_t at = side.sequence_places[feature];
      for (std::size_t row = first; row < last; ++row) {
        emit_sequence(read, plan_.features[side.sequences[at]], blocks[(row - first) * step], time, out.sequences[at]);
      }
    }
    std::uint64_t* column = values.columns[static_cast<std::size_t>(read.node)];
    const std::int32_t tile = clocks[read.clock].index;
    if (read.counts_tiles) {
      const std::int64_t reach = read.place->aggregate->reach;
      for (std::size_t row = first; row < last; ++row) {
        const std::byte* block = blocks[(row - first) * step];
        const std::byte* state = block == nullptr ? nullptr : read.place->find(block);
        column[row] = bits(state == nullptr ? 0.0 : static_cast<double>(Tiles::count(state, reach, tile)));
      }
    } else if (read.operation == Operation::kMatch && step == 0 && last - first >= kManyCandidates) {
      const MatchTable table(read, blocks[0], time);
      for (std::size_t row = first; row < last; ++row) column[row] = bits(match_value(table.find(values.at(read.wanted, row)), read.what, time));
    } else if (read.operation != Operation::kSequence && read.operation != Operation::kTop) {
      for (std::size_t row = first; row < last; ++row) {
        column[row] = read_block(read, blocks[(row - first) * step], time, tile, read.wanted < 0 ? 0 : values.at(read.wanted, row));
      }
    }
  }
}

void Program::read_side(const Side& side, bool request, std::int64_t lsn, Values& values, std::vector<const std::byte*>& request_blocks,
                        std::size_t rows, Columns& out) const {
  std::vector<std::vector<TileClock>> clocks;
  for (std::size_t number = 0; number < locates_.size(); ++number) {
    const Locate& locate = locates_[number];
    const Family& family = states_[locate.state]->family(locate.family);
    clocks.push_back(family.clocks());
    for (TileClock& clock : clocks.back()) clock.move_to(values.times[0]);
    if (!locate.per_request) continue;
    if (request) {
      const std::uint64_t own = key(locate, values, 0);
      request_blocks[number] = family.keys.find(own, mix(own), lsn);
    }
    read_rows(side, locate, request, values, clocks[number], &request_blocks[number], 0, 0, rows, out);
  }
  if (!request) read_candidates(side, lsn, values, clocks, rows, out);
}

// Some rows at a time, so that their blocks stay in the nearest cache; all lookups of these rows go side by side.
void Program::read_candidates(const Side& side, std::int64_t lsn, Values& values, const std::vector<std::vector<TileClock>>& clocks,
                              std::size_t rows, Columns& out) const {
  static thread_local std::vector<Keys::Group> groups;
  groups.resize(locates_.size());
  const auto each = [&](auto visit) {
    for (std::size_t number = 0; number < locates_.size(); ++number) {
      const Locate& locate = locates_[number];
      if (!locate.per_request) visit(number, locate, states_[locate.state]->family(locate.family).keys, groups[number]);
    }
  };
  for (std::size_t first = 0; first < rows; first += Keys::kGroup) {
    const std::size_t last = std::min(rows, first + Keys::kGroup);
    each([&](std::size_t, const Locate& locate, const Keys& keys, Keys::Group& group) {
      for (std::size_t row = first; row < last; ++row) group.keys[row - first] = key(locate, values, row);
      keys.hash_group(group, last - first);
    });
    each([&](std::size_t, const Locate&, const Keys& keys, Keys::Group& group) { keys.open_group(group, last - first); });
    each([&](std::size_t number, const Locate& locate, const Keys& keys, Keys::Group& group) {
      keys.resolve_group(group, last - first, lsn);
      read_rows(side, locate, false, values, clocks[number], group.blocks.data(), 1, first, last, out);
    });
  }
}

Answer Program::read(std::int64_t time, const std::uint64_t* request, const std::uint64_t* candidates, std::size_t count) const {
  const Held held(states_);
  Answer answer{held.lsn(), columns(request_, 1), columns(candidate_, count)};
  static thread_local Values values;
  static thread_local PathSet::Space space;
  const std::size_t nodes = plan_.nodes.size();
  values.columns.resize(nodes);
  values.rows.resize(nodes);
  std::size_t size = 0;
  for (const Node& node : plan_.nodes) size += node.per_request ? 1 : count;
  values.storage.resize(size);
  std::uint64_t* next = values.storage.data();
  for (std::size_t i = 0; i < nodes; ++i) {
    values.rows[i] = plan_.nodes[i].per_request ? 1 : count;
    values.columns[i] = next;
    next += values.rows[i];
  }
  values.times = &time;
  values.one_time = true;
  std::vector<const std::byte*> request_blocks(locates_.size(), nullptr);
  const auto answer_side = [&](const Side& side, const RowSource& source, bool is_request, Columns& out) {
    side.paths.evaluate(source, held.lsn(), space);
    for (const auto& [node, value] : side.values) {
      std::copy_n(&space.values[static_cast<std::size_t>(value) * source.count], source.count, values.columns[static_cast<std::size_t>(node)]);
    }
    for (const int node : side.before) compute(node, values);
    read_side(side, is_request, held.lsn(), values, request_blocks, source.count, out);
    for (const int node : side.after) compute(node, values);
    emit(side, values, space, 0, source.count, out);
  };
  answer_side(request_, {request, 1, nullptr, 0, 1}, true, answer.request);
  if (count > 0) answer_side(candidate_, {request, 1, nullptr, 0, count, plan_.item_slot, candidates}, false, answer.candidates);
  return answer;
}

}  // namespace bowerbird
