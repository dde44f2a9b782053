// poll, select and epoll_pwait in the kernel's form: signal sets come with their size, and the time that remains is
// written back.
#include "preload/calls/parts.h"
#include "preload/raw/raw_call.h"
#include "preload/runtime/runtime.h"
#include "preload/transfer/translate.h"
#include "preload/transfer/wait_sets.h"

namespace ustcp::raw {
namespace {

// A set of the kernel's size as one of the C library's.
class Mask {
 public:
  // False: EINVAL or EFAULT, as errno.
  bool Read(long set, long bytes) noexcept {
    if (set == 0) return true;
    if (bytes != static_cast<long>(sys::kSignalSetBytes)) return ToErrno(-EINVAL) == 0;
    sigemptyset(&set_);
    if (CopyFromUser(&set_, As<void*>(set), sys::kSignalSetBytes) != 0) return ToErrno(-EFAULT) == 0;
    given_ = true;
    return true;
  }
  const sigset_t* get() const noexcept { return given_ ? &set_ : nullptr; }

 private:
  sigset_t set_;
  bool given_ = false;
};

// Writes back what is left of a time, as the kernel does for all its calls but epoll_pwait2. One that is none stays.
class TimeLeft {
 public:
  explicit TimeLeft(timespec* timeout) noexcept : timeout_(timeout), began_(runtime::Now()) {
    if (timeout_ != nullptr && !GetUser(given_, timeout_)) timeout_ = nullptr;
  }
  ~TimeLeft() {
    if (timeout_ == nullptr || given_.tv_sec < 0 || given_.tv_sec > 1'000'000'000) return;
    if (given_.tv_nsec < 0 || given_.tv_nsec >= 1'000'000'000) return;
    int saved_errno = errno;
    int64_t left = given_.tv_sec * 1'000'000'000 + given_.tv_nsec - ToNanos(runtime::Now() - began_);
    if (left < 0) left = 0;
    (void)PutUser(timeout_, timespec{left / 1'000'000'000, left % 1'000'000'000});
    errno = saved_errno;
  }
  TimeLeft(const TimeLeft&) = delete;
  TimeLeft& operator=(const TimeLeft&) = delete;

 private:
  timespec* timeout_;
  timespec given_;
  Instant began_;
};

}  // namespace

long Poll(long fds, long n, long timeout, long, long, long) noexcept {
  if (PollIsForKernel(As<pollfd*>(fds), As<nfds_t>(n))) return ToKernel<SYS_poll>(fds, n, timeout, 0, 0, 0);
  return Invoke(::poll, {fds, n, timeout, 0, 0, 0});
}

long Ppoll(long fds, long n, long timeout, long mask, long mask_bytes, long) noexcept {
  if (PollIsForKernel(As<pollfd*>(fds), As<nfds_t>(n)))
    return ToKernel<SYS_ppoll>(fds, n, timeout, mask, mask_bytes, 0);
  Mask set;
  if (!set.Read(mask, mask_bytes)) return -1;
  TimeLeft left(As<timespec*>(timeout));
  NotCancelled guard;
  return ::ppoll(As<pollfd*>(fds), As<nfds_t>(n), As<const timespec*>(timeout), set.get());
}

long Select(long n, long in, long out, long except, long timeout, long) noexcept {
  if (SelectIsForKernel(static_cast<int>(n), As<fd_set*>(in), As<fd_set*>(out), As<fd_set*>(except)))
    return ToKernel<SYS_select>(n, in, out, except, timeout, 0);
  return Invoke(::select, {n, in, out, except, timeout, 0});
}

long Pselect6(long n, long in, long out, long except, long timeout, long mask) noexcept {
  if (SelectIsForKernel(static_cast<int>(n), As<fd_set*>(in), As<fd_set*>(out), As<fd_set*>(except)))
    return ToKernel<SYS_pselect6>(n, in, out, except, timeout, mask);
  struct SetAndSize {
    long set;
    long bytes;
  };
  // In the kernel's order: what the sixth argument points to, the time, the mask.
  SetAndSize given{};
  if (mask != 0 && !GetUser(given, As<const SetAndSize*>(mask))) return ToErrno(-EFAULT);
  Instant deadline;
  if (int error = DeadlineOf(As<const timespec*>(timeout), &deadline)) return ToErrno(error);
  Mask set;
  if (!set.Read(given.set, given.bytes)) return -1;
  TimeLeft left(As<timespec*>(timeout));
  NotCancelled guard;
  return ::pselect(static_cast<int>(n), As<fd_set*>(in), As<fd_set*>(out), As<fd_set*>(except),
                   As<const timespec*>(timeout), set.get());
}

long EpollPwait(long epfd, long events, long max, long timeout, long mask, long mask_bytes) noexcept {
  Mask set;
  if (!set.Read(mask, mask_bytes)) return -1;
  NotCancelled guard;
  return ::epoll_pwait(static_cast<int>(epfd), As<epoll_event*>(events), static_cast<int>(max),
                       static_cast<int>(timeout), set.get());
}

long EpollPwait2(long epfd, long events, long max, long timeout, long mask, long mask_bytes) noexcept {
  Mask set;
  if (!set.Read(mask, mask_bytes)) return -1;
  NotCancelled guard;
  return ::epoll_pwait2(static_cast<int>(epfd), As<epoll_event*>(events), static_cast<int>(max),
                        As<const timespec*>(timeout), set.get());
}

}  // namespace ustcp::raw
