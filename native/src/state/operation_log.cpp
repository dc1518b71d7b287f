#include "state/operation_log.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <new>
#include <utility>

namespace bowerbird {
namespace {

constexpr std::size_t kFirstRegion = std::size_t{1} << 18;
constexpr std::size_t kLargestRegion = std::size_t{1} << 25;
constexpr std::size_t kFirstBlock = 256;

}  // namespace

Pool::Pool(Pool&& other) noexcept
    : regions_(std::exchange(other.regions_, {})),
      spare_(std::exchange(other.spare_, {})),
      next_(std::exchange(other.next_, nullptr)),
      left_(std::exchange(other.left_, 0)),
      bytes_(std::exchange(other.bytes_, 0)) {}

Pool::~Pool() {
  for (const Region& region : regions_) munmap(region.memory, region.bytes);
}

void Pool::open(std::size_t bytes) {
  const std::size_t growing = std::min(kLargestRegion, regions_.empty() ? kFirstRegion : 2 * regions_.back().bytes);
  const std::size_t size = (std::max(growing, bytes) + kBlock - 1) / kBlock * kBlock;
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  madvise(memory, size, MADV_HUGEPAGE);
  regions_.push_back({memory, size});
  next_ = static_cast<std::byte*>(memory);
  left_ = size;
  bytes_ += size;
}

std::byte* Pool::take(std::size_t bytes) {
  bytes = (bytes + 7) / 8 * 8;
  if (left_ < bytes) open(bytes);
  std::byte* at = next_;
  next_ += bytes;
  left_ -= bytes;
  return at;
}

std::byte* Pool::take_block() {
  if (spare_.empty()) return take(kBlock);
  std::byte* block = spare_.back();
  spare_.pop_back();
  return block;
}

void OperationLog::open_block(std::size_t bucket, std::size_t bytes, std::int64_t time) {
  Tail& tail = tails_[bucket];
  const std::size_t wanted = tail.block == nullptr ? kFirstBlock : std::min(2 * tail.block->size, Pool::kBlock);
  const std::size_t size = std::max(wanted, bytes + sizeof(Block));
  auto* block = new (size == Pool::kBlock ? pool_.take_block() : pool_.take(size)) Block{nullptr, nullptr, size, time};
  if (tail.block == nullptr) {
    firsts_[bucket] = block;
  } else {
    tail.block->following = block;
    tail.block->used = tail.next;
  }
  tail.block = block;
  tail.next = block->data();
  tail.time = time;
  tail.left = static_cast<std::uint32_t>(size - sizeof(Block));
}

void OperationLog::release(std::size_t bucket, Pool& pool) {
  for (Block* block = std::exchange(firsts_[bucket], nullptr); block != nullptr;) {
    Block* following = block->following;
    if (block->size == Pool::kBlock) pool.give_block(reinterpret_cast<std::byte*>(block));
    block = following;
  }
}

}  // namespace bowerbird
