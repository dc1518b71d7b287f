// Attributes of one table's entities as of the log's present place.
#pragma once

#include <cstdint>
#include <vector>

#include "key_index.hpp"
#include "plan.hpp"

namespace bowerbird {

class Attributes {
 public:
  // `type` fills its entity's slot first, then its columns.
  void declare(const RecordType& type, std::size_t slots) {
    entity_ = type.slots.front();
    columns_.assign(type.slots.begin() + 1, type.slots.end());
    place_.assign(slots, -1);
    for (std::size_t i = 0; i < columns_.size(); ++i) place_[columns_[i]] = static_cast<int>(i);
  }

  void replace(const std::uint64_t* row) {
    const std::uint64_t key = row[entity_];
    if (key == kMissingKey || columns_.empty()) return;
    const std::uint32_t index = keys_.find_or_insert(key);
    const std::size_t start = static_cast<std::size_t>(index) * columns_.size();
    if (start == values_.size()) values_.resize(start + columns_.size());
    for (std::size_t i = 0; i < columns_.size(); ++i) values_[start + i] = row[columns_[i]];
  }

  std::uint64_t value(std::uint64_t key, int slot, std::uint64_t missing) const {
    const std::uint32_t index = keys_.find(key);
    if (index == KeyIndex::kAbsent) return missing;
    return values_[static_cast<std::size_t>(index) * columns_.size() + static_cast<std::size_t>(place_[slot])];
  }

  std::uint32_t size() const { return keys_.size(); }
  std::size_t bytes() const { return keys_.bytes() + values_.size() * sizeof(std::uint64_t); }

 private:
  KeyIndex keys_;
  int entity_ = 0;
  std::vector<int> columns_;
  std::vector<int> place_;
  std::vector<std::uint64_t> values_;
};

}  // namespace bowerbird
