// Runs the engine's memory paths under sanitizers: growth, rings, eviction, late events, missing keys.
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <vector>

#include "engine.hpp"
#include "key_index.hpp"

namespace {

using namespace bowerbird;

int failures = 0;

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "FAILED: %s\n", what);
  ++failures;
}

constexpr int kUser = 0;
constexpr int kItem = 1;
constexpr int kBrand = 2;
constexpr int kAmount = 3;
constexpr int kEvent = 0;
constexpr int kTable = 1;
constexpr std::int64_t kMinute = 60'000'000;

Aggregate aggregate(AggregateKind kind, int family, std::vector<Path> keys) {
  Aggregate made{kind, family, {}, kMinute, 5, kMinute, 100, 4, 2};
  Feed feed{kEvent, std::move(keys), {}, kind != AggregateKind::kSequence, {kAmount, {}}, {}};
  if (kind == AggregateKind::kSequence) feed.fields = {{kItem, {}}, {kItem, {{kTable, kBrand}}}};
  made.feeds.push_back(feed);
  return made;
}

Node node(Operation operation, std::vector<int> inputs, int aggregate_index, What what, bool per_request) {
  return {operation, per_request, std::move(inputs), {0, {}}, aggregate_index, what, 1, {}, {}, {}};
}

Plan shop() {
  Plan plan;
  plan.slots = {{true}, {true}, {true}, {false}};
  plan.types = {{false, {kUser, kItem, kAmount}}, {true, {kItem, kBrand}}};
  plan.families = 2;
  const Path user{kUser, {}};
  const Path brand{kItem, {{kTable, kBrand}}};
  plan.aggregates = {aggregate(AggregateKind::kTiles, 0, {user}), aggregate(AggregateKind::kTotal, 1, {user, brand}),
                     aggregate(AggregateKind::kDecayed, 0, {user}), aggregate(AggregateKind::kLast, 0, {user}),
                     aggregate(AggregateKind::kSequence, 0, {user})};
  Node user_value = node(Operation::kValue, {}, -1, What::kNone, true);
  user_value.path = user;
  Node brand_value = node(Operation::kValue, {}, -1, What::kNone, false);
  brand_value.path = brand;
  plan.nodes = {user_value,
                brand_value,
                node(Operation::kRead, {0}, 0, What::kSum, true),
                node(Operation::kRead, {0, 1}, 1, What::kCount, false),
                node(Operation::kRead, {0}, 2, What::kMean, true),
                node(Operation::kRead, {0}, 3, What::kSince, true),
                node(Operation::kSequence, {0}, 4, What::kNone, true),
                node(Operation::kMatch, {6, 1}, -1, What::kCount, false)};
  plan.features = {{FeatureKind::kCategory, false, 1, {}}, {FeatureKind::kNumber, true, 2, {}},
                   {FeatureKind::kNumber, false, 3, {}},   {FeatureKind::kNumber, true, 4, {}},
                   {FeatureKind::kNumber, true, 5, {}},    {FeatureKind::kSequence, true, 6, {true, true}},
                   {FeatureKind::kNumber, false, 7, {}}};
  plan.item_slot = kItem;
  return plan;
}

struct Log {
  std::vector<std::int32_t> types;
  std::vector<std::int64_t> times;
  std::vector<std::uint64_t> slots;

  Records records() const { return {types.data(), times.data(), slots.data(), types.size()}; }
};

Log random_log(std::size_t count) {
  std::mt19937_64 random(7);
  Log log;
  log.slots.resize(4 * count);
  std::int64_t time = 1'000'000 * kMinute;
  for (std::size_t i = 0; i < count; ++i) {
    time += static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(3 * kMinute)) - kMinute;
    log.types.push_back(static_cast<std::int32_t>(random() % 6 == 0 ? kTable : random() % 20 == 0 ? -1 : kEvent));
    log.times.push_back(time);
    log.slots[0 * count + i] = random() % 500;  // 0 is a missing user
    log.slots[1 * count + i] = random() % 300;
    log.slots[2 * count + i] = random() % 9;
    const double amount = random() % 10 == 0 ? std::numeric_limits<double>::quiet_NaN() : static_cast<double>(random() % 1000) / 7.0;
    log.slots[3 * count + i] = std::bit_cast<std::uint64_t>(amount);
  }
  return log;
}

void replay_reads_what_live_reads() {
  const Log log = random_log(20'000);
  Engine live(shop());
  live.apply(log.records());
  std::vector<std::uint64_t> request{17, 33, 0, 0};
  const std::int64_t time = log.times.back();
  const std::vector<std::uint64_t> candidates{33, 0, 250};
  const Answer answer = live.read(time, request.data(), candidates.data(), candidates.size());

  Engine again(shop());
  const std::int64_t position = static_cast<std::int64_t>(log.types.size());
  const Columns replayed = again.replay(log.records(), {&position, &time, request.data(), 1});
  expect(answer.lsn == position, "a read says how many records it reflects");
  expect(replayed.categories[0] == answer.candidates.categories[0], "the brand is the same");
  expect(replayed.numbers[0] == answer.request.numbers[0], "the windowed sum is the same");
  expect(replayed.numbers[1] == answer.candidates.numbers[0], "the crossed count is the same");
  expect(replayed.sequences[0].age == answer.request.sequences[0].age, "the ages are the same");
  expect(answer.request.sequences[0].age.size() <= 4, "a sequence keeps its length");
  expect(live.usage().family_keys[0] <= 499, "a missing key has no state");
}

void key_index_keeps_insertion_order() {
  KeyIndex index;
  for (std::uint64_t key = 1; key <= 100'000; ++key) expect(index.find_or_insert(key * 977) == key - 1, "dense");
  for (std::uint64_t key = 1; key <= 100'000; ++key) expect(index.find(key * 977) == key - 1, "found");
  expect(index.find(kMissingKey) == KeyIndex::kAbsent, "the missing key is absent");
  expect(index.find(5) == KeyIndex::kAbsent, "an unknown key is absent");
}

}  // namespace

int main() {
  replay_reads_what_live_reads();
  key_index_keeps_insertion_order();
  std::printf("%d failed\n", failures);
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
