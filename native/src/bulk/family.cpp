#include "bulk/family.hpp"

#include <algorithm>
#include <bit>
#include <stdexcept>

#include "bulk/keys.hpp"

namespace bowerbird {
namespace {

constexpr std::size_t kNoCells = ~std::size_t{0};
constexpr std::size_t kNoType = ~std::size_t{0};

int place_in(std::vector<int>& all, int one) {
  const auto found = std::find(all.begin(), all.end(), one);
  if (found == all.end()) all.push_back(one);
  return static_cast<int>(std::find(all.begin(), all.end(), one) - all.begin());
}

}  // namespace

BulkFamily::BulkFamily(State& state, const Program& program, std::size_t index, bool keep)
    : state_(state), program_(program), family_(*state.families_[index]), keep_(keep), log_(kBuckets) {
  for (const TileClock& clock : family_.clocks()) clocks_.emplace_back(clock.tile);
  for (const TileDivider& clock : clocks_) latest_counted_ = std::min(latest_counted_, clock.near());
  for (const Shard& shard : family_.shards) begins_empty_ = begins_empty_ && shard.size() == 0;
  for (std::size_t i = 0; i < program.locates_.size(); ++i) {
    if (program.locates_[i].family == index) cells_.emplace_back(program, i, kBuckets + 1, lists_);
  }
  read_hashes_.resize(cells_.size());
  events_.resize(state_.types_.size());
  for (std::size_t i = 0; i < cells_.size(); ++i) add_kind(kNoType, 1, i);
  for (std::size_t type = 0; type < events_.size(); ++type) {
    for (const State::FamilyFeeds& feeds : state_.types_[type].families) {
      if (feeds.family == index) plan_event(feeds, events_[type]);
    }
    for (const FeedPlan& feed : events_[type].feeds) {
      if (feed.aggregate->kind == AggregateKind::kTiles) windows_.add_feed(feed.place, type, feed.condition);
    }
  }
  for (const BulkCells& cells : cells_) {
    windows_.add_cells(cells);
    has_rest_ = has_rest_ || cells.has_rest();
    for (const BulkCells::Count& count : cells.counts()) {
      may_count_ = may_count_ && family_.layout().places()[count.place].aggregate->ttl == 0;
    }
  }
  for (std::size_t type = 0; type < events_.size(); ++type) {
    if (events_[type].source == nullptr) continue;
    events_[type].streams = windows_.streams_of(type);
    events_[type].kind = add_kind(type, 1, kNoCells);
    add_kind(type, -1, kNoCells);
    for (std::size_t i = 0; i < cells_.size(); ++i) add_kind(type, 1, i);
  }
  kind_bits_ = static_cast<unsigned>(std::bit_width(kinds_.size() - (kinds_.empty() ? 0 : 1)));
  far_ = (std::uint64_t{1} << (32 + kBucketBits - kind_bits_)) - 1;
  slack_ = far_ / 4;
}

void BulkFamily::plan_event(const State::FamilyFeeds& feeds, EventPlan& plan) const {
  plan.source = &feeds;
  for (const State::FeedPlan& feed : feeds.feeds) {
    const Aggregate& aggregate = *family_.layout().places()[feed.place].aggregate;
    FeedPlan own{&aggregate, feed.place, feed.clock, -1, -1, {}, false, {}};
    own.counts_tiles = aggregate.kind == AggregateKind::kTiles && Tiles::counts_only(aggregate) && aggregate.ttl == 0;
    if (feed.condition >= 0) own.condition = place_in(plan.conditions, feed.condition);
    if (feed.amount >= 0) own.amount = place_in(plan.amounts, feed.amount);
    for (const int field : feed.fields) own.fields.push_back(static_cast<std::size_t>(place_in(plan.fields, field)));
    for (std::size_t i = 0; i < lists_.size(); ++i) {
      if (lists_[i].read->place->number == feed.place) own.lists.push_back(i);
    }
    plan.has_rest = plan.has_rest || !own.counts_tiles;
    plan.feeds.push_back(std::move(own));
  }
  plan.pass_words = (plan.conditions.size() + 63) / 64;
  plan.words = plan.pass_words + plan.amounts.size() + plan.fields.size();
}

std::uint32_t BulkFamily::add_kind(std::size_t type, std::int64_t sign, std::size_t cells) {
  if (kinds_.size() == kBuckets) throw std::invalid_argument("a key family has too many record types and lookups for a bulk replay");
  Kind kind{type == kNoType ? nullptr : &events_[type], type, cells == kNoCells ? nullptr : &cells_[cells], cells, sign, 0, 0};
  if (kind.event != nullptr) kind.bytes += 8 * kind.event->words;
  kind.wanted = kind.bytes;
  if (kind.read != nullptr) kind.bytes += 8 * kind.read->wanted_words();
  kinds_.push_back(kind);
  return static_cast<std::uint32_t>(kinds_.size() - 1);
}

// ---- taking operations ---------------------------------------------------------------------------

void BulkFamily::hash_rows(const Program::Values& values, std::size_t reads) {
  std::vector<const std::uint64_t*> parts;
  for (std::size_t type = 0; type < events_.size(); ++type) {
    EventPlan& plan = events_[type];
    const State::TypeRows& rows = state_.rows_[type];
    const std::size_t count = rows.rows.size();
    if (plan.source == nullptr || count == 0) continue;
    parts.clear();
    for (const int key : plan.source->keys) parts.push_back(rows.space.values.data() + static_cast<std::size_t>(key) * count);
    plan.hashes.resize(count);
    hash_family_keys(parts, count, plan.hashes.data());
  }
  for (std::size_t i = 0; i < cells_.size(); ++i) {
    parts.clear();
    for (const int node : program_.locates_[cells_[i].locate()].keys) parts.push_back(values.columns[static_cast<std::size_t>(node)]);
    read_hashes_[i].resize(reads);
    hash_family_keys(parts, reads, read_hashes_[i].data());
  }
}

bool BulkFamily::is_wanted(const EventPlan& plan, const State::TypeRows& rows, std::size_t row) const {
  return std::any_of(plan.conditions.begin(), plan.conditions.end(), [&](int condition) {
    return rows.passes[static_cast<std::size_t>(condition) * rows.rows.size() + row] != 0;
  });
}

void BulkFamily::write_event(const EventPlan& plan, const State::TypeRows& rows, std::size_t row, std::byte* to) const {
  const std::size_t count = rows.rows.size();
  const auto at = [&](int column) { return static_cast<std::size_t>(column) * count + row; };
  for (std::size_t first = 0; first < plan.conditions.size(); first += 64, to += 8) {
    std::uint64_t passes = 0;
    for (std::size_t i = first; i < std::min(plan.conditions.size(), first + 64); ++i) {
      passes |= static_cast<std::uint64_t>(rows.passes[at(plan.conditions[i])]) << (i - first);
    }
    store(to, passes);
  }
  for (const int amount : plan.amounts) {
    store(to, rows.amounts[at(amount)]);
    to += 8;
  }
  for (const int field : plan.fields) {
    store(to, rows.space.values[at(field)]);
    to += 8;
  }
}

inline std::byte* BulkFamily::append(std::uint64_t hash, std::int64_t time, std::uint32_t kind) {
  const std::size_t bucket = bucket_of(hash);
  const auto since = [&] { return static_cast<std::uint64_t>(time) - static_cast<std::uint64_t>(log_.time(bucket)); };
  const bool is_far = since() >= far_;
  const auto begins = static_cast<std::int64_t>(static_cast<std::uint64_t>(time) - slack_);
  std::byte* at = log_.append(bucket, kHead + (is_far ? 8 : 0) + kinds_[kind].bytes, begins);
  const std::uint64_t passed = is_far ? far_ : since();
  store(at, (hash << kBucketBits) | (passed >> 32 << kind_bits_) | kind);
  store(at + 8, static_cast<std::uint32_t>(passed));
  if (is_far) store(at + kHead, time);
  return at + kHead + (is_far ? 8 : 0);
}

inline void BulkFamily::plan(const Planned& operation, const Program::Values& values) {
  if (planned_count_ == kPlanned) write_planned(values);
  log_.prefetch_tail(bucket_of(operation.hash));
  planned_[planned_count_++] = operation;
}

void BulkFamily::write_planned(const Program::Values& values) {
  for (std::size_t i = 0; i < planned_count_; ++i) log_.prefetch_end(bucket_of(planned_[i].hash));
  for (std::size_t i = 0; i < planned_count_; ++i) {
    const Planned& operation = planned_[i];
    const Kind& kind = kinds_[operation.kind];
    std::byte* to = append(operation.hash, operation.time, operation.kind);
    if (kind.bytes == 0) continue;
    if (kind.event != nullptr) write_event(*kind.event, state_.rows_[kind.type], operation.event_row, to);
    if (kind.read != nullptr) kind.read->write_wanted(values, operation.read_row, to + kind.wanted);
  }
  planned_count_ = 0;
}

void BulkFamily::add(const Records& records, const State::Segment& segment, const Reads& reads, const Program::Values& values) {
  hash_rows(values, segment.last_read - segment.first_read);
  choose_direct(segment.last_read - segment.first_read);
  const std::int64_t base = state_.lsn_ - static_cast<std::int64_t>(segment.begin);
  std::size_t read = segment.first_read;
  std::int64_t next = read < segment.last_read ? reads.positions[read] - base : kIdle;
  for (std::size_t at = segment.begin; at <= segment.end; ++at) {
    while (next <= static_cast<std::int64_t>(at) || (at == segment.end && next != kIdle)) {
      const std::size_t row = read - segment.first_read;
      for (std::size_t i = 0; i < cells_.size(); ++i) add_read(i, row, reads.times[read], values);
      ++read;
      next = read < segment.last_read ? reads.positions[read] - base : kIdle;
    }
    if (at == segment.end || records.types[at] < 0) continue;
    const auto type = static_cast<std::size_t>(records.types[at] & ~kRetraction);
    if (events_[type].source != nullptr) add_event(type, at - segment.begin, records.times[at], (records.types[at] & kRetraction) != 0, values);
  }
  write_planned(values);
}

inline void BulkFamily::add_read(std::size_t lookup, std::size_t row, std::int64_t time, const Program::Values& values) {
  const std::uint64_t hash = read_hashes_[lookup][row];
  BulkCells& cells = cells_[lookup];
  if (hash == kMissingHash) return cells.note(BulkCells::kNowhere);
  BulkDirect::Key* key = direct(hash);
  if (key == nullptr) {
    cells.note(bucket_of(hash));
    return plan({hash, time, static_cast<std::uint32_t>(lookup), static_cast<std::uint32_t>(row), 0}, values);
  }
  cells.note(kBuckets);
  direct_words_.resize(8 * cells.wanted_words());
  cells.write_wanted(values, row, direct_words_.data());
  run_direct(*key, static_cast<std::uint32_t>(lookup), time);
}

inline void BulkFamily::add_event(std::size_t type, std::size_t at, std::int64_t time, bool retracts, const Program::Values& values) {
  const EventPlan& plan = events_[type];
  const State::TypeRows& rows = state_.rows_[type];
  const std::size_t row = state_.row_of_[at];
  const std::uint64_t hash = plan.hashes[row];
  if (hash == kMissingHash || (!plan.source->always && !is_wanted(plan, rows, row))) return;
  retracts_ = retracts_ || retracts;
  BulkDirect::Key* key = direct(hash);
  if (key != nullptr) {
    direct_words_.resize(8 * plan.words);
    write_event(plan, rows, row, direct_words_.data());
    return run_direct(*key, plan.kind + (retracts ? 1 : 0), time);
  }
  if (!retracts && planned_count_ > 0) {
    Planned& before = planned_[planned_count_ - 1];
    if (before.hash == hash && before.time == time && kinds_[before.kind].event == nullptr) {  // the read right before it
      before.kind = plan.kind + 2 + before.kind;
      before.event_row = static_cast<std::uint32_t>(row);
      return;
    }
  }
  this->plan({hash, time, plan.kind + (retracts ? 1 : 0), 0, static_cast<std::uint32_t>(row)}, values);
}

// ---- few keys ------------------------------------------------------------------------------------

// The first segment that has operations tells whether keys are few.
void BulkFamily::choose_direct(std::size_t reads) {
  if (has_chosen_) return;
  std::vector<std::uint64_t> hashes;
  for (std::size_t type = 0; type < events_.size(); ++type) {
    const EventPlan& plan = events_[type];
    if (plan.source != nullptr && !state_.rows_[type].rows.empty()) hashes.insert(hashes.end(), plan.hashes.begin(), plan.hashes.end());
  }
  for (const std::vector<std::uint64_t>& each : read_hashes_) hashes.insert(hashes.end(), each.begin(), each.begin() + static_cast<std::ptrdiff_t>(reads));
  has_chosen_ = !hashes.empty();
  if (!BulkDirect::are_few(hashes)) return;
  direct_ = std::make_unique<BulkDirect>(family_);
  prepare(direct_lane_);
  for (BulkCells& cells : cells_) direct_lane_.chains.push_back(cells.open(kBuckets, BulkCells::kWidest));
}

inline BulkDirect::Key* BulkFamily::direct(std::uint64_t hash) {
  if (direct_ == nullptr) return nullptr;
  BulkDirect::Key* key = direct_->find(hash);
  if (key != nullptr || direct_->is_full()) return key;
  key = &direct_->add(hash);
  load_key(hash, key->scratch, key->empty);
  key->tracks.assign(lists_.size(), {0, 0, !key->empty});
  return key;
}

void BulkFamily::run_direct(BulkDirect::Key& key, std::uint32_t number, std::int64_t time) {
  const Kind& kind = kinds_[number];
  std::byte* cell = kind.read == nullptr ? nullptr : kind.read->append(kBuckets, direct_lane_.chains[kind.cells], direct_lane_.pool);
  Running running{key.scratch, key.tracks, kBuckets, key.empty, false};
  run_operation({direct_words_.data(), cell, time, number}, false, running, direct_lane_);
  key.empty = running.empty;
}

void BulkFamily::store_direct(std::size_t shard) {
  if (!keep_ || direct_ == nullptr) return;
  for (const auto& key : direct_->keys()) {
    if (shard_of(key->hash) == shard && !key->empty) keep_key(key->hash, key->scratch);
  }
}

}  // namespace bowerbird
