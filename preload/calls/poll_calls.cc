// poll and ppoll. A set without ustcp sockets is the kernel's business alone.
#include <sys/resource.h>

#include "preload/calls/interpose.h"
#include "preload/calls/parts.h"
#include "preload/transfer/wait_sets.h"

extern "C" [[noreturn]] void __chk_fail() noexcept;

using namespace ustcp;

namespace {

int Check(const pollfd* fds, nfds_t n) {
  rlimit limit;
  if (n > 4096 && sys::NoFileLimit(&limit) == 0 && n > limit.rlim_cur) return -EINVAL;
  return n > 0 && BadPointer(fds) ? -EFAULT : 0;
}

}  // namespace

// Not const: glibc declares the array as written only, and GCC takes a const use of it for one of unset memory.
bool ustcp::PollIsForKernel(pollfd* fds, nfds_t n) noexcept {
  if (g_own_process.load(std::memory_order_relaxed) == nullptr) return true;
  return Check(fds, n) != 0 || !AnySocket({fds, n});
}

USTCP_EXPORT int poll(pollfd* fds, nfds_t n, int timeout_ms) {
  if (PollIsForKernel(fds, n)) return real::poll(fds, n, timeout_ms);
  return ToErrno(WaitForEntries({fds, n}, DeadlineInMs(timeout_ms), nullptr));
}
USTCP_ALIAS_OF(poll, __poll);

USTCP_EXPORT int ppoll(pollfd* fds, nfds_t n, const timespec* timeout, const sigset_t* mask) {
  if (PollIsForKernel(fds, n)) return real::ppoll(fds, n, timeout, mask);
  Instant deadline;
  if (!DeadlineOf(timeout, &deadline)) return ToErrno(-EINVAL);
  return ToErrno(WaitForEntries({fds, n}, deadline, mask));
}

USTCP_EXPORT int __poll_chk(pollfd* fds, nfds_t n, int timeout_ms, size_t buffer_bytes) {
  if (buffer_bytes / sizeof *fds < n) __chk_fail();
  return poll(fds, n, timeout_ms);
}

USTCP_EXPORT int __ppoll_chk(pollfd* fds, nfds_t n, const timespec* timeout, const sigset_t* mask,
                             size_t buffer_bytes) {
  if (buffer_bytes / sizeof *fds < n) __chk_fail();
  return ppoll(fds, n, timeout, mask);
}
