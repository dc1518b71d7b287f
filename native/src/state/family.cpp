#include "state/family.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace bowerbird {

std::size_t Family::add(const Aggregate& aggregate) {
  const std::size_t place = layout_.add(aggregate);
  std::size_t clock = 0;
  if (aggregate.kind == AggregateKind::kTiles) {
    clock = static_cast<std::size_t>(std::find(tiles_.begin(), tiles_.end(), aggregate.tile) - tiles_.begin());
    if (clock == tiles_.size()) tiles_.push_back(aggregate.tile);
  }
  clock_of_.push_back(clock);
  return place;
}

void Family::open(bool versioned) {
  layout_.check();
  for (std::size_t i = 0; i < kShards; ++i) shards.emplace_back(arena_, handles_ + i, versioned);
  // About what a key has after its first events.
  std::vector<std::size_t> all(layout_.places().size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  lines_ = std::clamp<std::size_t>((image(all).size() + 63) / 64, 2, 6);
}

std::vector<std::byte> Family::image(const std::vector<std::size_t>& places) const {
  Layout::Rooms rooms;
  const std::size_t bytes = layout_.plan(nullptr, {places.data(), places.size()}, rooms);
  std::vector<std::byte> image((bytes + Arena::kUnit - 1) / Arena::kUnit * Arena::kUnit);
  layout_.copy(nullptr, image.data(), rooms);
  return image;
}

std::vector<TileClock> Family::clocks() const {
  std::vector<TileClock> clocks;
  for (const std::int64_t tile : tiles_) clocks.push_back({tile});
  if (clocks.empty()) clocks.push_back({1});
  return clocks;
}

std::uint32_t Family::copy(Shard& shard, const std::byte* bytes, std::size_t size, std::int64_t version, std::uint32_t previous) {
  auto units = static_cast<std::uint32_t>(size / Arena::kUnit);
  const std::uint32_t block = shard.blocks().take(units);
  if (block == 0) return 0;
  std::memcpy(arena_->at(block), bytes, size);
  BlockHeader* header = shard.blocks().header(block);
  header->version = version;
  header->previous = previous;
  header->units = units;
  return block;
}

std::uint32_t Family::change(Shard& shard, const std::byte* block, const Layout::Change& change, std::int64_t version, std::uint32_t previous) {
  static thread_local Layout::Rooms rooms;
  auto units = static_cast<std::uint32_t>((layout_.plan(block, change, rooms) + Arena::kUnit - 1) / Arena::kUnit);
  const std::uint32_t changed = shard.blocks().take(units);
  if (changed == 0) return 0;
  layout_.copy(block, arena_->at(changed), rooms);
  BlockHeader* header = shard.blocks().header(changed);
  header->version = version;
  header->previous = previous;
  header->units = units;
  header->absent = 0;
  return changed;
}

std::byte* Family::writable(Shard& shard, Entry& entry, const std::size_t* places, std::size_t count, const std::vector<std::byte>& image,
                            std::int64_t version) {
  const std::uint32_t newest = entry.block.load(std::memory_order_relaxed);
  const BlockHeader* header = newest == 0 ? nullptr : shard.blocks().header(newest);
  const std::byte* held = header == nullptr || header->absent ? nullptr : arena_->at(newest);
  const bool own = held != nullptr && shard.is_own(*header, version);
  const bool complete = held != nullptr && std::all_of(places, places + count, [&](std::size_t place) {
    return layout_.places()[place].find(held) != nullptr;
  });
  if (own && complete) return arena_->at(newest);
  const std::uint32_t previous = own ? header->previous : newest;
  std::uint32_t block = 0;
  if (held == nullptr && !image.empty()) {
    block = copy(shard, image.data(), image.size(), version, previous);
  } else if (complete) {
    block = copy(shard, held, std::size_t{header->units} * Arena::kUnit, version, previous);
  } else {
    block = change(shard, held, {places, count}, version, previous);
  }
  if (block == 0) return nullptr;
  shard.put(entry, block, version);
  return arena_->at(block);
}

bool Family::add_event(std::byte* state, const Place& place, const Update& update, std::int32_t tile) const {
  const Aggregate& aggregate = *place.aggregate;
  switch (aggregate.kind) {
    case AggregateKind::kTiles: return Tiles::add(state, aggregate, tile, update);
    case AggregateKind::kTotal: Total::add(state, place.parts, update); return true;
    case AggregateKind::kDecayed: Decayed::add(state, aggregate, update); return true;
    case AggregateKind::kLast:
      if (update.sign > 0) add_last(state, update.time);
      return true;
    case AggregateKind::kFirst:
      if (update.sign > 0) add_first(state, update.time);
      return true;
    case AggregateKind::kSequence: return Sequence::add(state, aggregate, update);
    case AggregateKind::kTop: return Top::add(state, aggregate, update);
  }
  return true;
}

// What has outlived its time is forgotten before the next event comes.
void Family::forget_late(std::byte* state, const Place& place, const Update& update) {
  if (place.aggregate->ttl == 0) return;
  const auto latest = load<std::int64_t>(state - 8);
  if (latest != 0 && update.time - latest > place.aggregate->ttl) Layout::clear(state, place);
  if (update.sign > 0) store(state - 8, std::max(latest, update.time));
}

bool Family::advance(std::byte* state, std::size_t at, const Update& update, std::int32_t tile) const {
  const Place& place = layout_.places()[at];
  forget_late(state, place, update);
  return add_event(state, place, update, tile);
}

bool Family::replace(Shard& shard, std::uint64_t key, std::uint64_t hash, const std::byte* block, std::size_t bytes,
                     const Layout::Rooms& rooms) {
  Entry* entry = shard.find_or_insert(key, hash, 0);
  if (entry == nullptr) return false;
  auto units = static_cast<std::uint32_t>((bytes + Arena::kUnit - 1) / Arena::kUnit);
  const std::uint32_t changed = shard.blocks().take(units);
  if (changed == 0) return false;
  layout_.copy(block, arena_->at(changed), rooms);
  BlockHeader* header = shard.blocks().header(changed);
  header->version = 0;
  header->previous = 0;
  header->units = units;
  header->absent = 0;
  shard.put(*entry, changed, 0);
  return true;
}

bool Family::update(Shard& shard, Entry& entry, std::byte*& block, std::size_t at, const Update& update, std::int32_t tile,
                    std::int64_t version) {
  const Place& place = layout_.places()[at];
  std::byte* state = place.find(block);
  forget_late(state, place, update);
  while (!add_event(state, place, update, tile)) {
    const auto previous = reinterpret_cast<const BlockHeader*>(block)->previous;
    const std::uint32_t grown = change(shard, block, {nullptr, 0, at}, version, previous);
    if (grown == 0) return false;
    shard.put(entry, grown, version);
    block = arena_->at(grown);
    state = place.find(block);
  }
  return true;
}

std::size_t Family::expire(Shard& shard, std::uint32_t seconds, std::int64_t version) {
  return remove_older(shard, seconds, ~std::size_t{0}, version, false);
}

std::size_t Family::remove_older(Shard& shard, std::uint32_t seconds, std::size_t most, std::int64_t version, bool at_once) {
  const TableView table = shard.view();
  std::size_t gone = 0;
  for (std::uint64_t at = 0; !table.empty() && at <= table.mask() && gone < most; ++at) {
    Entry& entry = table.entries()[at];
    const std::uint32_t block = entry.block.load(std::memory_order_relaxed);
    if (entry.key.load(std::memory_order_relaxed) == kMissingKey || block == 0) continue;
    if (shard.blocks().header(block)->latest >= seconds) continue;
    gone += shard.blocks().header(block)->absent ? 0 : 1;
    shard.remove(entry, version, at_once);
  }
  return gone;
}

std::size_t Family::expire_share(Shard& shard, double share, std::int64_t version) {
  std::vector<std::uint32_t> latest;
  const TableView table = shard.view();
  for (std::uint64_t at = 0; !table.empty() && at <= table.mask(); ++at) {
    const std::uint32_t block = table.entries()[at].block.load(std::memory_order_relaxed);
    if (table.entries()[at].key.load(std::memory_order_relaxed) != kMissingKey && block != 0) {
      latest.push_back(shard.blocks().header(block)->latest);
    }
  }
  if (latest.empty()) return 0;
  const auto wanted = std::clamp<std::size_t>(static_cast<std::size_t>(share * static_cast<double>(latest.size())), 1, latest.size());
  std::nth_element(latest.begin(), latest.begin() + static_cast<std::ptrdiff_t>(wanted - 1), latest.end());
  const std::uint32_t oldest = latest[wanted - 1];  // many keys may share this second
  const std::size_t older = remove_older(shard, oldest, wanted, version, true);
  return older + remove_older(shard, oldest + 1, wanted - std::min(wanted, older), version, true);
}

}  // namespace bowerbird
