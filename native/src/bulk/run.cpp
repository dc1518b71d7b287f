// Running the operations that a bulk replay's family has taken.
#include <algorithm>
#include <bit>
#include <stdexcept>
#include <string>

#include "bulk/family.hpp"

namespace bowerbird {

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
  const auto words_of = [&](const std::byte* at) { return at + kHead + (since(at) == far_ ? 8 : 0); };
  log_.each_run(bucket, [&](const std::byte* at, const std::byte* end, std::int64_t) {
    while (at < end) {
      const auto head = load<std::uint64_t>(at);
      const std::uint32_t group = group_of(head >> kBucketBits, lane);
      ++lane.starts[group];
      lane.groups.push_back(group);
      at = words_of(at) + kinds_[kind_of(head)].bytes;
    }
  });
  const std::uint32_t largest = lane.starts.empty() ? 0 : *std::max_element(lane.starts.begin(), lane.starts.end());
  lane.width = begins_empty_ && !retracts_ ? BulkCells::width_for(largest) : BulkCells::kWidest;
  lane.chains.clear();
  for (BulkCells& cells : cells_) lane.chains.push_back(cells.open(bucket, lane.width));
  std::uint32_t start = 0;
  for (std::uint32_t& each : lane.starts) {
    const std::uint32_t size = each;
    each = start;
    start += size;
  }
  lane.items.resize(count);
  const std::uint32_t* group = lane.groups.data();
  log_.each_run(bucket, [&](const std::byte* at, const std::byte* end, std::int64_t begins) {
    while (at < end) {
      const std::uint32_t number = kind_of(load<std::uint64_t>(at));
      const Kind& kind = kinds_[number];
      const std::uint64_t passed = since(at);
      const std::int64_t time = passed == far_ ? load<std::int64_t>(at + kHead) : static_cast<std::int64_t>(static_cast<std::uint64_t>(begins) + passed);
      std::byte* cell = kind.read == nullptr ? nullptr : kind.read->append(bucket, lane.chains[kind.cells], lane.pool);
      const std::byte* words = words_of(at);
      lane.items[lane.starts[*group++]++] = {words, cell, time, number};
      at = words + kind.bytes;
    }
  });
}

void BulkFamily::prepare(BulkLane& lane) const {
  lane.tiles.resize(clocks_.size());
  lane.fields.resize(kMostFields);
}

void BulkFamily::run(std::size_t bucket, Scratch& scratch, BulkLane& lane) {
  if (log_.count(bucket) == 0) return;
  group(bucket, lane);
  prepare(lane);
  const BulkLane::Item* first = lane.items.data();
  for (std::size_t group = 0; group < lane.starts.size(); ++group) {
    const BulkLane::Item* last = lane.items.data() + lane.starts[group];
    run_key(hash_of(lane.hashes[group], bucket), first, last, bucket, scratch, lane);
    first = last;
  }
  log_.release(bucket, lane.pool);
}

bool BulkFamily::can_count(const BulkLane::Item* first, const BulkLane::Item* last) const {
  if (!may_count_ || (last - 1)->time >= latest_counted_) return false;
  std::int64_t latest = 0;
  bool ascends = true;
  for (const BulkLane::Item* item = first; item < last; ++item) {
    ascends = ascends && item->time >= latest;
    latest = item->time;
  }
  return ascends && (!retracts_ || std::all_of(first, last, [this](const BulkLane::Item& item) { return kinds_[item.kind].sign > 0; }));
}

// With times that ascend, a window's events are those since the first operation whose tile it still holds.
template <typename Counted>
void BulkFamily::count_windows(const BulkLane::Item* first, const BulkLane::Item* last, BulkLane& lane) const {
  const std::size_t streams = windows_.streams();
  lane.running.resize(streams * static_cast<std::size_t>(last - first + 1));
  lane.begins.assign(windows_.spans().size(), first);
  std::int32_t* running = lane.running.data();
  for (std::size_t stream = 0; stream < streams; ++stream) running[stream] = 0;
  for (const BulkLane::Item* item = first; item < last; ++item, running += streams) {
    const Kind& kind = kinds_[item->kind];
    if (kind.read != nullptr) {
      for (std::size_t i = 0; i < lane.begins.size(); ++i) {
        const BulkWindows::Span& span = windows_.spans()[i];
        const TileDivider& clock = clocks_[span.clock];
        const std::int64_t begins = (clock.near_index_of(item->time) - span.reach + 1) * clock.tile();
        const BulkLane::Item*& begin = lane.begins[i];
        while (begin->time < begins) ++begin;
      }
      std::byte* to = kind.read->counts_in(item->cell);
      for (const BulkWindows::Cell& cell : windows_.cells(kind.cells)) {
        const std::size_t before = static_cast<std::size_t>(lane.begins[cell.span] - first) * streams;
        store(to, static_cast<Counted>(running[cell.stream] - lane.running[before + cell.stream]));
        to += sizeof(Counted);
      }
    }
    for (std::size_t stream = 0; stream < streams; ++stream) running[streams + stream] = running[stream];
    if (kind.event == nullptr) continue;
    for (const auto& [stream, condition] : kind.event->streams) {
      if (passes(item->words, condition)) ++running[streams + stream];
    }
  }
}

void BulkFamily::load_key(std::uint64_t hash, Scratch& scratch, bool& empty) const {
  const Shard& shard = family_.shards[shard_of(hash)];
  const Entry* entry = begins_empty_ ? nullptr : shard.view().find(unmix(hash), hash);
  const std::uint32_t held = entry == nullptr ? 0 : entry->block.load(std::memory_order_relaxed);
  empty = held == 0;
  if (!empty) scratch.load(reinterpret_cast<const std::byte*>(shard.blocks().header(held)));
}

void BulkFamily::keep_key(std::uint64_t hash, Scratch& scratch) {
  if (scratch.store(family_, family_.shards[shard_of(hash)], unmix(hash), hash)) return;
  throw std::runtime_error("feature state needs more than its " + std::to_string(state_.arena_->capacity()) + " bytes");
}

void BulkFamily::run_key(std::uint64_t hash, const BulkLane::Item* first, const BulkLane::Item* last, std::size_t bucket, Scratch& scratch,
                         BulkLane& lane) {
  Running key{scratch, lane.tracks, bucket, true, false};
  load_key(hash, scratch, key.empty);
  if (key.empty && !keep_ && last - first == 1) {  // a key that comes once: nothing before it, nothing after
    if (first->cell != nullptr) kinds_[first->kind].read->fill_empty(lane.width, first->cell);
    return;
  }
  key.counted = key.empty && can_count(first, last);
  if (!key.counted || keep_ || has_rest_) {
    lane.tracks.assign(lists_.size(), {0, 0, !key.empty});
    for (const BulkLane::Item* item = first; item < last; ++item) run_operation(*item, item + 1 == last, key, lane);
  }
  if (key.counted) {
    if (lane.width == 1) {
      count_windows<std::uint8_t>(first, last, lane);
    } else if (lane.width == 2) {
      count_windows<std::uint16_t>(first, last, lane);
    } else {
      count_windows<std::int32_t>(first, last, lane);
    }
  }
  if (keep_ && !key.empty) keep_key(hash, scratch);
}

void BulkFamily::run_operation(const BulkLane::Item& item, bool is_last, Running& key, BulkLane& lane) {
  const Kind& kind = kinds_[item.kind];
  const bool runs = kind.event != nullptr && (keep_ || (!is_last && (!key.counted || kind.event->has_rest)));
  const bool reads = kind.read != nullptr && !key.empty;
  if (kind.read != nullptr && key.empty) kind.read->fill_empty(lane.width, item.cell);
  if (!runs && !reads) return;
  for (std::size_t i = 0; i < clocks_.size(); ++i) lane.tiles[i] = clocks_[i].index_of(item.time);
  if (reads && !key.counted) kind.read->fill_counts(key.scratch, lane.tiles.data(), lane.width, item.cell);
  if (reads) kind.read->fill_rest(key.scratch, item.time, lane.tiles.data(), item.words + kind.wanted, lists_, key.tracks, key.bucket, item.cell);
  if (!runs) return;
  if (key.empty) key.scratch.clear();
  key.empty = false;
  run_event(item, key, lane);
}

void BulkFamily::run_event(const BulkLane::Item& item, Running& key, BulkLane& lane) const {
  const Kind& kind = kinds_[item.kind];
  const EventPlan& plan = *kind.event;
  const std::byte* amounts = item.words + 8 * plan.pass_words;
  const std::byte* fields = amounts + 8 * plan.amounts.size();
  Update update{item.time, 0, kind.sign, lane.fields.data()};
  for (const FeedPlan& feed : plan.feeds) {
    if (!passes(item.words, feed.condition) || (feed.counts_tiles && key.counted && !keep_)) continue;
    if (feed.counts_tiles) {
      key.scratch.count_event(feed.place, *feed.aggregate, lane.tiles[feed.clock], update);
      continue;
    }
    update.amount = feed.amount < 0 ? 0 : load<std::int64_t>(amounts + 8 * feed.amount);
    for (std::size_t i = 0; i < feed.fields.size(); ++i) lane.fields[i] = load<std::uint64_t>(fields + 8 * feed.fields[i]);
    key.scratch.add(family_, feed.place, lane.tiles[feed.clock], update);
    if (!feed.lists.empty()) note_change(feed, update, key);
  }
  key.scratch.see(item.time);
}

// An event that came behind all others of a sequence is added to what was written of it; after any other, all is
// written again.
void BulkFamily::note_change(const FeedPlan& feed, const Update& update, Running& key) const {
  bool appends = feed.aggregate->kind == AggregateKind::kSequence && !feed.aggregate->distinct && feed.aggregate->ttl == 0 && update.sign > 0;
  if (appends) {
    const std::byte* state = key.scratch.state(feed.place);
    const Sequence::Head& head = Sequence::head(state);
    const std::size_t newest = Sequence::at(head, head.size - 1);
    appends = Sequence::times(state)[newest] == update.time;
    for (std::uint32_t i = 0; appends && i < feed.aggregate->fields; ++i) appends = Sequence::column(state, 1 + i)[newest] == update.fields[i];
  }
  for (const std::size_t list : feed.lists) {
    if (appends) {
      ++key.tracks[list].appended;
    } else {
      key.tracks[list].rewritten = true;
    }
  }
}

}  // namespace bowerbird
