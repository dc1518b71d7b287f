// The head of an arena: which log position is published, who is reading at which, and where the key tables are.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace bowerbird {

inline constexpr std::size_t kReaderSlots = 512;
inline constexpr std::int64_t kIdle = std::numeric_limits<std::int64_t>::max();
inline constexpr std::uint64_t kMagic = 0x3152574F42425742ULL;

struct alignas(16) ReaderSlot {
  std::atomic<std::int64_t> lsn;    // what the reader reads at, or kIdle
  std::atomic<std::int32_t> owner;  // its process, or 0
};

// What is in the arena is read by processes that did not write it: plain layout, lock-free atomics.
struct Control {
  std::atomic<std::uint64_t> magic;
  std::atomic<std::int64_t> published;  // every record below it is applied and visible
  std::atomic<std::int64_t> floor;      // no reader may start below it
  std::atomic<std::uint32_t> closed;    // the writer has let go of this arena
  std::uint32_t tables;                 // entries of the directory that follows this struct
  std::uint32_t plan_unit;              // where the plan's JSON lies
  std::uint32_t plan_bytes;
  ReaderSlot readers[kReaderSlots];

  // A key table: unit << 6 | log2(entries); 0 while empty.
  std::atomic<std::uint64_t>* directory() { return reinterpret_cast<std::atomic<std::uint64_t>*>(this + 1); }
  static std::size_t bytes(std::size_t tables) { return sizeof(Control) + tables * sizeof(std::atomic<std::uint64_t>); }
};

static_assert(std::atomic<std::uint64_t>::is_always_lock_free && std::atomic<std::uint32_t>::is_always_lock_free);

// Claims a reader's slot at the published position for as long as it lives; blocks that the position needs stay.
class ReadGuard {
 public:
  // At most at `limit`; `lsn()` says where.
  explicit ReadGuard(Control& control);
  ReadGuard(Control& control, std::int64_t limit);
  ~ReadGuard();
  ReadGuard(const ReadGuard&) = delete;
  ReadGuard& operator=(const ReadGuard&) = delete;

  // Whether the position asked for could still be held.
  bool holds() const { return slot_ != nullptr; }
  std::int64_t lsn() const { return lsn_; }

 private:
  void claim(Control& control);
  bool announce(Control& control, std::int64_t lsn);

  ReaderSlot* slot_ = nullptr;
  std::int64_t lsn_ = 0;
};

// The lowest position that a reader holds, at most `most`; slots of dead processes are freed.
std::int64_t lowest_reader(Control& control, std::int64_t most);

}  // namespace bowerbird
