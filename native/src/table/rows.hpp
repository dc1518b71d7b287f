// The rows of a table, in chunks that never move: the weights of a chunk's rows, then their optimiser states and stamps.
//
// Weights stand apart from states so that a lookup reads no state, and a server can map the weights alone.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <utility>
#include <vector>

#include "table/config.hpp"
#include "table/memory.hpp"

namespace bowerbird::embedding {

struct RowLayout {
  std::size_t dimension;
  std::size_t weight_bytes;
  std::size_t state_bytes;  // of the optimiser's floats and the stamps
  std::size_t stamps_at;
  unsigned shift;  // 2^shift rows in a chunk

  explicit RowLayout(const TableOptions& options)
      : dimension(options.dimension), weight_bytes(options.weight_bytes()), stamps_at(4 * options.state_floats()) {
    state_bytes = (stamps_at + sizeof(Stamps) + 15) / 16 * 16;
    constexpr std::size_t kChunkBytes = std::size_t{8} << 20;
    shift = static_cast<unsigned>(std::bit_width(std::max<std::size_t>(kChunkBytes / weight_bytes, 16))) - 1;
  }
  std::size_t chunk_rows() const { return std::size_t{1} << shift; }
};

struct RowChunk {
  std::byte* weights;
  std::byte* states;
};

// What kernels need of rows, in memory or in a mapped file (which has no states).
struct RowsView {
  const RowChunk* chunks = nullptr;
  std::uint64_t rows = 0;
  RowLayout layout;

  std::byte* weights(std::uint64_t row) const {
    return chunks[row >> layout.shift].weights + (row & (layout.chunk_rows() - 1)) * layout.weight_bytes;
  }
  std::byte* state(std::uint64_t row) const {
    return chunks[row >> layout.shift].states + (row & (layout.chunk_rows() - 1)) * layout.state_bytes;
  }
  Stamps& stamps(std::uint64_t row) const { return *reinterpret_cast<Stamps*>(state(row) + layout.stamps_at); }
  [[gnu::always_inline]] void prefetch_weights(std::uint64_t row) const { prefetch_far(weights(row), layout.weight_bytes); }
  [[gnu::always_inline]] void prefetch_row(std::uint64_t row) const {
    prefetch_weights(row);
    prefetch_far(state(row), layout.state_bytes);
  }
};

class RowStore {
 public:
  explicit RowStore(const TableOptions& options) : layout_(options) {}

  RowsView view() const { return {chunks_.data(), rows_, layout_}; }
  const RowLayout& layout() const { return layout_; }
  std::uint64_t rows() const { return rows_; }
  const std::vector<std::uint32_t>& free_rows() const { return free_; }
  std::uint64_t bytes() const { return rows_ * (layout_.weight_bytes + layout_.state_bytes) + free_.capacity() * sizeof(std::uint32_t); }

  // A freed row, or else a new one.
  std::uint32_t take() {
    if (!free_.empty()) {
      const std::uint32_t row = free_.back();
      free_.pop_back();
      return row;
    }
    if (rows_ >= 0xFFFFFFFFULL) throw std::length_error("a table holds at most 2^32 - 1 rows");
    reserve(rows_ + 1);
    return static_cast<std::uint32_t>(rows_++);
  }
  void give(std::uint32_t row) {
    view().stamps(row) = {0, 0, 0};
    free_.push_back(row);
  }
  // Makes the store one of `rows` rows, the free ones given; the caller fills it.
  void adopt(std::uint64_t rows, std::vector<std::uint32_t> free) {
    reserve(rows);
    rows_ = rows;
    free_ = std::move(free);
  }

 private:
  void reserve(std::uint64_t rows) {
    while (chunks_.size() << layout_.shift < rows) {
      const bool large = !chunks_.empty();  // small tables take small pages
      memory_.emplace_back(layout_.chunk_rows() * layout_.weight_bytes, large);
      std::byte* weights = memory_.back().data();
      memory_.emplace_back(layout_.chunk_rows() * layout_.state_bytes, large);
      chunks_.push_back({weights, memory_.back().data()});
    }
  }

  RowLayout layout_;
  std::uint64_t rows_ = 0;
  std::vector<SystemMemory> memory_;
  std::vector<RowChunk> chunks_;
  std::vector<std::uint32_t> free_;
};

}  // namespace bowerbird::embedding
