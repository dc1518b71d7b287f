#include "table/index.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace bowerbird::embedding {
namespace {

// A unit takes at most this many keys before its shard grows: 75 in 100 places.
constexpr std::size_t kUnitKeys = kUnitBuckets * IndexBucket::kSlots * 75 / 100;
// Keys per shard, on average, from which on shards split; one that has not split yet holds up to twice as many. So a shard
// begins with two or three units, takes a fourth, and then splits: few moves, and some 60 in 100 places hold a key.
constexpr std::size_t kShardKeys = 3800;

std::size_t units_for(std::size_t keys) {
  return std::clamp<std::size_t>((keys + kUnitKeys - 1) / kUnitKeys, 1, IndexShard::kMostUnits);
}

bool put(IndexBucket& bucket, std::uint64_t key, std::uint32_t row) {
  if (bucket.held == IndexBucket::kSlots) return false;
  bucket.keys[bucket.held] = key;
  bucket.rows[bucket.held] = row;
  ++bucket.held;
  return true;
}

void place(IndexShard& shard, std::uint64_t hash, std::uint64_t key, std::uint32_t row) {
  for (std::size_t at = shard.home(hash); !put(shard.bucket(at), key, row); at = shard.after(at)) ++shard.bucket(at).passed;
}

}  // namespace

std::uint32_t IndexView::find(std::uint64_t key, std::uint64_t hashed) const {
  const IndexShard& in = shard(hashed);
  for (std::size_t at = in.home(hashed);; at = in.after(at)) {
    const IndexBucket& bucket = in.bucket(at);
    const std::uint32_t row = bucket.row_of(key);
    if (row != kAbsentRow || bucket.passed == 0) return row;
  }
}

bool IndexView::sound(std::uint64_t rows) const {
  for (std::uint64_t i = 0; i < count; ++i) {
    const IndexShard& shard = shards[i];
    bool ends = false;
    std::uint64_t keys = 0;
    for (std::size_t number = 0; number < shard.buckets; ++number) {
      const IndexBucket& bucket = shard.bucket(number);
      ends |= bucket.passed == 0;
      if (bucket.held > IndexBucket::kSlots) return false;
      keys += bucket.held;
      for (std::size_t slot = 0; slot < IndexBucket::kSlots; ++slot) {
        if ((bucket.keys[slot] != kMissingKey) != (slot < bucket.held)) return false;
        if (slot < bucket.held && (bucket.rows[slot] >= rows || bucket.rows[slot] < 2)) return false;
      }
    }
    if (!ends || keys != shard.keys) return false;
  }
  return true;
}

IndexBucket* UnitPool::take() {
  if (!free_.empty()) {
    IndexBucket* unit = free_.back();
    free_.pop_back();
    std::memset(static_cast<void*>(unit), 0, kUnitBytes);
    return unit;
  }
  if (next_ == end_) {
    const std::size_t wanted = std::clamp(bytes_, kUnitBytes, 2 * SystemMemory::kLargePage);
    const bool large = wanted >= SystemMemory::kLargePage;
    const std::size_t size = large ? wanted / SystemMemory::kLargePage * SystemMemory::kLargePage : wanted / kUnitBytes * kUnitBytes;
    slabs_.emplace_back(size, large);
    next_ = slabs_.back().data();
    end_ = next_ + size;
    bytes_ += size;
  }
  auto* unit = reinterpret_cast<IndexBucket*>(next_);
  next_ += kUnitBytes;
  return unit;
}

TableIndex::TableIndex(std::uint64_t salt) : salt_(salt) {
  shards_.push_back({{units_.take()}, kUnitBuckets, 0});
}

double TableIndex::load() const {
  std::uint64_t places = 0;
  for (const IndexShard& shard : shards_) places += std::uint64_t{shard.buckets} * IndexBucket::kSlots;
  return static_cast<double>(size_) / static_cast<double>(places);
}

IndexShard& TableIndex::shard_of(std::uint64_t hash) {
  const std::uint64_t number = (hash >> 32) & wide_;
  return shards_[number >= shards_.size() ? number & (wide_ >> 1) : number];
}

TableIndex::Place TableIndex::place_of(std::uint64_t key) {
  if (size_ >= shards_.size() * kShardKeys) split();
  const std::uint64_t hashed = hash(key);
  IndexShard& shard = shard_of(hashed);
  if (shard.keys >= kUnitKeys * shard.unit_count()) grow(shard);
  IndexBucket& home = shard.bucket(shard.home(hashed));
  std::uint32_t row = home.row_of(key);
  if (row == kAbsentRow && home.passed != 0) row = view().find(key, hashed);
  return {hashed, &shard, &home, row};
}

void TableIndex::fill(const Place& to, std::uint64_t key, std::uint32_t row) {
  if (!put(*to.home, key, row)) place(*to.shard, to.hash, key, row);
  ++to.shard->keys;
  ++size_;
}

std::uint32_t TableIndex::remove(std::uint64_t key) {
  const std::uint64_t hashed = hash(key);
  IndexShard& shard = shard_of(hashed);
  const std::size_t home = shard.home(hashed);
  std::size_t at = home;
  for (;; at = shard.after(at)) {
    const IndexBucket& bucket = shard.bucket(at);
    if (bucket.row_of(key) != kAbsentRow) break;
    if (bucket.passed == 0) return kAbsentRow;
  }
  for (std::size_t before = home; before != at; before = shard.after(before)) --shard.bucket(before).passed;
  IndexBucket& bucket = shard.bucket(at);
  const auto slot = static_cast<std::size_t>(std::find(bucket.keys, bucket.keys + IndexBucket::kSlots, key) - bucket.keys);
  const std::uint32_t row = bucket.rows[slot];
  const std::size_t last = --bucket.held;
  bucket.keys[slot] = bucket.keys[last];
  bucket.rows[slot] = bucket.rows[last];
  bucket.keys[last] = kMissingKey;
  bucket.rows[last] = 0;
  --shard.keys;
  --size_;
  return row;
}

IndexShard TableIndex::empty_shard(std::size_t units) {
  IndexShard shard{};
  shard.buckets = static_cast<std::uint32_t>(units * kUnitBuckets);
  for (std::size_t i = 0; i < units; ++i) shard.units[i] = units_.take();
  return shard;
}

void TableIndex::give_back(const IndexShard& shard) {
  for (std::size_t i = 0; i < shard.unit_count(); ++i) units_.give(shard.units[i]);
}

// Without a branch on how many keys a bucket holds: none could be foreseen.
std::span<const TableIndex::Moving> TableIndex::moving(const IndexShard& shard) {
  moving_.resize(shard.keys + std::size_t{1});
  Moving* to = moving_.data();
  for (std::size_t number = 0; number < shard.buckets; ++number) {
    const IndexBucket& bucket = shard.bucket(number);
    for (std::size_t i = 0; i < IndexBucket::kSlots; ++i) {
      *to = {hash(bucket.keys[i]), bucket.keys[i], bucket.rows[i]};
      to += i < bucket.held ? 1 : 0;
    }
  }
  return {moving_.data(), shard.keys};
}

void TableIndex::grow(IndexShard& shard) {
  if (shard.unit_count() == IndexShard::kMostUnits) {
    if (shard.keys + 1 < shard.buckets * IndexBucket::kSlots) return;
    throw std::length_error("a shard of the index is full: the keys collide on purpose, so give the table another seed");
  }
  IndexShard larger = empty_shard(shard.unit_count() + 1);
  larger.keys = shard.keys;
  for (const Moving& each : moving(shard)) place(larger, each.hash, each.key, each.row);
  std::swap(shard, larger);
  give_back(larger);
}

void TableIndex::split() {
  if (shards_.size() > wide_) wide_ = 2 * wide_ + 1;
  const std::uint64_t newest = shards_.size();
  const IndexShard old = shards_[newest & (wide_ >> 1)];
  const auto goes = [&](std::uint64_t hashed) { return ((hashed >> 32) & wide_) == newest; };
  const std::span<const Moving> all = moving(old);
  const auto going = static_cast<std::uint32_t>(std::count_if(all.begin(), all.end(), [&](const Moving& each) { return goes(each.hash); }));
  IndexShard parts[2] = {empty_shard(units_for(old.keys - going)), empty_shard(units_for(going))};
  parts[0].keys = old.keys - going;
  parts[1].keys = going;
  for (const Moving& each : all) place(parts[goes(each.hash) ? 1 : 0], each.hash, each.key, each.row);
  shards_.push_back(parts[1]);
  shards_[newest & (wide_ >> 1)] = parts[0];
  give_back(old);
}

void TableIndex::adopt(const std::vector<IndexShard>& sizes) {
  shards_.clear();
  units_ = {};
  size_ = 0;
  wide_ = 0;
  while (sizes.size() > wide_ + 1) wide_ = 2 * wide_ + 1;
  for (const IndexShard& size : sizes) {
    IndexShard shard = empty_shard(size.unit_count());
    shard.keys = size.keys;
    size_ += size.keys;
    shards_.push_back(shard);
  }
}

}  // namespace bowerbird::embedding
