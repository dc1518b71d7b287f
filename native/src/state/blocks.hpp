// Blocks of memory for the states of keys, with versions, so that readers see one log position while a writer goes on.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "state/arena.hpp"

namespace bowerbird {

// The start of every block. A reader at position L takes the newest version that is not above L.
struct BlockHeader {
  std::int64_t version;         // the position from which this block holds
  std::uint32_t previous;       // the block that held before
  std::uint32_t units : 31;     // its size
  std::uint32_t absent : 1;     // the key is gone from this version on
  std::uint32_t latest;         // largest event time of the key, in seconds since 1970

  static constexpr std::size_t kBytes = 20;  // what follows begins here

  static std::uint32_t seconds(std::int64_t time) {
    constexpr std::int64_t kMost = 0xFFFFFFFF;
    return static_cast<std::uint32_t>(std::clamp<std::int64_t>(time / 1'000'000, 0, kMost));
  }
};
static_assert(offsetof(BlockHeader, latest) + sizeof(std::uint32_t) == BlockHeader::kBytes);

// Gives out and takes back the blocks of one shard; used by one thread at a time.
class Blocks {
 public:
  explicit Blocks(Arena* arena) : arena_(arena) {}

  BlockHeader* header(std::uint32_t block) const { return reinterpret_cast<BlockHeader*>(arena_->at(block)); }

  // Returns zeroed memory of at least so many units (how many, through `units`), or 0 where the arena is full.
  std::uint32_t take(std::uint32_t& units);

  // Gives memory back at once.
  void give_back(std::uint32_t block, std::uint32_t units);

  // Gives memory back once no reader is below `version`.
  void retire(std::uint32_t block, std::uint32_t units, std::int64_t version) { retired_.push_back({block, units, version}); }

  // No reader is below this position, nor will be: what was retired until then can be used again.
  void set_floor(std::int64_t floor);
  std::int64_t floor() const { return floor_; }

  std::size_t bytes() const { return units_ * Arena::kUnit; }
  std::size_t retired_count() const { return retired_.size(); }

  // Sizes come in eight steps for each doubling.
  static std::uint32_t round_up(std::uint32_t units);

 private:
  struct Retired {
    std::uint32_t block;
    std::uint32_t units;
    std::int64_t version;
  };
  static constexpr std::uint32_t kSmallestChunk = 64;       // 1 KiB
  static constexpr std::uint32_t kLargestChunk = 16 * 1024;  // 256 KiB

  static std::size_t class_of(std::uint32_t units);
  std::uint32_t take_fresh(std::uint32_t units);

  Arena* arena_;
  std::array<std::uint32_t, 256> free_{};  // by size class: a list through the blocks' first words
  std::deque<Retired> retired_;
  std::int64_t floor_ = 0;
  std::uint32_t next_ = 0;
  std::uint32_t end_ = 0;
  std::uint32_t chunk_ = kSmallestChunk;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> spare_;  // large blocks given back: cut up before new memory is taken
  std::size_t units_ = 0;  // given out and not taken back
};

}  // namespace bowerbird
