#include "state/arena.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <memory>
#include <system_error>

namespace bowerbird {
namespace {

constexpr std::size_t kCommitStep = std::size_t{64} << 20;
constexpr std::size_t kMostBytes = std::size_t{std::numeric_limits<std::uint32_t>::max()} * Arena::kUnit;

[[noreturn]] void fail(const std::string& what) { throw std::system_error(errno, std::generic_category(), what); }

std::size_t page_round(std::size_t bytes) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

}  // namespace

Arena::Arena(std::size_t capacity) : capacity_(page_round(std::min(capacity, kMostBytes))) {
  void* memory = mmap(nullptr, capacity_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) fail("reserving memory for feature state");
  madvise(memory, capacity_, MADV_HUGEPAGE);
  base_ = static_cast<std::byte*>(memory);
  committed_ = capacity_;
}

Arena::Arena(std::size_t capacity, const std::string& path) : capacity_(page_round(std::min(capacity, kMostBytes))) {
  file_ = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file_ < 0) fail("making " + path);
  void* memory = MAP_FAILED;
  if (ftruncate(file_, static_cast<off_t>(capacity_)) == 0) {
    memory = mmap(nullptr, capacity_, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
  }
  if (memory == MAP_FAILED) {
    const int code = errno;
    close(file_);
    unlink(path.c_str());
    errno = code;
    fail("mapping " + path);
  }
  base_ = static_cast<std::byte*>(memory);
}

Arena* Arena::attach(const std::string& path, std::size_t writable) {
  std::unique_ptr<Arena> arena(new Arena());
  arena->file_ = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (arena->file_ < 0) fail("opening " + path);
  struct stat status {};
  if (fstat(arena->file_, &status) != 0) fail("reading the size of " + path);
  arena->capacity_ = static_cast<std::size_t>(status.st_size);
  if (arena->capacity_ < writable) throw std::system_error(EINVAL, std::generic_category(), path + " is too short");
  void* memory = mmap(nullptr, arena->capacity_, PROT_READ, MAP_SHARED, arena->file_, 0);
  if (memory == MAP_FAILED) fail("mapping " + path);
  arena->base_ = static_cast<std::byte*>(memory);
  if (mprotect(memory, page_round(writable), PROT_READ | PROT_WRITE) != 0) fail("mapping the head of " + path);
  return arena.release();
}

Arena::~Arena() {
  if (base_ != nullptr) munmap(base_, capacity_);
  if (file_ >= 0) close(file_);
}

std::uint32_t Arena::take(std::size_t units) {
  std::size_t first = next_.load(std::memory_order_relaxed);
  do {
    if ((first + units) * kUnit > std::min(capacity_, limit())) return 0;
  } while (!next_.compare_exchange_weak(first, first + units, std::memory_order_relaxed));
  const std::size_t end = (first + units) * kUnit;
  if (end > committed_.load(std::memory_order_acquire) && !commit(end)) return 0;
  return static_cast<std::uint32_t>(first);
}

// Asks the file system for the pages, so that a full one is an answer and not a signal.
bool Arena::commit(std::size_t bytes) {
  const std::lock_guard lock(commit_mutex_);
  const std::size_t committed = committed_.load(std::memory_order_relaxed);
  if (bytes <= committed) return true;
  const std::size_t wanted = std::min(capacity_, std::max(bytes, committed + kCommitStep));
  for (const std::size_t end : {wanted, bytes}) {
    if (posix_fallocate(file_, static_cast<off_t>(committed), static_cast<off_t>(end - committed)) == 0) {
      committed_.store(end, std::memory_order_release);
      return true;
    }
  }
  return false;
}

}  // namespace bowerbird
