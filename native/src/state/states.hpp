// The state of one key of one aggregate inside the key's block, and how events advance it.
//
// A state is a head and, for tiles, sequences and tops, an array of some capacity behind it. All start as zero bytes
// but for their capacity. None depends on the order in which events came.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "base/exp2.hpp"
#include "plan/plan.hpp"

namespace bowerbird {

__extension__ typedef __int128 Int128;
__extension__ typedef unsigned __int128 UnsignedInt128;

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

// The number of bits set; written out, because plain x86-64 has no instruction for it.
inline std::size_t bits_in(std::uint64_t word) {
  word -= (word >> 1) & 0x5555555555555555ULL;
  word = (word & 0x3333333333333333ULL) + ((word >> 2) & 0x3333333333333333ULL);
  word = (word + (word >> 4)) & 0x0F0F0F0F0F0F0F0FULL;
  return static_cast<std::size_t>((word * 0x0101010101010101ULL) >> 56);
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

inline double moments_value(const Moments& moments, What what, std::int64_t scale) {
  const auto count = static_cast<double>(moments.count);
  const auto unit = static_cast<double>(scale);
  switch (what) {
    case What::kCount: return count;
    case What::kSum: return static_cast<double>(moments.sum) / unit;
    case What::kMean: return moments.count > 0 ? static_cast<double>(moments.sum) / unit / count : kNaN;
    case What::kMinimum: return moments.low == 0 ? kNaN : static_cast<double>(kExtreme - moments.low) / unit;
    case What::kMaximum: return moments.high == 0 ? kNaN : static_cast<double>(moments.high - kExtreme) / unit;
    case What::kDeviation: {
      if (moments.count <= 0) return kNaN;
      // Squares around a whole number near the mean: exact, so that nothing cancels.
      const std::int64_t middle = floor_divide(moments.sum, moments.count);
      const Int128 squares = moments.squares - 2 * Int128{middle} * moments.sum + Int128{moments.count} * middle * middle;
      const double rest = static_cast<double>(moments.sum - middle * moments.count) / count;
      return std::sqrt(std::max(static_cast<double>(squares) / count - rest * rest, 0.0)) / unit;
    }
    default: return kNaN;
  }
}

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

// Sums beyond 2^63 steps (or 2^127 for squares) go round.
template <typename Value>
void add_to(std::byte* at, Value value) {
  using Unsigned = std::conditional_t<sizeof(Value) == 16, UnsignedInt128, std::make_unsigned_t<std::conditional_t<sizeof(Value) == 16, int, Value>>>;
  store<Value>(at, static_cast<Value>(static_cast<Unsigned>(load<Value>(at)) + static_cast<Unsigned>(value)));
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
// sums, …) follow, oldest first.
struct Tiles {
  struct Head {
    std::int32_t newest;
    std::uint32_t bitmap;
    std::uint8_t capacity;
    std::uint8_t size;
    std::uint16_t unused;
  };
  static_assert(sizeof(Head) == 12);
  static constexpr std::int64_t kMostTiles = 32;

  // Offsets of the columns behind the head, for so many tiles.
  struct Columns {
    std::size_t sum = 0, squares = 0, low = 0, high = 0, bytes = 0;
    Columns(const Aggregate& aggregate, std::size_t capacity) {
      bytes = 4 * capacity;
      const auto next = [this](std::size_t size) { return (bytes += size) - size; };
      if (aggregate.has_sum) sum = next(8 * capacity);
      if (aggregate.has_squares) squares = next(16 * capacity);
      if (aggregate.has_minimum) low = next(8 * capacity);
      if (aggregate.has_maximum) high = next(8 * capacity);
    }
  };

  static std::size_t bytes(const Aggregate& aggregate, std::size_t capacity) { return sizeof(Head) + Columns(aggregate, capacity).bytes; }
  static bool counts_only(const Aggregate& aggregate) {
    return !aggregate.has_sum && !aggregate.has_squares && !aggregate.has_minimum && !aggregate.has_maximum;
  }

  static std::int32_t index_of(std::int64_t time, std::int64_t tile) {
    constexpr std::int64_t kLimit = std::numeric_limits<std::int32_t>::max();
    return static_cast<std::int32_t>(std::clamp(floor_divide(time, tile), -kLimit, kLimit));
  }

  // False where there is no room for another tile; nothing is changed then.
  static bool add(std::byte* state, const Aggregate& aggregate, std::int32_t index, const Update& update) {
    auto* head = reinterpret_cast<Head*>(state);
    if (head->newest == index && head->bitmap != 0 && counts_only(aggregate)) {
      count_one(counts(state)[head->size - 1], update.sign);
      return true;
    }
    return add_elsewhere(state, aggregate, index, update);
  }

  // The tiles of a window: places [first, second) of the columns.
  static std::pair<std::size_t, std::size_t> window(const Head& head, std::int64_t reach, std::int32_t last) {
    const std::int64_t shift = static_cast<std::int64_t>(last) - head.newest;
    if (head.bitmap == 0 || shift >= reach || shift <= -kMostTiles) return {0, 0};
    const std::size_t size = head.size;
    if (shift < 0) return {0, size - bits_in(head.bitmap & ((std::uint32_t{1} << -shift) - 1))};
    const std::uint64_t valid = head.bitmap & ((std::uint64_t{1} << (reach - shift)) - 1);
    return {valid == head.bitmap ? 0 : size - bits_in(valid), size};
  }

  static std::int64_t count(const std::byte* state, std::int64_t reach, std::int32_t last) {
    const auto [first, end] = window(*reinterpret_cast<const Head*>(state), reach, last);
    const std::int32_t* all = counts(state);
    std::int64_t total = 0;
    for (std::size_t i = first; i < end; ++i) total += all[i];
    return total;
  }
  static Moments read(const std::byte* state, const Aggregate& aggregate, std::int32_t last);
  // Copies the tiles into a state of larger capacity.
  static void copy(const std::byte* from, std::byte* to, const Aggregate& aggregate, std::size_t capacity);

  // A tile counts at most 2^31 - 1 events.
  static void count_one(std::int32_t& count, std::int64_t sign) {
    if (count < std::numeric_limits<std::int32_t>::max()) count += static_cast<std::int32_t>(sign);
  }

 private:
  static std::int32_t* counts(std::byte* state) { return reinterpret_cast<std::int32_t*>(state + sizeof(Head)); }
  static const std::int32_t* counts(const std::byte* state) { return reinterpret_cast<const std::int32_t*>(state + sizeof(Head)); }
  static bool add_elsewhere(std::byte* state, const Aggregate& aggregate, std::int32_t index, const Update& update);
  static void add_at(std::byte* state, const Aggregate& aggregate, std::size_t at, const Update& update);
  static void move(std::byte* state, const Aggregate& aggregate, std::size_t from, std::size_t to, std::size_t count);
  static void clear(std::byte* state, const Aggregate& aggregate, std::size_t at);
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

// A ring once it is full; until then the entries stand from 0 on. Behind the head are the times, then each field.
struct Sequence {
  struct Head {
    std::uint32_t capacity;
    std::uint32_t size;
    std::uint32_t oldest;
    std::uint32_t unused;
  };

  static std::size_t bytes(const Aggregate& aggregate, std::size_t capacity) {
    return sizeof(Head) + 8 * capacity * (1 + aggregate.fields);
  }
  static const Head& head(const std::byte* state) { return *reinterpret_cast<const Head*>(state); }
  static const std::uint64_t* column(const std::byte* state, std::size_t field) {
    return reinterpret_cast<const std::uint64_t*>(state + sizeof(Head)) + field * head(state).capacity;
  }
  static const std::int64_t* times(const std::byte* state) { return reinterpret_cast<const std::int64_t*>(state + sizeof(Head)); }
  // Where the entry of rank `rank` stands; 0 is the oldest.
  static std::size_t at(const Head& head, std::size_t rank) {
    const std::size_t place = head.oldest + rank;
    return place >= head.capacity ? place - head.capacity : place;
  }

  static bool add(std::byte* state, const Aggregate& aggregate, const Update& update);
  static void copy(const std::byte* from, std::byte* to, const Aggregate& aggregate, std::size_t capacity);
};

// ---- tops: how often each value came -----------------------------------------------------------

struct Top {
  struct Head {
    std::uint32_t capacity;
    std::uint32_t size;
  };
  struct Entry {
    std::uint64_t key;
    std::int64_t count;
    std::int64_t latest;
  };

  static std::size_t bytes(std::size_t capacity) { return sizeof(Head) + sizeof(Entry) * capacity; }
  static const Head& head(const std::byte* state) { return *reinterpret_cast<const Head*>(state); }
  static Entry* entries(std::byte* state) { return reinterpret_cast<Entry*>(state + sizeof(Head)); }
  static const Entry* entries(const std::byte* state) { return reinterpret_cast<const Entry*>(state + sizeof(Head)); }
  static bool add(std::byte* state, const Aggregate& aggregate, const Update& update);
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
