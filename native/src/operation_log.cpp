#include "operation_log.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <new>
#include <utility>

namespace bowerbird {
namespace {

constexpr std::size_t kFirstRegion = std::size_t{1} << 18;
constexpr std::size_t kLargestRegion = std::size_t{1} << 26;
constexpr std::size_t kFirstBlock = 256;
constexpr std::size_t kLargestBlock = 8192;

}  // namespace

Pool::Pool(Pool&& other) noexcept
    : regions_(std::exchange(other.regions_, {})),
      next_(std::exchange(other.next_, nullptr)),
      left_(std::exchange(other.left_, 0)),
      bytes_(std::exchange(other.bytes_, 0)) {}

void Pool::open(std::size_t bytes) {
  const std::size_t growing = std::min(kLargestRegion, regions_.empty() ? kFirstRegion : 2 * regions_.back().bytes);
  constexpr std::size_t kPage = 4096;
  const std::size_t size = (std::max(growing, bytes) + kPage - 1) / kPage * kPage;
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

void Pool::release() {
  for (const Region& region : regions_) munmap(region.memory, region.bytes);
  regions_.clear();
  next_ = nullptr;
  left_ = bytes_ = 0;
}

void OperationLog::open_block(std::size_t bucket, std::size_t bytes) {
  Tail& tail = tails_[bucket];
  tail.size = std::max(std::clamp(2 * tail.size, kFirstBlock, kLargestBlock), bytes + sizeof(Block));
  auto* block = new (pool_.take(tail.size)) Block{nullptr, nullptr};
  if (tail.block == nullptr) {
    firsts_[bucket] = block;
  } else {
    tail.block->following = block;
    tail.block->end = tail.next;
  }
  tail.block = block;
  tail.next = block->data();
  tail.end = reinterpret_cast<std::byte*>(block) + tail.size;
}

}  // namespace bowerbird
