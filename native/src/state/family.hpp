// One key family: its layout, its shards, and how events change the state of a key.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "state/layout.hpp"
#include "state/shards.hpp"

namespace bowerbird {

// What becomes of an event that would need memory beyond the budget.
enum class Full { kFail, kRefuse, kExpire };

// The tile of a time, remembered while times stay within it.
struct TileClock {
  std::int64_t tile;
  std::int64_t start = 1;
  std::int64_t end = 0;
  std::int32_t index = 0;

  void move_to(std::int64_t time) {
    if (time >= start && time < end) return;
    index = Tiles::index_of(time, tile);
    start = index * tile;
    end = start + tile;
  }
};

class Family {
 public:
  Family(Arena* arena, std::atomic<std::uint64_t>* handles) : keys(arena, handles), arena_(arena), handles_(handles) {}

  // Returns the aggregate's place.
  std::size_t add(const Aggregate& aggregate);
  // After the last add(); a reader's family has no shards.
  void open(bool versioned);

  const Layout& layout() const { return layout_; }
  std::size_t clock_of(std::size_t place) const { return clock_of_[place]; }
  std::vector<TileClock> clocks() const;
  std::size_t lines() const { return lines_; }

  // The block of a new key that has states of so many places.
  std::vector<std::byte> image(const std::vector<std::size_t>& places) const;
  // The block of a key that the writer of `version` may change, with the states of so many places; null where memory
  // is full. `image` is what a new key gets, where it is known.
  std::byte* writable(Shard& shard, Entry& entry, const std::size_t* places, std::size_t count, const std::vector<std::byte>& image,
                      std::int64_t version);
  // False where memory is full. `block` follows where it grows.
  bool update(Shard& shard, Entry& entry, std::byte*& block, std::size_t place, const Update& update, std::int32_t tile,
              std::int64_t version);

  // Brings an event to one aggregate's state; false where the state needs more room.
  bool advance(std::byte* state, std::size_t place, const Update& update, std::int32_t tile) const;
  // Puts a copy of `block`, of so many bytes with such rooms, in place of what a key holds, in a state that no reader
  // looks on; false where memory is full.
  bool replace(Shard& shard, std::uint64_t key, std::uint64_t hash, const std::byte* block, std::size_t bytes, const Layout::Rooms& rooms);

  // Lets go of keys without an event since a time in seconds; returns how many.
  std::size_t expire(Shard& shard, std::uint32_t seconds, std::int64_t version);
  // Lets go of the given share of a shard's keys, those longest without an event; returns how many.
  std::size_t expire_share(Shard& shard, double share, std::int64_t version);

  Keys keys;
  std::vector<Shard> shards;

 private:
  std::size_t remove_older(Shard& shard, std::uint32_t seconds, std::size_t most, std::int64_t version, bool at_once);
  std::uint32_t copy(Shard& shard, const std::byte* bytes, std::size_t size, std::int64_t version, std::uint32_t previous);
  std::uint32_t change(Shard& shard, const std::byte* block, const Layout::Change& change, std::int64_t version, std::uint32_t previous);
  bool add_event(std::byte* state, const Place& place, const Update& update, std::int32_t tile) const;
  static void forget_late(std::byte* state, const Place& place, const Update& update);

  Arena* arena_;
  std::atomic<std::uint64_t>* handles_;
  Layout layout_;
  std::vector<std::size_t> clock_of_;  // by place
  std::vector<std::int64_t> tiles_;
  std::size_t lines_ = 1;  // cache lines that are asked for before a block is used
};

}  // namespace bowerbird
