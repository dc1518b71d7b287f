// Applying records: cut into segments, spread over key families, one thread to a family's shards at a time.
#include "state/state.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <utility>

namespace bowerbird {
namespace {

constexpr std::size_t kSegmentRows = 4096;
constexpr double kExpiredShare = 0.125;

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

bool passes_test(const Test& test, std::uint64_t value) {
  if (!test.numbers.empty()) return compare(std::bit_cast<double>(value), test.comparison, test.numbers);
  const bool among = std::find(test.keys.begin(), test.keys.end(), value) != test.keys.end();
  return test.comparison == Comparison::kNotEqual ? value != kMissingKey && !among : among;
}

}  // namespace

void State::refresh_floor() {
  if (!options_.versioned) return;
  const std::int64_t published = control_->published.load(std::memory_order_relaxed);
  control_->floor.store(published, std::memory_order_seq_cst);
  const std::int64_t floor = lowest_reader(*control_, published);
  for (const auto& family : families_) {
    for (Shard& shard : family->shards) shard.blocks().set_floor(floor);
  }
  for (auto& shards : table_shards_) {
    for (Shard& shard : shards) shard.blocks().set_floor(floor);
  }
}

// Lets go of the oldest keys before memory runs out: with readers, what goes now can be used from the next batch on.
void State::make_room() {
  if (options_.full != Full::kExpire) return;
  std::size_t held = 0;
  for (const auto& family : families_) {
    for (const Shard& shard : family->shards) held += shard.blocks().bytes();
  }
  if (held < std::min(arena_->capacity(), arena_->limit()) / 4 * 3) return;
  for (const auto& family : families_) {
    for (Shard& shard : family->shards) expired_ += family->expire_share(shard, kExpiredShare, version_);
  }
}

void State::check_usable() const {
  if (bulk_ == Bulk::kOpen) throw std::invalid_argument("a bulk replay of this state has not come to its end");
  if (bulk_ == Bulk::kSpent) throw std::invalid_argument("this state was used up by a bulk replay that did not keep it");
}

void State::open_bulk() {
  const std::unique_lock lock(mutex_);
  check_usable();
  if (options_.versioned || options_.parts > 1 || options_.full != Full::kFail) {
    throw std::invalid_argument("a state that readers look at, of a partition, or that expires or refuses is not replayed in bulk");
  }
  for (const auto& family : families_) {
    for (const Shard& shard : family->shards) {
      if (shard.from_lsn > lsn_) throw std::invalid_argument("a restored state is not replayed in bulk before the log has caught up with it");
    }
  }
  bulk_ = Bulk::kOpen;
}

void State::close_bulk(bool kept) {
  control_->published.store(lsn_, std::memory_order_release);
  bulk_ = kept ? Bulk::kNone : Bulk::kSpent;
}

void State::apply(const Records& records) {
  const std::unique_lock lock(mutex_);
  check_usable();
  run(records, nullptr, nullptr);
}

void State::check_reads(const Records& records, const Reads& reads) const {
  for (std::size_t i = 0; i < reads.count; ++i) {
    const std::int64_t least = i == 0 ? lsn_ : reads.positions[i - 1];
    if (reads.positions[i] < least) throw std::invalid_argument("a read lies before the engine's position");
  }
  if (reads.count > 0 && reads.positions[reads.count - 1] > lsn_ + static_cast<std::int64_t>(records.count)) {
    throw std::invalid_argument("a read lies beyond the records given");
  }
}

void State::replay(const Records& records, const Reads& reads, Replayer& replayer) {
  if (options_.versioned) throw std::invalid_argument("a state that readers look at is not replayed");
  const std::unique_lock lock(mutex_);
  check_usable();
  check_reads(records, reads);
  run(records, &reads, &replayer);
}

void State::run(const Records& records, const Reads* reads, Replayer* replayer) {
  version_ = options_.versioned ? lsn_ + static_cast<std::int64_t>(records.count) : 0;
  if (records.count > 0) {
    refresh_floor();
    make_room();
  }
  each_segment(records, reads, kSegmentRows, [&](const Segment& segment) {
    const std::vector<LocatedReads>* located = nullptr;
    const bool has_reads = segment.last_read > segment.first_read;
    if (has_reads) located = &replayer->locate(segment.first_read, segment.last_read, operations_.empty() ? 1 : operations_.front().size());
    run_segment(records, segment, located, reads, replayer == nullptr ? nullptr : &replayer->sink());
    if (has_reads) replayer->finish(segment.first_read, segment.last_read);
  });
  control_->published.store(lsn_, std::memory_order_release);
}

// Cuts the records where a table changes: between two changes, attributes are the same for all rows.
void State::each_segment(const Records& records, const Reads* reads, std::size_t most, const std::function<void(const Segment&)>& visit) {
  const std::int64_t base = lsn_;
  const auto is_table = [&](std::size_t at) {
    const std::int32_t type = records.types[at] & ~kRetraction;
    return records.types[at] >= 0 && types_[static_cast<std::size_t>(type)].is_table;
  };
  std::size_t at = 0;
  std::size_t read = 0;
  const std::size_t all = reads == nullptr ? 0 : reads->count;
  const auto reads_below = [&](std::size_t position) {
    std::size_t last = read;
    while (last < all && reads->positions[last] < base + static_cast<std::int64_t>(position)) ++last;
    return last;
  };
  while (at < records.count || read < all) {
    std::size_t end = at;
    while (end < records.count && end - at < most && !is_table(end)) ++end;
    const bool at_table = end < records.count && end - at < most;
    const bool at_end = end == records.count;
    std::size_t last = reads_below(at_table || at_end ? end + 1 : end);
    last = std::min(last, read + most);
    if (end > at && last < all && last == read + most) {  // more reads than a segment takes: stop where they stop
      end = std::max(at, static_cast<std::size_t>(reads->positions[last] - base));
    }
    visit({at, end, read, last});
    read = last;
    at = end;
    lsn_ = base + static_cast<std::int64_t>(at);
    const bool more_reads_here = read < all && reads->positions[read] <= lsn_;
    while (!more_reads_here && at < records.count && is_table(at)) {
      replace_attributes(records, at);
      lsn_ = base + static_cast<std::int64_t>(++at);
      if (read < all && reads->positions[read] <= lsn_) break;
    }
  }
  lsn_ = base + static_cast<std::int64_t>(records.count);
}

void State::run_segment(const Records& records, const Segment& segment, const std::vector<LocatedReads>* located, const Reads* reads,
                        ReadSink* sink) {
  prepare_rows(records, segment.begin, segment.end);
  collect(records, segment, located, reads);
  const std::size_t groups = operations_.empty() ? 0 : operations_.front().size();
  workers_->run(families_.size() * groups, [&](std::size_t, std::size_t number) {
    const std::size_t family = number % families_.size();
    const std::size_t group = number / families_.size();
    run_family(family, operations_[family][group], group, records, sink);
  });
}

void State::list_rows(const Records& records, std::size_t begin, std::size_t end) {
  segment_begin_ = begin;
  for (TypeRows& rows : rows_) rows.rows.clear();
  row_of_.resize(end - begin);
  for (std::size_t at = begin; at < end; ++at) {
    const std::int32_t type = records.types[at];
    if (type < 0) continue;
    auto& rows = rows_[static_cast<std::size_t>(type & ~kRetraction)].rows;
    row_of_[at - begin] = static_cast<std::uint32_t>(rows.size());
    rows.push_back(static_cast<std::uint32_t>(at));
  }
}

void State::prepare_rows(const Records& records, std::size_t begin, std::size_t end) {
  list_rows(records, begin, end);
  workers_->run(types_.size(), [&](std::size_t, std::size_t type) { prepare_type(type, records); });
}

bool State::passes(const Condition& condition, const TypeRows& rows, std::size_t at) const {
  const std::size_t count = rows.rows.size();
  for (const BoundTest& test : condition.tests) {
    if (!passes_test(*test.test, rows.space.values[static_cast<std::size_t>(test.value) * count + at])) return false;
  }
  if (condition.value < 0) return true;
  return !std::isnan(std::bit_cast<double>(rows.space.values[static_cast<std::size_t>(condition.value) * count + at]));
}

void State::prepare_type(std::size_t index, const Records& records) {
  const TypePlan& type = types_[index];
  TypeRows& rows = rows_[index];
  const std::size_t count = rows.rows.size();
  if (count == 0 || type.families.empty()) return;
  type.paths.evaluate({records.slots, records.count, rows.rows.data(), 0, count}, kIdle, rows.space);
  rows.passes.resize(type.conditions.size() * count);
  for (std::size_t i = 0; i < type.conditions.size(); ++i) {
    for (std::size_t at = 0; at < count; ++at) rows.passes[i * count + at] = passes(type.conditions[i], rows, at) ? 1 : 0;
  }
  rows.amounts.resize(type.amounts.size() * count);
  for (std::size_t i = 0; i < type.amounts.size(); ++i) {
    const Amount& amount = type.amounts[i];
    const std::uint64_t* values = &rows.space.values[static_cast<std::size_t>(amount.value) * count];
    for (std::size_t at = 0; at < count; ++at) {
      const double value = std::bit_cast<double>(values[at]);
      std::int64_t fixed = std::isnan(value) ? 0 : fixed_point(value, amount.scale);
      if (amount.limited) fixed = std::clamp(fixed, -kSquareLimit, kSquareLimit);
      rows.amounts[i * count + at] = fixed;
    }
  }
}

std::uint64_t State::key_of(const FamilyFeeds& feeds, const TypeRows& rows, std::size_t at) const {
  const std::size_t count = rows.rows.size();
  return family_key(feeds.keys, [&](int value) { return rows.space.values[static_cast<std::size_t>(value) * count + at]; });
}

// Puts every event and read into its families' queues, in log order.
void State::collect(const Records& records, const Segment& segment, const std::vector<LocatedReads>* located, const Reads* reads) {
  const auto [begin, end, first_read, last_read] = segment;
  for (auto& groups : operations_) {
    for (auto& operations : groups) operations.clear();
  }
  const std::size_t groups = operations_.empty() ? 1 : operations_.front().size();
  const auto push = [&](std::size_t family, std::uint64_t key, std::size_t row, std::int32_t type) {
    const std::uint64_t hash = mix(key);
    if (!is_own_part(hash)) return;
    operations_[family][groups == 1 ? 0 : shard_of(hash) * groups / kShards].push_back({key, hash, static_cast<std::uint32_t>(row), type});
  };
  const std::int64_t base = lsn_ - static_cast<std::int64_t>(begin);
  std::size_t read = first_read;
  for (std::size_t at = begin; at <= end; ++at) {
    for (; read < last_read && (at == end || reads->positions[read] <= base + static_cast<std::int64_t>(at)); ++read) {
      for (std::size_t i = 0; i < located->size(); ++i) {
        push((*located)[i].family, (*located)[i].keys[read - first_read], read - first_read, -1 - static_cast<std::int32_t>(i));
      }
    }
    if (at == end || records.types[at] < 0) continue;
    const auto type = static_cast<std::size_t>(records.types[at] & ~kRetraction);
    const TypeRows& rows = rows_[type];
    const std::size_t row = row_of_[at - begin];
    for (const FamilyFeeds& feeds : types_[type].families) {
      const bool wanted = feeds.always || std::any_of(feeds.feeds.begin(), feeds.feeds.end(), [&](const FeedPlan& feed) {
        return rows.passes[static_cast<std::size_t>(feed.condition) * rows.rows.size() + row] != 0;
      });
      if (!wanted) continue;
      const std::uint64_t key = key_of(feeds, rows, row);
      if (key != kMissingKey) push(feeds.family, key, row, static_cast<std::int32_t>(type));
    }
  }
}

void State::run_family(std::size_t index, const std::vector<KeyOperation>& operations, std::size_t group,
                       const Records& records, ReadSink* sink) {
  constexpr std::size_t kNear = 20;
  constexpr std::size_t kFar = 48;
  Family& family = *families_[index];
  std::vector<TileClock> clocks = family.clocks();
  std::vector<const FamilyFeeds*> feeds(types_.size(), nullptr);
  for (std::size_t type = 0; type < types_.size(); ++type) {
    for (const FamilyFeeds& each : types_[type].families) {
      if (each.family == index) feeds[type] = &each;
    }
  }
  const std::size_t count = operations.size();
  const std::size_t lines = family.lines();
  const auto view = [&](const KeyOperation& operation) { return family.shards[shard_of(operation.hash)].view(); };
  for (std::size_t i = 0; i < std::min(kFar, count); ++i) view(operations[i]).prefetch(operations[i].hash);
  std::array<Entry*, kNear> ahead{};        // entries found for the operations to come, by number
  std::array<const Entry*, kNear> table{};  // and the table that they are in, which may be replaced meanwhile
  const auto follows = [&](std::size_t i) { return i > 0 && operations[i].key == operations[i - 1].key; };  // a read and its own event
  Entry* entry = nullptr;
  for (std::size_t i = 0; i < count + kNear; ++i) {
    if (i + kFar < count && !follows(i + kFar)) view(operations[i + kFar]).prefetch(operations[i + kFar].hash);
    if (i >= kNear && !(follows(i - kNear) && entry != nullptr)) {
      const KeyOperation& operation = operations[i - kNear];
      const TableView now = view(operation);
      entry = now.entries() == table[i % kNear] ? ahead[i % kNear] : nullptr;
      if (entry == nullptr && operation.key != kMissingKey) entry = now.find(operation.key, operation.hash);
    }
    if (i < count) {
      const TableView now = view(operations[i]);
      table[i % kNear] = now.entries();
      ahead[i % kNear] = nullptr;
      if (operations[i].key != kMissingKey && !follows(i)) {
        Entry* found = now.find(operations[i].key, operations[i].hash);
        ahead[i % kNear] = found;
        const std::byte* block = arena_->at(found == nullptr ? 0 : found->block.load(std::memory_order_relaxed));
        for (std::size_t line = 0; line < lines; ++line) __builtin_prefetch(block + 64 * line);
      }
    }
    if (i < kNear) continue;
    const KeyOperation& operation = operations[i - kNear];
    if (operation.type >= 0) {
      apply_event(family, operation, entry, *feeds[static_cast<std::size_t>(operation.type)], clocks, records);
      continue;
    }
    const std::byte* block = entry == nullptr ? nullptr : family.keys.resolve(entry->block.load(std::memory_order_relaxed), kIdle);
    sink->read(group, static_cast<std::size_t>(-1 - operation.type), operation.row, block);
  }
}

std::byte* State::open_block(Family& family, const KeyOperation& operation, Entry*& entry, const FamilyFeeds& feeds,
                             const std::size_t* places, std::size_t count) {
  Shard& shard = family.shards[shard_of(operation.hash)];
  for (const bool again : {false, true}) {
    if (entry == nullptr) entry = shard.find_or_insert(operation.key, operation.hash, version_);
    std::byte* block = entry == nullptr ? nullptr : family.writable(shard, *entry, places, count, feeds.image, version_);
    if (block != nullptr || again) return block;
    refuse(family, shard);
    entry = nullptr;
    if (options_.full != Full::kExpire) return nullptr;
  }
  return nullptr;
}

void State::apply_event(Family& family, const KeyOperation& operation, Entry*& entry, const FamilyFeeds& feeds,
                        std::vector<TileClock>& clocks, const Records& records) {
  const auto type = static_cast<std::size_t>(operation.type);
  const TypeRows& rows = rows_[type];
  const std::size_t count = rows.rows.size();
  const std::uint32_t at = rows.rows[operation.row];
  Shard& shard = family.shards[shard_of(operation.hash)];
  if (shard.from_lsn > lsn_ + (static_cast<std::int64_t>(at) - static_cast<std::int64_t>(segment_begin_))) return;
  const auto is_fed = [&](const FeedPlan& feed) {
    return feed.condition < 0 || rows.passes[static_cast<std::size_t>(feed.condition) * count + operation.row] != 0;
  };
  std::array<std::size_t, kMostPlaces> places;
  std::size_t fed = 0;
  for (const FeedPlan& feed : feeds.feeds) {
    places[fed] = feed.place;
    if (is_fed(feed)) ++fed;
  }
  std::byte* block = open_block(family, operation, entry, feeds, places.data(), fed);
  if (block == nullptr) {
    ++refused_;
    return;
  }
  Update update{records.times[at], 0, (records.types[at] & kRetraction) != 0 ? -1 : 1, nullptr};
  for (TileClock& clock : clocks) clock.move_to(update.time);
  std::array<std::uint64_t, kMostFields> fields;
  for (const FeedPlan& feed : feeds.feeds) {
    if (feed.counts_tiles) {
      const Place& place = family.layout().places()[feed.place];
      if (Tiles::add(place.find(block), *place.aggregate, clocks[feed.clock].index, update)) continue;
    }
    if (!is_fed(feed)) continue;
    update.amount = feed.amount < 0 ? 0 : rows.amounts[static_cast<std::size_t>(feed.amount) * count + operation.row];
    for (std::size_t i = 0; i < feed.fields.size(); ++i) {
      fields[i] = rows.space.values[static_cast<std::size_t>(feed.fields[i]) * count + operation.row];
    }
    update.fields = fields.data();
    if (!family.update(shard, *entry, block, feed.place, update, clocks[feed.clock].index, version_)) {
      ++refused_;
      return refuse(family, shard);
    }
  }
  auto* header = reinterpret_cast<BlockHeader*>(block);
  header->latest = std::max(header->latest, BlockHeader::seconds(update.time));
}

void State::refuse(Family& family, Shard& shard) {
  if (options_.full == Full::kFail) {
    throw std::runtime_error("feature state needs more than its " + std::to_string(arena_->capacity()) + " bytes");
  }
  // Once in a batch: with readers, what is let go can only be used again after it.
  if (options_.full != Full::kExpire || (options_.versioned && shard.expired_lsn == version_)) return;
  shard.expired_lsn = version_;
  expired_ += family.expire_share(shard, kExpiredShare, version_);
}

void State::replace_attributes(const Records& records, std::size_t at) {
  const auto type = static_cast<std::size_t>(records.types[at] & ~kRetraction);
  const TableColumns& columns = table_columns_[type];
  if (columns.entity < 0 || (records.types[at] & kRetraction) != 0 || lsn_ < table_lsn_) return;
  const auto slot = [&](int index) { return records.slots[static_cast<std::size_t>(index) * records.count + at]; };
  const std::uint64_t key = slot(columns.entity);
  if (key == kMissingKey || (columns.words.empty() && columns.vectors.empty())) return;
  const std::uint64_t hash = mix(key);
  Shard& shard = table_shards_[type][shard_of(hash)];
  Entry* entry = shard.find_or_insert(key, hash, version_);
  auto units = static_cast<std::uint32_t>(Arena::units_for(tables_[type].bytes));
  const std::uint32_t before = entry == nullptr ? 0 : entry->block.load(std::memory_order_relaxed);
  std::uint32_t block = before;
  if (entry != nullptr && (before == 0 || !shard.is_own(*shard.blocks().header(before), version_))) {
    block = shard.blocks().take(units);
  }
  if (block == 0) {
    if (options_.full == Full::kFail) throw std::runtime_error("feature state needs more than its memory for attributes");
    ++refused_;
    return;
  }
  std::byte* bytes = arena_->at(block);
  for (const auto& [word, offset] : columns.words) store(bytes + offset, slot(word));
  for (const auto& [vector, offset] : columns.vectors) {
    const std::uint32_t width = plan_.slots[static_cast<std::size_t>(vector)].width;
    std::fill_n(reinterpret_cast<float*>(bytes + offset), width, std::numeric_limits<float>::quiet_NaN());
    for (const VectorColumn& column : records.vectors) {
      if (column.slot != vector) continue;
      const auto* found = std::lower_bound(column.rows, column.rows + column.count, static_cast<std::int64_t>(at));
      if (found == column.rows + column.count || *found != static_cast<std::int64_t>(at)) continue;
      std::memcpy(bytes + offset, column.values + static_cast<std::size_t>(found - column.rows) * width, width * sizeof(float));
    }
  }
  if (block == before) return;
  BlockHeader* header = shard.blocks().header(block);
  header->version = version_;
  header->previous = before;
  header->units = units;
  header->latest = BlockHeader::seconds(records.times[at]);
  shard.put(*entry, block, version_);
}

std::size_t State::expire(std::int64_t time) {
  const std::unique_lock lock(mutex_);
  refresh_floor();
  std::size_t gone = 0;
  for (const auto& family : families_) {
    const std::int64_t horizon = family->layout().horizon();
    if (horizon == 0) continue;
    for (Shard& shard : family->shards) gone += family->expire(shard, BlockHeader::seconds(time - horizon), lsn_ + 1);
  }
  return gone;
}

}  // namespace bowerbird
