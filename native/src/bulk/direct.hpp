// The keys of a family that has few of them: they stay at hand, and their operations run as they come.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/scratch.hpp"
#include "bulk/cells.hpp"

namespace bowerbird {

class BulkDirect {
 public:
  struct Key {
    std::uint64_t hash;
    Scratch scratch;
    std::vector<ListTrack> tracks;
    bool empty = true;
  };

  // Whether keys that so many operations named are few.
  static bool are_few(const std::vector<std::uint64_t>& hashes);

  explicit BulkDirect(const Family& family);

  // The key, or null where it is new.
  Key* find(std::uint64_t hash) const {
    const std::uint16_t number = slots_[slot_of(hash)];
    return number == 0 ? nullptr : keys_[number - 1].get();
  }
  bool is_full() const { return keys_.size() == most_; }
  Key& add(std::uint64_t hash);
  const std::vector<std::unique_ptr<Key>>& keys() const { return keys_; }

 private:
  static constexpr std::size_t kMost = 1024;
  static constexpr std::size_t kBytes = std::size_t{1} << 19;  // of their states: about half of a second-level cache
  static constexpr std::size_t kOperations = 64;               // of each of few keys

  // Where the key stands, or the free slot where it would.
  std::size_t slot_of(std::uint64_t hash) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = hash & mask;
    while (slots_[at] != 0 && keys_[slots_[at] - 1]->hash != hash) at = (at + 1) & mask;
    return at;
  }

  const Family& family_;
  std::size_t most_;
  std::vector<std::unique_ptr<Key>> keys_;
  std::vector<std::uint16_t> slots_;  // 1 + number, or 0
};

}  // namespace bowerbird
