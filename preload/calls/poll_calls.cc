// poll and ppoll. A set without ustcp sockets is the kernel's business alone.
#include <sys/resource.h>

#include <climits>

#include "preload/calls/interpose.h"
#include "preload/calls/parts.h"
#include "preload/transfer/wait_sets.h"

extern "C" [[noreturn]] void __chk_fail() noexcept;

using namespace ustcp;

namespace {

bool TooMany(nfds_t n) {
  rlimit limit;
  return n > 4096 && (n > INT_MAX || (sys::NoFileLimit(&limit) == 0 && n > limit.rlim_cur));
}

using Entries = Scratch<pollfd, 128>;
constexpr int kForKernel = -1 << 16;  // outside the errno numbers

bool MayBeOurs(nfds_t n) { return g_own_process.load(std::memory_order_relaxed) != nullptr && !TooMany(n); }

// False: none is ours, or the kernel is to tell what is wrong.
bool AreOurs(const pollfd* fds, nfds_t n, Entries& copy) {
  return CopyFromUser(copy.data(), fds, n * sizeof *fds) == 0 && AnySocket({copy.data(), n});
}

template <typename Wait>
int PollEntries(pollfd* fds, nfds_t n, Wait&& wait) {
  if (!MayBeOurs(n)) return kForKernel;
  Entries entries(n);
  if (!entries.ok()) return -ENOMEM;
  if (!AreOurs(fds, n, entries)) return kForKernel;
  int ready = wait(std::span<pollfd>{entries.data(), n});
  if (ready < 0) return ready;
  for (size_t i = 0; i < n; ++i)
    if (!PutUser(&fds[i].revents, entries[i].revents)) return -EFAULT;
  return ready;
}

}  // namespace

bool ustcp::PollIsForKernel(pollfd* fds, nfds_t n) noexcept {
  if (!MayBeOurs(n)) return true;
  Entries entries(n);
  return entries.ok() && !AreOurs(fds, n, entries);
}

USTCP_EXPORT int poll(pollfd* fds, nfds_t n, int timeout_ms) {
  int result = PollEntries(
      fds, n, [&](std::span<pollfd> entries) { return WaitForEntries(entries, DeadlineInMs(timeout_ms), nullptr); });
  return result == kForKernel ? real::poll(fds, n, timeout_ms) : ToErrno(result);
}
USTCP_ALIAS_OF(poll, __poll);

USTCP_EXPORT int ppoll(pollfd* fds, nfds_t n, const timespec* timeout, const sigset_t* mask) {
  int result = PollEntries(fds, n, [&](std::span<pollfd> entries) {
    Instant deadline;
    SignalMask own_mask;
    if (int error = DeadlineOf(timeout, &deadline)) return error;
    return own_mask.Get(mask) ? WaitForEntries(entries, deadline, own_mask.get()) : -EFAULT;
  });
  return result == kForKernel ? real::ppoll(fds, n, timeout, mask) : ToErrno(result);
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
