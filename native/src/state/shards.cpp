#include "state/shards.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "plan/row_kernels.hpp"

namespace bowerbird {
namespace {

constexpr std::uint64_t kFirstEntries = 8;

bool is_free(const Entry& entry) {
  return entry.key.load(std::memory_order_relaxed) == kMissingKey || entry.block.load(std::memory_order_relaxed) == 0;
}

// The first entry without a key, or whose key has gone. A reader that took the entry for the old key's meets a block
// of a later version than its own, and nothing before it.
Entry* free_entry(const TableView& table, std::uint64_t hash) {
  std::uint64_t at = hash & table.mask();
  while (!is_free(table.entries()[at])) at = (at + 1) & table.mask();
  return &table.entries()[at];
}

}  // namespace

void Shard::discard(std::uint32_t block, std::uint32_t units, std::int64_t version) {
  if (versioned_) {
    blocks_.retire(block, units, version);
  } else {
    blocks_.give_back(block, units);
  }
}

bool Shard::grow(std::uint64_t entries, std::int64_t version) {
  auto units = static_cast<std::uint32_t>(entries);
  const std::uint32_t start = blocks_.take(units);
  if (start == 0) return false;
  const TableView old = view();
  const auto log = static_cast<std::uint64_t>(std::bit_width(entries) - 1);
  const std::uint64_t handle = (std::uint64_t{start} << 6) | log;
  const TableView table = TableView::open(*arena_, handle);
  used_ = 0;
  for (std::uint64_t at = 0; !old.empty() && at <= old.mask(); ++at) {
    const std::uint64_t key = old.entries()[at].key.load(std::memory_order_relaxed);
    const std::uint32_t block = old.entries()[at].block.load(std::memory_order_relaxed);
    if (key == kMissingKey || block == 0) continue;
    Entry* entry = free_entry(table, mix(key));
    entry->block.store(block, std::memory_order_relaxed);
    entry->key.store(key, std::memory_order_relaxed);
    ++used_;
  }
  const std::uint64_t before = handle_->load(std::memory_order_relaxed);
  handle_->store(handle, std::memory_order_release);
  if (before != 0) discard(static_cast<std::uint32_t>(before >> 6), std::uint32_t{1} << (before & 63), version);
  return true;
}

void Shard::reserve(std::size_t keys) {
  const std::uint64_t entries = std::bit_ceil(std::max<std::uint64_t>(kFirstEntries, keys + keys / 2));
  if (view().empty() || view().mask() + 1 < entries) grow(entries, std::numeric_limits<std::int64_t>::min());
}

Entry* Shard::find_or_insert(std::uint64_t key, std::uint64_t hash, std::int64_t version) {
  TableView table = view();
  if (Entry* found = table.find(key, hash)) return found;
  const std::uint64_t entries = table.empty() ? 0 : table.mask() + 1;
  if (4 * (used_ + 1) > 3 * entries) {  // at most three quarters full; entries of keys that have gone are dropped
    const std::uint64_t wanted = 2 * live_ < entries ? entries : 2 * entries;
    const bool grown = grow(std::max(kFirstEntries, wanted), version);
    if (!grown && live_ + 1 >= entries) return nullptr;
    table = view();
  }
  Entry* entry = free_entry(table, hash);
  if (entry->key.load(std::memory_order_relaxed) == kMissingKey) {
    if (16 * (used_ + 1) > 15 * (table.mask() + 1)) return nullptr;  // some stay empty, so that searches end
    ++used_;
  }
  entry->block.store(0, std::memory_order_relaxed);
  entry->key.store(key, std::memory_order_release);
  return entry;
}

void Shard::put(Entry& entry, std::uint32_t block, std::int64_t version) {
  const std::uint32_t before = entry.block.load(std::memory_order_relaxed);
  entry.block.store(block, std::memory_order_release);
  if (before == 0) {
    ++live_;
  } else {
    discard(before, blocks_.header(before)->units, version);
  }
}

void Shard::remove(Entry& entry, std::int64_t version, bool at_once) {
  const std::uint32_t before = entry.block.load(std::memory_order_relaxed);
  if (before == 0) return;
  BlockHeader* header = blocks_.header(before);
  if (!at_once && versioned_ && header->absent && header->version > blocks_.floor()) return;
  if (at_once || !versioned_ || header->absent) {
    entry.block.store(0, std::memory_order_release);
    discard(before, header->units, version);
    --live_;
    return;
  }
  std::uint32_t units = (sizeof(BlockHeader) + Arena::kUnit - 1) / Arena::kUnit;
  const std::uint32_t mark = blocks_.take(units);
  if (mark == 0) return;
  *blocks_.header(mark) = {version, before, units, 1, header->latest};
  put(entry, mark, version);
}

// Every key is compared with one entry, those that were not there with their next one, and so on: without a branch that
// is hard to foretell, so that many entries are on their way from memory at once.
void Keys::open(const std::uint64_t* keys, const std::uint64_t* hashes, std::size_t count, std::uint32_t* newest) const {
  std::array<std::uint32_t, kGroup> left;
  std::size_t size = 0;
  const auto compare = [&](std::uint32_t i, std::uint64_t step) {
    const TableView table = view(shard_of(hashes[i]));
    if (table.empty()) {
      newest[i] = 0;
      return;
    }
    const Entry& entry = table.entries()[(hashes[i] + step) & table.mask()];
    const std::uint64_t held = entry.key.load(std::memory_order_acquire);
    const std::uint32_t block = entry.block.load(std::memory_order_acquire);
    newest[i] = held == keys[i] ? block : 0;
    left[size] = i;
    size += static_cast<std::size_t>(held != keys[i]) & static_cast<std::size_t>(held != kMissingKey);
  };
  for (std::uint32_t i = 0; i < count; ++i) compare(i, 0);
  for (std::uint64_t step = 1; size > 0; ++step) {
    const std::size_t before = size;
    size = 0;
    for (std::size_t j = 0; j < before; ++j) compare(left[j], step);
  }
}

void Keys::resolve(const std::uint32_t* newest, std::size_t count, std::int64_t lsn, const std::byte** blocks) const {
  for (std::size_t i = 0; i < count; ++i) blocks[i] = resolve(newest[i], lsn);
}

void Keys::find_all(const std::uint64_t* keys, std::size_t count, std::int64_t lsn, const std::byte** blocks) const {
  constexpr std::size_t kAsked = 64;  // at once: more than a processor can wait for are not fetched
  std::array<std::uint64_t, kAsked> hashes;
  std::array<std::uint32_t, kAsked> newest;
  for (std::size_t first = 0; first < count; first += kAsked) {
    const std::size_t size = std::min(kAsked, count - first);
    row_kernels().hash(keys + first, size, hashes.data());
    for (std::size_t i = 0; i < size; ++i) prefetch(hashes[i]);
    open(keys + first, hashes.data(), size, newest.data());
    for (std::size_t i = 0; i < size; ++i) __builtin_prefetch(arena_->at(newest[i]));
    resolve(newest.data(), size, lsn, blocks + first);
  }
}

}  // namespace bowerbird
