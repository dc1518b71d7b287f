// A small shop for the native tests: a plan with every kind of aggregate, and random logs of it.
#pragma once

#include <bit>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "plan/program.hpp"

namespace bowerbird::shop {

inline constexpr int kUser = 0;
inline constexpr int kItem = 1;
inline constexpr int kAmount = 2;
inline constexpr int kBrand = 3;
inline constexpr int kLook = 4;
inline constexpr int kSlots = 5;
inline constexpr int kEvent = 0;
inline constexpr int kItems = 1;
inline constexpr std::uint32_t kWidth = 3;
inline constexpr std::int64_t kMinute = 60'000'000;
inline constexpr std::int64_t kStart = 1'700'000'000'000'000;

inline int failures = 0;

inline void expect(bool holds, const std::string& what) {
  if (holds) return;
  std::fprintf(stderr, "FAILED: %s\n", what.c_str());
  ++failures;
}

// Adds families, aggregates, nodes and features one by one.
class PlanBuilder {
 public:
  PlanBuilder() {
    plan_.slots = {{true, "user"}, {true, "item"}, {false, "amount"}, {true, "items.brand"}, {false, "items.look", kWidth}};
    plan_.types = {{false, {kUser, kItem, kAmount}, "event"}, {true, {kItem, kBrand, kLook}, "items"}};
    plan_.item_slot = kItem;
  }

  static Path user() { return {kUser, {}}; }
  static Path item() { return {kItem, {}}; }
  static Path amount() { return {kAmount, {}}; }
  static Path brand() { return {kItem, {{kItems, kBrand}}}; }

  int value(Path path, bool per_request, bool is_category = true) {
    Node node{Operation::kValue, per_request};
    node.path = std::move(path);
    node.is_category = is_category;
    return add(std::move(node));
  }

  // Returns the aggregate's number; its keys are read by the nodes given.
  int aggregate(Aggregate made, int family, std::vector<Path> keys, std::vector<Path> fields = {}) {
    const bool has_value = made.has_sum || made.has_squares || made.has_minimum || made.has_maximum;
    made.family = family;
    made.fields = static_cast<std::uint32_t>(fields.size());
    made.fingerprint = "aggregate " + std::to_string(plan_.aggregates.size());
    made.feeds.push_back({kEvent, std::move(keys), {}, has_value, amount(), std::move(fields)});
    plan_.families = std::max(plan_.families, family + 1);
    plan_.aggregates.push_back(std::move(made));
    return static_cast<int>(plan_.aggregates.size()) - 1;
  }

  int read(int aggregate, std::vector<int> keys, What what, Operation operation = Operation::kRead, int field = -1) {
    Node node{operation, true, std::move(keys)};
    for (const int key : node.inputs) node.per_request = node.per_request && plan_.nodes[static_cast<std::size_t>(key)].per_request;
    node.aggregate = aggregate;
    node.what = what;
    node.field = field;
    node.length = 3;
    return add(std::move(node));
  }

  int match(int source, int wanted, What what, int field) {
    Node node{Operation::kMatch, false, {source, wanted}};
    node.what = what;
    node.field = field;
    return add(std::move(node));
  }

  void number(int node) { feature(FeatureKind::kNumber, node); }
  void category(int node) { feature(FeatureKind::kCategory, node); }
  void sequence(int node, std::vector<bool> field_is_category) {
    feature(FeatureKind::kSequence, node);
    plan_.features.back().field_is_category = std::move(field_is_category);
  }
  void vector() {
    Node node{Operation::kVector, false};
    node.path = {kItem, {{kItems, kLook}}};
    feature(FeatureKind::kVector, add(std::move(node)));
    plan_.features.back().width = kWidth;
  }

  Plan plan() const { return plan_; }

 private:
  int add(Node node) {
    plan_.nodes.push_back(std::move(node));
    return static_cast<int>(plan_.nodes.size()) - 1;
  }
  void feature(FeatureKind kind, int node) { plan_.features.push_back({kind, plan_.nodes[static_cast<std::size_t>(node)].per_request, node}); }

  Plan plan_{};
};

inline Aggregate tiles(std::int64_t tile, std::int64_t reach) {
  Aggregate made{};
  made.kind = AggregateKind::kTiles;
  made.tile = tile;
  made.reach = reach;
  return made;
}

inline Aggregate of_kind(AggregateKind kind, std::uint32_t length = 0, std::int64_t ttl = 0) {
  Aggregate made{};
  made.kind = kind;
  made.length = length;
  made.ttl = ttl;
  made.half_life = 10 * kMinute;
  return made;
}

inline Aggregate with_parts(Aggregate made) {
  made.has_sum = made.has_squares = made.has_minimum = made.has_maximum = true;
  made.scale = 100;
  return made;
}

// Aggregates of one family, keyed by the same paths and read by the same nodes.
inline void add_family(PlanBuilder& builder, int family, const std::vector<Path>& paths, const std::vector<int>& keys, int wanted) {
  const auto add = [&](Aggregate made) { return builder.aggregate(std::move(made), family, paths); };
  const int counts = add(tiles(kMinute, 5));
  const int moments = add(with_parts(tiles(7 * kMinute, 32)));
  const int total = add(with_parts(of_kind(AggregateKind::kTotal)));
  const int passing = add(with_parts(of_kind(AggregateKind::kTotal, 0, 30 * kMinute)));
  Aggregate decaying = of_kind(AggregateKind::kDecayed);
  decaying.has_sum = true;
  const int decayed = add(decaying);
  const int last = add(of_kind(AggregateKind::kLast));
  const int first = add(of_kind(AggregateKind::kFirst, 0, 40 * kMinute));
  builder.number(builder.read(counts, keys, What::kCount));
  for (const int each : {moments, total, passing}) {
    for (const What what : {What::kCount, What::kSum, What::kMean, What::kDeviation, What::kMinimum, What::kMaximum}) {
      builder.number(builder.read(each, keys, what));
    }
  }
  for (const What what : {What::kCount, What::kSum, What::kMean}) builder.number(builder.read(decayed, keys, what));
  for (const int each : {last, first}) builder.number(builder.read(each, keys, What::kSince));

  const std::vector<Path> fields{PlanBuilder::item(), PlanBuilder::amount()};
  const int history = builder.aggregate(of_kind(AggregateKind::kSequence, 40), family, paths, fields);
  Aggregate distinct = of_kind(AggregateKind::kSequence, 3, 50 * kMinute);
  distinct.distinct = true;
  const int seen = builder.aggregate(distinct, family, paths, fields);
  const int best = builder.aggregate(of_kind(AggregateKind::kTop, 3), family, paths, {PlanBuilder::item()});
  const int many = builder.aggregate(of_kind(AggregateKind::kTop, 20, 90 * kMinute), family, paths, {PlanBuilder::item()});
  const auto emit = [&](int each, Operation operation, std::vector<bool> kinds, int field) {
    const int source = builder.read(each, keys, What::kNone, operation);
    builder.sequence(source, std::move(kinds));
    for (const What what : {What::kCount, What::kFraction, What::kSince}) builder.number(builder.match(source, wanted, what, field));
  };
  for (const int each : {history, seen}) emit(each, Operation::kSequence, {true, false}, 0);
  for (const int each : {best, many}) emit(each, Operation::kTop, {true, false}, -1);
  builder.number(builder.read(history, keys, What::kNone, Operation::kLatest, 1));
}

// Keyed by user, item, user and brand, and nothing.
inline Plan plan() {
  PlanBuilder builder;
  const int user = builder.value(PlanBuilder::user(), true);
  const int item = builder.value(PlanBuilder::item(), false);
  const int brand = builder.value(PlanBuilder::brand(), false);
  builder.category(user);
  builder.category(brand);
  add_family(builder, 0, {PlanBuilder::user()}, {user}, item);
  add_family(builder, 1, {PlanBuilder::item()}, {item}, item);
  add_family(builder, 2, {PlanBuilder::user(), PlanBuilder::brand()}, {user, brand}, item);
  add_family(builder, 3, {}, {}, item);
  builder.vector();
  return builder.plan();
}

// Records in log order, in columns.
class Log {
 public:
  std::size_t size() const { return types_.size(); }
  std::int64_t time(std::size_t at) const { return times_[at]; }
  std::int64_t latest() const { return latest_; }

  void event(std::uint64_t user, std::uint64_t item, double amount, std::int64_t time, bool retracts = false) {
    add(kEvent | (retracts ? kRetraction : 0), time, {user, item, std::bit_cast<std::uint64_t>(amount), 0, 0});
  }
  void attributes(std::uint64_t item, std::uint64_t brand, std::int64_t time, bool look) {
    if (look) {
      vector_rows_.push_back(static_cast<std::int64_t>(size()));
      for (std::uint32_t i = 0; i < kWidth; ++i) vectors_.push_back(static_cast<float>(brand) + static_cast<float>(i) / 4);
    }
    add(kItems, time, {0, item, 0, brand, 0});
  }
  void unknown(std::int64_t time) { add(-1, time, {0, 0, 0, 0, 0}); }
  // Takes an earlier event back.
  void retract(std::size_t at) {
    if (types_[at] != kEvent) return;
    std::vector<std::uint64_t> words(rows_.begin() + static_cast<std::ptrdiff_t>(at * kSlots), rows_.begin() + static_cast<std::ptrdiff_t>((at + 1) * kSlots));
    add(kEvent | kRetraction, times_[at], words);
  }

  // Calls use(records) with the records from `first` up to `last`.
  template <typename Use>
  void with(std::size_t first, std::size_t last, Use use) const {
    const std::size_t count = last - first;
    std::vector<std::uint64_t> slots(kSlots * count);
    for (std::size_t row = 0; row < count; ++row) {
      for (std::size_t slot = 0; slot < kSlots; ++slot) slots[slot * count + row] = rows_[(first + row) * kSlots + slot];
    }
    std::vector<std::int64_t> rows;
    std::vector<float> values;
    for (std::size_t i = 0; i < vector_rows_.size(); ++i) {
      const auto at = static_cast<std::size_t>(vector_rows_[i]);
      if (at < first || at >= last) continue;
      rows.push_back(static_cast<std::int64_t>(at - first));
      values.insert(values.end(), vectors_.begin() + static_cast<std::ptrdiff_t>(i * kWidth), vectors_.begin() + static_cast<std::ptrdiff_t>((i + 1) * kWidth));
    }
    Records records{types_.data() + first, times_.data() + first, slots.data(), count};
    records.vectors.push_back({kLook, rows.data(), rows.size(), values.data()});
    use(records);
  }

  void apply(State& state, std::size_t first, std::size_t last) const {
    with(first, last, [&](const Records& records) { state.apply(records); });
  }
  // In batches of `step`.
  void apply(State& state, std::size_t first, std::size_t last, std::size_t step) const {
    for (; first < last; first += step) apply(state, first, std::min(first + step, last));
  }

 private:
  void add(std::int32_t type, std::int64_t time, const std::vector<std::uint64_t>& words) {
    types_.push_back(type);
    times_.push_back(time);
    rows_.insert(rows_.end(), words.begin(), words.end());
    latest_ = std::max(latest_, time);
  }

  std::vector<std::int32_t> types_;
  std::vector<std::int64_t> times_;
  std::vector<std::uint64_t> rows_;  // [records, slots]
  std::vector<std::int64_t> vector_rows_;
  std::vector<float> vectors_;
  std::int64_t latest_ = kStart;
};

inline constexpr std::uint64_t kItemsInAll = 30;

// Few users of much, many of little; late events, retractions, missing keys and values, attributes that change.
inline Log random_log(std::uint64_t seed, std::size_t size, std::uint64_t users = 400) {
  std::mt19937_64 chance(seed);
  const auto below = [&](std::uint64_t limit) { return chance() % limit; };
  const double amounts[] = {0.0, 1.0, -2.5, 17.25, 1e6, -1e12, std::numeric_limits<double>::quiet_NaN()};
  Log log;
  std::int64_t time = kStart;
  for (std::size_t i = 0; i < size; ++i) {
    time += below(50) == 0 ? static_cast<std::int64_t>(below(40)) * kMinute : static_cast<std::int64_t>(below(20'000'000));
    const std::int64_t late = below(5) == 0 ? -static_cast<std::int64_t>(below(300)) * kMinute : 0;
    const std::uint64_t kind = below(100);
    if (kind < 6) {
      log.attributes(below(kItemsInAll + 1), below(5), time, below(2) == 0);
    } else if (kind < 7) {
      log.unknown(time);
    } else if (kind < 15 && log.size() > 0) {
      log.retract(log.size() - 1 - below(std::min<std::uint64_t>(log.size(), 200)));
    } else {
      log.event(below(3) == 0 ? below(3) : below(users), below(kItemsInAll + 1), amounts[below(7)], time + late);
    }
  }
  return log;
}

// The words of an answer, for comparison: every NaN is one.
class Words {
 public:
  void add(const Columns& columns) {
    add(columns.categories);
    add(columns.numbers);
    for (const Ragged& ragged : columns.sequences) {
      add(ragged.offsets);
      for (const auto& keys : ragged.keys) add(keys);
      for (const auto& numbers : ragged.numbers) add(numbers);
      add(ragged.age);
    }
    for (const auto& vector : columns.vectors) add(vector);
  }
  bool operator==(const Words&) const = default;

 private:
  template <typename Value>
  void add(const Buffer<Value>& values) {
    words_.push_back(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      if constexpr (std::is_same_v<Value, float>) {
        words_.push_back(std::isnan(values[i]) ? 1 : std::bit_cast<std::uint32_t>(values[i]));
      } else {
        words_.push_back(static_cast<std::uint64_t>(values[i]));
      }
    }
  }
  std::vector<std::uint64_t> words_;
};

// What a program reads of every item for some users at some times.
inline Words look(const Program& program, std::int64_t time) {
  std::vector<std::uint64_t> candidates;
  for (std::uint64_t item = 0; item <= kItemsInAll + 1; ++item) candidates.push_back(item);
  Words words;
  for (const std::uint64_t user : {0, 1, 2, 3, 50, 399, 1000}) {
    for (const std::int64_t minutes : {-2000, -30, 0, 3, 45, 200}) {
      const std::uint64_t request[kSlots] = {user, 0, std::bit_cast<std::uint64_t>(kNaN), 0, 0};
      const Answer answer = program.read(time + minutes * kMinute, request, candidates.data(), candidates.size());
      words.add(answer.request);
      words.add(answer.candidates);
    }
  }
  return words;
}

}  // namespace bowerbird::shop
