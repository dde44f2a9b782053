// getsockopt, setsockopt, ioctl and what the C library builds on them.
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cstdarg>

#include "preload/calls/interpose.h"
#include "preload/descriptors/placeholder.h"
#include "preload/runtime/runtime.h"
#include "preload/transfer/page_waits.h"
#include "stack/socket/socket_ops.h"

using namespace ustcp;

namespace {

constexpr socklen_t kLongestOption = 4096;

int SetSocketOption(const SocketRef& ref, int level, int name, const void* value, socklen_t length) {
  if (static_cast<int>(length) < 0) return -EINVAL;
  AskForPages(value, std::min(length, kLongestOption), false);
  runtime::Locked lock(*ref);
  if (!Current(ref)) return -EBADF;
  return Outcome(SetOption(lock.ctx(), *ref, level, name, value, length));
}

int GetSocketOption(const SocketRef& ref, int level, int name, void* value, socklen_t* length) {
  socklen_t bytes;
  if (!GetUser(bytes, length)) return -EFAULT;
  if (static_cast<int>(bytes) < 0) return -EINVAL;
  AskForPages(value, std::min(bytes, kLongestOption), true);
  {
    runtime::Locked lock(*ref);
    lock.LeaveOutput();
    if (!Current(ref)) return -EBADF;
    if (Error error = GetOption(lock.ctx(), *ref, level, name, value, &bytes)) return Outcome(error);
  }
  return PutUser(length, bytes) ? 0 : -EFAULT;
}

int AskSocket(const SocketRef& ref, unsigned long request, int* value) {
  runtime::Locked lock(*ref);
  lock.LeaveOutput();
  if (!Current(ref)) return -EBADF;
  return Outcome(IoctlSocket(lock.ctx(), *ref, request, value));
}

void ChangeFlag(const SocketRef& ref, uint32_t flag, bool on) {
  if (on)
    ref->status_flags.fetch_or(flag);
  else
    ref->status_flags.fetch_and(~flag);
}

// Interfaces, routes and what else the kernel answers to any TCP socket: asked of one of its own, for the placeholder is of
// another family.
int AskKernel(const SocketRef& ref, unsigned long request, void* argument) {
  int fd = sys::Socket(ref->family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fd;
  int result = sys::Ioctl(fd, request, argument);
  sys::Close(fd);
  return result;
}

constexpr unsigned long kSocketRequests = 0x89;  // the type in SIOC requests

// An outcome, or kForward: a request that concerns the descriptor.
constexpr int kForward = INT_MAX;

int ControlSocket(int fd, const SocketRef& ref, unsigned long request, void* argument) {
  auto* value = static_cast<int*>(argument);
  switch (request) {
    case FIONREAD:
    case TIOCOUTQ:
    case SIOCOUTQNSD:
    case SIOCATMARK: {
      int answer = 0;
      int error = AskSocket(ref, request, &answer);
      if (error != 0) return error;
      return PutUser(value, answer) ? 0 : -EFAULT;
    }
    case FIONBIO:
    case FIOASYNC: {
      int on;
      if (!GetUser(on, value)) return -EFAULT;
      ChangeFlag(ref, request == FIONBIO ? O_NONBLOCK : O_ASYNC, on != 0);
      return 0;
    }
    case FIOSETOWN:
    case SIOCSPGRP: OwnPlaceholder(fd, *ref); return kForward;
    case FIOGETOWN:
    case SIOCGPGRP: return kForward;
    default: return (request >> 8 & 0xff'ffff) == kSocketRequests ? AskKernel(ref, request, argument) : kForward;
  }
}

}  // namespace

USTCP_EXPORT int setsockopt(int fd, int level, int name, const void* value, socklen_t length) noexcept {
  SocketRef ref = FindSocket(fd);
  if (!ref) return real::setsockopt(fd, level, name, value, length);
  return ToErrno(SetSocketOption(ref, level, name, value, length));
}

USTCP_EXPORT int getsockopt(int fd, int level, int name, void* value, socklen_t* length) noexcept {
  SocketRef ref = FindSocket(fd);
  if (!ref) return real::getsockopt(fd, level, name, value, length);
  return ToErrno(GetSocketOption(ref, level, name, value, length));
}

USTCP_EXPORT int ioctl(int fd, unsigned long request, ...) noexcept {
  va_list arguments;
  va_start(arguments, request);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  NoteIoctl(request);
  SocketRef ref = FindSocket(fd);
  if (ref) {
    int result = ControlSocket(fd, ref, request, argument);
    if (result != kForward) return ToErrno(result);
  }
  return real::ioctl(fd, request, argument);
}

USTCP_EXPORT int sockatmark(int fd) noexcept {
  SocketRef ref = FindSocket(fd);
  if (!ref) return real::sockatmark(fd);
  int answer = 0;
  int error = AskSocket(ref, SIOCATMARK, &answer);
  return error != 0 ? ToErrno(error) : answer;
}

USTCP_EXPORT int isfdtype(int fd, int type) noexcept {
  if (!FindSocket(fd)) return real::isfdtype(fd, type);
  return type == S_IFSOCK ? 1 : 0;
}
