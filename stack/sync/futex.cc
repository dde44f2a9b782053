#include "stack/sync/futex.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cerrno>
#include <climits>
#include <ctime>

namespace ustcp {

int FutexWake(std::atomic<uint32_t>& word) noexcept {
  long woken = syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
  return woken > 0 ? static_cast<int>(woken) : 0;
}

int FutexWait(std::atomic<uint32_t>& word, uint32_t expected, int64_t deadline_ns) noexcept {
  timespec at{static_cast<time_t>(deadline_ns / 1'000'000'000), static_cast<long>(deadline_ns % 1'000'000'000)};
  timespec* timeout = deadline_ns == INT64_MAX ? nullptr : &at;
  long rc = syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_BITSET, expected, timeout, nullptr,
                    FUTEX_BITSET_MATCH_ANY);
  return rc == 0 ? 0 : errno;
}

}  // namespace ustcp
