// Keys that go: too long unused, too rarely used, or more than memory holds.
#include <algorithm>

#include "table/table.hpp"

namespace bowerbird::embedding {
namespace {

constexpr std::size_t kSampledBuckets = 16;
constexpr std::uint64_t kMostNoted = 1'000'000;

bool goes(const Expiry& expiry, const Stamps& stamps, std::uint32_t now) {
  const std::uint32_t age = now > stamps.time ? now - stamps.time : 0;
  if (expiry.max_age > 0 && age > expiry.max_age) return true;
  return expiry.rare_age > 0 && age > expiry.rare_age && stamps.uses < expiry.rare_uses;
}

bool goes_first(Evicted policy, const Stamps& one, const Stamps& other) {
  if (policy == Evicted::kLeastFrequent && one.uses != other.uses) return one.uses < other.uses;
  return one.time != other.time ? one.time < other.time : one.uses < other.uses;
}

}  // namespace

std::uint64_t Table::expire(std::uint32_t now) {
  const std::unique_lock lock(mutex_);
  const RowsView view = rows_.view();
  std::vector<std::uint64_t> going;
  for (const IndexShard& shard : index_.shards()) {
    for (std::size_t number = 0; number < shard.buckets; ++number) {
      if (number + 4 < shard.buckets) {
        index_.each_in_bucket(shard.bucket(number + 4), [&](std::uint64_t, std::uint32_t row) { __builtin_prefetch(&view.stamps(row)); });
      }
      index_.each_in_bucket(shard.bucket(number), [&](std::uint64_t key, std::uint32_t row) {
        if (goes(options_.expiry, view.stamps(row), now)) going.push_back(key);
      });
    }
  }
  for (const std::uint64_t key : going) let_go(key);
  expired_ += going.size();
  return going.size();
}

std::uint64_t Table::remove(const std::uint64_t* keys, std::size_t count) {
  const std::unique_lock lock(mutex_);
  std::uint64_t removed = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (keys[i] == kMissingKey || index_.view().find(keys[i]) == kAbsentRow) continue;
    let_go(keys[i]);
    ++removed;
  }
  return removed;
}

// The key must have a row. What goes is noted for deltas, unless it is so much that a new snapshot is the better base.
void Table::let_go(std::uint64_t key) {
  rows_.give(index_.remove(key));
  changed_ = true;
  if (published_.empty()) return;
  removed_.push_back({key, version_ + 1});
  if (removed_.size() <= std::max<std::uint64_t>(kMostNoted, index_.size())) return;
  removed_ = {};
  published_.clear();
}

// Whether a row can be added within the memory budget, the index growing as it may have to.
bool Table::room_for_one_more() const {
  const std::uint64_t most = options_.expiry.max_bytes;
  if (most == 0 || !rows_.free_rows().empty()) return true;
  const std::uint64_t growth = std::min<std::uint64_t>(index_.bytes(), 2 * SystemMemory::kLargePage);
  return bytes() + growth + rows_.layout().row_bytes() <= most;
}

// Lets go of the key that the policy names first among the next few of the index (as sampled eviction does in Redis), none of
// the call in progress; false when there is no such key.
bool Table::evict_one() {
  const RowsView view = rows_.view();
  const auto& shards = index_.shards();
  std::uint64_t left = 0;
  for (const IndexShard& shard : shards) left += shard.buckets;
  std::uint64_t victim = kMissingKey;
  Stamps of_victim{};
  for (std::size_t looked = 0; left > 0 && (looked < kSampledBuckets || victim == kMissingKey); ++looked, --left) {
    if (hand_.shard >= shards.size()) hand_ = {};
    const IndexShard& shard = shards[hand_.shard];
    if (hand_.bucket < shard.buckets) {
      index_.each_in_bucket(shard.bucket(hand_.bucket), [&](std::uint64_t key, std::uint32_t row) {
        const Stamps& stamps = view.stamps(row);
        if (is_held(row) || (victim != kMissingKey && !goes_first(options_.expiry.evicted, stamps, of_victim))) return;
        victim = key;
        of_victim = stamps;
      });
    }
    if (++hand_.bucket >= shard.buckets) hand_ = {hand_.shard + 1, 0};
  }
  if (victim == kMissingKey) return false;
  let_go(victim);
  ++evicted_;
  return true;
}

void Table::hold(std::uint32_t row) {
  if (row / 64 >= held_.size()) held_.resize(std::max<std::size_t>(row / 64 + 1, 2 * held_.size()), 0);
  held_[row / 64] |= std::uint64_t{1} << (row % 64);
  held_rows_.push_back(row);
}

}  // namespace bowerbird::embedding
