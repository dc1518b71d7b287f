// The state of one key of one aggregate, and how events advance it. All states start as zero bytes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#include "plan.hpp"

namespace bowerbird {

inline std::int64_t floor_divide(std::int64_t value, std::int64_t divisor) {
  const std::int64_t quotient = value / divisor;
  return quotient - (value % divisor != 0 && value < 0 ? 1 : 0);
}

// Fixed point: nearest step, ties to even, limited to what a double holds exactly.
inline std::int64_t fixed_point(double value, std::int64_t scale) {
  constexpr double kLimit = 9007199254740992.0;
  return std::llrint(std::clamp(value * static_cast<double>(scale), -kLimit, kLimit));
}

struct TotalState {
  std::int64_t count;
  std::int64_t sum;

  void add(std::int64_t amount) {
    ++count;
    sum += amount;
  }
};

struct DecayedState {
  double count;
  double sum;
  std::int64_t time;

  static double weight(std::int64_t elapsed, std::int64_t half_life) {
    return std::exp2(-static_cast<double>(elapsed) / static_cast<double>(half_life));
  }

  void add(std::int64_t at, double amount, std::int64_t half_life) {
    if (at >= time) {
      const double kept = time == 0 ? 0.0 : weight(at - time, half_life);
      count = count * kept + 1.0;
      sum = sum * kept + amount;
      time = at;
    } else {
      const double late = weight(time - at, half_life);
      count += late;
      sum += late * amount;
    }
  }

  double factor(std::int64_t at, std::int64_t half_life) const {
    return at > time ? weight(at - time, half_life) : 1.0;
  }
};

struct LastState {
  std::int64_t time;

  void add(std::int64_t at) { time = std::max(time, at); }
};

template <typename Item>
Item* grow_array(Item* items, std::uint32_t capacity) {
  void* grown = std::realloc(static_cast<void*>(items), sizeof(Item) * capacity);
  if (grown == nullptr) throw std::bad_alloc();
  return static_cast<Item*>(grown);
}

struct Tile {
  std::int64_t index;
  std::int64_t count;
  std::int64_t sum;
};

// Tiles in ascending order; those that no later window can reach are dropped when a newer tile opens.
struct TilesState {
  Tile* tiles;
  std::uint32_t size;
  std::uint32_t capacity;

  void add(std::int64_t index, std::int64_t amount, std::int64_t reach) {
    if (size > 0 && index <= tiles[size - 1].index - reach) return;
    std::uint32_t at = size;
    while (at > 0 && tiles[at - 1].index > index) --at;
    if (at > 0 && tiles[at - 1].index == index) {
      ++tiles[at - 1].count;
      tiles[at - 1].sum += amount;
      return;
    }
    if (at == size) at -= drop_before(index - reach + 1);
    insert(at, {index, 1, amount});
  }

  TotalState window(std::int64_t last, std::int64_t reach) const {
    TotalState total{0, 0};
    for (std::uint32_t i = size; i-- > 0 && tiles[i].index > last - reach;) {
      if (tiles[i].index > last) continue;
      total.count += tiles[i].count;
      total.sum += tiles[i].sum;
    }
    return total;
  }

  void release() { std::free(tiles); }

 private:
  std::uint32_t drop_before(std::int64_t first) {
    std::uint32_t dropped = 0;
    while (dropped < size && tiles[dropped].index < first) ++dropped;
    if (dropped > 0) {
      size -= dropped;
      std::memmove(tiles, tiles + dropped, sizeof(Tile) * size);
    }
    return dropped;
  }

  void insert(std::uint32_t at, Tile tile) {
    if (size == capacity) {
      capacity = capacity == 0 ? 2 : capacity * 2;
      tiles = grow_array(tiles, capacity);
    }
    std::memmove(tiles + at + 1, tiles + at, sizeof(Tile) * (size - at));
    tiles[at] = tile;
    ++size;
  }
};

// A ring of the last events; an entry is its time and its fields.
struct SequenceState {
  std::uint64_t* words;
  std::uint32_t size;
  std::uint32_t capacity;
  std::uint32_t head;  // where the next entry goes once the ring is full

  std::uint64_t* push(std::uint32_t length, std::uint32_t width) {
    if (size < length) {
      if (size == capacity) {
        capacity = std::min(length, capacity == 0 ? 4 : capacity * 2);
        words = grow_array(words, capacity * width);
      }
      return words + static_cast<std::size_t>(size++) * width;
    }
    std::uint64_t* entry = words + static_cast<std::size_t>(head) * width;
    head = (head + 1) % length;
    return entry;
  }

  // Entry `age`: 0 is the oldest.
  const std::uint64_t* entry(std::uint32_t age, std::uint32_t length, std::uint32_t width) const {
    const std::uint32_t at = size < length ? age : (head + age) % length;
    return words + static_cast<std::size_t>(at) * width;
  }

  void release() { std::free(words); }
};

}  // namespace bowerbird
