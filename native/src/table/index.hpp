// From 64-bit keys to 32-bit rows, growing a little at a time.
//
// Keys are spread over shards; a shard is up to seven units of 32 KiB, a unit 512 buckets of one cache line, a bucket five keys
// with their rows. A full shard takes one more unit; as keys grow, shards split one by one, in order (linear hashing; Litwin,
// VLDB 1980). So an insertion moves at most one shard's keys, some eight thousand, and a key moves three to four times in all
// while the table doubles. A key that finds its bucket full goes to the next one; buckets count those that passed (as F14 does).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/keys.hpp"
#include "table/memory.hpp"

namespace bowerbird::embedding {

inline constexpr std::uint32_t kAbsentRow = 0;  // row 0 is the missing key's, which is not in the index

struct alignas(64) IndexBucket {
  static constexpr std::size_t kSlots = 5;
  std::uint64_t keys[kSlots];
  std::uint32_t rows[kSlots];
  std::uint16_t passed;  // keys that found this bucket full and stand in a later one
  std::uint16_t held;    // keys that stand here, in the first slots

  std::uint32_t row_of(std::uint64_t key) const {
    std::uint32_t row = 0;
    for (std::size_t i = 0; i < kSlots; ++i) row |= keys[i] == key ? rows[i] : 0;
    return row;
  }
};
static_assert(sizeof(IndexBucket) == 64);

inline constexpr std::size_t kUnitBuckets = 512;
inline constexpr std::size_t kUnitBytes = kUnitBuckets * sizeof(IndexBucket);

struct alignas(64) IndexShard {
  static constexpr std::size_t kMostUnits = 7;
  IndexBucket* units[kMostUnits];
  std::uint32_t buckets;
  std::uint32_t keys;

  std::size_t unit_count() const { return buckets / kUnitBuckets; }
  IndexBucket& bucket(std::size_t number) const { return units[number / kUnitBuckets][number % kUnitBuckets]; }
  std::size_t home(std::uint64_t hash) const { return static_cast<std::size_t>(((hash & 0xFFFFFFFFULL) * buckets) >> 32); }
  std::size_t after(std::size_t number) const { return number + 1 == buckets ? 0 : number + 1; }
};
static_assert(sizeof(IndexShard) == 64);

// What a lookup needs, of an index in memory or in a mapped file.
struct IndexView {
  const IndexShard* shards = nullptr;
  std::uint64_t count = 0;
  std::uint64_t wide = 0;  // the mask of shards that have split already; half of it masks the others
  std::uint64_t salt = 0;

  std::uint64_t hash(std::uint64_t key) const { return mix(key ^ salt); }
  const IndexShard& shard(std::uint64_t hash) const {
    const std::uint64_t number = (hash >> 32) & wide;
    return shards[number >= count ? number & (wide >> 1) : number];
  }
  // The bucket that a key of this hash is looked for first.
  const IndexBucket& home(std::uint64_t hashed) const {
    const IndexShard& in = shard(hashed);
    return in.bucket(in.home(hashed));
  }
  // The one that such a key goes to when that is full.
  const IndexBucket& after_home(std::uint64_t hashed) const {
    const IndexShard& in = shard(hashed);
    return in.bucket(in.after(in.home(hashed)));
  }
  // The key's row, or kAbsentRow; for many keys see TableKernels::find.
  std::uint32_t find(std::uint64_t key) const { return find(key, hash(key)); }
  std::uint32_t find(std::uint64_t key, std::uint64_t hashed) const;
  // Whether every chain of buckets ends, counts are right and rows below `rows`: for files that are not trusted.
  bool sound(std::uint64_t rows) const;
};

// Units of index memory, zero when taken.
class UnitPool {
 public:
  IndexBucket* take();
  void give(IndexBucket* unit) { free_.push_back(unit); }
  std::size_t bytes() const { return bytes_; }

 private:
  std::vector<SystemMemory> slabs_;
  std::vector<IndexBucket*> free_;
  std::byte* next_ = nullptr;
  std::byte* end_ = nullptr;
  std::size_t bytes_ = 0;
};

class TableIndex {
 public:
  explicit TableIndex(std::uint64_t salt);

  std::uint64_t size() const { return size_; }
  std::size_t bytes() const { return units_.bytes() + shards_.capacity() * sizeof(IndexShard) + moving_.capacity() * sizeof(Moving); }
  // The share of the index's places that hold a key.
  double load() const;
  IndexView view() const { return {shards_.data(), shards_.size(), wide_, salt_}; }
  const std::vector<IndexShard>& shards() const { return shards_; }
  std::uint64_t salt() const { return salt_; }
  std::uint64_t hash(std::uint64_t key) const { return mix(key ^ salt_); }

  // A key's row, or kAbsentRow and where it would stand: good until the index next changes.
  struct Place {
    std::uint64_t hash;
    IndexShard* shard;
    IndexBucket* home;
    std::uint32_t row;
  };
  // Asks for the bucket after the key's own where that is full: a key that is not in the index goes there.
  [[gnu::always_inline]] void prefetch_place(std::uint64_t key) const {
    const IndexBucket& home = view().home(hash(key));
    __builtin_prefetch(&home + (home.held == IndexBucket::kSlots ? 1 : 0), 1);
  }
  // Grows first where one more key needs it. The key must not be missing.
  Place place_of(std::uint64_t key);
  // Puts a key in its place, where it does not stand yet.
  void fill(const Place& place, std::uint64_t key, std::uint32_t row);
  // The key must be neither missing nor in the index.
  void insert(std::uint64_t key, std::uint32_t row) { fill(place_of(key), key, row); }
  // Returns the row that the key had, or kAbsentRow.
  std::uint32_t remove(std::uint64_t key);
  // Replaces the index by shards of the sizes given; the caller fills their units.
  void adopt(const std::vector<IndexShard>& sizes);

  // Calls visit(key, row) for the keys of a bucket, a shard, or all.
  template <typename Visit>
  void each_in_bucket(const IndexBucket& bucket, Visit&& visit) const {
    for (std::size_t i = 0; i < bucket.held; ++i) visit(bucket.keys[i], bucket.rows[i]);
  }
  template <typename Visit>
  void each_in_shard(const IndexShard& shard, Visit&& visit) const {
    for (std::size_t number = 0; number < shard.buckets; ++number) each_in_bucket(shard.bucket(number), visit);
  }
  template <typename Visit>
  void each(Visit&& visit) const {
    for (const IndexShard& shard : shards_) each_in_shard(shard, visit);
  }

 private:
  struct Moving {
    std::uint64_t hash;
    std::uint64_t key;
    std::uint32_t row;
  };

  IndexShard& shard_of(std::uint64_t hash);
  IndexShard empty_shard(std::size_t units);
  void give_back(const IndexShard& shard);
  // A shard's keys in the order of their buckets, which is that of the buckets that they move to; good until the next call.
  std::span<const Moving> moving(const IndexShard& shard);
  void grow(IndexShard& shard);
  void split();

  std::uint64_t salt_;
  std::uint64_t wide_ = 0;
  std::uint64_t size_ = 0;
  UnitPool units_;
  std::vector<IndexShard> shards_;
  std::vector<Moving> moving_;
};

}  // namespace bowerbird::embedding
