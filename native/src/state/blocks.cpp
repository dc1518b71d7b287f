#include "state/blocks.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <tuple>

namespace bowerbird {

std::uint32_t Blocks::round_up(std::uint32_t units) {
  if (units <= 8) return std::max<std::uint32_t>(units, 1);
  const std::uint32_t step = std::uint32_t{1} << (std::bit_width(units - 1) - 4);
  return (units + step - 1) / step * step;
}

// `units` is rounded.
std::size_t Blocks::class_of(std::uint32_t units) {
  if (units <= 16) return units;
  const auto doubling = static_cast<std::uint32_t>(std::bit_width(units - 1)) - 4;
  return 8 * static_cast<std::size_t>(doubling) + (units >> doubling);
}

std::uint32_t Blocks::take(std::uint32_t& units) {
  units = round_up(units);
  std::uint32_t& free = free_[class_of(units)];
  std::uint32_t block = free;
  if (block != 0) {
    std::memcpy(&free, arena_->at(block), sizeof(free));
    std::memset(arena_->at(block), 0, static_cast<std::size_t>(units) * Arena::kUnit);
  } else {
    block = take_fresh(units);
  }
  if (block != 0) units_ += units;
  return block;
}

// Memory that was never used is zero.
std::uint32_t Blocks::take_fresh(std::uint32_t units) {
  if (units > kLargestChunk / 4) return arena_->take(units);
  if (end_ - next_ < units && !spare_.empty()) {
    std::tie(next_, end_) = spare_.back();
    spare_.pop_back();
    std::memset(arena_->at(next_), 0, static_cast<std::size_t>(end_ - next_) * Arena::kUnit);
  }
  if (end_ - next_ < units) {
    const std::uint32_t wanted = std::max(chunk_, 4 * units);
    const std::uint32_t chunk = arena_->take(wanted);
    if (chunk == 0) return 0;
    next_ = chunk;
    end_ = chunk + wanted;
    chunk_ = std::min(2 * chunk_, kLargestChunk);
  }
  const std::uint32_t block = next_;
  next_ += units;
  return block;
}

void Blocks::give_back(std::uint32_t block, std::uint32_t units) {
  if (units > kLargestChunk / 4) {
    spare_.emplace_back(block, block + units);
    units_ -= units;
    return;
  }
  std::uint32_t& free = free_[class_of(units)];
  std::memcpy(arena_->at(block), &free, sizeof(free));
  free = block;
  units_ -= units;
}

void Blocks::set_floor(std::int64_t floor) {
  floor_ = floor;
  while (!retired_.empty() && retired_.front().version <= floor_) {
    give_back(retired_.front().block, retired_.front().units);
    retired_.pop_front();
  }
}

}  // namespace bowerbird
