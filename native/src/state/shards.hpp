// The keys of one family or table: hash tables by shard, each key with its newest block.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/keys.hpp"
#include "state/arena.hpp"
#include "state/blocks.hpp"

namespace bowerbird {

inline constexpr std::size_t kShards = 64;
inline std::size_t shard_of(std::uint64_t hash) { return hash >> 58; }

struct Entry {
  std::atomic<std::uint64_t> key;    // written last, so that whoever sees it sees the block
  std::atomic<std::uint32_t> block;  // 0: the key has gone
  std::uint32_t unused;
};
static_assert(sizeof(Entry) == Arena::kUnit);

// A shard's table as readers take it.
class TableView {
 public:
  static TableView open(const Arena& arena, std::uint64_t handle) {
    TableView view;
    if (handle == 0) return view;
    view.entries_ = reinterpret_cast<Entry*>(arena.at(static_cast<std::uint32_t>(handle >> 6)));
    view.mask_ = (std::uint64_t{1} << (handle & 63)) - 1;
    return view;
  }

  bool empty() const { return entries_ == nullptr; }
  std::uint64_t mask() const { return mask_; }
  Entry* entries() const { return entries_; }
  void prefetch(std::uint64_t hash) const {
    if (entries_ != nullptr) __builtin_prefetch(&entries_[hash & mask_]);
  }

  Entry* find(std::uint64_t key, std::uint64_t hash) const {
    if (entries_ == nullptr) return nullptr;
    for (std::uint64_t at = hash & mask_;; at = (at + 1) & mask_) {
      const std::uint64_t held = entries_[at].key.load(std::memory_order_acquire);
      if (held == key) return &entries_[at];
      if (held == kMissingKey) return nullptr;
    }
  }

 private:
  Entry* entries_ = nullptr;
  std::uint64_t mask_ = 0;
};

// What the one writer needs to change a shard. Where `versioned`, readers may look on: what they may see is never
// changed, but replaced.
class Shard {
 public:
  Shard(Arena* arena, std::atomic<std::uint64_t>* handle, bool versioned)
      : blocks_(arena), arena_(arena), handle_(handle), versioned_(versioned) {}

  TableView view() const { return TableView::open(*arena_, handle_->load(std::memory_order_relaxed)); }
  Blocks& blocks() { return blocks_; }
  const Blocks& blocks() const { return blocks_; }
  std::size_t size() const { return live_; }

  // The key's entry, new ones with block 0; null where memory is full.
  Entry* find_or_insert(std::uint64_t key, std::uint64_t hash, std::int64_t version);

  // Makes `block` what holds from `version` on; the one before goes when nobody needs it.
  void put(Entry& entry, std::uint32_t block, std::int64_t version);
  // The key has no state from `version` on. `at_once`: not even for readers below, so that no memory is needed.
  void remove(Entry& entry, std::int64_t version, bool at_once = false);
  // Whether the newest block may be changed in place by the writer of `version`.
  bool is_own(const BlockHeader& header, std::int64_t version) const { return !versioned_ || header.version == version; }
  // Room for so many keys without growing.
  void reserve(std::size_t keys);

  std::int64_t expired_lsn = -1;  // where keys were last let go for want of memory
  std::int64_t from_lsn = 0;  // records below it are in the state already (a restored snapshot)

 private:
  bool grow(std::uint64_t entries, std::int64_t version);
  void discard(std::uint32_t block, std::uint32_t units, std::int64_t version);

  Blocks blocks_;
  Arena* arena_;
  std::atomic<std::uint64_t>* handle_;
  bool versioned_;
  std::size_t used_ = 0;  // entries with a key
  std::size_t live_ = 0;  // entries with a block
};

// Readers' side of all shards of a family or table.
class Keys {
 public:
  Keys(Arena* arena, std::atomic<std::uint64_t>* handles) : arena_(arena), handles_(handles) {}

  TableView view(std::size_t shard) const { return TableView::open(*arena_, handles_[shard].load(std::memory_order_acquire)); }
  void prefetch(std::uint64_t hash) const { view(shard_of(hash)).prefetch(hash); }

  // The block that holds at position `lsn`, or null.
  const std::byte* find(std::uint64_t key, std::uint64_t hash, std::int64_t lsn) const {
    if (key == kMissingKey) return nullptr;
    const Entry* entry = view(shard_of(hash)).find(key, hash);
    return entry == nullptr ? nullptr : resolve(entry->block.load(std::memory_order_acquire), lsn);
  }

  // At most kGroup keys on their way to their blocks, in two steps: the newest blocks, and what holds at `lsn`. Each goes
  // through all keys without waiting for one, so that the memory of many is on its way at once.
  static constexpr std::size_t kGroup = 512;
  void open(const std::uint64_t* keys, const std::uint64_t* hashes, std::size_t count, std::uint32_t* newest) const;
  void resolve(const std::uint32_t* newest, std::size_t count, std::int64_t lsn, const std::byte** blocks) const;

  // For each of any number of keys the block that holds at `lsn`.
  void find_all(const std::uint64_t* keys, std::size_t count, std::int64_t lsn, const std::byte** blocks) const;

  const std::byte* resolve(std::uint32_t block, std::int64_t lsn) const {
    while (block != 0) {
      const auto* header = reinterpret_cast<const BlockHeader*>(arena_->at(block));
      if (header->version <= lsn) return header->absent ? nullptr : arena_->at(block);
      block = header->previous;
    }
    return nullptr;
  }

 private:
  Arena* arena_;
  std::atomic<std::uint64_t>* handles_;
};

}  // namespace bowerbird
