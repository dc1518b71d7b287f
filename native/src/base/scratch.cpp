#include "base/scratch.hpp"

#include <algorithm>
#include <cstring>

namespace bowerbird {

Scratch::Scratch(const Family& family) : layout_(family.layout()) {
  const std::size_t places = layout_.places().size();
  const std::size_t bytes = layout_.whole(rooms_);
  empty_.resize(bytes);
  layout_.copy(nullptr, empty_.data(), rooms_);
  block_ = empty_;
  for (const Place& place : layout_.places()) {
    const std::size_t offset = static_cast<std::size_t>(place.find(empty_.data()) - empty_.data());
    const std::size_t before = place.aggregate->ttl > 0 ? 8 : 0;
    offsets_.push_back(offset);
    heads_.push_back({offset - before, (before + Layout::head_bytes(*place.aggregate) + 7) / 8});
  }
  counted_.resize(places);
  held_.resize(places);
}

void Scratch::clear() {
  std::memcpy(block_.data(), empty_.data(), BlockHeader::kBytes);
  for (const Head& head : heads_) std::copy_n(empty_.data() + head.offset, 8 * head.words, block_.data() + head.offset);
  std::fill(counted_.begin(), counted_.end(), Counted{});
  std::fill(held_.begin(), held_.end(), std::uint8_t{0});
}

void Scratch::load(const std::byte* block) {
  clear();
  layout_.copy(block, block_.data(), rooms_);
  for (const Place& place : layout_.places()) held_[place.number] = place.find(block) != nullptr ? 1 : 0;
}

bool Scratch::store(Family& family, Shard& shard, std::uint64_t key, std::uint64_t hash) {
  Layout::Rooms rooms;
  const std::size_t bytes = layout_.compact(block_.data(), held_, rooms);
  return family.replace(shard, key, hash, block_.data(), bytes, rooms);
}

}  // namespace bowerbird
