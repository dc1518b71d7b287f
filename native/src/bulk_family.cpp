#include "bulk_family.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <stdexcept>
#include <string>

#include "bulk_keys.hpp"

namespace bowerbird {
namespace {

constexpr std::size_t kNoCells = ~std::size_t{0};
constexpr std::size_t kFar = 24;   // rows ahead whose bucket's end is asked for,
constexpr std::size_t kNear = 12;  // and what lies there

int place_in(std::vector<int>& all, int one) {
  const auto found = std::find(all.begin(), all.end(), one);
  if (found == all.end()) all.push_back(one);
  return static_cast<int>(std::find(all.begin(), all.end(), one) - all.begin());
}

}  // namespace

BulkFamily::BulkFamily(State& state, const Program& program, std::size_t index, bool keep)
    : state_(state), program_(program), family_(*state.families_[index]), keep_(keep), log_(kBuckets) {
  for (const TileClock& clock : family_.clocks()) clocks_.emplace_back(clock.tile);
  for (const Shard& shard : family_.shards) begins_empty_ = begins_empty_ && shard.size() == 0;
  for (std::size_t i = 0; i < program.locates_.size(); ++i) {
    if (program.locates_[i].family == index) cells_.emplace_back(program, i, kBuckets, lists_);
  }
  read_hashes_.resize(cells_.size());
  events_.resize(state_.types_.size());
  for (std::size_t i = 0; i < cells_.size(); ++i) add_kind(nullptr, 1, i);
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
    events_[type].kind = add_kind(&events_[type], 1, kNoCells);
    add_kind(&events_[type], -1, kNoCells);
    for (std::size_t i = 0; i < cells_.size(); ++i) add_kind(&events_[type], 1, i);
  }
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

std::uint32_t BulkFamily::add_kind(const EventPlan* event, std::int64_t sign, std::size_t cells) {
  if (kinds_.size() == kBuckets) throw std::invalid_argument("a key family has too many record types and lookups for a bulk replay");
  Kind kind{event, cells == kNoCells ? nullptr : &cells_[cells], cells, sign, kHead, 0};
  if (event != nullptr) kind.bytes += 8 * event->words;
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
  return plan.source->always || std::any_of(plan.conditions.begin(), plan.conditions.end(), [&](int condition) {
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
  std::byte* at = log_.append(bucket_of(hash), kinds_[kind].bytes);
  store(at, packed(hash, kind));
  store(at + 8, time);
  return at;
}

void BulkFamily::flush(const Program::Values& values) {
  if (!pending_.waits) return;
  pending_.waits = false;
  std::byte* at = append(pending_.hash, pending_.time, static_cast<std::uint32_t>(pending_.cells));
  cells_[pending_.cells].write_wanted(values, pending_.row, at + kHead);
}

void BulkFamily::add(const Records& records, const State::Segment& segment, const Reads& reads, const Program::Values& values) {
  hash_rows(values, segment.last_read - segment.first_read);
  const std::int64_t base = state_.lsn_ - static_cast<std::int64_t>(segment.begin);
  std::size_t read = segment.first_read;
  std::int64_t next = read < segment.last_read ? reads.positions[read] - base : kIdle;
  for (std::size_t at = segment.begin; at <= segment.end; ++at) {
    while (next <= static_cast<std::int64_t>(at) || (at == segment.end && next != kIdle)) {
      const std::size_t row = read - segment.first_read;
      for (std::size_t i = 0; i < cells_.size(); ++i) {
        const std::uint64_t hash = read_hashes_[i][row];
        cells_[i].note(hash == kMissingHash ? BulkCells::kNowhere : bucket_of(hash));
        if (hash == kMissingHash) continue;
        flush(values);
        pending_ = {hash, reads.times[read], i, row, true};
      }
      ++read;
      next = read < segment.last_read ? reads.positions[read] - base : kIdle;
    }
    if (at == segment.end || records.types[at] < 0) continue;
    const auto type = static_cast<std::size_t>(records.types[at] & ~kRetraction);
    const EventPlan& plan = events_[type];
    if (plan.source == nullptr) continue;
    const State::TypeRows& rows = state_.rows_[type];
    const std::size_t row = state_.row_of_[at - segment.begin];
    if (row + kFar < plan.hashes.size()) log_.prefetch_tail(bucket_of(plan.hashes[row + kFar]));
    if (row + kNear < plan.hashes.size()) log_.prefetch_end(bucket_of(plan.hashes[row + kNear]));
    const std::uint64_t hash = plan.hashes[row];
    if (hash == kMissingHash || !is_wanted(plan, rows, row)) continue;
    const bool retracts = (records.types[at] & kRetraction) != 0;
    const bool joins = pending_.waits && !retracts && pending_.hash == hash && pending_.time == records.times[at];
    if (!joins) flush(values);
    const std::uint32_t kind = plan.kind + (joins ? 2 + static_cast<std::uint32_t>(pending_.cells) : retracts ? 1 : 0);
    std::byte* to = append(hash, records.times[at], kind);
    if (plan.words > 0) write_event(plan, rows, row, to + kHead);
    if (joins) cells_[pending_.cells].write_wanted(values, pending_.row, to + kinds_[kind].wanted);
    pending_.waits = false;
  }
  flush(values);
}

// ---- running them --------------------------------------------------------------------------------

inline std::uint32_t BulkFamily::group_of(std::uint64_t hash, BulkLane& lane) const {
  const std::size_t mask = lane.slots.size() - 1;
  std::size_t at = hash & mask;
  while (lane.slots[at] != 0 && lane.hashes[lane.slots[at] - 1] != hash) at = (at + 1) & mask;
  if (lane.slots[at] == 0) {
    lane.hashes.push_back(hash);
    lane.starts.push_back(0);
    lane.slots[at] = static_cast<std::uint32_t>(lane.hashes.size());
  }
  return lane.slots[at] - 1;
}

// Brings the operations of each key together, those of a key in log order.
void BulkFamily::group(std::size_t bucket, BulkLane& lane) {
  const std::size_t count = log_.count(bucket);
  lane.groups.clear();
  lane.starts.clear();
  lane.hashes.clear();
  lane.slots.assign(std::bit_ceil(std::max<std::size_t>(64, 2 * count)), 0);
  lane.chains.assign(cells_.size(), {});
  log_.each_run(bucket, [&](std::byte* at, const std::byte* end) {
    while (at < end) {
      const auto head = load<std::uint64_t>(at);
      const std::uint32_t group = group_of(head >> kBucketBits, lane);
      ++lane.starts[group];
      lane.groups.push_back(group);
      at += kind_of(head).bytes;
    }
  });
  std::uint32_t start = 0;
  for (std::uint32_t& each : lane.starts) {
    const std::uint32_t size = each;
    each = start;
    start += size;
  }
  lane.items.resize(count);
  const std::uint32_t* group = lane.groups.data();
  log_.each_run(bucket, [&](std::byte* at, const std::byte* end) {
    while (at < end) {
      const Kind& kind = kind_of(load<std::uint64_t>(at));
      std::byte* cell = kind.read == nullptr ? nullptr : kind.read->append(bucket, lane.chains[kind.cells], lane.pool);
      lane.items[lane.starts[*group++]++] = {at, cell};
      at += kind.bytes;
    }
  });
}

void BulkFamily::run(std::size_t bucket, Scratch& scratch, BulkLane& lane) {
  if (log_.count(bucket) == 0) return;
  group(bucket, lane);
  lane.tiles.resize(clocks_.size());
  lane.fields.resize(kMostFields);
  const BulkLane::Item* first = lane.items.data();
  for (const std::uint32_t end : lane.starts) {
    const BulkLane::Item* last = lane.items.data() + end;
    run_key(first, last, bucket, scratch, lane);
    first = last;
  }
  log_.release(bucket, lane.pool);
}

bool BulkFamily::can_count(const BulkLane::Item* first, const BulkLane::Item* last) const {
  std::int64_t latest = std::numeric_limits<std::int64_t>::min();
  if (!may_count_) return false;
  for (const BulkLane::Item* item = first; item < last; ++item) {
    const auto time = load<std::int64_t>(item->operation + 8);
    if (time < latest || kind_of(load<std::uint64_t>(item->operation)).sign < 0) return false;
    latest = time;
  }
  return true;
}

// With times that ascend, a window's events are those since the first operation whose tile it still holds.
void BulkFamily::count_windows(const BulkLane::Item* first, const BulkLane::Item* last, BulkLane& lane) const {
  const auto count = static_cast<std::size_t>(last - first);
  const std::size_t streams = windows_.streams();
  lane.all_tiles.resize(clocks_.size() * count);
  lane.running.resize(streams * (count + 1));
  lane.begins.assign(windows_.spans().size(), 0);
  std::int32_t* running = lane.running.data();
  std::fill_n(running, streams, 0);
  for (std::size_t i = 0; i < count; ++i, running += streams) {
    const std::byte* operation = first[i].operation;
    const Kind& kind = kind_of(load<std::uint64_t>(operation));
    const auto time = load<std::int64_t>(operation + 8);
    for (std::size_t clock = 0; clock < clocks_.size(); ++clock) lane.all_tiles[clock * count + i] = clocks_[clock].index_of(time);
    if (kind.read != nullptr) {
      for (std::size_t span = 0; span < lane.begins.size(); ++span) {
        const auto& [clock, reach] = windows_.spans()[span];
        const std::int32_t* tiles = lane.all_tiles.data() + clock * count;
        while (tiles[lane.begins[span]] <= std::int64_t{tiles[i]} - reach) ++lane.begins[span];
      }
      for (const BulkWindows::Cell& cell : windows_.cells(kind.cells)) {
        const std::int32_t before = lane.running[lane.begins[cell.span] * streams + cell.stream];
        store(first[i].cell + cell.count.offset, running[cell.stream] - before);
      }
    }
    std::copy_n(running, streams, running + streams);
    if (kind.event == nullptr) continue;
    for (const auto& [stream, condition] : kind.event->streams) {
      if (passes(operation + kHead, condition)) ++running[streams + stream];
    }
  }
}

void BulkFamily::run_key(const BulkLane::Item* first, const BulkLane::Item* last, std::size_t bucket, Scratch& scratch, BulkLane& lane) {
  const std::uint64_t hash = hash_of(load<std::uint64_t>(first->operation), bucket);
  Shard& shard = family_.shards[shard_of(hash)];
  const Entry* entry = begins_empty_ ? nullptr : shard.view().find(unmix(hash), hash);
  const std::uint32_t held = entry == nullptr ? 0 : entry->block.load(std::memory_order_relaxed);
  bool empty = held == 0;
  if (empty && !keep_ && last - first == 1) {  // a key that comes once: nothing before it, nothing after
    if (first->cell != nullptr) kind_of(load<std::uint64_t>(first->operation)).read->fill_empty(first->cell);
    return;
  }
  if (!empty) scratch.load(reinterpret_cast<const std::byte*>(shard.blocks().header(held)));
  const bool counted = empty && can_count(first, last);
  if (!counted || keep_ || has_rest_) run_state(first, last, bucket, counted, empty, scratch, lane);
  if (counted) count_windows(first, last, lane);
  if (keep_ && !empty && !scratch.store(family_, shard, unmix(hash), hash)) {
    throw std::runtime_error("feature state needs more than its " + std::to_string(state_.arena_->capacity()) + " bytes");
  }
}

void BulkFamily::run_state(const BulkLane::Item* first, const BulkLane::Item* last, std::size_t bucket, bool counted, bool& empty,
                           Scratch& scratch, BulkLane& lane) {
  lane.tracks.assign(lists_.size(), {0, 0, !empty});
  for (const BulkLane::Item* item = first; item < last; ++item) {
    const Kind& kind = kind_of(load<std::uint64_t>(item->operation));
    const auto time = load<std::int64_t>(item->operation + 8);
    const bool runs = kind.event != nullptr && (keep_ || (item + 1 < last && (!counted || kind.event->has_rest)));
    const bool reads = kind.read != nullptr && !empty;
    if (kind.read != nullptr && empty) kind.read->fill_empty(item->cell);
    if (!runs && !reads) continue;
    for (std::size_t i = 0; i < clocks_.size(); ++i) lane.tiles[i] = clocks_[i].index_of(time);
    if (reads && !counted) kind.read->fill_counts(scratch, lane.tiles.data(), item->cell);
    if (reads) kind.read->fill_rest(scratch, time, lane.tiles.data(), item->operation + kind.wanted, lists_, lane.tracks, bucket, item->cell);
    if (!runs) continue;
    if (empty) scratch.clear();
    empty = false;
    run_event(kind, time, item->operation + kHead, counted, scratch, lane);
  }
}

void BulkFamily::run_event(const Kind& kind, std::int64_t time, const std::byte* words, bool counted, Scratch& scratch, BulkLane& lane) const {
  const EventPlan& plan = *kind.event;
  const std::byte* amounts = words + 8 * plan.pass_words;
  const std::byte* fields = amounts + 8 * plan.amounts.size();
  Update update{time, 0, kind.sign, lane.fields.data()};
  for (const FeedPlan& feed : plan.feeds) {
    if (!passes(words, feed.condition) || (feed.counts_tiles && counted && !keep_)) continue;
    if (feed.counts_tiles) {
      scratch.count_event(feed.place, *feed.aggregate, lane.tiles[feed.clock], update);
      continue;
    }
    update.amount = feed.amount < 0 ? 0 : load<std::int64_t>(amounts + 8 * feed.amount);
    for (std::size_t i = 0; i < feed.fields.size(); ++i) lane.fields[i] = load<std::uint64_t>(fields + 8 * feed.fields[i]);
    scratch.add(family_, feed.place, lane.tiles[feed.clock], update);
    if (!feed.lists.empty()) note_change(feed, update, scratch, lane);
  }
  scratch.see(time);
}

// An event that came behind all others of a sequence is added to what was written of it; after any other, all is
// written again.
void BulkFamily::note_change(const FeedPlan& feed, const Update& update, const Scratch& scratch, BulkLane& lane) const {
  bool appends = feed.aggregate->kind == AggregateKind::kSequence && !feed.aggregate->distinct && feed.aggregate->ttl == 0 && update.sign > 0;
  if (appends) {
    const std::byte* state = scratch.state(feed.place);
    const Sequence::Head& head = Sequence::head(state);
    const std::size_t newest = Sequence::at(head, head.size - 1);
    appends = Sequence::times(state)[newest] == update.time;
    for (std::uint32_t i = 0; appends && i < feed.aggregate->fields; ++i) appends = Sequence::column(state, 1 + i)[newest] == update.fields[i];
  }
  for (const std::size_t list : feed.lists) {
    if (appends) {
      ++lane.tracks[list].appended;
    } else {
      lane.tracks[list].rewritten = true;
    }
  }
}

}  // namespace bowerbird
