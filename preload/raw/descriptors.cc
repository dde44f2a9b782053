// Calls on one descriptor whose arguments differ from the C library's, or that do more there.
#include <fcntl.h>
#include <linux/kcmp.h>
#include <sys/ioctl.h>

#include "preload/calls/parts.h"
#include "preload/descriptors/placeholder.h"
#include "preload/raw/raw_call.h"
#include "preload/runtime/program_uring.h"
#include "preload/transfer/page_waits.h"
#include "preload/transfer/translate.h"

namespace ustcp::raw {

long Close(long fd, long, long, long, long, long) noexcept {
  if (Attached())
    if (int error = BeforeClose(static_cast<int>(fd))) return ToErrno(error);
  return ToKernel<SYS_close>(fd, 0, 0, 0, 0, 0);
}

long Fcntl(long fd, long command, long argument, long, long, long) noexcept {
  auto which = static_cast<int>(command);
  bool duplicates = which == F_DUPFD || which == F_DUPFD_CLOEXEC;
  // Locks of files wait, in the C library as cancellation points.
  if (!IsOurs(fd) && !(duplicates && Attached())) return ToKernel<SYS_fcntl>(fd, command, argument, 0, 0, 0);
  NotCancelled guard;
  return ::fcntl(static_cast<int>(fd), which, argument);
}

long Ioctl(long fd, long request, long argument, long, long, long) noexcept {
  NoteIoctl(static_cast<unsigned long>(request));
  if (!IsOurs(fd)) return ToKernel<SYS_ioctl>(fd, request, argument, 0, 0, 0);
  return ::ioctl(static_cast<int>(fd), static_cast<unsigned long>(request), argument);
}

long Accept(long fd, long address, long length, long, long, long) noexcept {
  if (!IsOurs(fd)) return Returned(static_cast<int>(ToKernel<SYS_accept>(fd, address, length, 0, 0, 0)));
  return Invoke(::accept, {fd, address, length, 0, 0, 0});
}

long Accept4(long fd, long address, long length, long flags, long, long) noexcept {
  if (!IsOurs(fd)) return Returned(static_cast<int>(ToKernel<SYS_accept4>(fd, address, length, flags, 0, 0)));
  return Invoke(::accept4, {fd, address, length, flags, 0, 0});
}

long Recvmsg(long fd, long message, long flags, long, long, long) noexcept {
  if (IsOurs(fd)) return Invoke(::recvmsg, {fd, message, flags, 0, 0, 0});
  long result = ToKernel<SYS_recvmsg>(fd, message, flags, 0, 0, 0);
  if (result >= 0) ReturnedBy(*As<const msghdr*>(message));
  return result;
}

long Recvmmsg(long fd, long messages, long count, long flags, long timeout, long) noexcept {
  if (IsOurs(fd)) return Invoke(::recvmmsg, {fd, messages, count, flags, timeout, 0});
  long result = ToKernel<SYS_recvmmsg>(fd, messages, count, flags, timeout, 0);
  for (long i = 0; i < result; ++i) ReturnedBy(As<const mmsghdr*>(messages)[i].msg_hdr);
  return result;
}

// Whether two numbers are of one open file: sockets that share a placeholder are not.
long Kcmp(long one, long other, long type, long first, long second, long) noexcept {
  if (type == KCMP_FILE && Attached()) {
    const long self = sys::Call(SYS_getpid);
    for (auto [pid, fd] : {std::pair{one, first}, std::pair{other, second}})
      if (pid == self)
        if (SocketRef ref = FindSocket(static_cast<int>(fd))) OwnPlaceholder(static_cast<int>(fd), *ref);
  }
  return ToKernel<SYS_kcmp>(one, other, type, first, second, 0);
}

// entry.cc jumps here, so the address to return to is in the object that called syscall().
long IoUringSetup(long entries, long params, long, long, long, long) noexcept {
  if (!program_uring::Allowed(__builtin_return_address(0))) return ToErrno(-ENOSYS);
  auto fd = static_cast<int>(ToKernel<SYS_io_uring_setup>(entries, params, 0, 0, 0, 0));
  if (fd >= 0) program_uring::Made();
  return Returned(fd);
}

long Preadv2(long fd, long iov, long count, long low, long high, long flags) noexcept {
  if (!IsOurs(fd)) return ToKernel<SYS_preadv2>(fd, iov, count, low, high, flags);
  return Invoke(::preadv2, {fd, iov, count, low, flags, 0});
}

long Pwritev2(long fd, long iov, long count, long low, long high, long flags) noexcept {
  if (!IsOurs(fd)) return ToKernel<SYS_pwritev2>(fd, iov, count, low, high, flags);
  return Invoke(::pwritev2, {fd, iov, count, low, flags, 0});
}

}  // namespace ustcp::raw
