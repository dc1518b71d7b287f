// The distinct rows of a batch, each with its gradients summed in the batch's order.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "table/config.hpp"

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
    place_shift_ = static_cast<unsigned>(64 - std::bit_width(places - 1));
    number_bits_ = static_cast<unsigned>(std::bit_width(count));
    slots_.assign(places, kNone);
    if (count > room_) {
      groups_ = std::make_unique_for_overwrite<Group[]>(count);
      room_ = count;
    }
    size_ = 0;
    sums_.clear();
    gradients_ = gradients;
    dimension_ = dimension;
    for (std::size_t i = 0; i < count; ++i) {
      if (i + kSlotsAhead < count) __builtin_prefetch(&slots_[home_of(hash_of(static_cast<std::uint32_t>(rows[i + kSlotsAhead])))], 1);
      const auto row = static_cast<std::uint32_t>(rows[i]);
      if (lanes > 1 && lane_of(row, lanes) != lane) continue;
      add(row, static_cast<std::uint32_t>(i));
    }
  }

  const Group* begin() const { return groups_.get(); }
  std::size_t size() const { return size_; }
  // A group's summed gradient, [dimension].
  const float* gradient(const Group& group) const {
    return group.sum == kNone ? gradients_.of(group.entry, dimension_) : sums_.data() + group.sum * dimension_;
  }
  // The group of a row, or nullptr.
  const Group* find(std::uint32_t row) const {
    const std::uint32_t slot = slots_[slot_of(row)];
    return slot == kNone ? nullptr : &groups_[number_of(slot)];
  }

  static std::size_t lane_of(std::uint32_t row, std::size_t lanes) { return ((row * 0x9E3779B1U) >> 8) % lanes; }

 private:
  static constexpr std::size_t kSlotsAhead = 16;

  // A slot holds a group's number and, above it, as many bits of the row's hash as there is room for.
  std::uint32_t number_of(std::uint32_t slot) const { return static_cast<std::uint32_t>(slot & ((std::uint64_t{1} << number_bits_) - 1)); }

  static std::uint64_t hash_of(std::uint32_t row) { return row * 0x9E3779B97F4A7C15ULL; }
  std::size_t home_of(std::uint64_t hash) const { return hash >> place_shift_; }

  // Where the row's group stands, or would.
  std::size_t slot_of(std::uint32_t row) const {
    const std::uint64_t hash = hash_of(row);
    const std::uint32_t tag = tag_of(hash);
    for (std::size_t at = home_of(hash);; at = (at + 1) & (slots_.size() - 1)) {
      const std::uint32_t slot = slots_[at];
      if (slot == kNone) return at;
      if (slot - number_of(slot) == tag && groups_[number_of(slot)].row == row) return at;
    }
  }
  std::uint32_t tag_of(std::uint64_t hash) const { return static_cast<std::uint32_t>((hash >> 16) << number_bits_); }

  void add(std::uint32_t row, std::uint32_t entry) {
    std::uint32_t& slot = slots_[slot_of(row)];
    const bool is_new = slot == kNone;
    if (is_new) {
      slot = tag_of(hash_of(row)) | static_cast<std::uint32_t>(size_);
      groups_[size_++] = {row, entry, kNone};
      if (gradients_.scales == nullptr) return;
    }
    Group& group = groups_[number_of(slot)];
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
  unsigned place_shift_ = 58;
  unsigned number_bits_ = 0;
  std::vector<std::uint32_t> slots_;
  std::unique_ptr<Group[]> groups_;
  std::size_t room_ = 0;
  std::size_t size_ = 0;
};

}  // namespace bowerbird::embedding
