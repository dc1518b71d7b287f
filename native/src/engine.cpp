#include "engine.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <utility>

namespace bowerbird {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kMicrosecondsPerSecond = 1e6;
constexpr std::int64_t kHour = 3'600'000'000;
constexpr std::int64_t kDay = 24 * kHour;

double number(std::uint64_t bits) { return std::bit_cast<double>(bits); }
std::uint64_t bits(double value) { return std::bit_cast<std::uint64_t>(value); }

double seconds_between(std::int64_t earlier, std::int64_t later) {
  return static_cast<double>(std::max<std::int64_t>(0, later - earlier)) / kMicrosecondsPerSecond;
}

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
  const auto above = std::upper_bound(boundaries.begin(), boundaries.end(), value);
  return key_integer(above - boundaries.begin());
}

double signed_log1p(double value) { return value < 0 ? -std::log1p(-value) : std::log1p(value); }

double clip(double value, double low, double high) {
  if (value < low) return low;
  return value > high ? high : value;
}

bool compare(double value, Comparison comparison, const std::vector<double>& constants) {
  if (std::isnan(value)) return false;
  const double constant = constants.front();
  switch (comparison) {
    case Comparison::kEqual: return value == constant;
    case Comparison::kNotEqual: return value != constant;
    case Comparison::kLess: return value < constant;
    case Comparison::kLessEqual: return value <= constant;
    case Comparison::kGreater: return value > constant;
    case Comparison::kGreaterEqual: return value >= constant;
    case Comparison::kIn: return std::find(constants.begin(), constants.end(), value) != constants.end();
  }
  return false;
}

}  // namespace

Engine::Engine(Plan plan)
    : plan_(std::move(plan)),
      attributes_(plan_.types.size()),
      families_(static_cast<std::size_t>(plan_.families)) {
  for (std::size_t type = 0; type < plan_.types.size(); ++type) {
    if (plan_.types[type].is_table && !plan_.types[type].slots.empty()) {
      attributes_[type].declare(plan_.types[type], plan_.slots.size());
    }
  }
  for (const Aggregate& aggregate : plan_.aggregates) {
    offsets_.push_back(families_[static_cast<std::size_t>(aggregate.family)].place(aggregate));
  }
  build_feeds();
  build_programs();
}

void Engine::build_feeds() {
  feeds_.resize(plan_.types.size());
  for (std::size_t i = 0; i < plan_.aggregates.size(); ++i) {
    const Aggregate& aggregate = plan_.aggregates[i];
    for (const Feed& feed : aggregate.feeds) {
      feeds_[static_cast<std::size_t>(feed.type)].push_back({&feed, &aggregate, offsets_[i], false});
    }
  }
  for (auto& feeds : feeds_) {  // feeds of one family stand together, so that a key is looked up once
    std::stable_sort(feeds.begin(), feeds.end(),
                     [](const FeedPlan& a, const FeedPlan& b) { return a.aggregate->family < b.aggregate->family; });
    for (std::size_t i = 1; i < feeds.size(); ++i) {
      feeds[i].same_key_as_previous = feeds[i].aggregate->family == feeds[i - 1].aggregate->family;
    }
  }
}

void Engine::build_programs() {
  std::vector<std::pair<int, std::vector<int>>> located;  // (family, key nodes)
  for (std::size_t i = 0; i < plan_.nodes.size(); ++i) {
    const Node& node = plan_.nodes[i];
    Step step{&node, static_cast<int>(i), -1, false, 0};
    if (node.operation == Operation::kRead || node.operation == Operation::kSequence) {
      const Aggregate& aggregate = plan_.aggregates[static_cast<std::size_t>(node.aggregate)];
      const std::pair<int, std::vector<int>> place{aggregate.family, node.inputs};
      const auto found = std::find(located.begin(), located.end(), place);
      step.locate = static_cast<int>(found - located.begin());
      step.locates = found == located.end();
      step.offset = offsets_[static_cast<std::size_t>(node.aggregate)];
      if (step.locates) located.push_back(place);
    }
    whole_.steps.push_back(step);
    (node.per_request ? request_ : candidate_).steps.push_back(step);
  }
  locates_ = static_cast<int>(located.size());
  for (const Feature& feature : plan_.features) {
    for (Program* program : {&whole_, feature.per_request ? &request_ : &candidate_}) {
      if (feature.kind == FeatureKind::kCategory) program->categories.push_back(&feature);
      if (feature.kind == FeatureKind::kNumber) program->numbers.push_back(&feature);
      if (feature.kind == FeatureKind::kSequence) program->sequences.push_back(&feature);
    }
  }
}

std::int64_t Engine::lsn() const {
  const std::shared_lock lock(mutex_);
  return lsn_;
}

Engine::Registers Engine::registers() const {
  return {std::vector<std::uint64_t>(plan_.nodes.size() * kLanes),
          std::vector<const std::byte*>(static_cast<std::size_t>(locates_) * kLanes)};
}

Columns Engine::columns(const Program& program, std::size_t rows) const {
  Columns out;
  out.rows = rows;
  out.category_count = program.categories.size();
  out.number_count = program.numbers.size();
  out.categories.resize(rows * program.categories.size());
  out.numbers.resize(rows * program.numbers.size());
  out.sequences.resize(program.sequences.size());
  for (std::size_t i = 0; i < program.sequences.size(); ++i) {
    for (const bool is_category : program.sequences[i]->field_is_category) {
      if (is_category) out.sequences[i].keys.emplace_back();
      else out.sequences[i].numbers.emplace_back();
    }
  }
  return out;
}

// ---- applying records -------------------------------------------------------------------------

std::uint64_t Engine::follow(const Path& path, const std::uint64_t* row) const {
  std::uint64_t value = row[path.slot];
  for (const Hop& hop : path.hops) {
    const std::uint64_t missing = plan_.slots[static_cast<std::size_t>(hop.slot)].is_category ? kMissingKey : bits(kNaN);
    value = attributes_[static_cast<std::size_t>(hop.table)].value(value, hop.slot, missing);
  }
  return value;
}

bool Engine::passes(const Test& test, const std::uint64_t* row) const {
  const std::uint64_t value = follow(test.path, row);
  if (!test.numbers.empty()) return compare(number(value), test.comparison, test.numbers);
  const bool among = std::find(test.keys.begin(), test.keys.end(), value) != test.keys.end();
  return test.comparison == Comparison::kNotEqual ? value != kMissingKey && !among : among;
}

std::uint64_t Engine::key_of(const std::vector<Path>& paths, const std::uint64_t* row) const {
  if (paths.empty()) return 1;
  if (paths.size() == 1) return follow(paths.front(), row);
  std::uint64_t state = kCrossSeed;
  for (const Path& path : paths) {
    const std::uint64_t key = follow(path, row);
    if (key == kMissingKey) return kMissingKey;
    state = cross_step(state, key);
  }
  return not_missing(state);
}

void Engine::gather(const RecordType& type, const Records& records, std::size_t at, std::uint64_t* row) const {
  for (const int slot : type.slots) row[slot] = records.slots[static_cast<std::size_t>(slot) * records.count + at];
}

void Engine::apply_row(std::int32_t type, std::int64_t time, const std::uint64_t* row) {
  const RecordType& record_type = plan_.types[static_cast<std::size_t>(type)];
  if (record_type.is_table) {
    if (!record_type.slots.empty()) attributes_[static_cast<std::size_t>(type)].replace(row);
    return;
  }
  std::uint64_t key = kMissingKey;
  std::byte* record = nullptr;
  for (const FeedPlan& feed : feeds_[static_cast<std::size_t>(type)]) {
    if (!feed.same_key_as_previous) {
      key = key_of(feed.feed->keys, row);
      record = nullptr;
    }
    if (key == kMissingKey) continue;
    const auto& tests = feed.feed->tests;
    if (!std::all_of(tests.begin(), tests.end(), [&](const Test& test) { return passes(test, row); })) continue;
    if (record == nullptr) record = families_[static_cast<std::size_t>(feed.aggregate->family)].find_or_insert(key);
    advance(feed, time, row, record);
  }
}

void Engine::advance(const FeedPlan& plan, std::int64_t time, const std::uint64_t* row, std::byte* record) {
  const Aggregate& aggregate = *plan.aggregate;
  const double value = plan.feed->has_value ? number(follow(plan.feed->value, row)) : 0.0;
  if (std::isnan(value)) return;
  std::byte* state = record + plan.offset;
  switch (aggregate.kind) {
    case AggregateKind::kTotal:
      reinterpret_cast<TotalState*>(state)->add(fixed_point(value, aggregate.scale));
      return;
    case AggregateKind::kTiles:
      reinterpret_cast<TilesState*>(state)->add(floor_divide(time, aggregate.tile), fixed_point(value, aggregate.scale),
                                                aggregate.tiles);
      return;
    case AggregateKind::kDecayed:
      reinterpret_cast<DecayedState*>(state)->add(time, value, aggregate.half_life);
      return;
    case AggregateKind::kLast:
      reinterpret_cast<LastState*>(state)->add(time);
      return;
    case AggregateKind::kSequence: {
      std::uint64_t* entry = reinterpret_cast<SequenceState*>(state)->push(aggregate.length, 1 + aggregate.fields);
      entry[0] = static_cast<std::uint64_t>(time);
      for (std::size_t i = 0; i < plan.feed->fields.size(); ++i) entry[1 + i] = follow(plan.feed->fields[i], row);
      return;
    }
  }
}

void Engine::apply(const Records& records) {
  const std::unique_lock lock(mutex_);
  std::vector<std::uint64_t> row(plan_.slots.size());
  for (std::size_t i = 0; i < records.count; ++i) {
    const std::int32_t type = records.types[i];
    if (type >= 0) {
      gather(plan_.types[static_cast<std::size_t>(type)], records, i, row.data());
      apply_row(type, records.times[i], row.data());
    }
    ++lsn_;
  }
}

// ---- reading ----------------------------------------------------------------------------------

std::uint64_t Engine::located_key(const Node& node, std::size_t lane, const Registers& registers) const {
  if (node.inputs.empty()) return 1;
  if (node.inputs.size() == 1) return registers.value(node.inputs.front(), lane);
  std::uint64_t state = kCrossSeed;
  for (const int input : node.inputs) {
    const std::uint64_t part = registers.value(input, lane);
    if (part == kMissingKey) return kMissingKey;
    state = cross_step(state, part);
  }
  return not_missing(state);
}

void Engine::locate(const Step& step, std::size_t lanes, Registers& registers) const {
  const Aggregate& aggregate = plan_.aggregates[static_cast<std::size_t>(step.node->aggregate)];
  const Family& family = families_[static_cast<std::size_t>(aggregate.family)];
  std::array<std::uint64_t, kLanes> keys;
  for (std::size_t lane = 0; lane < lanes; ++lane) {
    keys[lane] = located_key(*step.node, lane, registers);
    family.prefetch(keys[lane]);
  }
  const std::byte** records = &registers.records[static_cast<std::size_t>(step.locate) * kLanes];
  for (std::size_t lane = 0; lane < lanes; ++lane) {
    records[lane] = family.find(keys[lane]);
    if (records[lane] != nullptr) __builtin_prefetch(records[lane] + step.offset);
  }
}

double Engine::read_aggregate(const Step& step, std::int64_t time, std::size_t lane, const Registers& registers) const {
  const Aggregate& aggregate = plan_.aggregates[static_cast<std::size_t>(step.node->aggregate)];
  const std::byte* record = registers.record(step.locate, lane);
  double count = 0.0;
  double sum = 0.0;
  if (record != nullptr) {
    const std::byte* state = record + step.offset;
    if (aggregate.kind == AggregateKind::kLast) {
      const std::int64_t last = reinterpret_cast<const LastState*>(state)->time;
      return last == 0 ? kNaN : seconds_between(last, time);
    }
    if (aggregate.kind == AggregateKind::kDecayed) {
      const auto* decayed = reinterpret_cast<const DecayedState*>(state);
      const double factor = decayed->factor(time, aggregate.half_life);
      count = decayed->count * factor;
      sum = decayed->sum * factor;
    } else {
      const TotalState total =
          aggregate.kind == AggregateKind::kTotal
              ? *reinterpret_cast<const TotalState*>(state)
              : reinterpret_cast<const TilesState*>(state)->window(floor_divide(time, aggregate.tile), aggregate.tiles);
      count = static_cast<double>(total.count);
      sum = static_cast<double>(total.sum) / static_cast<double>(aggregate.scale);
    }
  } else if (aggregate.kind == AggregateKind::kLast) {
    return kNaN;
  }
  switch (step.node->what) {
    case What::kCount: return count;
    case What::kSum: return sum;
    default: return count > 0 ? sum / count : kNaN;
  }
}

double Engine::match(const Step& step, std::int64_t time, std::size_t lane, const Registers& registers) const {
  const Step& sequence = whole_.steps[static_cast<std::size_t>(step.node->inputs[0])];
  const Aggregate& aggregate = plan_.aggregates[static_cast<std::size_t>(sequence.node->aggregate)];
  const std::byte* record = registers.record(sequence.locate, lane);
  const std::uint64_t wanted = registers.value(step.node->inputs[1], lane);
  const auto* state = record == nullptr ? nullptr : reinterpret_cast<const SequenceState*>(record + sequence.offset);
  const std::uint32_t size = state == nullptr ? 0 : state->size;
  const std::size_t word = 1 + static_cast<std::size_t>(step.node->field);
  std::uint32_t found = 0;
  std::int64_t latest = 0;
  for (std::uint32_t i = 0; i < size && wanted != kMissingKey; ++i) {
    const std::uint64_t* entry = state->entry(i, aggregate.length, 1 + aggregate.fields);
    if (entry[word] != wanted) continue;
    ++found;
    latest = std::max(latest, static_cast<std::int64_t>(entry[0]));
  }
  switch (step.node->what) {
    case What::kCount: return found;
    case What::kFraction: return size == 0 ? kNaN : static_cast<double>(found) / size;
    default: return found == 0 ? kNaN : seconds_between(latest, time);
  }
}

std::uint64_t Engine::evaluate(const Step& step, std::int64_t time, const std::uint64_t* row, std::size_t lane,
                               const Registers& registers) const {
  const Node& node = *step.node;
  const auto input = [&](std::size_t i) { return registers.value(node.inputs[i], lane); };
  const auto value = [&](std::size_t i) { return number(input(i)); };
  switch (node.operation) {
    case Operation::kValue: return follow(node.path, row);
    case Operation::kRead: return bits(read_aggregate(step, time, lane, registers));
    case Operation::kSequence: return 0;
    case Operation::kMatch: return bits(match(step, time, lane, registers));
    case Operation::kRate: {
      const double below = value(1) + node.numbers[1];
      return bits(below > 0 ? (value(0) + node.numbers[0] * node.numbers[1]) / below : kNaN);
    }
    case Operation::kRatio: return bits(value(1) == 0 ? kNaN : value(0) / value(1));
    case Operation::kDifference: return bits(value(0) - value(1));
    case Operation::kLog1p: return bits(signed_log1p(value(0)));
    case Operation::kClip: return bits(clip(value(0), node.numbers[0], node.numbers[1]));
    case Operation::kAffine: return bits((value(0) - node.numbers[0]) / node.numbers[1]);
    case Operation::kAge: return bits(static_cast<double>(time) / kMicrosecondsPerSecond - value(0));
    case Operation::kCross: {
      std::uint64_t state = kCrossSeed;
      for (std::size_t i = 0; i < node.inputs.size(); ++i) state = cross_step(state, input(i));
      return not_missing(state);
    }
    case Operation::kHour: return hour_key(node, time);
    case Operation::kWeekday: return weekday_key(node, time);
    case Operation::kBucketise: return bucket_key(node.numbers, value(0));
  }
  return 0;
}

void Engine::run(const Program& program, std::int64_t time, const std::uint64_t* rows, std::size_t lanes,
                 Registers& registers) const {
  for (const Step& step : program.steps) {
    if (step.locates) locate(step, lanes, registers);
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      registers.value(step.index, lane) = evaluate(step, time, rows + lane * plan_.slots.size(), lane, registers);
    }
  }
}

// Copies what a program left in the first lane to all others.
void Engine::spread(const Program& program, Registers& registers) const {
  for (const Step& step : program.steps) {
    std::uint64_t* values = &registers.value(step.index, 0);
    std::fill(values + 1, values + kLanes, values[0]);
    if (!step.locates) continue;
    const std::byte** records = &registers.records[static_cast<std::size_t>(step.locate) * kLanes];
    std::fill(records + 1, records + kLanes, records[0]);
  }
}

void Engine::emit_sequence(const Feature& feature, std::int64_t time, std::size_t lane, const Registers& registers,
                           RaggedOutput& out) const {
  const Step& step = whole_.steps[static_cast<std::size_t>(feature.node)];
  const Aggregate& aggregate = plan_.aggregates[static_cast<std::size_t>(step.node->aggregate)];
  const std::byte* record = registers.record(step.locate, lane);
  const auto* state = record == nullptr ? nullptr : reinterpret_cast<const SequenceState*>(record + step.offset);
  const std::uint32_t size = state == nullptr ? 0 : state->size;
  for (std::uint32_t i = 0; i < size; ++i) {
    const std::uint64_t* entry = state->entry(i, aggregate.length, 1 + aggregate.fields);
    std::size_t key = 0;
    std::size_t plain = 0;
    for (std::size_t field = 0; field < feature.field_is_category.size(); ++field) {
      if (feature.field_is_category[field]) out.keys[key++].push_back(entry[1 + field]);
      else out.numbers[plain++].push_back(static_cast<float>(number(entry[1 + field])));
    }
    out.age.push_back(static_cast<float>(seconds_between(static_cast<std::int64_t>(entry[0]), time)));
  }
  out.offsets.push_back(static_cast<std::int64_t>(out.age.size()));
}

void Engine::emit(const Program& program, std::int64_t time, std::size_t row, std::size_t lane, const Registers& registers,
                  Columns& out) const {
  for (std::size_t i = 0; i < program.categories.size(); ++i) {
    out.categories[i * out.rows + row] = registers.value(program.categories[i]->node, lane);
  }
  for (std::size_t i = 0; i < program.numbers.size(); ++i) {
    out.numbers[i * out.rows + row] = static_cast<float>(number(registers.value(program.numbers[i]->node, lane)));
  }
  for (std::size_t i = 0; i < program.sequences.size(); ++i) {
    emit_sequence(*program.sequences[i], time, lane, registers, out.sequences[i]);
  }
}

Columns Engine::replay(const Records& records, const Reads& reads) {
  const std::unique_lock lock(mutex_);
  std::vector<std::uint64_t> row(plan_.slots.size());
  std::vector<std::uint64_t> request(plan_.slots.size());
  Registers state = registers();
  Columns out = columns(whole_, reads.count);
  std::size_t next = 0;
  for (std::size_t i = 0; i <= records.count; ++i) {
    for (; next < reads.count && reads.positions[next] <= lsn_; ++next) {
      if (reads.positions[next] < lsn_) throw std::invalid_argument("a read lies before the engine's position");
      for (std::size_t slot = 0; slot < request.size(); ++slot) request[slot] = reads.slots[slot * reads.count + next];
      run(whole_, reads.times[next], request.data(), 1, state);
      emit(whole_, reads.times[next], next, 0, state, out);
    }
    if (i == records.count) break;
    const std::int32_t type = records.types[i];
    if (type >= 0) {
      gather(plan_.types[static_cast<std::size_t>(type)], records, i, row.data());
      apply_row(type, records.times[i], row.data());
    }
    ++lsn_;
  }
  if (next < reads.count) throw std::invalid_argument("a read lies beyond the records given");
  return out;
}

Answer Engine::read(std::int64_t time, const std::uint64_t* request, const std::uint64_t* candidates, std::size_t count) const {
  const std::shared_lock lock(mutex_);
  const std::size_t slots = plan_.slots.size();
  std::vector<std::uint64_t> rows(slots * kLanes);
  for (std::size_t lane = 0; lane < kLanes; ++lane) std::copy(request, request + slots, &rows[lane * slots]);
  Registers state = registers();
  Answer answer{lsn_, columns(request_, 1), columns(candidate_, count)};
  run(request_, time, rows.data(), 1, state);
  emit(request_, time, 0, 0, state, answer.request);
  spread(request_, state);
  for (std::size_t first = 0; first < count; first += kLanes) {
    const std::size_t lanes = std::min(kLanes, count - first);
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      rows[lane * slots + static_cast<std::size_t>(plan_.item_slot)] = candidates[first + lane];
    }
    run(candidate_, time, rows.data(), lanes, state);
    for (std::size_t lane = 0; lane < lanes; ++lane) emit(candidate_, time, first + lane, lane, state, answer.candidates);
  }
  return answer;
}

Usage Engine::usage() const {
  const std::shared_lock lock(mutex_);
  Usage usage;
  for (const Family& family : families_) {
    usage.family_keys.push_back(family.size());
    usage.family_bytes.push_back(family.bytes());
  }
  for (const Attributes& table : attributes_) usage.table_bytes.push_back(table.bytes());
  return usage;
}

}  // namespace bowerbird
