// Entries whose descriptor went another way. A call that was inlined, or made in a static object, closes a descriptor, or
// puts another file under its number, and is not seen. The entry then stands for a socket that the program has given up. It
// is found out
//   - when an interposed call returns the number (fd_table::Install, opening_calls.cc),
//   - at fork and exec, which look at all entries,
//   - when poll or select would report the number,
//   - at any call on one of our sockets, once every kInterval,
//   - before a thread sleeps, or when it was looked less than kInterval ago, after it has slept for kAsleep; the rest of a
//     large table follows while it sleeps.
// Until then, what is written to the number reaches the old connection only. An entry that is found out is closed.
//
// Looking is one ppoll() for many entries: what lies under a socket of ours is unconnected and says POLLHUP, which no file,
// pipe in use or connected socket does.
#pragma once

#include <poll.h>

#include <atomic>
#include <cstdint>
#include <span>

#include "preload/runtime/runtime.h"
#include "stack/time/time.h"

namespace ustcp::stale {

inline constexpr Duration kInterval = 4ms;
inline constexpr Duration kAsleep = 50ms;

extern std::atomic<int64_t> g_looked_ns;

// By the thread's last reading of the clock, is it time to look again? Costs no system call.
inline bool Due() noexcept {
  return runtime::t_clock_ns - g_looked_ns.load(std::memory_order_relaxed) >= ToNanos(kInterval);
}

// Looks at some sockets, each time at the next ones. Requires: no lock is held, and the caller can bear it that a socket goes
// which it has looked up (Current).
void LookAtSome() noexcept;

// Looks at those that a poll is about to report.
void LookAt(std::span<const pollfd> reported) noexcept;

// Looks at all entries, epoll sets included.
void LookAtAll() noexcept;

// How many entries have been found out in this process.
uint32_t Count() noexcept;

// Of one call that may sleep, perhaps several times.
class BeforeSleep {
 public:
  // True: entries were found out, so the caller should look again before it sleeps.
  bool Look() noexcept;
  // The caller must not sleep past this without another Look().
  Instant wake_at() const noexcept { return wake_at_; }

 private:
  unsigned covered_ = 0;  // numbers looked at in this call
  bool all_ = false;
  Instant wake_at_ = kNever;
};

}  // namespace ustcp::stale
