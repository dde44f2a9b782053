// The one place that reads a clock for the stack.
#pragma once

#include <time.h>

#include "stack/time/time.h"

namespace ustcp {

// CLOCK_MONOTONIC: the same for every process of the machine, stands still during suspend. Served by the vDSO.
inline Instant MonotonicNow() noexcept {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return InstantFromNanos(static_cast<int64_t>(t.tv_sec) * 1'000'000'000 + t.tv_nsec);
}

// The part of `deadline` that lies ahead, as ppoll and io_uring want it. Requires: deadline is not kNever.
inline timespec TimeLeft(Instant deadline, Instant now) noexcept {
  int64_t left = deadline > now ? ToNanos(deadline - now) : 0;
  return {left / 1'000'000'000, left % 1'000'000'000};
}

}  // namespace ustcp
