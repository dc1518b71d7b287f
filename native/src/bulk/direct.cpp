#include "bulk/direct.hpp"

#include <algorithm>
#include <unordered_set>

namespace bowerbird {

bool BulkDirect::are_few(const std::vector<std::uint64_t>& hashes) {
  const std::size_t most = hashes.size() / kOperations;
  std::unordered_set<std::uint64_t> seen;
  for (std::size_t i = 0; i < hashes.size() && seen.size() <= most; ++i) seen.insert(hashes[i]);
  return !seen.empty() && seen.size() <= most;
}

BulkDirect::BulkDirect(const Family& family)
    : family_(family), most_(std::min(kMost, 1 + kBytes / Scratch(family).bytes())), slots_(2 * kMost, 0) {}

BulkDirect::Key& BulkDirect::add(std::uint64_t hash) {
  const std::size_t slot = slot_of(hash);
  keys_.push_back(std::make_unique<Key>(Key{hash, Scratch(family_), {}, true}));
  slots_[slot] = static_cast<std::uint16_t>(keys_.size());
  return *keys_.back();
}

}  // namespace bowerbird
