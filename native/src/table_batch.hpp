// The distinct rows of a batch, each with its gradients in the batch's order.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "table_config.hpp"

namespace bowerbird::embedding {

// The gradients of a batch: entry i of the rows has `scales[i]` times the gradient `sources[i]`; both may be absent (i, times 1).
struct Gradients {
  const float* values;  // [sources, dimension]
  const std::uint32_t* sources = nullptr;
  const float* scales = nullptr;

  const float* of(std::size_t entry, std::size_t dimension) const {
    return values + (sources == nullptr ? entry : sources[entry]) * dimension;
  }
};

class RowGroups {
 public:
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;

  struct Group {
    std::uint32_t row;
    std::uint32_t first;
    std::uint32_t last;
  };

  // Groups those entries whose row is one of lane's, of `lanes`; which depends on the row alone.
  void group(const std::int64_t* rows, std::size_t count, std::size_t lane, std::size_t lanes) {
    const std::size_t places = std::bit_ceil(std::max<std::size_t>(2 * count, 64));
    slots_.assign(places, kNone);
    next_.resize(count);
    groups_.clear();
    shift_ = static_cast<unsigned>(64 - std::bit_width(places - 1));
    for (std::size_t i = 0; i < count; ++i) {
      const auto row = static_cast<std::uint32_t>(rows[i]);
      if (lanes > 1 && lane_of(row, lanes) != lane) continue;
      next_[i] = kNone;
      add(row, static_cast<std::uint32_t>(i));
    }
  }

  const std::vector<Group>& groups() const { return groups_; }
  std::uint32_t next(std::uint32_t entry) const { return next_[entry]; }
  // The group of a row, or nullptr.
  const Group* find(std::uint32_t row) const {
    for (std::size_t at = place_of(row);; at = (at + 1) & (slots_.size() - 1)) {
      if (slots_[at] == kNone) return nullptr;
      if (groups_[slots_[at]].row == row) return &groups_[slots_[at]];
    }
  }

  static std::size_t lane_of(std::uint32_t row, std::size_t lanes) { return ((row * 0x9E3779B1U) >> 8) % lanes; }

 private:
  std::size_t place_of(std::uint32_t row) const { return (row * 0x9E3779B97F4A7C15ULL) >> shift_; }

  void add(std::uint32_t row, std::uint32_t entry) {
    std::size_t at = place_of(row);
    while (slots_[at] != kNone && groups_[slots_[at]].row != row) at = (at + 1) & (slots_.size() - 1);
    if (slots_[at] == kNone) {
      slots_[at] = static_cast<std::uint32_t>(groups_.size());
      groups_.push_back({row, entry, entry});
    } else {
      Group& group = groups_[slots_[at]];
      next_[group.last] = entry;
      group.last = entry;
    }
  }

  unsigned shift_ = 58;
  std::vector<std::uint32_t> slots_;
  std::vector<std::uint32_t> next_;
  std::vector<Group> groups_;
};

}  // namespace bowerbird::embedding
