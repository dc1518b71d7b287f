// A key's block with room for all that it may come to hold: where a bulk replay advances one key after another.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "state/family.hpp"

namespace bowerbird {

// Which tile a time lies in, for tiles of one length.
class TileDivider {
 public:
  explicit TileDivider(std::int64_t tile) : tile_(tile), inverse_(1.0 / static_cast<double>(tile)) {}

  static constexpr std::int64_t kExact = std::int64_t{1} << 51;  // the quotient of a smaller time is off by one at most

  std::int64_t tile() const { return tile_; }
  // Times from here on, and those before 1970, need index_of().
  std::int64_t near() const {
    constexpr std::int64_t kLong = std::int64_t{1} << 21;  // tiles for which kExact is the nearer limit
    return tile_ < 1'000'000 ? 0 : std::min(kExact, std::min(tile_, kLong) * std::numeric_limits<std::int32_t>::max());
  }
  std::int64_t near_index_of(std::int64_t time) const {
    const auto quotient = static_cast<std::int64_t>(static_cast<double>(time) * inverse_);
    const std::int64_t rest = time - quotient * tile_;
    return quotient + (rest >= tile_ ? 1 : 0) - (rest < 0 ? 1 : 0);
  }
  // The same as Tiles::index_of.
  std::int32_t index_of(std::int64_t time) const {
    if (time < 0 || time >= near()) return Tiles::index_of(time, tile_);
    return static_cast<std::int32_t>(near_index_of(time));
  }

 private:
  std::int64_t tile_;
  double inverse_;
};

class Scratch {
 public:
  explicit Scratch(const Family& family);

  // The state of a key that no event met.
  void clear();
  // The state in a block.
  void load(const std::byte* block);

  std::size_t bytes() const { return block_.size(); }
  const std::byte* block() const { return block_.data(); }
  std::byte* state(std::size_t place) { return block_.data() + offsets_[place]; }
  const std::byte* state(std::size_t place) const { return block_.data() + offsets_[place]; }
  std::uint32_t latest() const { return reinterpret_cast<const BlockHeader*>(block_.data())->latest; }

  // The events of a window of a place that counts tiles and nothing else, `tile` being the window's last.
  std::int64_t count(std::size_t place, std::int64_t reach, std::int32_t tile) {
    Counted& counted = counted_[place];
    if (counted.tile != tile) counted = {tile, Tiles::count(state(place), reach, tile)};
    return counted.total;
  }

  // Counts an event.
  void count_event(std::size_t place, const Aggregate& aggregate, std::int32_t tile, const Update& update) {
    touch(place);
    Tiles::add(state(place), aggregate, tile, update);
    Counted& counted = counted_[place];
    const bool is_newest = reinterpret_cast<const Tiles::Head*>(state(place))->newest == tile;  // an older one may be out of reach
    if (is_newest && counted.tile == tile && counted.total < std::numeric_limits<std::int32_t>::max()) {
      counted.total += update.sign;
    } else {
      counted.tile = kNoTile;
    }
  }

  // Any other event of a place.
  void add(const Family& family, std::size_t place, std::int32_t tile, const Update& update) {
    touch(place);
    family.advance(state(place), place, update, tile);
    counted_[place].tile = kNoTile;
  }

  void see(std::int64_t time) {
    auto* header = reinterpret_cast<BlockHeader*>(block_.data());
    header->latest = std::max(header->latest, BlockHeader::seconds(time));
  }

  // Puts what the key holds now in place of its block in a state that no reader looks on; false where memory is full.
  bool store(Family& family, Shard& shard, std::uint64_t key, std::uint64_t hash);

 private:
  static constexpr std::int32_t kNoTile = std::numeric_limits<std::int32_t>::min();
  // The last answer of a window.
  struct Counted {
    std::int32_t tile = kNoTile;
    std::int64_t total = 0;
  };
  struct Head {
    std::size_t offset;
    std::size_t words;
  };
  void touch(std::size_t place) { held_[place] = 1; }

  const Layout& layout_;
  std::vector<std::byte> block_;
  std::vector<std::byte> empty_;
  std::vector<std::size_t> offsets_;  // of the places' states
  std::vector<Head> heads_;           // what an empty state's first words are restored from
  std::vector<Counted> counted_;
  std::vector<std::uint8_t> held_;    // whether the key has met the aggregate
  Layout::Rooms rooms_;
};

}  // namespace bowerbird
