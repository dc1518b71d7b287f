#include "bulk_family.hpp"

#include <algorithm>
#include <bit>
#include <stdexcept>

namespace bowerbird {
namespace {

constexpr std::size_t kMostTypes = 0xFFF;

int place_in(std::vector<int>& all, int one) {
  const auto found = std::find(all.begin(), all.end(), one);
  if (found == all.end()) all.push_back(one);
  return static_cast<int>(std::find(all.begin(), all.end(), one) - all.begin());
}

}  // namespace

BulkFamily::BulkFamily(State& state, const Program& program, std::size_t index, bool keep)
    : state_(state), family_(*state.families_[index]), index_(index), keep_(keep), log_(kBuckets) {
  for (const TileClock& clock : family_.clocks()) clocks_.emplace_back(clock.tile);
  for (std::size_t i = 0; i < program.locates_.size(); ++i) {
    if (program.locates_[i].family == index) cells_.emplace_back(program, i, kBuckets, lists_);
  }
  plan_events();
}

void BulkFamily::plan_events() {
  if (state_.types_.size() > kMostTypes) throw std::invalid_argument("a plan has more than 4095 record types");
  for (const State::TypePlan& type : state_.types_) {
    events_.emplace_back();
    for (const State::FamilyFeeds& feeds : type.families) {
      if (feeds.family == index_) events_.back() = plan_event(feeds);
    }
  }
}

BulkFamily::EventPlan BulkFamily::plan_event(const State::FamilyFeeds& feeds) const {
  EventPlan plan;
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
    plan.feeds.push_back(std::move(own));
  }
  plan.pass_words = (plan.conditions.size() + 63) / 64;
  plan.words = plan.pass_words + plan.amounts.size() + plan.fields.size();
  return plan;
}

// ---- taking operations ---------------------------------------------------------------------------

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

std::size_t BulkFamily::size_of(const Operation& operation) const {
  std::size_t words = 0;
  if (operation.has_event()) words += events_[operation.type()].words;
  if (operation.has_read()) words += cells_[operation.cells()].wanted_words();
  return Operation::kBytes + 8 * words;
}

void BulkFamily::write(const Operation& operation, const Program::Values* values, std::size_t read_row, const EventPlan* plan,
                       const State::TypeRows* rows, std::size_t event_row) {
  std::byte* at = log_.append(bucket_of(operation.hash), size_of(operation));
  store(at, operation.hash);
  store(at + 8, operation.time);
  store(at + 16, operation.what);
  at += Operation::kBytes;
  if (plan != nullptr) {
    write_event(*plan, *rows, event_row, at);
    at += 8 * plan->words;
  }
  if (values != nullptr) cells_[operation.cells()].write_wanted(*values, read_row, at);
}

void BulkFamily::add(const Records& records, const State::Segment& segment, const Reads& reads, const std::vector<LocatedReads>& located,
                     const Program::Values& values) {
  const std::int64_t base = state_.lsn_ - static_cast<std::int64_t>(segment.begin);
  const auto read_what = [](std::size_t cells) { return Operation::kRead | static_cast<std::uint32_t>(cells << 15); };
  const auto flush = [&] {
    if (pending_.waits) write({pending_.hash, pending_.time, read_what(pending_.cells)}, &values, pending_.row, nullptr, nullptr, 0);
    pending_.waits = false;
  };
  std::size_t read = segment.first_read;
  for (std::size_t at = segment.begin; at <= segment.end; ++at) {
    for (; read < segment.last_read && (at == segment.end || reads.positions[read] <= base + static_cast<std::int64_t>(at)); ++read) {
      const std::size_t row = read - segment.first_read;
      for (std::size_t i = 0; i < cells_.size(); ++i) {
        const std::uint64_t key = located[cells_[i].locate()].keys[row];
        const std::uint64_t hash = mix(key);
        cells_[i].note(key == kMissingKey ? BulkCells::kNowhere : bucket_of(hash));
        if (key == kMissingKey) continue;
        flush();
        pending_ = {hash, reads.times[read], i, row, true};
      }
    }
    if (at == segment.end || records.types[at] < 0) continue;
    const auto type = static_cast<std::size_t>(records.types[at] & ~kRetraction);
    const EventPlan& plan = events_[type];
    if (plan.source == nullptr) continue;
    const State::TypeRows& rows = state_.rows_[type];
    const std::size_t row = state_.row_of_[at - segment.begin];
    if (!is_wanted(plan, rows, row)) continue;
    const std::uint64_t key = state_.key_of(*plan.source, rows, row);
    if (key == kMissingKey) continue;
    Operation operation{mix(key), records.times[at], Operation::kEvent | static_cast<std::uint32_t>(type << 3)};
    if ((records.types[at] & kRetraction) != 0) operation.what |= Operation::kRetracts;
    const bool joins = pending_.waits && pending_.hash == operation.hash && pending_.time == operation.time;
    if (joins) operation.what |= read_what(pending_.cells);
    if (joins) pending_.waits = false;
    flush();
    write(operation, joins ? &values : nullptr, pending_.row, &plan, &rows, row);
  }
  flush();
}

// ---- running them --------------------------------------------------------------------------------

std::uint32_t BulkFamily::group_of(std::uint64_t hash, BulkLane& lane) const {
  const std::size_t mask = lane.slots.size() - 1;
  std::size_t at = hash & mask;
  while (lane.slots[at].used != 0 && lane.slots[at].hash != hash) at = (at + 1) & mask;
  if (lane.slots[at].used == 0) {
    lane.slots[at] = {hash, static_cast<std::uint32_t>(lane.starts.size()), 1};
    lane.starts.push_back(0);
  }
  return lane.slots[at].group;
}

// Brings the operations of each key together, those of a key in log order.
void BulkFamily::group(std::size_t bucket, BulkLane& lane) {
  const std::size_t count = log_.count(bucket);
  lane.items.clear();
  lane.starts.clear();
  lane.slots.assign(std::bit_ceil(std::max<std::size_t>(64, 2 * count)), {0, 0, 0});
  lane.cells.assign(cells_.size(), 0);
  log_.each_run(bucket, [&](const std::byte* at, const std::byte* end) {
    while (at < end) {
      const Operation operation = Operation::load_from(at);
      const std::uint32_t group = group_of(operation.hash, lane);
      ++lane.starts[group];
      lane.items.push_back({at, operation.has_read() ? lane.cells[operation.cells()]++ : 0, group});
      at += size_of(operation);
    }
  });
  std::uint32_t start = 0;
  for (std::uint32_t& each : lane.starts) {
    const std::uint32_t size = each;
    each = start;
    start += size;
  }
  lane.grouped.resize(count);
  for (const BulkLane::Item& item : lane.items) lane.grouped[lane.starts[item.group]++] = item;
}

void BulkFamily::run(std::size_t bucket, Scratch& scratch, BulkLane& lane) {
  if (log_.count(bucket) == 0) return;
  group(bucket, lane);
  for (BulkCells& cells : cells_) {
    if (cells.count(bucket) > 0) cells.open(bucket, lane.pool.take(cells.count(bucket) * cells.bytes()));
  }
  lane.tiles.resize(clocks_.size());
  lane.fields.resize(kMostFields);
  const BulkLane::Item* first = lane.grouped.data();
  for (const std::uint32_t end : lane.starts) {
    const BulkLane::Item* last = lane.grouped.data() + end;
    run_key(first, last, bucket, scratch, lane);
    first = last;
  }
}

void BulkFamily::run_key(const BulkLane::Item* first, const BulkLane::Item* last, std::size_t bucket, Scratch& scratch, BulkLane& lane) {
  const std::uint64_t hash = load<std::uint64_t>(first->operation);
  const std::uint64_t key = unmix(hash);
  const Entry* entry = family_.shards[shard_of(hash)].view().find(key, hash);
  const std::uint32_t held = entry == nullptr ? 0 : entry->block.load(std::memory_order_relaxed);
  bool empty = held == 0;
  lane.tracks.assign(lists_.size(), {0, 0, !empty});
  if (!empty) scratch.load(reinterpret_cast<const std::byte*>(family_.shards[shard_of(hash)].blocks().header(held)));
  for (const BulkLane::Item* item = first; item < last; ++item) {
    const Operation operation = Operation::load_from(item->operation);
    const std::byte* words = item->operation + Operation::kBytes;
    const bool runs = operation.has_event() && (keep_ || item + 1 < last);
    if (runs || (operation.has_read() && !empty)) {
      for (std::size_t i = 0; i < clocks_.size(); ++i) lane.tiles[i] = clocks_[i].index_of(operation.time);
    }
    if (operation.has_read()) {
      const BulkCells& cells = cells_[operation.cells()];
      std::byte* cell = cells.cell(bucket, item->cell);
      const std::byte* wanted = words + (operation.has_event() ? 8 * events_[operation.type()].words : 0);
      if (empty) {
        cells.fill_empty(cell);
      } else {
        cells.fill(scratch, operation.time, lane.tiles.data(), wanted, lists_, lane.tracks, bucket, cell);
      }
    }
    if (!runs) continue;
    if (empty) scratch.clear();
    empty = false;
    run_event(operation, words, scratch, lane);
  }
  if (keep_ && !empty && !scratch.store(family_, family_.shards[shard_of(hash)], key, hash)) {
    throw std::runtime_error("feature state needs more than its " + std::to_string(state_.arena_->capacity()) + " bytes");
  }
}

void BulkFamily::run_event(const Operation& operation, const std::byte* words, Scratch& scratch, BulkLane& lane) const {
  const EventPlan& plan = events_[operation.type()];
  const std::byte* amounts = words + 8 * plan.pass_words;
  const std::byte* fields = amounts + 8 * plan.amounts.size();
  Update update{operation.time, 0, (operation.what & Operation::kRetracts) != 0 ? -1 : 1, lane.fields.data()};
  for (const FeedPlan& feed : plan.feeds) {
    if (feed.condition >= 0) {
      const auto bit = static_cast<std::size_t>(feed.condition);
      if ((load<std::uint64_t>(words + 8 * (bit / 64)) >> (bit % 64) & 1) == 0) continue;
    }
    if (feed.counts_tiles) {
      scratch.count_event(feed.place, *feed.aggregate, lane.tiles[feed.clock], update);
      continue;
    }
    update.amount = feed.amount < 0 ? 0 : load<std::int64_t>(amounts + 8 * feed.amount);
    for (std::size_t i = 0; i < feed.fields.size(); ++i) lane.fields[i] = load<std::uint64_t>(fields + 8 * feed.fields[i]);
    scratch.add(family_, feed.place, lane.tiles[feed.clock], update);
    if (!feed.lists.empty()) note_change(feed, update, scratch, lane);
  }
  scratch.see(operation.time);
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
