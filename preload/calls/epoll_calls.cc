// epoll. The descriptor is the kernel's, and so are its registrations of kernel descriptors; ustcp sockets are registered
// in an EpollSet in the arena, which the set gets with its first one (or at once, in a process that has sockets). Only
// then is waiting ours.
#include <sys/eventfd.h>
#include <sys/single_threaded.h>

#include "preload/calls/interpose.h"
#include "preload/descriptors/placeholder.h"
#include "preload/descriptors/stale.h"
#include "preload/libc/signals.h"
#include "preload/runtime/kernel_sleepers.h"
#include "preload/transfer/page_waits.h"
#include "preload/transfer/wait_sets.h"
#include "stack/socket/socket_ops.h"

using namespace ustcp;

namespace {

// The process's number in the host: the processes of exclusive waiters are told apart by it.
uint16_t ProcessNumber() { return runtime::AttachedMember()->process; }

// Puts an empty set under the descriptor. Null: no memory.
EpollSet* MakeSet(int epfd, bool has_kernel_members) {
  EpollSet* set;
  {
    runtime::Locked lock(runtime::HomeShard());
    Result<EpollSet*> opened = OpenEpollSet(lock.ctx(), ProcessNumber());
    if (!opened) return nullptr;
    set = opened.value();
  }
  set->has_kernel_members.store(has_kernel_members);
  if (fd_table::Install(epfd, FdEntry::kEpoll, set)) return set;
  ReleaseEpollSet(*runtime::AttachedHost(), *set, runtime::Now());
  return nullptr;
}

// Is it an epoll descriptor? Asks the kernel to change a registration that cannot exist.
int CheckIsEpoll(int epfd) {
  int probe = sys::EventFd(0, EFD_CLOEXEC);
  if (probe < 0) return -ENOMEM;
  epoll_event nothing{};
  long result = sys::Call(SYS_epoll_ctl, epfd, EPOLL_CTL_MOD, probe, sys::Arg(&nothing));
  sys::Close(probe);
  return result == -ENOENT ? 0 : static_cast<int>(result);
}

int Control(int epfd, int operation, int fd, const SocketRef& ref, const epoll_event* from) {
  epoll_event event{};
  if (operation != EPOLL_CTL_DEL && !GetUser(event, from)) return -EFAULT;
  EpollSet* set = FindEpollSet(epfd);
  if (set == nullptr) {
    if (int error = CheckIsEpoll(epfd)) return error;
    // What the kernel watches for this descriptor already is not known.
    set = MakeSet(epfd, true);
    if (set == nullptr) return -ENOMEM;
    runtime::FetchKernelSleepers(epfd);
  }
  runtime::Locked lock(*ref);
  lock.LeaveOutput();
  if (!Current(ref)) return -EBADF;
  switch (operation) {
    case EPOLL_CTL_ADD: return -EpollAdd(lock.ctx(), *set, *ref, fd, event);
    case EPOLL_CTL_MOD: return -EpollModify(lock.ctx(), *set, *ref, fd, event);
    case EPOLL_CTL_DEL: return -EpollDelete(lock.ctx(), *set, *ref, fd);
    default: return -EINVAL;
  }
}

int Wait(EpollSet& set, int epfd, epoll_event* events, int max, Instant deadline, const sigset_t* mask) {
  SignalMask own_mask;
  if (!own_mask.Get(mask)) return -EFAULT;
  if (max <= 0 || max > static_cast<int>(INT_MAX / sizeof(epoll_event))) return -EINVAL;
  if (!InUserSpace(events, static_cast<size_t>(max) * sizeof *events)) return -EFAULT;
  AskForPages(events, static_cast<size_t>(max) * sizeof *events, true);
  signals::Sleeping sleeping;
  signals::BeginCall();
  if (stale::Due()) stale::LookAtSome();
  Hold hold;
  if (!__libc_single_threaded) hold.Take(set);
  return runtime::WaitEpoll(set, epfd, set.has_kernel_members.load(), events, max, deadline, own_mask.get());
}

// A set without sockets is waited for in the kernel, until it gets its first one.
template <typename InKernel>
int WaitAnywhere(int epfd, epoll_event* events, int max, Instant deadline, const sigset_t* mask, InKernel&& in_kernel) {
  for (;;) {
    if (EpollSet* set = FindEpollSet(epfd)) return ToErrno(Wait(*set, epfd, events, max, deadline, mask));
    runtime::KernelSleep sleep(epfd);
    if (FindEpollSet(epfd) != nullptr) continue;
    const int n = in_kernel();
    const int kept = runtime::WithoutFetching(events, n);
    if (kept != 0 || n == 0) return kept;
  }
}

int Created(int epfd) {
  if (epfd >= 0 && g_own_process.load(std::memory_order_relaxed) != nullptr) {
    // A number that was closed past us may still have an entry.
    fd_table::Remove(epfd);
    (void)MakeSet(epfd, false);
  }
  return epfd;
}

}  // namespace

USTCP_EXPORT int epoll_create(int size) noexcept { return Created(real::epoll_create(size)); }

USTCP_EXPORT int epoll_create1(int flags) noexcept { return Created(real::epoll_create1(flags)); }

USTCP_EXPORT int epoll_ctl(int epfd, int operation, int fd, epoll_event* event) noexcept {
  SocketRef ref = FindSocket(fd);
  if (ref) return ToErrno(Control(epfd, operation, fd, ref, event));
  int result = real::epoll_ctl(epfd, operation, fd, event);
  if (result == 0 && operation == EPOLL_CTL_ADD)
    if (EpollSet* set = FindEpollSet(epfd)) set->has_kernel_members.store(true, std::memory_order_relaxed);
  return result;
}

USTCP_EXPORT int epoll_wait(int epfd, epoll_event* events, int max, int timeout_ms) {
  return WaitAnywhere(epfd, events, max, DeadlineInMs(timeout_ms), nullptr,
                      [&] { return real::epoll_wait(epfd, events, max, timeout_ms); });
}

USTCP_EXPORT int epoll_pwait(int epfd, epoll_event* events, int max, int timeout_ms, const sigset_t* mask) {
  return WaitAnywhere(epfd, events, max, DeadlineInMs(timeout_ms), mask,
                      [&] { return real::epoll_pwait(epfd, events, max, timeout_ms, mask); });
}

USTCP_EXPORT int epoll_pwait2(int epfd, epoll_event* events, int max, const timespec* timeout, const sigset_t* mask) {
  Instant deadline;
  if (int error = DeadlineOf(timeout, &deadline)) return ToErrno(error);
  return WaitAnywhere(epfd, events, max, deadline, mask,
                      [&] { return real::epoll_pwait2(epfd, events, max, timeout, mask); });
}
