// Shared futexes for threads that sleep without an engine, and for waking any sleeper.
#pragma once

#include <linux/futex.h>

#include <atomic>
#include <cstdint>

#include "io/clock.h"
#include "io/sys.h"

namespace ustcp {

enum class FutexResult : uint8_t { kWoken, kTimedOut, kInterrupted };

// Sleeps while *word == expected, until woken or `deadline`. kWoken also when the value differs already or the kernel
// woke the thread without a reason: the caller looks again.
inline FutexResult FutexWait(std::atomic<uint32_t>* word, uint32_t expected, Instant deadline) noexcept {
  timespec at;
  timespec* until = nullptr;
  if (deadline != kNever) {
    int64_t ns = NanosOf(deadline) > 0 ? NanosOf(deadline) : 0;
    at = {ns / 1'000'000'000, ns % 1'000'000'000};
    until = &at;  // FUTEX_WAIT_BITSET takes an absolute time of CLOCK_MONOTONIC
  }
  long r = sys::Call(SYS_futex, sys::Arg(word), FUTEX_WAIT_BITSET, expected, sys::Arg(until), 0,
                     static_cast<long>(FUTEX_BITSET_MATCH_ANY));
  if (r == -ETIMEDOUT) return FutexResult::kTimedOut;
  if (r == -EINTR) return FutexResult::kInterrupted;
  return FutexResult::kWoken;
}

// Wakes up to `count` sleepers on the word, those inside an engine's Wait included. Call after changing the word.
inline int FutexWake(std::atomic<uint32_t>* word, int count = 1) noexcept {
  return static_cast<int>(sys::Call(SYS_futex, sys::Arg(word), FUTEX_WAKE, count));
}

}  // namespace ustcp
