// Where the states of a key family's aggregates stand in a key's block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "plan/plan.hpp"
#include "state/blocks.hpp"
#include "state/states.hpp"

namespace bowerbird {

// One aggregate among its family's.
struct Place {
  const Aggregate* aggregate;
  std::size_t number;
  Parts parts;  // of a total

  // The state in a block, or null where the key has none yet.
  const std::byte* find(const std::byte* block) const {
    const auto at = load<std::uint16_t>(block + BlockHeader::kBytes + 2 * number);
    return at == 0 ? nullptr : block + std::size_t{8} * at;
  }
  std::byte* find(std::byte* block) const { return const_cast<std::byte*>(find(static_cast<const std::byte*>(block))); }

  // With a time to live, the latest event's time stands before the state.
  bool is_forgotten(const std::byte* state, std::int64_t time) const {
    if (aggregate->ttl == 0) return false;
    const auto latest = load<std::int64_t>(state - 8);
    return latest == 0 || time - latest > aggregate->ttl;
  }
};

// A block is its header, the place of every state that the key has, then those states: an aggregate that the key never
// met takes two bytes.
class Layout {
 public:
  // Returns the aggregate's place.
  std::size_t add(const Aggregate& aggregate);
  const std::vector<Place>& places() const { return places_; }
  // Throws where a block could not be addressed.
  void check() const;

  // What a block becomes: states that `missing` names are added, and one that is full is given more room.
  struct Change {
    const std::size_t* missing = nullptr;
    std::size_t missing_count = 0;
    std::size_t full = ~std::size_t{0};
  };
  // The room of each state after a change; kAbsent where there is none.
  using Rooms = std::vector<std::uint32_t>;
  static constexpr std::uint32_t kAbsent = ~std::uint32_t{0};

  // Returns the bytes of the changed block; `block` is null for a new key's.
  std::size_t plan(const std::byte* block, const Change& change, Rooms& rooms) const;
  // Copies a block (or null) into a zeroed one as planned; versions and size are the caller's.
  void copy(const std::byte* from, std::byte* to, const Rooms& rooms) const;

  // Plans a block with room for all that a key may come to hold; returns its bytes.
  std::size_t whole(Rooms& rooms) const;
  // Plans a block for what the `held` states of `block` need; returns its bytes.
  std::size_t compact(const std::byte* block, const std::vector<std::uint8_t>& held, Rooms& rooms) const;
  // The bytes of a state that say what is in it; its array follows.
  static std::size_t head_bytes(const Aggregate& aggregate);

  // Forgets one aggregate's state; its array keeps its room.
  static void clear(std::byte* state, const Place& place);

  // Adds up the bytes that each aggregate takes in a block.
  void add_bytes(const std::byte* block, std::vector<std::size_t>& bytes) const;

  // After so long without an event a key reads as if it had never been; 0: never.
  std::int64_t horizon() const;

 private:
  std::size_t first_state() const { return (BlockHeader::kBytes + 2 * places_.size() + 7) / 8 * 8; }

  std::vector<Place> places_;
};

}  // namespace bowerbird
