#include "state/control.hpp"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <thread>

namespace bowerbird {

namespace {

bool is_dead(std::int32_t process) { return process != getpid() && kill(process, 0) != 0 && errno == ESRCH; }

bool release_if_dead(ReaderSlot& slot) {
  std::int32_t owner = slot.owner.load(std::memory_order_acquire);
  if (owner == 0 || !is_dead(owner)) return false;
  slot.lsn.store(kIdle, std::memory_order_release);
  return slot.owner.compare_exchange_strong(owner, 0, std::memory_order_acq_rel);
}

ReaderSlot* take_free_slot(Control& control) {
  static thread_local std::size_t start = std::hash<std::thread::id>{}(std::this_thread::get_id()) ^
                                          static_cast<std::size_t>(getpid()) * 0x9E3779B97F4A7C15ULL;
  const std::int32_t self = getpid();
  for (std::size_t i = 0; i < kReaderSlots; ++i) {
    ReaderSlot& slot = control.readers[(start + i) % kReaderSlots];
    std::int32_t nobody = 0;
    if (slot.owner.load(std::memory_order_relaxed) != 0) continue;
    if (slot.owner.compare_exchange_strong(nobody, self, std::memory_order_acq_rel)) {
      start += i;
      return &slot;
    }
  }
  return nullptr;
}

}  // namespace

void ReadGuard::claim(Control& control) {
  slot_ = take_free_slot(control);
  if (slot_ != nullptr) return;
  for (ReaderSlot& slot : control.readers) release_if_dead(slot);
  slot_ = take_free_slot(control);
  if (slot_ == nullptr) throw std::runtime_error("too many threads read the same state at once");
}

// The writer raises the floor before it looks at the slots, a reader shows its slot before it looks at the floor:
// one of them sees the other.
bool ReadGuard::announce(Control& control, std::int64_t lsn) {
  slot_->lsn.store(lsn, std::memory_order_seq_cst);
  if (control.floor.load(std::memory_order_seq_cst) > lsn) return false;
  lsn_ = lsn;
  return true;
}

ReadGuard::ReadGuard(Control& control) {
  claim(control);
  while (!announce(control, control.published.load(std::memory_order_acquire))) {
  }
}

ReadGuard::ReadGuard(Control& control, std::int64_t limit) {
  claim(control);
  if (announce(control, std::min(limit, control.published.load(std::memory_order_acquire)))) return;
  slot_->lsn.store(kIdle, std::memory_order_release);
  slot_->owner.store(0, std::memory_order_release);
  slot_ = nullptr;
}

ReadGuard::~ReadGuard() {
  if (slot_ == nullptr) return;
  slot_->lsn.store(kIdle, std::memory_order_release);
  slot_->owner.store(0, std::memory_order_release);
}

std::int64_t lowest_reader(Control& control, std::int64_t most) {
  std::int64_t lowest = most;
  for (ReaderSlot& slot : control.readers) {
    const std::int64_t lsn = slot.lsn.load(std::memory_order_seq_cst);
    if (lsn >= lowest) continue;
    if (!release_if_dead(slot)) lowest = lsn;
  }
  return lowest;
}

}  // namespace bowerbird
