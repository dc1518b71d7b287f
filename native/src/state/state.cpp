// Building a state from a plan, and its sizes.
#include "state/state.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <mutex>
#include <new>
#include <stdexcept>
#include <utility>

namespace bowerbird {
namespace {

constexpr std::uint32_t kControlUnit = 1;

bool same_test(const Test& a, const Test& b) {
  return a.comparison == b.comparison && a.keys == b.keys && a.numbers == b.numbers;
}

void check(const Plan& plan) {
  for (const Aggregate& aggregate : plan.aggregates) {
    if (aggregate.kind == AggregateKind::kTiles && aggregate.reach > Tiles::kMostTiles) {
      throw std::invalid_argument("a window has more than 32 tiles");
    }
    if (aggregate.fields > kMostFields) throw std::invalid_argument("a sequence has more than 64 fields");
  }
}

}  // namespace

std::size_t State::directory_size() const { return (static_cast<std::size_t>(plan_.families) + plan_.types.size()) * kShards; }

State::State(Plan plan, StateOptions options) : plan_(std::move(plan)), options_(std::move(options)) {
  check(plan_);
  constexpr std::size_t kUnbounded = std::size_t{64} << 30;
  const std::size_t capacity = options_.budget == 0 ? kUnbounded : options_.budget;
  arena_ = options_.path.empty() ? std::make_unique<Arena>(capacity) : std::make_unique<Arena>(capacity, options_.path);
  const std::uint32_t unit = arena_->take(Arena::units_for(Control::bytes(directory_size())));
  const std::uint32_t json = arena_->take(Arena::units_for(options_.plan_json.size() + 1));
  if (unit != kControlUnit || json == 0) throw std::bad_alloc();
  std::memcpy(arena_->at(json), options_.plan_json.data(), options_.plan_json.size());
  control_ = new (arena_->at(unit)) Control{};
  for (ReaderSlot& slot : control_->readers) slot.lsn.store(kIdle, std::memory_order_relaxed);
  control_->tables = static_cast<std::uint32_t>(directory_size());
  control_->plan_unit = json;
  control_->plan_bytes = static_cast<std::uint32_t>(options_.plan_json.size());
  build(true);
  workers_ = std::make_unique<Workers>(options_.threads);
  control_->magic.store(kMagic, std::memory_order_release);
}

namespace {

Control* attached_control(const Arena& arena) {
  auto* control = reinterpret_cast<Control*>(arena.at(kControlUnit));
  if (control->magic.load(std::memory_order_acquire) != kMagic) throw std::invalid_argument("not a feature state");
  return control;
}

}  // namespace

std::string State::plan_json(const std::string& path) {
  const std::unique_ptr<Arena> arena(Arena::attach(path, Arena::kUnit + sizeof(Control)));
  const Control* control = attached_control(*arena);
  return {reinterpret_cast<const char*>(arena->at(control->plan_unit)), control->plan_bytes};
}

State::State(Plan plan, const std::string& path) : plan_(std::move(plan)) {
  options_.path = path;
  options_.versioned = true;
  arena_.reset(Arena::attach(path, Arena::kUnit + sizeof(Control)));
  control_ = attached_control(*arena_);
  if (control_->tables != directory_size()) throw std::invalid_argument("the plan is not the one of this state");
  build(false);
}

State::~State() {
  if (workers_ != nullptr) control_->closed.store(1, std::memory_order_release);
}

void State::build(bool writer) {
  std::atomic<std::uint64_t>* handles = control_->directory();
  for (int i = 0; i < plan_.families; ++i) {
    families_.push_back(std::make_unique<Family>(arena_.get(), handles + static_cast<std::size_t>(i) * kShards));
  }
  for (const Aggregate& aggregate : plan_.aggregates) {
    const auto family = static_cast<std::size_t>(aggregate.family);
    places_.emplace_back(family, families_[family]->add(aggregate));
  }
  build_tables(writer);
  if (!writer) return;
  for (const auto& family : families_) family->open(options_.versioned);
  build_types();
}

void State::build_tables(bool writer) {
  std::atomic<std::uint64_t>* handles = control_->directory() + families_.size() * kShards;
  table_columns_.resize(plan_.types.size());
  table_shards_.resize(plan_.types.size());
  for (std::size_t type = 0; type < plan_.types.size(); ++type) {
    const RecordType& record = plan_.types[type];
    AttributeTable table{Keys(arena_.get(), handles + type * kShards), std::vector<int>(plan_.slots.size(), -1), (BlockHeader::kBytes + 7) / 8 * 8};
    TableColumns& columns = table_columns_[type];
    if (record.is_table && !record.slots.empty()) {
      columns.entity = record.slots.front();
      for (std::size_t i = 1; i < record.slots.size(); ++i) {
        const int slot = record.slots[i];
        const std::uint32_t width = plan_.slots[static_cast<std::size_t>(slot)].width;
        const int offset = static_cast<int>(table.bytes);
        table.words[static_cast<std::size_t>(slot)] = offset;
        (width > 0 ? columns.vectors : columns.words).emplace_back(slot, offset);
        table.bytes += width > 0 ? (width * 4 + 7) / 8 * 8 : 8;
      }
      for (std::size_t i = 0; writer && i < kShards; ++i) {
        table_shards_[type].emplace_back(arena_.get(), handles + type * kShards + i, options_.versioned);
      }
    }
    tables_.push_back(std::move(table));
  }
}

std::pair<const AttributeTable*, int> State::attribute(const Hop& hop) const {
  const AttributeTable& table = tables_[static_cast<std::size_t>(hop.table)];
  return {&table, table.words[static_cast<std::size_t>(hop.slot)]};
}

bool State::Condition::operator==(const Condition& other) const {
  return value == other.value && tests.size() == other.tests.size() &&
         std::equal(tests.begin(), tests.end(), other.tests.begin(),
                    [](const BoundTest& a, const BoundTest& b) { return a.value == b.value && same_test(*a.test, *b.test); });
}

template <typename Item>
int place_of(std::vector<Item>& items, Item item) {
  const auto found = std::find(items.begin(), items.end(), item);
  if (found != items.end()) return static_cast<int>(found - items.begin());
  items.push_back(std::move(item));
  return static_cast<int>(items.size()) - 1;
}

void State::build_types() {
  types_.resize(plan_.types.size());
  rows_.resize(plan_.types.size());
  for (std::size_t i = 0; i < plan_.types.size(); ++i) types_[i].is_table = plan_.types[i].is_table;
  for (std::size_t i = 0; i < plan_.aggregates.size(); ++i) {
    const Aggregate& aggregate = plan_.aggregates[i];
    for (const Feed& feed : aggregate.feeds) add_feed(types_[static_cast<std::size_t>(feed.type)], aggregate, feed, places_[i].second);
  }
  for (TypePlan& type : types_) {
    for (FamilyFeeds& family : type.families) {
      if (family.feeds.size() >= kMostPlaces) throw std::invalid_argument("one key family has too many aggregates");
      const auto is_always = [](const FeedPlan& feed) { return feed.condition < 0; };
      family.always = std::any_of(family.feeds.begin(), family.feeds.end(), is_always);
      if (!std::all_of(family.feeds.begin(), family.feeds.end(), is_always)) continue;
      std::vector<std::size_t> places;
      for (const FeedPlan& feed : family.feeds) places.push_back(feed.place);
      family.image = families_[family.family]->image(places);
    }
  }
  operations_.resize(families_.size());
  for (auto& groups : operations_) groups.resize(options_.threads == 1 ? 1 : 2 * options_.threads);
}

void State::add_feed(TypePlan& type, const Aggregate& aggregate, const Feed& feed, std::size_t place) {
  const auto family = static_cast<std::size_t>(aggregate.family);
  const auto value = [&](const Path& path) { return type.paths.add(path, plan_.slots, *this); };
  auto found = std::find_if(type.families.begin(), type.families.end(), [&](const FamilyFeeds& each) { return each.family == family; });
  if (found == type.families.end()) {
    type.families.push_back({family, {}, {}, false, {}});
    found = type.families.end() - 1;
    for (const Path& key : feed.keys) found->keys.push_back(value(key));
  }
  FeedPlan plan{place, families_[family]->clock_of(place), -1, -1, false, {}};
  Condition condition{{}, -1};
  for (const Test& test : feed.tests) condition.tests.push_back({value(test.path), &test});
  if (feed.has_value) {
    condition.value = value(feed.value);
    plan.amount = place_of(type.amounts, Amount{condition.value, aggregate.scale, aggregate.has_squares});
  }
  if (!condition.tests.empty() || feed.has_value) plan.condition = place_of(type.conditions, std::move(condition));
  for (const Path& field : feed.fields) plan.fields.push_back(value(field));
  plan.counts_tiles = aggregate.kind == AggregateKind::kTiles && plan.condition < 0 && Tiles::counts_only(aggregate);
  found->feeds.push_back(std::move(plan));
}

bool State::find_aggregate(const std::string& fingerprint, std::size_t& family, std::size_t& place) const {
  for (std::size_t i = 0; i < plan_.aggregates.size(); ++i) {
    if (plan_.aggregates[i].fingerprint != fingerprint) continue;
    family = places_[i].first;
    place = places_[i].second;
    return true;
  }
  return false;
}

const AttributeTable* State::find_table(const std::string& name, const std::string& slot, int& offset) const {
  for (std::size_t type = 0; type < plan_.types.size(); ++type) {
    if (!plan_.types[type].is_table || plan_.types[type].name != name) continue;
    for (std::size_t i = 0; i < plan_.slots.size(); ++i) {
      offset = tables_[type].words[i];
      if (offset >= 0 && plan_.slots[i].name == slot) return &tables_[type];
    }
  }
  return nullptr;
}

// ---- sizes -------------------------------------------------------------------------------------

Usage State::usage() const {
  const std::shared_lock lock(mutex_);
  Usage usage;
  const auto sum = [&usage](const std::vector<Shard>& shards, std::size_t& keys, std::size_t& bytes) {
    for (const Shard& shard : shards) {
      keys += shard.size();
      bytes += shard.blocks().bytes();
      usage.retired_blocks += shard.blocks().retired_count();
    }
  };
  for (const auto& family : families_) {
    sum(family->shards, usage.family_keys.emplace_back(0), usage.family_bytes.emplace_back(0));
  }
  for (const auto& shards : table_shards_) sum(shards, usage.table_keys.emplace_back(0), usage.table_bytes.emplace_back(0));
  usage.arena_bytes = arena_->used();
  usage.refused = refused_;
  usage.expired = expired_;
  return usage;
}

std::vector<std::size_t> State::aggregate_bytes() const {
  std::shared_lock<std::shared_mutex> lock(mutex_, std::defer_lock);
  if (!options_.versioned) lock.lock();
  std::vector<std::vector<std::size_t>> by_family;
  for (const auto& family : families_) {
    std::vector<std::size_t>& bytes = by_family.emplace_back(family->layout().places().size(), 0);
    for (std::size_t shard = 0; shard < kShards; ++shard) {
      const ReadGuard guard(*control_);
      const TableView table = family->keys.view(shard);
      for (std::uint64_t at = 0; !table.empty() && at <= table.mask(); ++at) {
        if (table.entries()[at].key.load(std::memory_order_acquire) == kMissingKey) continue;
        const std::byte* block = family->keys.resolve(table.entries()[at].block.load(std::memory_order_acquire), guard.lsn());
        if (block != nullptr) family->layout().add_bytes(block, bytes);
      }
    }
  }
  std::vector<std::size_t> bytes;
  for (const auto& [family, place] : places_) bytes.push_back(by_family[family][place]);
  return bytes;
}

}  // namespace bowerbird
