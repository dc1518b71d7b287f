// The distinct rows of a batch, each with its gradients summed in the batch's order.
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
  const float* values = nullptr;  // [sources, dimension]
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
    std::uint32_t entry;  // the first
    std::uint32_t sum;    // where the gradients are summed; kNone: the first entry's gradient is all
  };

  // Groups those entries whose row is one of lane's, of `lanes`; which depends on the row alone.
  void group(const std::int64_t* rows, std::size_t count, const Gradients& gradients, std::size_t dimension, std::size_t lane,
             std::size_t lanes) {
    const std::size_t places = std::bit_ceil(std::max<std::size_t>(2 * count, 64));
    shift_ = static_cast<unsigned>(64 - std::bit_width(places - 1));
    slots_.assign(places, kNone);
    groups_.clear();
    sums_.clear();
    gradients_ = gradients;
    dimension_ = dimension;
    for (std::size_t i = 0; i < count; ++i) {
      const auto row = static_cast<std::uint32_t>(rows[i]);
      if (lanes > 1 && lane_of(row, lanes) != lane) continue;
      add(row, static_cast<std::uint32_t>(i));
    }
  }

  const std::vector<Group>& groups() const { return groups_; }
  // A group's summed gradient, [dimension].
  const float* gradient(const Group& group) const {
    return group.sum == kNone ? gradients_.of(group.entry, dimension_) : sums_.data() + group.sum * dimension_;
  }
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
    const bool is_new = slots_[at] == kNone;
    if (is_new) {
      slots_[at] = static_cast<std::uint32_t>(groups_.size());
      groups_.push_back({row, entry, kNone});
      if (gradients_.scales == nullptr) return;
    }
    Group& group = groups_[slots_[at]];
    if (group.sum == kNone) {
      group.sum = static_cast<std::uint32_t>(sums_.size() / dimension_);
      sums_.resize(sums_.size() + dimension_, 0.0F);
      if (!is_new) sum_up(group, group.entry);
    }
    sum_up(group, entry);
  }

  void sum_up(const Group& group, std::uint32_t entry) {
    const float* __restrict from = gradients_.of(entry, dimension_);
    float* __restrict to = sums_.data() + group.sum * dimension_;
    if (gradients_.scales == nullptr) {
      for (std::size_t i = 0; i < dimension_; ++i) to[i] += from[i];
    } else {
      const float scale = gradients_.scales[entry];
      for (std::size_t i = 0; i < dimension_; ++i) to[i] += scale * from[i];
    }
  }

  Gradients gradients_{};
  std::size_t dimension_ = 0;
  std::vector<float> sums_;
  unsigned shift_ = 58;
  std::vector<std::uint32_t> slots_;
  std::vector<Group> groups_;
};

}  // namespace bowerbird::embedding
