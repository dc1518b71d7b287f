// The state of one key of one aggregate inside the key's block, and how events advance it.
//
// A state has a fixed part at a place of the block that the layout gives, and, for tiles, sequences and tops, an array
// elsewhere in the block. All states start as zero bytes. None depends on the order in which events came.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "exp2.hpp"
#include "plan.hpp"

namespace bowerbird {

__extension__ typedef __int128 Int128;

inline constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
inline constexpr double kMicrosecondsPerSecond = 1e6;

inline std::int64_t floor_divide(std::int64_t value, std::int64_t divisor) {
  const std::int64_t quotient = value / divisor;
  return quotient - (value % divisor != 0 && value < 0 ? 1 : 0);
}

// Fixed point: nearest step, ties to even, limited to what a double holds exactly.
inline std::int64_t fixed_point(double value, std::int64_t scale) {
  constexpr double kLimit = 9007199254740992.0;
  return std::llrint(std::clamp(value * static_cast<double>(scale), -kLimit, kLimit));
}

inline double seconds_between(std::int64_t earlier, std::int64_t later) {
  return static_cast<double>(std::max<std::int64_t>(0, later - earlier)) / kMicrosecondsPerSecond;
}

// What an event brings to one aggregate.
struct Update {
  std::int64_t time;
  std::int64_t amount;  // fixed point
  std::int64_t sign;    // -1 takes an earlier event back
  const std::uint64_t* fields;
};

// Count, sum, sum of squares, extremes: what all of a set of events add up to.
struct Moments {
  std::int64_t count = 0;
  std::int64_t sum = 0;
  Int128 squares = 0;
  std::int64_t low = 0;   // kExtreme - minimum, 0 where there is none
  std::int64_t high = 0;  // kExtreme + maximum
};

inline constexpr std::int64_t kExtreme = std::int64_t{1} << 62;
inline constexpr std::int64_t kSquareLimit = std::int64_t{1} << 45;

double moments_value(const Moments& moments, What what, std::int64_t scale);

template <typename Value>
Value load(const std::byte* at) {
  Value value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

template <typename Value>
void store(std::byte* at, Value value) {
  std::memcpy(at, &value, sizeof(value));
}

template <typename Value>
void add_to(std::byte* at, Value value) {
  store<Value>(at, load<Value>(at) + value);
}

inline void raise_to(std::byte* at, std::int64_t value) {
  if (value > load<std::int64_t>(at)) store(at, value);
}

// Where the parts of a count stand, from its first byte on; -1 where the aggregate does not keep one.
struct Parts {
  int sum = -1;
  int squares = -1;
  int low = -1;
  int high = -1;
  int bytes = 0;
};

// ---- totals: everything since the beginning ----------------------------------------------------

struct Total {
  static Parts parts(const Aggregate& aggregate) {
    Parts parts;
    parts.bytes = 8;
    const auto next = [&parts](int size) { return (parts.bytes += size) - size; };
    if (aggregate.has_sum) parts.sum = next(8);
    if (aggregate.has_squares) parts.squares = next(16);
    if (aggregate.has_minimum) parts.low = next(8);
    if (aggregate.has_maximum) parts.high = next(8);
    return parts;
  }

  static void add(std::byte* state, const Parts& parts, const Update& update) {
    add_to<std::int64_t>(state, update.sign);
    if (parts.sum >= 0) add_to<std::int64_t>(state + parts.sum, update.sign * update.amount);
    if (parts.squares >= 0) add_to<Int128>(state + parts.squares, Int128{update.sign * update.amount} * update.amount);
    if (update.sign < 0) return;
    if (parts.low >= 0) raise_to(state + parts.low, kExtreme - update.amount);
    if (parts.high >= 0) raise_to(state + parts.high, kExtreme + update.amount);
  }

  static Moments read(const std::byte* state, const Parts& parts) {
    Moments moments;
    moments.count = load<std::int64_t>(state);
    if (parts.sum >= 0) moments.sum = load<std::int64_t>(state + parts.sum);
    if (parts.squares >= 0) moments.squares = load<Int128>(state + parts.squares);
    if (parts.low >= 0) moments.low = load<std::int64_t>(state + parts.low);
    if (parts.high >= 0) moments.high = load<std::int64_t>(state + parts.high);
    return moments;
  }
};

// ---- tiles: a window's tiles that have events --------------------------------------------------

// The tiles in use are the newest one and those whose bits are set: bit j is the tile j before it. Their counts (and
// sums, …) stand in the array, oldest first.
struct Tiles {
  struct Head {
    std::int32_t newest;
    std::uint32_t bitmap;
    std::uint32_t array;  // offset in the block
    std::uint16_t capacity;
    std::uint16_t size;
    std::int64_t count;  // of all tiles in use
    std::int64_t sum;    // only there where the aggregate keeps sums
  };
  static constexpr std::size_t kHeadWithoutSum = offsetof(Head, sum);
  static constexpr std::uint32_t kFirstCapacity = 2;
  static constexpr std::int64_t kMostTiles = 32;

  // Offsets of the columns in an array of so many tiles.
  struct Columns {
    std::size_t sum = 0, squares = 0, low = 0, high = 0, bytes = 0;
    Columns(const Aggregate& aggregate, std::size_t capacity) {
      bytes = (4 * capacity + 7) / 8 * 8;
      const auto next = [this](std::size_t size) { return (bytes += size) - size; };
      if (aggregate.has_sum) sum = next(8 * capacity);
      if (aggregate.has_squares) squares = next(16 * capacity);
      if (aggregate.has_minimum) low = next(8 * capacity);
      if (aggregate.has_maximum) high = next(8 * capacity);
    }
  };

  static std::size_t head_bytes(const Aggregate& aggregate) { return aggregate.has_sum ? sizeof(Head) : kHeadWithoutSum; }

  static std::int32_t index_of(std::int64_t time, std::int64_t tile) {
    constexpr std::int64_t kLimit = std::numeric_limits<std::int32_t>::max();
    return static_cast<std::int32_t>(std::clamp(floor_divide(time, tile), -kLimit, kLimit));
  }

  // False where the array has no room for another tile; nothing is changed then.
  static bool add(std::byte* block, std::byte* state, const Aggregate& aggregate, std::int32_t index, const Update& update);
  static Moments read(const std::byte* block, const std::byte* state, const Aggregate& aggregate, std::int32_t last);
  static void copy_array(const std::byte* from, std::byte* to, const Aggregate& aggregate, const Head& head, std::size_t capacity);

 private:
  static void add_at(std::byte* array, const Aggregate& aggregate, const Head& head, std::size_t at, const Update& update);
  static void move(std::byte* array, const Aggregate& aggregate, std::size_t capacity, std::size_t from, std::size_t to, std::size_t count);
  static void clear(std::byte* array, const Aggregate& aggregate, std::size_t capacity, std::size_t at);
  static void drop_oldest(std::byte* array, const Aggregate& aggregate, Head& head, std::size_t count);
};

// ---- decayed: fixed-point sums relative to epochs of eight half-lives --------------------------

struct Decayed {
  static constexpr int kEpochs = 4;
  static constexpr std::int64_t kHalfLives = 8;
  static constexpr int kScaleBits = 20;
  static constexpr std::int64_t kBias = std::int64_t{1} << 40;  // so that an epoch is never 0

  struct Head {
    std::int64_t newest;  // epoch
    std::int64_t latest;  // event time: a read before it decays nothing
    std::int64_t count[kEpochs];
  };

  static std::size_t bytes(const Aggregate& aggregate) { return sizeof(Head) + (aggregate.has_sum ? kEpochs * sizeof(Int128) : 0); }
  static void add(std::byte* state, const Aggregate& aggregate, const Update& update);
  static double read(const std::byte* state, const Aggregate& aggregate, What what, std::int64_t time);
};

// ---- sequences: the latest events --------------------------------------------------------------

// A ring once it is full; until then the entries stand from 0 on. The array holds the times, then each field.
struct Sequence {
  struct Head {
    std::uint32_t array;
    std::uint32_t capacity;
    std::uint32_t size;
    std::uint32_t oldest;
  };
  static constexpr std::uint32_t kFirstCapacity = 2;

  static std::size_t array_bytes(const Aggregate& aggregate, std::size_t capacity) { return 8 * capacity * (1 + aggregate.fields); }
  static const std::uint64_t* column(const std::byte* block, const Head& head, std::size_t field) {
    return reinterpret_cast<const std::uint64_t*>(block + head.array) + field * head.capacity;
  }
  static const std::int64_t* times(const std::byte* block, const Head& head) {
    return reinterpret_cast<const std::int64_t*>(block + head.array);
  }
  // Where the entry of rank `rank` stands; 0 is the oldest.
  static std::size_t at(const Head& head, std::size_t rank) {
    const std::size_t place = head.oldest + rank;
    return place >= head.capacity ? place - head.capacity : place;
  }

  static bool add(std::byte* block, std::byte* state, const Aggregate& aggregate, const Update& update);
  static void copy_array(const std::byte* block, std::byte* to, const Aggregate& aggregate, Head& head, std::size_t capacity);
};

// ---- tops: how often each value came -----------------------------------------------------------

struct Top {
  struct Head {
    std::uint32_t array;
    std::uint32_t capacity;
    std::uint32_t size;
    std::uint32_t unused;
  };
  struct Entry {
    std::uint64_t key;
    std::int64_t count;
    std::int64_t latest;
  };
  static constexpr std::uint32_t kFirstCapacity = 2;

  static std::size_t array_bytes(std::size_t capacity) { return sizeof(Entry) * capacity; }
  static Entry* entries(std::byte* block, const Head& head) { return reinterpret_cast<Entry*>(block + head.array); }
  static const Entry* entries(const std::byte* block, const Head& head) {
    return reinterpret_cast<const Entry*>(block + head.array);
  }
  static bool add(std::byte* block, std::byte* state, const Aggregate& aggregate, const Update& update);
  // Whether a comes before b: counted more often, then more recently, then by key.
  static bool before(const Entry& a, const Entry& b) {
    if (a.count != b.count) return a.count > b.count;
    return a.latest != b.latest ? a.latest > b.latest : a.key < b.key;
  }
};

// ---- first and last ----------------------------------------------------------------------------

inline void add_last(std::byte* state, std::int64_t time) {
  const auto held = load<std::int64_t>(state);
  if (held == 0 || time > held) store(state, time);
}

inline void add_first(std::byte* state, std::int64_t time) {
  const auto held = load<std::int64_t>(state);
  if (held == 0 || time < held) store(state, time);
}

}  // namespace bowerbird
