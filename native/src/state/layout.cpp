#include "state/layout.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <stdexcept>

namespace bowerbird {
namespace {

std::size_t most(const Aggregate& aggregate) {
  return aggregate.kind == AggregateKind::kTiles ? static_cast<std::size_t>(aggregate.reach) : aggregate.length;
}

std::size_t first_capacity(const Aggregate& aggregate) {
  switch (aggregate.kind) {
    case AggregateKind::kTiles: return 1;
    case AggregateKind::kSequence:
    case AggregateKind::kTop: return std::min<std::size_t>(2, aggregate.length);
    default: return 0;
  }
}

std::size_t capacity_of(const std::byte* state, const Aggregate& aggregate) {
  switch (aggregate.kind) {
    case AggregateKind::kTiles: return load<Tiles::Head>(state).capacity;
    case AggregateKind::kSequence: return Sequence::head(state).capacity;
    case AggregateKind::kTop: return Top::head(state).capacity;
    default: return 0;
  }
}

std::size_t size_of(const std::byte* state, const Aggregate& aggregate) {
  switch (aggregate.kind) {
    case AggregateKind::kTiles: return load<Tiles::Head>(state).size;
    case AggregateKind::kSequence: return Sequence::head(state).size;
    case AggregateKind::kTop: return Top::head(state).size;
    default: return 0;
  }
}

std::size_t state_bytes(const Aggregate& aggregate, std::size_t capacity) {
  switch (aggregate.kind) {
    case AggregateKind::kTiles: return Tiles::bytes(aggregate, capacity);
    case AggregateKind::kTotal: return static_cast<std::size_t>(Total::parts(aggregate).bytes);
    case AggregateKind::kDecayed: return Decayed::bytes(aggregate);
    case AggregateKind::kLast:
    case AggregateKind::kFirst: return sizeof(std::int64_t);
    case AggregateKind::kSequence: return Sequence::bytes(aggregate, capacity);
    case AggregateKind::kTop: return Top::bytes(capacity);
  }
  return 0;
}

// With the latest time before it, where there is one, and in steps of eight.
std::size_t whole_bytes(const Aggregate& aggregate, std::size_t capacity) {
  return (state_bytes(aggregate, capacity) + (aggregate.ttl > 0 ? 8 : 0) + 7) / 8 * 8;
}

void set_capacity(std::byte* state, const Aggregate& aggregate, std::size_t capacity) {
  switch (aggregate.kind) {
    case AggregateKind::kTiles: reinterpret_cast<Tiles::Head*>(state)->capacity = static_cast<std::uint8_t>(capacity); return;
    case AggregateKind::kSequence: reinterpret_cast<Sequence::Head*>(state)->capacity = static_cast<std::uint32_t>(capacity); return;
    case AggregateKind::kTop: reinterpret_cast<Top::Head*>(state)->capacity = static_cast<std::uint32_t>(capacity); return;
    default: return;
  }
}

void copy_state(const std::byte* from, std::byte* to, const Aggregate& aggregate, std::size_t capacity) {
  if (aggregate.ttl > 0) std::memcpy(to - 8, from - 8, 8);
  switch (aggregate.kind) {
    case AggregateKind::kTiles: return Tiles::copy(from, to, aggregate, capacity);
    case AggregateKind::kSequence: return Sequence::copy(from, to, aggregate, capacity);
    case AggregateKind::kTop:
      std::memcpy(to, from, Top::bytes(Top::head(from).size));
      return set_capacity(to, aggregate, capacity);
    default: std::memcpy(to, from, state_bytes(aggregate, capacity));
  }
}

}  // namespace

std::size_t Layout::add(const Aggregate& aggregate) {
  places_.push_back({&aggregate, places_.size(), Total::parts(aggregate)});
  return places_.size() - 1;
}

void Layout::check() const {
  std::size_t bytes = first_state();
  for (const Place& place : places_) bytes += whole_bytes(*place.aggregate, most(*place.aggregate));
  if (bytes > std::size_t{8} * 0xFFFF) {
    throw std::invalid_argument("the aggregates of one key family may take " + std::to_string(bytes) +
                                " bytes for a key; 524,280 are possible: shorten its sequences");
  }
}

// Tiles that are full grow along, since their next tile is likely to come soon, too.
std::size_t Layout::plan(const std::byte* block, const Change& change, Rooms& rooms) const {
  rooms.assign(places_.size(), kAbsent);
  std::size_t bytes = first_state();
  const bool growing = change.full < places_.size();
  for (const Place& place : places_) {
    const std::byte* state = block == nullptr ? nullptr : place.find(block);
    if (state == nullptr) continue;
    const Aggregate& aggregate = *place.aggregate;
    std::size_t room = capacity_of(state, aggregate);
    const bool is_full = growing && aggregate.kind == AggregateKind::kTiles && reinterpret_cast<const Tiles::Head*>(state)->size == room;
    if (is_full || place.number == change.full) room = std::min(most(aggregate), 2 * room);
    rooms[place.number] = static_cast<std::uint32_t>(room);
    bytes += whole_bytes(aggregate, room);
  }
  for (std::size_t i = 0; i < change.missing_count; ++i) {
    std::uint32_t& room = rooms[change.missing[i]];
    if (room != kAbsent) continue;
    const Aggregate& aggregate = *places_[change.missing[i]].aggregate;
    room = static_cast<std::uint32_t>(first_capacity(aggregate));
    bytes += whole_bytes(aggregate, room);
  }
  return bytes;
}

std::size_t Layout::whole(Rooms& rooms) const {
  rooms.clear();
  std::size_t bytes = first_state();
  for (const Place& place : places_) {
    rooms.push_back(static_cast<std::uint32_t>(most(*place.aggregate)));
    bytes += whole_bytes(*place.aggregate, rooms.back());
  }
  return bytes;
}

std::size_t Layout::compact(const std::byte* block, const std::vector<std::uint8_t>& held, Rooms& rooms) const {
  rooms.assign(places_.size(), kAbsent);
  std::size_t bytes = first_state();
  for (const Place& place : places_) {
    if (held[place.number] == 0) continue;
    const Aggregate& aggregate = *place.aggregate;
    const std::size_t size = size_of(place.find(block), aggregate);
    const std::size_t room = std::min(most(aggregate), std::bit_ceil(std::max(size, first_capacity(aggregate))));
    rooms[place.number] = static_cast<std::uint32_t>(room);
    bytes += whole_bytes(aggregate, room);
  }
  return bytes;
}

std::size_t Layout::head_bytes(const Aggregate& aggregate) { return state_bytes(aggregate, 0); }

void Layout::copy(const std::byte* from, std::byte* to, const Rooms& rooms) const {
  if (from != nullptr) std::memcpy(to, from, BlockHeader::kBytes);
  std::size_t offset = first_state();
  for (const Place& place : places_) {
    const std::uint32_t room = rooms[place.number];
    if (room == kAbsent) continue;
    const Aggregate& aggregate = *place.aggregate;
    const std::size_t start = offset + (aggregate.ttl > 0 ? 8 : 0);
    store(to + BlockHeader::kBytes + 2 * place.number, static_cast<std::uint16_t>(start / 8));
    const std::byte* old = from == nullptr ? nullptr : place.find(from);
    if (old != nullptr) {
      copy_state(old, to + start, aggregate, room);
    } else {
      set_capacity(to + start, aggregate, room);
    }
    offset += whole_bytes(aggregate, room);
  }
}

void Layout::clear(std::byte* state, const Place& place) {
  const Aggregate& aggregate = *place.aggregate;
  const std::size_t capacity = capacity_of(state, aggregate);
  std::memset(state, 0, state_bytes(aggregate, 0));
  set_capacity(state, aggregate, capacity);
}

void Layout::add_bytes(const std::byte* block, std::vector<std::size_t>& bytes) const {
  for (const Place& place : places_) {
    bytes[place.number] += 2;
    const std::byte* state = place.find(block);
    if (state != nullptr) bytes[place.number] += whole_bytes(*place.aggregate, capacity_of(state, *place.aggregate));
  }
}

std::int64_t Layout::horizon() const {
  std::int64_t longest = 0;
  for (const Place& place : places_) {
    const Aggregate& aggregate = *place.aggregate;
    std::int64_t own = aggregate.ttl;
    if (aggregate.kind == AggregateKind::kTiles) own = aggregate.reach * aggregate.tile;
    if (own == 0) return 0;
    longest = std::max(longest, own);
  }
  return longest;
}

}  // namespace bowerbird
