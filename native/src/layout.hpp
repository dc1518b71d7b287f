// Where the states of a key family's aggregates stand in a key's block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "blocks.hpp"
#include "plan.hpp"
#include "states.hpp"

namespace bowerbird {

struct Place {
  const Aggregate* aggregate;
  std::uint32_t state;   // offset of the fixed part in the block
  std::int32_t latest;   // offset of the latest event time where there is a time to live, or -1
  std::uint32_t bytes;   // of the fixed part
  Parts parts;           // of a total
};

// A block is its header, every aggregate's fixed part, then the arrays.
class Layout {
 public:
  // Returns the aggregate's place among the family's.
  std::size_t add(const Aggregate& aggregate);
  const std::vector<Place>& places() const { return places_; }

  // Bytes of a new key's block, arrays of their first capacity included.
  std::size_t first_bytes() const;
  // Fills a zeroed block of first_bytes().
  void initialise(std::byte* block) const;

  // Bytes of the block once one aggregate's array has twice its capacity (none: place = npos).
  std::size_t grown_bytes(const std::byte* block, std::size_t place) const;
  // Copies a block into a zeroed one of grown_bytes(); versions are the caller's.
  void copy_grown(const std::byte* from, std::byte* to, std::size_t place) const;

  // Forgets one aggregate's state; its array keeps its room.
  static void clear(std::byte* block, const Place& place);

  // Bytes that each aggregate takes in a block.
  void add_bytes(const std::byte* block, std::vector<std::size_t>& bytes) const;

  // After so long without an event a key reads as if it had never been; 0: never.
  std::int64_t horizon() const;

  static constexpr std::size_t kNone = ~std::size_t{0};

 private:
  static std::size_t array_bytes(const Aggregate& aggregate, std::size_t capacity);
  static std::size_t capacity_of(const std::byte* state, const Aggregate& aggregate);
  static std::size_t first_capacity(const Aggregate& aggregate);
  static std::size_t larger(const Aggregate& aggregate, std::size_t capacity);
  static void set_array(std::byte* state, const Aggregate& aggregate, std::size_t offset, std::size_t capacity);

  std::vector<Place> places_;
  std::size_t fixed_ = sizeof(BlockHeader);
};

}  // namespace bowerbird
