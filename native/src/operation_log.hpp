// What a bulk replay has yet to do: operations by bucket of keys, those of a bucket in log order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace bowerbird {

// Memory that is taken piece by piece and given back as a whole; used by one thread at a time.
class Pool {
 public:
  Pool() = default;
  ~Pool() { release(); }
  Pool(Pool&& other) noexcept;
  Pool& operator=(Pool&&) = delete;

  // At least 8-byte aligned, not initialised.
  std::byte* take(std::size_t bytes);
  void release();
  std::size_t bytes() const { return bytes_; }

 private:
  struct Region {
    void* memory;
    std::size_t bytes;
  };
  void open(std::size_t bytes);

  std::vector<Region> regions_;
  std::byte* next_ = nullptr;
  std::size_t left_ = 0;
  std::size_t bytes_ = 0;
};

// One family's operations. An operation is a run of bytes that the caller lays out; it never crosses a block's end.
class OperationLog {
 public:
  explicit OperationLog(std::size_t buckets) : tails_(buckets), firsts_(buckets, nullptr), counts_(buckets, 0) {}

  // Where the next operation of a bucket goes.
  std::byte* append(std::size_t bucket, std::size_t bytes) {
    Tail& tail = tails_[bucket];
    if (static_cast<std::size_t>(tail.end - tail.next) < bytes) open_block(bucket, bytes);
    std::byte* at = tail.next;
    tail.next += bytes;
    ++counts_[bucket];
    return at;
  }

  std::size_t count(std::size_t bucket) const { return counts_[bucket]; }
  std::size_t bytes() const { return pool_.bytes(); }
  void release() { pool_.release(); }

  // Calls visit(first byte, one past the last) for each run of operations of a bucket, in order.
  template <typename Visit>
  void each_run(std::size_t bucket, const Visit& visit) const {
    for (const Block* block = firsts_[bucket]; block != nullptr; block = block->following) {
      const std::byte* end = block == tails_[bucket].block ? tails_[bucket].next : block->end;
      visit(block->data(), end);
    }
  }

 private:
  struct Block {
    Block* following;
    std::byte* end;  // of what is used, once the block is full
    std::byte* data() { return reinterpret_cast<std::byte*>(this + 1); }
    const std::byte* data() const { return reinterpret_cast<const std::byte*>(this + 1); }
  };
  struct Tail {
    std::byte* next = nullptr;
    std::byte* end = nullptr;
    Block* block = nullptr;
    std::size_t size = 0;
  };
  void open_block(std::size_t bucket, std::size_t bytes);

  std::vector<Tail> tails_;
  std::vector<Block*> firsts_;
  std::vector<std::uint32_t> counts_;
  Pool pool_;
};

}  // namespace bowerbird
