// One reserved range of memory, private or shared by processes, addressed in units of 16 bytes.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>

namespace bowerbird {

class Arena {
 public:
  static constexpr std::size_t kUnit = 16;
  static std::size_t units_for(std::size_t bytes) { return (bytes + kUnit - 1) / kUnit; }

  // Private memory of at most `capacity` bytes; pages are taken as they are touched.
  explicit Arena(std::size_t capacity);
  // A new file (on a memory file system) that other processes attach to; its first bytes are theirs to write, too.
  Arena(std::size_t capacity, const std::string& path);
  // An existing file: read-only but for its first `writable` bytes.
  static Arena* attach(const std::string& path, std::size_t writable);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  std::byte* at(std::uint32_t unit) const { return base_ + static_cast<std::size_t>(unit) * kUnit; }

  // Returns the first of so many units, zeroed, or 0 where the arena is full. Safe from several threads.
  std::uint32_t take(std::size_t units);

  std::size_t capacity() const { return capacity_; }
  // From now on at most so many bytes of the capacity; what is taken stays.
  void set_limit(std::size_t bytes) { limit_.store(bytes, std::memory_order_relaxed); }
  std::size_t limit() const { return limit_.load(std::memory_order_relaxed); }
  std::size_t used() const { return next_.load(std::memory_order_relaxed) * kUnit; }

 private:
  Arena() = default;
  bool commit(std::size_t bytes);

  std::byte* base_ = nullptr;
  std::size_t capacity_ = 0;
  std::atomic<std::size_t> limit_{~std::size_t{0}};
  std::atomic<std::size_t> next_{1};  // unit 0 stands for nothing
  std::atomic<std::size_t> committed_{0};
  std::mutex commit_mutex_;
  int file_ = -1;
};

}  // namespace bowerbird
