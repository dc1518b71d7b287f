// The rows of a table, in chunks that never move: blocks of four rows' weights, then their optimiser states and stamps.
//
// State stands near its weights so that a step touches one page and not two: in a large table, finding out where a page lies costs more
// than what is read from it. Four rows together keep weights of 64 bytes in one cache line, so that a lookup reads no state.
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
  static constexpr std::size_t kBlockRows = 4;

  std::size_t dimension;
  std::size_t weight_bytes;
  std::size_t state_bytes;  // of the optimiser's floats and the stamps
  std::size_t stamps_at;    // in a state
  std::size_t states_at;    // in a block
  std::size_t block_bytes;
  unsigned shift;  // 2^shift rows in a chunk

  explicit RowLayout(const TableOptions& options)
      : dimension(options.dimension), weight_bytes(options.weight_bytes()), stamps_at(4 * options.state_floats()) {
    state_bytes = (stamps_at + sizeof(Stamps) + 15) / 16 * 16;
    states_at = kBlockRows * weight_bytes;
    block_bytes = (states_at + kBlockRows * state_bytes + 63) / 64 * 64;
    constexpr std::size_t kChunkBytes = std::size_t{16} << 20;
    shift = static_cast<unsigned>(std::bit_width(std::max<std::size_t>(kChunkBytes / row_bytes(), 16))) - 1;
  }
  // The same rows without states, one after the other, as files have them.
  RowLayout packed() const {
    RowLayout made = *this;
    made.block_bytes = kBlockRows * weight_bytes;
    return made;
  }
  std::size_t row_bytes() const { return block_bytes / kBlockRows; }
  std::size_t chunk_rows() const { return std::size_t{1} << shift; }
  std::size_t chunk_bytes() const { return chunk_rows() * row_bytes(); }
};

// What kernels need of rows, in memory or in a mapped file (which has no states).
struct RowsView {
  std::byte* const* chunks = nullptr;
  std::uint64_t rows = 0;
  RowLayout layout;

  std::byte* weights(std::uint64_t row) const { return block(row) + row % RowLayout::kBlockRows * layout.weight_bytes; }
  std::byte* state(std::uint64_t row) const { return block(row) + layout.states_at + row % RowLayout::kBlockRows * layout.state_bytes; }
  Stamps& stamps(std::uint64_t row) const { return *reinterpret_cast<Stamps*>(state(row) + layout.stamps_at); }
  [[gnu::always_inline]] void prefetch_weights(std::uint64_t row) const { prefetch_far(weights(row), layout.weight_bytes); }
  [[gnu::always_inline]] void prefetch_row(std::uint64_t row) const {
    prefetch_weights(row);
    prefetch_far(state(row), layout.state_bytes);
  }

 private:
  std::byte* block(std::uint64_t row) const {
    return chunks[row >> layout.shift] + (row & (layout.chunk_rows() - 1)) / RowLayout::kBlockRows * layout.block_bytes;
  }
};

class RowStore {
 public:
  explicit RowStore(const TableOptions& options) : layout_(options) {}

  RowsView view() const { return {chunks_.data(), rows_, layout_}; }
  const RowLayout& layout() const { return layout_; }
  std::uint64_t rows() const { return rows_; }
  const std::vector<std::uint32_t>& free_rows() const { return free_; }
  std::uint64_t bytes() const { return rows_ * layout_.row_bytes() + free_.capacity() * sizeof(std::uint32_t); }

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
      memory_.emplace_back(layout_.chunk_bytes(), large);
      chunks_.push_back(memory_.back().data());
    }
  }

  RowLayout layout_;
  std::uint64_t rows_ = 0;
  std::vector<SystemMemory> memory_;
  std::vector<std::byte*> chunks_;
  std::vector<std::uint32_t> free_;
};

}  // namespace bowerbird::embedding
