#include "layout.hpp"

#include <algorithm>
#include <cstring>

namespace bowerbird {
namespace {

bool has_array(const Aggregate& aggregate) {
  return aggregate.kind == AggregateKind::kTiles || aggregate.kind == AggregateKind::kSequence ||
         aggregate.kind == AggregateKind::kTop;
}

std::size_t fixed_bytes(const Aggregate& aggregate) {
  switch (aggregate.kind) {
    case AggregateKind::kTiles: return Tiles::head_bytes(aggregate);
    case AggregateKind::kTotal: return static_cast<std::size_t>(Total::parts(aggregate).bytes);
    case AggregateKind::kDecayed: return Decayed::bytes(aggregate);
    case AggregateKind::kLast:
    case AggregateKind::kFirst: return sizeof(std::int64_t);
    case AggregateKind::kSequence: return sizeof(Sequence::Head);
    case AggregateKind::kTop: return sizeof(Top::Head);
  }
  return 0;
}

}  // namespace

std::size_t Layout::add(const Aggregate& aggregate) {
  Place place{&aggregate, 0, -1, 0, Total::parts(aggregate)};
  if (aggregate.ttl > 0) {
    place.latest = static_cast<std::int32_t>(fixed_);
    fixed_ += sizeof(std::int64_t);
  }
  place.state = static_cast<std::uint32_t>(fixed_);
  place.bytes = static_cast<std::uint32_t>(fixed_bytes(aggregate));
  fixed_ += (place.bytes + 7) / 8 * 8;
  places_.push_back(place);
  return places_.size() - 1;
}

std::size_t Layout::array_bytes(const Aggregate& aggregate, std::size_t capacity) {
  switch (aggregate.kind) {
    case AggregateKind::kTiles: return Tiles::Columns(aggregate, capacity).bytes;
    case AggregateKind::kSequence: return Sequence::array_bytes(aggregate, capacity);
    case AggregateKind::kTop: return Top::array_bytes(capacity);
    default: return 0;
  }
}

std::size_t Layout::first_capacity(const Aggregate& aggregate) {
  if (aggregate.kind == AggregateKind::kTiles) return std::min<std::size_t>(Tiles::kFirstCapacity, static_cast<std::size_t>(aggregate.reach));
  if (has_array(aggregate)) return std::min<std::size_t>(Sequence::kFirstCapacity, aggregate.length);
  return 0;
}

std::size_t Layout::larger(const Aggregate& aggregate, std::size_t capacity) {
  const std::size_t most = aggregate.kind == AggregateKind::kTiles ? static_cast<std::size_t>(aggregate.reach) : aggregate.length;
  return std::min(most, std::max<std::size_t>(2 * capacity, 2));
}

std::size_t Layout::capacity_of(const std::byte* state, const Aggregate& aggregate) {
  switch (aggregate.kind) {
    case AggregateKind::kTiles: {
      Tiles::Head head{};
      std::memcpy(&head, state, Tiles::kHeadWithoutSum);
      return head.capacity;
    }
    case AggregateKind::kSequence: return load<Sequence::Head>(state).capacity;
    case AggregateKind::kTop: return load<Top::Head>(state).capacity;
    default: return 0;
  }
}

void Layout::set_array(std::byte* state, const Aggregate& aggregate, std::size_t offset, std::size_t capacity) {
  const auto start = static_cast<std::uint32_t>(offset);
  if (aggregate.kind == AggregateKind::kTiles) {
    Tiles::Head head{};
    std::memcpy(&head, state, Tiles::kHeadWithoutSum);
    head.array = start;
    head.capacity = static_cast<std::uint16_t>(capacity);
    std::memcpy(state, &head, Tiles::kHeadWithoutSum);
  } else if (aggregate.kind == AggregateKind::kSequence) {
    auto head = load<Sequence::Head>(state);
    head.array = start;
    head.capacity = static_cast<std::uint32_t>(capacity);
    store(state, head);
  } else {
    auto head = load<Top::Head>(state);
    head.array = start;
    head.capacity = static_cast<std::uint32_t>(capacity);
    store(state, head);
  }
}

std::size_t Layout::first_bytes() const {
  std::size_t bytes = fixed_;
  for (const Place& place : places_) bytes += array_bytes(*place.aggregate, first_capacity(*place.aggregate));
  return bytes;
}

void Layout::initialise(std::byte* block) const {
  std::size_t offset = fixed_;
  for (const Place& place : places_) {
    if (!has_array(*place.aggregate)) continue;
    const std::size_t capacity = first_capacity(*place.aggregate);
    set_array(block + place.state, *place.aggregate, offset, capacity);
    offset += array_bytes(*place.aggregate, capacity);
  }
}

std::size_t Layout::grown_bytes(const std::byte* block, std::size_t grown) const {
  std::size_t bytes = fixed_;
  for (std::size_t i = 0; i < places_.size(); ++i) {
    const Aggregate& aggregate = *places_[i].aggregate;
    if (!has_array(aggregate)) continue;
    const std::size_t capacity = capacity_of(block + places_[i].state, aggregate);
    bytes += array_bytes(aggregate, i == grown ? larger(aggregate, capacity) : capacity);
  }
  return bytes;
}

void Layout::copy_grown(const std::byte* from, std::byte* to, std::size_t grown) const {
  std::memcpy(to, from, fixed_);
  std::size_t offset = fixed_;
  for (std::size_t i = 0; i < places_.size(); ++i) {
    const Aggregate& aggregate = *places_[i].aggregate;
    if (!has_array(aggregate)) continue;
    const std::byte* old = from + places_[i].state;
    std::byte* state = to + places_[i].state;
    const std::size_t held = capacity_of(old, aggregate);
    const std::size_t capacity = i == grown ? larger(aggregate, held) : held;
    if (aggregate.kind == AggregateKind::kTiles) {
      Tiles::Head head{};
      std::memcpy(&head, old, Tiles::kHeadWithoutSum);
      Tiles::copy_array(from + head.array, to + offset, aggregate, head, capacity);
    } else if (aggregate.kind == AggregateKind::kSequence) {
      auto head = load<Sequence::Head>(old);
      Sequence::copy_array(from, to + offset, aggregate, head, capacity);
      store(state, head);
    } else {
      const auto head = load<Top::Head>(old);
      std::memcpy(to + offset, from + head.array, sizeof(Top::Entry) * head.size);
    }
    set_array(state, aggregate, offset, capacity);
    offset += array_bytes(aggregate, capacity);
  }
}

void Layout::clear(std::byte* block, const Place& place) {
  std::byte* state = block + place.state;
  if (place.aggregate->kind == AggregateKind::kSequence) {
    auto head = load<Sequence::Head>(state);
    head.size = head.oldest = 0;
    store(state, head);
  } else if (place.aggregate->kind == AggregateKind::kTop) {
    auto head = load<Top::Head>(state);
    head.size = 0;
    store(state, head);
  } else {
    std::memset(state, 0, place.bytes);
  }
}

void Layout::add_bytes(const std::byte* block, std::vector<std::size_t>& bytes) const {
  for (std::size_t i = 0; i < places_.size(); ++i) {
    const Aggregate& aggregate = *places_[i].aggregate;
    bytes[i] += places_[i].bytes + (places_[i].latest >= 0 ? sizeof(std::int64_t) : 0) +
                array_bytes(aggregate, capacity_of(block + places_[i].state, aggregate));
  }
}

std::int64_t Layout::horizon() const {
  std::int64_t longest = 0;
  for (const Place& place : places_) {
    const Aggregate& aggregate = *place.aggregate;
    std::int64_t own = aggregate.ttl;
    if (aggregate.kind == AggregateKind::kTiles) own = aggregate.reach * aggregate.tile;
    if (aggregate.kind == AggregateKind::kDecayed) own = Decayed::kEpochs * 2 * Decayed::kHalfLives * aggregate.half_life;
    if (own == 0) return 0;
    longest = std::max(longest, own);
  }
  return longest;
}

}  // namespace bowerbird
