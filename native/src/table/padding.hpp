// Sequences end to end, oldest event first, as rectangles, newest event first.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace bowerbird::embedding {

// Sequence r is [offsets[r], offsets[r + 1]) of a column.
struct Sequences {
  const std::int64_t* offsets;
  std::size_t count;
  std::size_t length;

  // How many events of a sequence there is room for.
  std::size_t size(std::size_t row) const {
    return std::min(length, static_cast<std::size_t>(offsets[row + 1] - offsets[row]));
  }
};

// out[r, i] is the i-th newest event of sequence r, 0 where there is none; [count, length].
template <typename Value>
void pad(const Sequences& sequences, const Value* column, Value* out) {
  for (std::size_t row = 0; row < sequences.count; ++row, out += sequences.length) {
    const std::size_t size = sequences.size(row);
    const Value* end = column + sequences.offsets[row + 1];
    for (std::size_t i = 0; i < size; ++i) out[i] = *(end - 1 - i);
    std::fill(out + size, out + sequences.length, Value{});
  }
}

// mask[r, i] says whether sequence r has an i-th newest event.
inline void mark(const Sequences& sequences, bool* mask) {
  for (std::size_t row = 0; row < sequences.count; ++row, mask += sequences.length) {
    const std::size_t size = sequences.size(row);
    std::fill(mask, mask + size, true);
    std::fill(mask + size, mask + sequences.length, false);
  }
}

}  // namespace bowerbird::embedding
