// A lock among the threads of this process, on a futex: no allocation, nothing to destroy, and the child of a fork makes
// it new. Signal handlers are held off while it is held (signals.h), so that a handler's close() cannot meet it.
#pragma once

#include <linux/futex.h>

#include <atomic>
#include <cstdint>

#include "io/base/sys.h"
#include "preload/libc/signals.h"

namespace ustcp {

class PrivateLock {
 public:
  void Lock() noexcept {
    uint32_t free = kFree;
    if (word_.compare_exchange_strong(free, kHeld, std::memory_order_acquire)) return;
    while (word_.exchange(kContended, std::memory_order_acquire) != kFree)
      sys::Call(SYS_futex, sys::Arg(&word_), FUTEX_WAIT_PRIVATE, kContended, 0);
  }
  void Unlock() noexcept {
    if (word_.exchange(kFree, std::memory_order_release) == kContended)
      sys::Call(SYS_futex, sys::Arg(&word_), FUTEX_WAKE_PRIVATE, 1);
  }
  // In the child of a fork: the thread that held it may not exist here.
  void Reset() noexcept { word_.store(kFree, std::memory_order_relaxed); }

 private:
  static constexpr uint32_t kFree = 0;
  static constexpr uint32_t kHeld = 1;
  static constexpr uint32_t kContended = 2;
  std::atomic<uint32_t> word_{kFree};
};

class PrivateGuard {
 public:
  explicit PrivateGuard(PrivateLock& lock) noexcept : lock_(lock) { lock_.Lock(); }
  ~PrivateGuard() { lock_.Unlock(); }
  PrivateGuard(const PrivateGuard&) = delete;
  PrivateGuard& operator=(const PrivateGuard&) = delete;

 private:
  signals::Section section_;  // entered before the lock is taken, left after it is dropped
  PrivateLock& lock_;
};

}  // namespace ustcp
