// What a bulk replay has yet to do: operations by bucket of keys, those of a bucket in log order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace bowerbird {

// Memory that is taken piece by piece and given back as a whole; used by one thread at a time.
class Pool {
 public:
  static constexpr std::size_t kBlock = 4096;  // pieces of this size can be used again

  Pool() = default;
  ~Pool();
  Pool(Pool&& other) noexcept;
  Pool& operator=(Pool&&) = delete;

  // At least 8-byte aligned, not initialised.
  std::byte* take(std::size_t bytes);
  std::byte* take_block();
  // Lends a block of this or another pool that lives as long.
  void give_block(std::byte* block) { spare_.push_back(block); }
  std::size_t bytes() const { return bytes_; }

 private:
  struct Region {
    void* memory;
    std::size_t bytes;
  };
  void open(std::size_t bytes);

  std::vector<Region> regions_;
  std::vector<std::byte*> spare_;
  std::byte* next_ = nullptr;
  std::size_t left_ = 0;
  std::size_t bytes_ = 0;
};

// One family's operations. An operation is a run of bytes that the caller lays out; it never crosses a block's end. A
// block has a time, so that its operations need not say theirs in full.
class OperationLog {
 public:
  explicit OperationLog(std::size_t buckets) : tails_(buckets), firsts_(buckets, nullptr) {}

  // Where the next operation of a bucket goes; a block that begins with it has this time.
  std::byte* append(std::size_t bucket, std::size_t bytes, std::int64_t time) {
    Tail& tail = tails_[bucket];
    if (tail.left < bytes) open_block(bucket, bytes, time);
    std::byte* at = tail.next;
    tail.next += bytes;
    tail.left -= static_cast<std::uint32_t>(bytes);
    ++tail.count;
    return at;
  }
  // The time of the block that the bucket's last operation is in.
  std::int64_t time(std::size_t bucket) const { return tails_[bucket].time; }

  // Asks for the memory that append() will need: first the bucket's end, and nearer to it what lies there.
  void prefetch_tail(std::size_t bucket) const { __builtin_prefetch(&tails_[bucket], 1); }
  void prefetch_end(std::size_t bucket) const { __builtin_prefetch(tails_[bucket].next, 1); }

  std::size_t count(std::size_t bucket) const { return tails_[bucket].count; }
  std::size_t bytes() const { return pool_.bytes(); }

  // Calls visit(first byte, one past the last, the block's time) for each run of operations of a bucket, in order.
  template <typename Visit>
  void each_run(std::size_t bucket, const Visit& visit) const {
    for (const Block* block = firsts_[bucket]; block != nullptr; block = block->following) {
      visit(block->data(), block->following == nullptr ? tails_[bucket].next : block->used, block->time);
    }
  }
  // A bucket's operations are done with: what can be used again goes to a pool.
  void release(std::size_t bucket, Pool& pool);

 private:
  struct Block {
    Block* following;
    std::byte* used;  // one past what is used, once the block is full
    std::size_t size;
    std::int64_t time;
    std::byte* data() { return reinterpret_cast<std::byte*>(this + 1); }
    const std::byte* data() const { return reinterpret_cast<const std::byte*>(this + 1); }
  };
  struct alignas(32) Tail {
    std::byte* next = nullptr;
    Block* block = nullptr;
    std::int64_t time = 0;
    std::uint32_t left = 0;
    std::uint32_t count = 0;
  };
  void open_block(std::size_t bucket, std::size_t bytes, std::int64_t time);

  std::vector<Tail> tails_;
  std::vector<Block*> firsts_;
  Pool pool_;
};

}  // namespace bowerbird
