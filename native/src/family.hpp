// One key family: its keys and, for each key, one record with the states of all its aggregates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "key_index.hpp"
#include "plan.hpp"
#include "states.hpp"

namespace bowerbird {

class Family {
 public:
  Family() = default;
  Family(const Family&) = delete;
  Family& operator=(const Family&) = delete;

  ~Family() {
    for (std::uint32_t index = 0; index < keys_.size(); ++index) release(record(index));
  }

  // Reserves an aggregate's place in each record; returns its offset.
  std::size_t place(const Aggregate& aggregate) {
    const std::size_t offset = stride_;
    stride_ += size_of(aggregate.kind);
    if (aggregate.kind == AggregateKind::kTiles) tiles_.push_back(offset);
    if (aggregate.kind == AggregateKind::kSequence) sequences_.push_back({offset, 1 + aggregate.fields});
    return offset;
  }

  const std::byte* find(std::uint64_t key) const {
    const std::uint32_t index = keys_.find(key);
    return index == KeyIndex::kAbsent ? nullptr : record(index);
  }

  void prefetch(std::uint64_t key) const { keys_.prefetch(key); }

  std::byte* find_or_insert(std::uint64_t key) {
    const std::uint32_t index = keys_.find_or_insert(key);
    if (index / kChunk == chunks_.size()) chunks_.push_back(std::make_unique<std::byte[]>(kChunk * stride_));
    return record(index);
  }

  std::uint32_t size() const { return keys_.size(); }

  std::size_t bytes() const {
    std::size_t total = keys_.bytes() + chunks_.size() * kChunk * stride_;
    for (std::uint32_t index = 0; index < keys_.size(); ++index) total += bytes_beside(record(index));
    return total;
  }

 private:
  struct Ring {
    std::size_t offset;
    std::uint32_t width;
  };
  static constexpr std::uint32_t kChunk = 1024;

  static std::size_t size_of(AggregateKind kind) {
    switch (kind) {
      case AggregateKind::kTiles: return sizeof(TilesState);
      case AggregateKind::kTotal: return sizeof(TotalState);
      case AggregateKind::kDecayed: return sizeof(DecayedState);
      case AggregateKind::kLast: return sizeof(LastState);
      case AggregateKind::kSequence: return sizeof(SequenceState);
    }
    return 0;
  }

  std::byte* record(std::uint32_t index) const { return chunks_[index / kChunk].get() + (index % kChunk) * stride_; }

  void release(std::byte* record) {
    for (std::size_t offset : tiles_) reinterpret_cast<TilesState*>(record + offset)->release();
    for (const Ring& ring : sequences_) reinterpret_cast<SequenceState*>(record + ring.offset)->release();
  }

  std::size_t bytes_beside(const std::byte* record) const {
    std::size_t total = 0;
    for (std::size_t offset : tiles_) {
      total += reinterpret_cast<const TilesState*>(record + offset)->capacity * sizeof(Tile);
    }
    for (const Ring& ring : sequences_) {
      const auto* state = reinterpret_cast<const SequenceState*>(record + ring.offset);
      total += static_cast<std::size_t>(state->capacity) * ring.width * sizeof(std::uint64_t);
    }
    return total;
  }

  KeyIndex keys_;
  std::vector<std::unique_ptr<std::byte[]>> chunks_;
  std::size_t stride_ = 0;
  std::vector<std::size_t> tiles_;
  std::vector<Ring> sequences_;
};

}  // namespace bowerbird
