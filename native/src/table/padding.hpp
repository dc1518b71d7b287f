// Sequences end to end, oldest event first, as rectangles, newest event first.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace bowerbird::embedding {

// Sequence r is [starts[r], ends[r]) of some events.
struct Sequences {
  const std::int64_t* starts;
  const std::int64_t* ends;
  std::size_t count;
  std::size_t length;

  // Whether each lies within so many events.
  bool within(std::size_t events) const {
    for (std::size_t row = 0; row < count; ++row) {
      if (starts[row] < 0 || starts[row] > ends[row] || ends[row] > static_cast<std::int64_t>(events)) return false;
    }
    return true;
  }
  // How many events of a sequence there is room for.
  std::size_t size(std::size_t row) const { return std::min(length, static_cast<std::size_t>(ends[row] - starts[row])); }
};

// out[r, i] is the i-th newest event of sequence r, of `width` values, zeros where there is none; [count, length, width].
template <typename Value>
void pad(const Sequences& sequences, const Value* events, std::size_t width, Value* out) {
  const auto each = [&](auto columns) {
    for (std::size_t row = 0; row < sequences.count; ++row) {
      const std::size_t size = sequences.size(row);
      const Value* const end = events + static_cast<std::size_t>(sequences.ends[row]) * columns;
      for (std::size_t i = 0; i < size; ++i) {
        for (std::size_t k = 0; k < columns; ++k) out[i * columns + k] = *(end - (i + 1) * columns + k);
      }
      std::fill_n(out + size * columns, (sequences.length - size) * columns, Value{});
      out += sequences.length * columns;
    }
  };
  if (width == 1) return each(std::integral_constant<std::size_t, 1>{});
  if (width == 2) return each(std::integral_constant<std::size_t, 2>{});
  each(width);
}

// mask[r, i] says whether sequence r has an i-th newest event.
inline void mark(const Sequences& sequences, bool* mask) {
  for (std::size_t row = 0; row < sequences.count; ++row) {
    const std::size_t size = sequences.size(row);
    mask = std::fill_n(mask, size, true);
    mask = std::fill_n(mask, sequences.length - size, false);
  }
}

}  // namespace bowerbird::embedding
