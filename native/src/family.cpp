#include "family.hpp"

#include <algorithm>
#include <cstring>

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
  for (std::size_t i = 0; i < kShards; ++i) shards.emplace_back(arena_, handles_ + i, versioned);
  first_.resize((layout_.first_bytes() + Arena::kUnit - 1) / Arena::kUnit * Arena::kUnit);
  layout_.initialise(first_.data());
  lines_ = std::min<std::size_t>(8, (first_.size() + 63) / 64);
}

std::vector<TileClock> Family::clocks() const {
  std::vector<TileClock> clocks;
  for (const std::int64_t tile : tiles_) clocks.push_back({tile});
  if (clocks.empty()) clocks.push_back({1});
  return clocks;
}

std::uint32_t Family::fresh(Shard& shard, std::int64_t version, std::uint32_t previous) {
  auto units = static_cast<std::uint32_t>(first_.size() / Arena::kUnit);
  const std::uint32_t block = shard.blocks().take(units);
  if (block == 0) return 0;
  std::memcpy(arena_->at(block), first_.data(), first_.size());
  BlockHeader* header = shard.blocks().header(block);
  header->version = version;
  header->previous = previous;
  header->units = units;
  return block;
}

std::uint32_t Family::copy(Shard& shard, const BlockHeader& header, std::int64_t version) {
  std::uint32_t units = header.units;
  const std::uint32_t block = shard.blocks().take(units);
  if (block == 0) return 0;
  std::memcpy(arena_->at(block), &header, static_cast<std::size_t>(header.units) * Arena::kUnit);
  shard.blocks().header(block)->version = version;
  return block;
}

std::byte* Family::writable(Shard& shard, std::uint64_t key, std::uint64_t hash, std::int64_t version, Entry** entry) {
  Entry* found = shard.find_or_insert(key, hash, version);
  if (found == nullptr) return nullptr;
  *entry = found;
  const std::uint32_t newest = found->block.load(std::memory_order_relaxed);
  std::uint32_t block = 0;
  if (newest == 0) {
    block = fresh(shard, version, 0);
  } else {
    const BlockHeader& header = *shard.blocks().header(newest);
    if (!header.absent && shard.is_own(header, version)) return arena_->at(newest);
    block = header.absent ? fresh(shard, version, newest) : copy(shard, header, version);
    if (block != 0) shard.blocks().header(block)->previous = newest;
  }
  if (block == 0) return nullptr;
  shard.put(*found, block, version);
  return arena_->at(block);
}

std::byte* Family::grow(Shard& shard, Entry& entry, std::byte* block, std::size_t place, std::int64_t version) {
  const auto* old = reinterpret_cast<const BlockHeader*>(block);
  auto units = static_cast<std::uint32_t>((layout_.grown_bytes(block, place) + Arena::kUnit - 1) / Arena::kUnit);
  const std::uint32_t grown = shard.blocks().take(units);
  if (grown == 0) return nullptr;
  layout_.copy_grown(block, arena_->at(grown), place);
  BlockHeader* header = shard.blocks().header(grown);
  header->version = version;
  header->previous = old->previous;
  header->units = units;
  shard.put(entry, grown, version);
  return arena_->at(grown);
}

bool Family::add_event(std::byte* block, const Place& place, const Update& update, std::int32_t tile) const {
  std::byte* state = block + place.state;
  const Aggregate& aggregate = *place.aggregate;
  switch (aggregate.kind) {
    case AggregateKind::kTiles: return Tiles::add(block, state, aggregate, tile, update);
    case AggregateKind::kTotal: Total::add(state, place.parts, update); return true;
    case AggregateKind::kDecayed: Decayed::add(state, aggregate, update); return true;
    case AggregateKind::kLast:
      if (update.sign > 0) add_last(state, update.time);
      return true;
    case AggregateKind::kFirst:
      if (update.sign > 0) add_first(state, update.time);
      return true;
    case AggregateKind::kSequence: return Sequence::add(block, state, aggregate, update);
    case AggregateKind::kTop: return Top::add(block, state, aggregate, update);
  }
  return true;
}

bool Family::update(Shard& shard, Entry& entry, std::byte*& block, std::size_t at, const Update& update, std::int32_t tile,
                    std::int64_t version) {
  const Place& place = layout_.places()[at];
  if (place.latest >= 0) {
    const auto latest = load<std::int64_t>(block + place.latest);
    if (latest != 0 && update.time - latest > place.aggregate->ttl) Layout::clear(block, place);
    if (update.sign > 0) store(block + place.latest, std::max(latest, update.time));
  }
  while (!add_event(block, place, update, tile)) {
    std::byte* grown = grow(shard, entry, block, at, version);
    if (grown == nullptr) return false;
    block = grown;
  }
  auto* header = reinterpret_cast<BlockHeader*>(block);
  header->latest = std::max(header->latest, update.time);
  return true;
}

std::size_t Family::expire(Shard& shard, std::int64_t time, std::int64_t version, bool at_once) {
  const TableView table = shard.view();
  std::size_t gone = 0;
  for (std::uint64_t at = 0; !table.empty() && at <= table.mask(); ++at) {
    Entry& entry = table.entries()[at];
    const std::uint32_t block = entry.block.load(std::memory_order_relaxed);
    if (entry.key.load(std::memory_order_relaxed) == kMissingKey || block == 0) continue;
    if (shard.blocks().header(block)->latest >= time) continue;
    gone += shard.blocks().header(block)->absent ? 0 : 1;
    shard.remove(entry, version, at_once);
  }
  return gone;
}

std::size_t Family::expire_share(Shard& shard, double share, std::int64_t version) {
  std::vector<std::int64_t> latest;
  const TableView table = shard.view();
  for (std::uint64_t at = 0; !table.empty() && at <= table.mask(); ++at) {
    const std::uint32_t block = table.entries()[at].block.load(std::memory_order_relaxed);
    if (table.entries()[at].key.load(std::memory_order_relaxed) != kMissingKey && block != 0) {
      latest.push_back(shard.blocks().header(block)->latest);
    }
  }
  if (latest.empty()) return 0;
  const auto place = std::min(latest.size() - 1, static_cast<std::size_t>(share * static_cast<double>(latest.size())));
  std::nth_element(latest.begin(), latest.begin() + static_cast<std::ptrdiff_t>(place), latest.end());
  return expire(shard, latest[place] + 1, version, true);
}

}  // namespace bowerbird
