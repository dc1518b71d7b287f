// Open-addressing map from 64-bit keys to dense 32-bit indices, in order of first insertion.
#pragma once

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <vector>

#include "base/keys.hpp"

namespace bowerbird {

class KeyIndex {
 public:
  static constexpr std::uint32_t kAbsent = std::numeric_limits<std::uint32_t>::max();

  KeyIndex() : entries_(kInitialCapacity), mask_(kInitialCapacity - 1) {}

  std::uint32_t size() const { return size_; }
  std::size_t bytes() const { return entries_.size() * sizeof(Entry); }

  std::uint32_t find(std::uint64_t key) const {
    if (key == kMissingKey) return kAbsent;
    for (std::size_t at = mix(key) & mask_;; at = (at + 1) & mask_) {
      if (entries_[at].key == key) return entries_[at].index;
      if (entries_[at].key == kMissingKey) return kAbsent;
    }
  }

  // Asks for the memory that find() will look at first.
  void prefetch(std::uint64_t key) const { __builtin_prefetch(&entries_[mix(key) & mask_]); }

  // The key must not be kMissingKey.
  std::uint32_t find_or_insert(std::uint64_t key) {
    if (2 * (static_cast<std::size_t>(size_) + 1) > entries_.size()) grow();
    for (std::size_t at = mix(key) & mask_;; at = (at + 1) & mask_) {
      if (entries_[at].key == key) return entries_[at].index;
      if (entries_[at].key == kMissingKey) {
        if (size_ == kAbsent) throw std::length_error("a key index holds at most 2^32 - 1 keys");
        entries_[at] = {key, size_};
        return size_++;
      }
    }
  }

 private:
  struct Entry {
    std::uint64_t key = kMissingKey;
    std::uint32_t index = 0;
  };
  static constexpr std::size_t kInitialCapacity = 16;

  void grow() {
    std::vector<Entry> old(entries_.size() * 2);
    old.swap(entries_);
    mask_ = entries_.size() - 1;
    for (const Entry& entry : old) {
      if (entry.key == kMissingKey) continue;
      std::size_t at = mix(entry.key) & mask_;
      while (entries_[at].key != kMissingKey) at = (at + 1) & mask_;
      entries_[at] = entry;
    }
  }

  std::vector<Entry> entries_;
  std::size_t mask_;
  std::uint32_t size_ = 0;
};

}  // namespace bowerbird
