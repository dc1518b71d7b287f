#include "program.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <string>

namespace bowerbird {
namespace {

constexpr std::int64_t kHour = 3'600'000'000;
constexpr std::int64_t kDay = 24 * kHour;
constexpr std::size_t kManyCandidates = 16;

double number(std::uint64_t bits) { return std::bit_cast<double>(bits); }
std::uint64_t bits(double value) { return std::bit_cast<std::uint64_t>(value); }

std::int64_t local_time(const Node& zone, std::int64_t time) {
  const auto after = std::upper_bound(zone.instants.begin(), zone.instants.end(), time);
  const std::size_t at = after == zone.instants.begin() ? 0 : static_cast<std::size_t>(after - zone.instants.begin() - 1);
  return time + zone.offsets[at];
}

std::uint64_t hour_key(const Node& zone, std::int64_t time) {
  const std::int64_t hours = floor_divide(local_time(zone, time), kHour);
  return key_integer(hours - 24 * floor_divide(hours, 24));
}

std::uint64_t weekday_key(const Node& zone, std::int64_t time) {
  const std::int64_t days = floor_divide(local_time(zone, time), kDay) + 3;  // 1970-01-01 was a Thursday
  return key_integer(days - 7 * floor_divide(days, 7));
}

std::uint64_t bucket_key(const std::vector<double>& boundaries, double value) {
  if (std::isnan(value)) return kMissingKey;
  return key_integer(std::upper_bound(boundaries.begin(), boundaries.end(), value) - boundaries.begin());
}

double signed_log1p(double value) { return value < 0 ? -std::log1p(-value) : std::log1p(value); }

double clip(double value, double low, double high) {
  if (value < low) return low;
  return value > high ? high : value;
}

// The state of an aggregate in a block, or null where the key has none at this time.
const std::byte* state_of(const Place& place, const std::byte* block, std::int64_t time) {
  const std::byte* state = block == nullptr ? nullptr : place.find(block);
  return state == nullptr || place.is_forgotten(state, time) ? nullptr : state;
}

struct Found {
  double count = 0;
  double all = 0;
  std::int64_t latest = std::numeric_limits<std::int64_t>::min();
};

double match_value(const Found& found, What what, std::int64_t time) {
  switch (what) {
    case What::kCount: return found.count;
    case What::kFraction: return found.all == 0 ? kNaN : found.count / found.all;
    default: return found.count == 0 ? kNaN : seconds_between(found.latest, time);
  }
}

Found find_in_sequence(const std::byte* state, std::size_t field, std::uint64_t wanted) {
  Found found;
  const std::size_t size = Sequence::head(state).size;
  found.all = static_cast<double>(size);
  if (wanted == kMissingKey) return found;
  const std::uint64_t* words = Sequence::column(state, 1 + field);
  const std::int64_t* times = Sequence::times(state);
  for (std::size_t i = 0; i < size; ++i) {
    if (words[i] != wanted) continue;
    found.count += 1;
    found.latest = std::max(found.latest, times[i]);
  }
  return found;
}

Found find_in_top(const std::byte* state, std::uint64_t wanted) {
  Found found;
  const Top::Entry* entries = Top::entries(state);
  for (std::size_t i = 0; i < Top::head(state).size; ++i) {
    found.all += static_cast<double>(entries[i].count);
    if (entries[i].key != wanted || wanted == kMissingKey) continue;
    found.count = static_cast<double>(entries[i].count);
    found.latest = entries[i].latest;
  }
  return found;
}

}  // namespace

// ---- building ----------------------------------------------------------------------------------

Program::Program(Plan plan, std::vector<std::shared_ptr<State>> states) : plan_(std::move(plan)), states_(std::move(states)) {
  on_blocks_.resize(plan_.nodes.size());
  for (std::size_t i = 0; i < plan_.nodes.size(); ++i) {
    const Node& node = plan_.nodes[i];
    on_blocks_[i] = node.aggregate >= 0 || node.operation == Operation::kMatch ||
                    std::any_of(node.inputs.begin(), node.inputs.end(), [this](int input) { return on_blocks_[static_cast<std::size_t>(input)]; });
  }
  build_locates();
  build_side(whole_, true, true);
  build_side(request_, true, false);
  build_side(candidate_, false, true);
}

std::pair<const AttributeTable*, int> Program::attribute(const Hop& hop) const {
  const std::string& table = plan_.types[static_cast<std::size_t>(hop.table)].name;
  const std::string& slot = plan_.slots[static_cast<std::size_t>(hop.slot)].name;
  for (const auto& state : states_) {
    int offset = -1;
    if (const AttributeTable* found = state->find_table(table, slot, offset)) return {found, offset};
  }
  throw std::invalid_argument("no state holds the attribute " + slot);
}

std::size_t Program::locate_of(const Node& node, const Aggregate& aggregate, std::size_t& place) {
  for (std::size_t state = 0; state < states_.size(); ++state) {
    std::size_t family = 0;
    if (!states_[state]->find_aggregate(aggregate.fingerprint, family, place)) continue;
    for (std::size_t i = 0; i < locates_.size(); ++i) {
      if (locates_[i].state == state && locates_[i].family == family && locates_[i].keys == node.inputs) return i;
    }
    const bool per_request = std::all_of(node.inputs.begin(), node.inputs.end(),
                                         [this](int input) { return plan_.nodes[static_cast<std::size_t>(input)].per_request; });
    locates_.push_back({state, family, node.inputs, per_request, {}});
    return locates_.size() - 1;
  }
  throw std::invalid_argument("no state holds the aggregate " + aggregate.fingerprint);
}

void Program::build_locates() {
  std::vector<std::size_t> sequence_features(plan_.features.size());
  for (std::size_t i = 0; i < plan_.nodes.size(); ++i) {
    const Node& node = plan_.nodes[i];
    const bool is_match = node.operation == Operation::kMatch;
    const Node& source = is_match ? plan_.nodes[static_cast<std::size_t>(node.inputs[0])] : node;
    if (source.aggregate < 0) continue;
    std::size_t at = 0;
    Locate& locate = locates_[locate_of(source, plan_.aggregates[static_cast<std::size_t>(source.aggregate)], at)];
    const Family& family = states_[locate.state]->family(locate.family);
    BlockRead read{static_cast<int>(i), node.operation, node.what, &family.layout().places()[at], family.clock_of(at), node.field,
                   node.length, is_match ? node.inputs[1] : -1, source.operation == Operation::kTop, node.per_request,
                   node.is_category, false, {}};
    read.counts_tiles = read.operation == Operation::kRead && read.what == What::kCount &&
                        read.place->aggregate->kind == AggregateKind::kTiles;
    std::size_t sequence = 0;
    for (const Feature& feature : plan_.features) {
      if (feature.kind != FeatureKind::kSequence) continue;
      if (feature.node == static_cast<int>(i)) read.features.push_back(sequence);
      ++sequence;
    }
    locate.reads.push_back(std::move(read));
  }
}

void Program::build_side(Side& side, bool request, bool candidate) {
  const auto wanted = [&](bool per_request) { return per_request ? request : candidate; };
  for (std::size_t i = 0; i < plan_.nodes.size(); ++i) {
    const Node& node = plan_.nodes[i];
    if (!wanted(node.per_request)) continue;
    if (node.operation == Operation::kValue) {
      side.values.emplace_back(static_cast<int>(i), side.paths.add(node.path, plan_.slots, *this));
    } else if (node.aggregate < 0 && node.operation != Operation::kMatch && node.operation != Operation::kVector &&
               node.operation != Operation::kFunction) {
      (on_blocks_[i] ? side.after : side.before).push_back(static_cast<int>(i));
    }
  }
  for (std::size_t i = 0; i < plan_.features.size(); ++i) {
    const Feature& feature = plan_.features[i];
    if (feature.kind == FeatureKind::kSequence) side.sequence_places.push_back(side.sequences.size());
    if (!wanted(feature.per_request)) continue;
    if (feature.kind == FeatureKind::kCategory) side.categories.push_back(i);
    if (feature.kind == FeatureKind::kNumber) side.numbers.push_back(i);
    if (feature.kind == FeatureKind::kSequence) side.sequences.push_back(i);
    if (feature.kind != FeatureKind::kVector) continue;
    const Path& path = plan_.nodes[static_cast<std::size_t>(feature.node)].path;
    const auto [lookup, offset] = side.paths.add_vector(path, plan_.slots, *this);
    side.vectors.push_back({side.vector_features.size(), static_cast<std::size_t>(lookup), offset, feature.width});
    side.vector_features.push_back(i);
  }
}

// ---- computing ---------------------------------------------------------------------------------

void Program::allocate(Values& values, std::size_t rows) const {
  const std::size_t nodes = plan_.nodes.size();
  values.columns.resize(nodes, nullptr);
  values.rows.resize(nodes, 0);
  values.storage.resize(nodes * rows);
  for (std::size_t i = 0; i < nodes; ++i) {
    values.columns[i] = values.storage.data() + i * rows;
    values.rows[i] = rows;
  }
}

void Program::compute(int index, Values& values) const {
  const Node& node = plan_.nodes[static_cast<std::size_t>(index)];
  std::uint64_t* out = values.columns[static_cast<std::size_t>(index)];
  const std::size_t rows = values.rows[static_cast<std::size_t>(index)];
  const auto input = [&](std::size_t i) { return values.columns[static_cast<std::size_t>(node.inputs[i])]; };
  const auto step = [&](std::size_t i) { return values.rows[static_cast<std::size_t>(node.inputs[i])] == 1 ? std::size_t{0} : std::size_t{1}; };
  const auto unary = [&](auto function) {
    const std::uint64_t* a = input(0);
    const std::size_t sa = step(0);
    for (std::size_t i = 0; i < rows; ++i) out[i] = function(number(a[i * sa]));
  };
  const auto binary = [&](auto function) {
    const std::uint64_t *a = input(0), *b = input(1);
    const std::size_t sa = step(0), sb = step(1);
    for (std::size_t i = 0; i < rows; ++i) out[i] = bits(function(number(a[i * sa]), number(b[i * sb])));
  };
  switch (node.operation) {
    case Operation::kRate: {
      const double prior = node.numbers[0] * node.numbers[1];
      const double strength = node.numbers[1];
      return binary([=](double above, double count) {
        const double below = count + strength;
        return below > 0 ? (above + prior) / below : kNaN;
      });
    }
    case Operation::kRatio: return binary([](double a, double b) { return b == 0 ? kNaN : a / b; });
    case Operation::kDifference: return binary([](double a, double b) { return a - b; });
    case Operation::kLog1p: return unary([](double a) { return bits(signed_log1p(a)); });
    case Operation::kClip: return unary([&](double a) { return bits(clip(a, node.numbers[0], node.numbers[1])); });
    case Operation::kAffine: return unary([&](double a) { return bits((a - node.numbers[0]) / node.numbers[1]); });
    case Operation::kBucketise: return unary([&](double a) { return bucket_key(node.numbers, a); });
    case Operation::kAge: {
      const std::uint64_t* a = input(0);
      const std::size_t sa = step(0);
      for (std::size_t i = 0; i < rows; ++i) {
        out[i] = bits(static_cast<double>(values.time(i)) / kMicrosecondsPerSecond - number(a[i * sa]));
      }
      return;
    }
    case Operation::kCross: {
      std::fill(out, out + rows, kCrossSeed);
      for (std::size_t k = 0; k < node.inputs.size(); ++k) {
        const std::uint64_t* a = input(k);
        const std::size_t sa = step(k);
        for (std::size_t i = 0; i < rows; ++i) out[i] = cross_step(out[i], a[i * sa]);
      }
      for (std::size_t i = 0; i < rows; ++i) out[i] = not_missing(out[i]);
      return;
    }
    case Operation::kHour:
      for (std::size_t i = 0; i < rows; ++i) out[i] = hour_key(node, values.time(i));
      return;
    case Operation::kWeekday:
      for (std::size_t i = 0; i < rows; ++i) out[i] = weekday_key(node, values.time(i));
      return;
    default: return;
  }
}

std::uint64_t Program::key(const Locate& locate, const Values& values, std::size_t row) const {
  if (locate.keys.empty()) return 1;
  if (locate.keys.size() == 1) return values.at(locate.keys.front(), row);
  std::uint64_t state = kCrossSeed;
  for (const int node : locate.keys) {
    const std::uint64_t part = values.at(node, row);
    if (part == kMissingKey) return kMissingKey;
    state = cross_step(state, part);
  }
  return not_missing(state);
}

std::uint64_t Program::read_block(const BlockRead& read, const std::byte* block, std::int64_t time, std::int32_t tile,
                                  std::uint64_t wanted) const {
  const Place& place = *read.place;
  const Aggregate& aggregate = *place.aggregate;
  if (read.counts_tiles) {
    const std::byte* state = block == nullptr ? nullptr : place.find(block);
    return bits(state == nullptr ? 0.0 : static_cast<double>(Tiles::count(state, aggregate.reach, tile)));
  }
  const std::byte* state = state_of(place, block, time);
  switch (read.operation) {
    case Operation::kRead: {
      if (aggregate.kind == AggregateKind::kTiles) {
        const Moments moments = state == nullptr ? Moments{} : Tiles::read(state, aggregate, tile);
        return bits(moments_value(moments, read.what, aggregate.scale));
      }
      if (aggregate.kind == AggregateKind::kTotal) {
        const Moments moments = state == nullptr ? Moments{} : Total::read(state, place.parts);
        return bits(moments_value(moments, read.what, aggregate.scale));
      }
      if (aggregate.kind == AggregateKind::kDecayed) {
        if (state == nullptr) return bits(read.what == What::kMean ? kNaN : 0.0);
        return bits(Decayed::read(state, aggregate, read.what, time));
      }
      const std::int64_t at = state == nullptr ? 0 : load<std::int64_t>(state);
      return bits(at == 0 ? kNaN : seconds_between(at, time));
    }
    case Operation::kLatest: {
      const std::size_t size = state == nullptr ? 0 : Sequence::head(state).size;
      if (size == 0) return read.is_category ? kMissingKey : bits(kNaN);
      return Sequence::column(state, 1 + static_cast<std::size_t>(read.field))[Sequence::at(Sequence::head(state), size - 1)];
    }
    case Operation::kMatch: {
      if (state == nullptr) return bits(match_value({}, read.what, time));
      const Found found = read.of_top ? find_in_top(state, wanted) : find_in_sequence(state, static_cast<std::size_t>(read.field), wanted);
      return bits(match_value(found, read.what, time));
    }
    default: return 0;
  }
}

void Program::emit_sequence(const BlockRead& read, const Feature& feature, const std::byte* block, std::int64_t time, Ragged& out) const {
  const std::byte* state = state_of(*read.place, block, time);
  if (state == nullptr) return out.add_row();
  if (read.operation == Operation::kTop) {
    std::vector<Top::Entry> best(Top::entries(state), Top::entries(state) + Top::head(state).size);
    const std::size_t count = std::min<std::size_t>(read.length, best.size());
    std::partial_sort(best.begin(), best.begin() + static_cast<std::ptrdiff_t>(count), best.end(), Top::before);
    for (std::size_t i = count; i-- > 0;) {
      out.keys.front().push(best[i].key);
      out.numbers.front().push(static_cast<float>(best[i].count));
      out.age.push(static_cast<float>(seconds_between(best[i].latest, time)));
    }
    return out.add_row();
  }
  const Sequence::Head& head = Sequence::head(state);
  const std::size_t count = head.size;
  const std::size_t upper = std::min<std::size_t>(count, head.capacity - head.oldest);  // before the ring turns round
  const auto each = [&](std::size_t field, auto* to, auto convert) {
    const std::uint64_t* words = Sequence::column(state, field);
    for (std::size_t i = 0; i < upper; ++i) to[i] = convert(words[head.oldest + i]);
    for (std::size_t i = upper; i < count; ++i) to[i] = convert(words[i - upper]);
  };
  std::size_t key = 0;
  std::size_t plain = 0;
  for (std::size_t field = 0; field < feature.field_is_category.size(); ++field) {
    if (feature.field_is_category[field]) {
      each(1 + field, out.keys[key++].extend(count), [](std::uint64_t word) { return word; });
    } else {
      each(1 + field, out.numbers[plain++].extend(count), [](std::uint64_t word) { return static_cast<float>(number(word)); });
    }
  }
  each(0, out.age.extend(count),
       [time](std::uint64_t word) { return static_cast<float>(seconds_between(static_cast<std::int64_t>(word), time)); });
  out.add_row();
}

// ---- output ------------------------------------------------------------------------------------

namespace {

Ragged ragged_like(const Feature& feature) {
  Ragged ragged;
  ragged.offsets.push(0);
  for (const bool is_category : feature.field_is_category) {
    if (is_category) {
      ragged.keys.emplace_back();
    } else {
      ragged.numbers.emplace_back();
    }
  }
  return ragged;
}

}  // namespace

Columns Program::columns(const Side& side, std::size_t rows) const {
  Columns out;
  out.rows = rows;
  out.category_count = side.categories.size();
  out.number_count = side.numbers.size();
  out.categories.extend(rows * side.categories.size());
  out.numbers.extend(rows * side.numbers.size());
  for (const std::size_t feature : side.sequences) out.sequences.push_back(ragged_like(plan_.features[feature]));
  for (const VectorRead& vector : side.vectors) out.vectors.emplace_back().extend(rows * vector.width);
  return out;
}

void Program::emit(const Side& side, const Values& values, const PathSet::Space& space, std::size_t first, std::size_t count,
                   Columns& out) const {
  const auto source = [&](std::size_t feature) { return static_cast<std::size_t>(plan_.features[feature].node); };
  for (std::size_t i = 0; i < side.categories.size(); ++i) {
    const std::uint64_t* column = values.columns[source(side.categories[i])];
    std::copy(column, column + count, out.categories.data() + i * out.rows + first);
  }
  for (std::size_t i = 0; i < side.numbers.size(); ++i) {
    const std::uint64_t* column = values.columns[source(side.numbers[i])];
    float* to = out.numbers.data() + i * out.rows + first;
    for (std::size_t row = 0; row < count; ++row) to[row] = static_cast<float>(number(column[row]));
  }
  for (const VectorRead& vector : side.vectors) {
    const std::byte* const* blocks = &space.blocks[vector.lookup * count];
    float* to = out.vectors[vector.feature].data() + first * vector.width;
    for (std::size_t row = 0; row < count; ++row, to += vector.width) {
      if (blocks[row] == nullptr) {
        std::fill_n(to, vector.width, std::numeric_limits<float>::quiet_NaN());
      } else {
        std::copy_n(reinterpret_cast<const float*>(blocks[row] + vector.offset), vector.width, to);
      }
    }
  }
}

// ---- reading live ------------------------------------------------------------------------------

namespace {

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
  constexpr std::size_t kChunk = 64;  // rows whose blocks stay in the nearest cache
  std::array<std::uint64_t, kChunk> keys;
  std::array<const std::byte*, kChunk> blocks;
  for (std::size_t number = 0; number < locates_.size(); ++number) {
    const Locate& locate = locates_[number];
    if (request && !locate.per_request) continue;
    const Family& family = states_[locate.state]->family(locate.family);
    std::vector<TileClock> clocks = family.clocks();
    for (TileClock& clock : clocks) clock.move_to(values.times[0]);
    if (locate.per_request) {
      if (request) {
        const std::uint64_t own = key(locate, values, 0);
        request_blocks[number] = family.keys.find(own, mix(own), lsn);
      }
      read_rows(side, locate, request, values, clocks, &request_blocks[number], 0, 0, rows, out);
      continue;
    }
    for (std::size_t first = 0; first < rows; first += kChunk) {
      const std::size_t last = std::min(rows, first + kChunk);
      for (std::size_t row = first; row < last; ++row) keys[row - first] = key(locate, values, row);
      family.keys.find_all(keys.data(), 1, last - first, lsn, blocks.data());
      read_rows(side, locate, request, values, clocks, blocks.data(), 1, first, last, out);
    }
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

// ---- replaying ---------------------------------------------------------------------------------

class Program::Replay : public State::Replayer, public ReadSink {
 public:
  Replay(const Program& program, const Reads& reads) : program_(program), reads_(reads), out_(program.columns(program.whole_, reads.count)) {
    for (const Locate& locate : program.locates_) {
      LocatedReads located;
      located.family = locate.family;
      located_.push_back(std::move(located));
    }
  }

  const std::vector<LocatedReads>& locate(std::size_t first, std::size_t last, std::size_t lanes) override {
    const std::size_t count = last - first;
    first_ = first;
    program_.allocate(values_, count);
    values_.times = reads_.times + first;
    program_.whole_.paths.evaluate({reads_.slots, reads_.count, nullptr, first, count}, kIdle, space_);
    for (const auto& [node, value] : program_.whole_.values) {
      std::copy_n(&space_.values[static_cast<std::size_t>(value) * count], count, values_.columns[static_cast<std::size_t>(node)]);
    }
    for (const int node : program_.whole_.before) program_.compute(node, values_);
    for (std::size_t i = 0; i < located_.size(); ++i) {
      located_[i].keys.resize(count);
      for (std::size_t row = 0; row < count; ++row) located_[i].keys[row] = program_.key(program_.locates_[i], values_, row);
    }
    open(lanes);
    return located_;
  }

  ReadSink& sink() override { return *this; }

  void read(std::size_t lane, std::size_t locate, std::uint32_t row, const std::byte* block) override {
    Lane& own = lanes_[lane * located_.size() + locate];
    const std::int64_t time = values_.times[row];
    for (TileClock& clock : own.clocks) clock.move_to(time);
    own.rows.push_back(row);
    for (const CountRead& read : own.counts) {
      const std::byte* state = block == nullptr ? nullptr : read.place->find(block);
      const std::int64_t count = state == nullptr ? 0 : Tiles::count(state, read.reach, own.clocks[read.clock].index);
      read.column[row] = bits(static_cast<double>(count));
    }
    std::size_t sequence = 0;
    for (const BlockRead* read : own.others) {
      for (const std::size_t feature : read->features) {
        program_.emit_sequence(*read, program_.plan_.features[program_.whole_.sequences[feature]], block, time, own.sequences[sequence++]);
      }
      if (read->operation == Operation::kSequence || read->operation == Operation::kTop) continue;
      values_.columns[static_cast<std::size_t>(read->node)][row] = program_.read_block(
          *read, block, time, own.clocks[read->clock].index, read->wanted < 0 ? 0 : values_.at(read->wanted, row));
    }
  }

  void finish(std::size_t first, std::size_t last) override {
    if (part_ != nullptr) return keep_part(first, last);
    for (const int node : program_.whole_.after) program_.compute(node, values_);
    program_.emit(program_.whole_, values_, space_, first, last - first, out_);
    join_sequences(last - first);
  }

  Columns columns() { return std::move(out_); }

  void collect_part(PartColumns& part) {
    part_ = &part;
    part.rows = reads_.count;
    part.values.resize(program_.plan_.nodes.size() * reads_.count);
    part.owned.resize(located_.size());
    for (std::size_t i = 0; i < located_.size(); ++i) {
      std::vector<int>& nodes = part.nodes.emplace_back();
      for (const BlockRead& read : program_.locates_[i].reads) {
        nodes.push_back(read.node);
        for (const std::size_t feature : read.features) {
          part.sequences.emplace_back(feature, ragged_like(program_.plan_.features[program_.whole_.sequences[feature]]));
          part.sequence_locates.push_back(i);
        }
      }
    }
  }

 private:
  // A count of a window, the most common read: what it needs side by side.
  struct CountRead {
    const Place* place;
    std::int64_t reach;
    std::size_t clock;
    std::uint64_t* column;
  };
  // What one group of shards gives for one locate.
  struct Lane {
    std::vector<TileClock> clocks;
    std::vector<CountRead> counts;
    std::vector<const BlockRead*> others;
    std::vector<std::uint32_t> rows;
    std::vector<Ragged> sequences;
  };

  void open(std::size_t lanes) {
    groups_ = lanes;
    if (lanes_.size() != lanes * located_.size()) {
      lanes_.clear();
      lanes_.resize(lanes * located_.size());
    }
    for (std::size_t i = 0; i < lanes_.size(); ++i) {
      const Locate& locate = program_.locates_[i % located_.size()];
      Lane& lane = lanes_[i];
      if (lane.clocks.empty()) lane.clocks = program_.states_[locate.state]->family(locate.family).clocks();
      lane.rows.clear();
      lane.sequences.clear();
      lane.counts.clear();
      lane.others.clear();
      for (const BlockRead& read : locate.reads) {
        if (read.counts_tiles) {
          lane.counts.push_back({read.place, read.place->aggregate->reach, read.clock, values_.columns[static_cast<std::size_t>(read.node)]});
        } else {
          lane.others.push_back(&read);
        }
        for (const std::size_t feature : read.features) {
          lane.sequences.push_back(ragged_like(program_.plan_.features[program_.whole_.sequences[feature]]));
        }
      }
    }
  }

  template <typename Value>
  static void append(Buffer<Value>& to, const Buffer<Value>& from, std::int64_t begin, std::int64_t end) {
    if (end > begin) std::copy(from.data() + begin, from.data() + end, to.extend(static_cast<std::size_t>(end - begin)));
  }

  static void append_row(Ragged& to, const Ragged& from, std::size_t row) {
    const std::int64_t begin = from.offsets[row];
    const std::int64_t end = from.offsets[row + 1];
    for (std::size_t i = 0; i < to.keys.size(); ++i) append(to.keys[i], from.keys[i], begin, end);
    for (std::size_t i = 0; i < to.numbers.size(); ++i) append(to.numbers[i], from.numbers[i], begin, end);
    append(to.age, from.age, begin, end);
    to.add_row();
  }

  static void append_all(Ragged& to, const Ragged& from) {
    const auto size = static_cast<std::int64_t>(from.age.size());
    const auto shift = static_cast<std::int64_t>(to.age.size());
    for (std::size_t i = 0; i < to.keys.size(); ++i) append(to.keys[i], from.keys[i], 0, size);
    for (std::size_t i = 0; i < to.numbers.size(); ++i) append(to.numbers[i], from.numbers[i], 0, size);
    append(to.age, from.age, 0, size);
    for (std::size_t i = 1; i < from.offsets.size(); ++i) to.offsets.push(shift + from.offsets[i]);
  }

  // Brings each sequence's rows from the groups that read them into the reads' order.
  void join_sequences(std::size_t count) {
    for (std::size_t locate = 0; locate < located_.size(); ++locate) {
      std::size_t sequence = 0;
      for (const BlockRead& read : program_.locates_[locate].reads) {
        for (const std::size_t feature : read.features) {
          join_sequence(locate, sequence++, count, out_.sequences[feature]);
        }
      }
    }
  }

  void join_sequence(std::size_t locate, std::size_t sequence, std::size_t count, Ragged& to) {
    if (groups_ == 1) return append_all(to, lanes_[locate].sequences[sequence]);
    std::vector<std::pair<std::uint32_t, std::uint32_t>> where(count);  // (group, row there)
    for (std::size_t group = 0; group < groups_; ++group) {
      const std::vector<std::uint32_t>& rows = lanes_[group * located_.size() + locate].rows;
      for (std::size_t i = 0; i < rows.size(); ++i) where[rows[i]] = {static_cast<std::uint32_t>(group), static_cast<std::uint32_t>(i)};
    }
    for (const auto& [group, row] : where) append_row(to, lanes_[group * located_.size() + locate].sequences[sequence], row);
  }

  void keep_part(std::size_t first, std::size_t last) {
    const std::size_t nodes = program_.plan_.nodes.size();
    for (std::size_t node = 0; node < nodes; ++node) {
      std::copy_n(values_.columns[node], last - first, &part_->values[node * part_->rows + first]);
    }
    for (std::size_t locate = 0; locate < located_.size(); ++locate) {
      for (std::size_t group = 0; group < groups_; ++group) {
        const Lane& lane = lanes_[group * located_.size() + locate];
        for (const std::uint32_t row : lane.rows) part_->owned[locate].push_back(static_cast<std::uint32_t>(first) + row);
        std::size_t sequence = 0;
        for (std::size_t i = 0; i < part_->sequences.size(); ++i) {
          if (part_->sequence_locates[i] == locate) append_all(part_->sequences[i].second, lane.sequences[sequence++]);
        }
      }
    }
  }

  const Program& program_;
  const Reads& reads_;
  Columns out_;
  Values values_;
  PathSet::Space space_;
  std::vector<LocatedReads> located_;
  std::vector<Lane> lanes_;
  std::size_t groups_ = 1;
  std::size_t first_ = 0;
  PartColumns* part_ = nullptr;
};

Columns Program::replay(const Records& records, const Reads& reads) {
  if (states_.size() != 1) throw std::invalid_argument("a replay has one state");
  Replay replay(*this, reads);
  states_.front()->replay(records, reads, replay);
  return replay.columns();
}

PartColumns Program::replay_part(const Records& records, const Reads& reads) {
  if (states_.size() != 1) throw std::invalid_argument("a replay has one state");
  PartColumns part;
  Replay replay(*this, reads);
  replay.collect_part(part);
  states_.front()->replay(records, reads, replay);
  return part;
}

Columns Program::finish(std::vector<std::uint64_t> joined, const std::int64_t* times, std::size_t rows) const {
  Values values;
  values.storage = std::move(joined);
  values.columns.resize(plan_.nodes.size());
  values.rows.assign(plan_.nodes.size(), rows);
  for (std::size_t i = 0; i < plan_.nodes.size(); ++i) values.columns[i] = values.storage.data() + i * rows;
  values.times = times;
  for (const int node : whole_.after) compute(node, values);
  Columns out = columns(whole_, rows);
  if (!whole_.vectors.empty()) throw std::invalid_argument("vectors are not joined from partitions");
  emit(whole_, values, {}, 0, rows, out);
  return out;
}

}  // namespace bowerbird
