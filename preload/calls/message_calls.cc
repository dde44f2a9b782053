// sendmsg and recvmsg, one and many at a time. TCP has no control messages of its own yet: those sent are ignored, none
// are received.
#include <algorithm>
#include <climits>

#include "preload/calls/interpose.h"
#include "preload/calls/parts.h"
#include "preload/descriptors/handed.h"
#include "preload/runtime/runtime.h"
#include "preload/transfer/transfer.h"
#include "stack/socket/socket_ops.h"

using namespace ustcp;

namespace {

constexpr unsigned kMaxMessages = 1024;     // the kernel's limit of one sendmmsg or recvmmsg
constexpr size_t kMaxControl = 128 * 1024;  // net.core.optmem_max, where nobody has changed it

// Control messages are read, and ignored.
int CheckControl(const msghdr& m) {
  constexpr size_t kPiece = 256;
  char piece[kPiece];
  for (size_t at = 0; at < m.msg_controllen; at += kPiece) {
    size_t n = std::min(m.msg_controllen - at, kPiece);
    if (CopyFromUser(piece, static_cast<const char*>(m.msg_control) + at, n) != 0) return -EFAULT;
  }
  return 0;
}

ssize_t SendMessage(const SocketRef& ref, const msghdr* message, int flags) {
  msghdr m;
  if (!GetUser(m, message)) return -EFAULT;
  if (m.msg_name == nullptr) m.msg_namelen = 0;
  if (static_cast<int>(m.msg_namelen) < 0) return -EINVAL;
  sockaddr_storage ignored;  // see SendTo
  socklen_t name_length = std::min<socklen_t>(m.msg_namelen, sizeof ignored);
  if (int error = GetAddress(ignored, static_cast<const sockaddr*>(m.msg_name), name_length)) return error;
  size_t total;
  if (int error = CheckVector(m.msg_iov, m.msg_iovlen, EMSGSIZE, &total)) return error;
  if (m.msg_controllen > kMaxControl) return -ENOBUFS;
  if (int error = CheckControl(m)) return error;
  UserVector from(m.msg_iov, static_cast<int>(m.msg_iovlen), total);
  return Send(ref, from, flags);
}

// What the kernel writes back is written in its order: the data has been taken, whatever comes of it.
int PutBack(msghdr* message, const msghdr& taken, int out_flags) {
  if (taken.msg_name != nullptr && !PutUser(&message->msg_namelen, socklen_t{0})) return -EFAULT;
  if (!PutUser(&message->msg_flags, out_flags)) return -EFAULT;
  return PutUser(&message->msg_controllen, size_t{0}) ? 0 : -EFAULT;
}

ssize_t ReceiveMessage(const SocketRef& ref, msghdr* message, int flags, int* out_flags) {
  msghdr m;
  if (!GetUser(m, message)) return -EFAULT;
  if (m.msg_name == nullptr) m.msg_namelen = 0;
  if (static_cast<int>(m.msg_namelen) < 0) return -EINVAL;
  size_t total;
  if (int error = CheckVector(m.msg_iov, m.msg_iovlen, EMSGSIZE, &total)) return error;
  UserVector to(m.msg_iov, static_cast<int>(m.msg_iovlen), total);
  ssize_t result = Receive(ref, to, flags, out_flags);
  if (result < 0) return result;
  int error = PutBack(message, m, *out_flags);
  return error != 0 ? error : result;
}

// What many messages end with: their number, if there were any.
int CountOr(unsigned done, ssize_t error) { return done > 0 ? static_cast<int>(done) : static_cast<int>(error); }

int SendMessages(const SocketRef& ref, mmsghdr* messages, unsigned count, int flags) {
  count = std::min(count, kMaxMessages);
  for (unsigned i = 0; i < count; ++i) {
    ssize_t result = SendMessage(ref, &messages[i].msg_hdr, flags);
    if (result < 0) return CountOr(i, result);
    if (!PutUser(&messages[i].msg_len, static_cast<unsigned>(result))) return CountOr(i, -EFAULT);
  }
  return static_cast<int>(count);
}

// The error of a message that follows others is for the next call.
int KeepError(const SocketRef& ref, unsigned done, ssize_t error) {
  if (done > 0 && error != -EAGAIN) {
    runtime::Locked lock(*ref);
    if (Current(ref)) SetPendingError(*ref, static_cast<int>(-error));
  }
  return CountOr(done, error);
}

int ReceiveEach(const SocketRef& ref, mmsghdr* messages, unsigned count, int flags, Instant deadline) {
  for (unsigned i = 0; i < count; ++i) {
    int out_flags;
    ssize_t result = ReceiveMessage(ref, &messages[i].msg_hdr, flags & ~MSG_WAITFORONE, &out_flags);
    if (result < 0) return KeepError(ref, i, result);
    if (!PutUser(&messages[i].msg_len, static_cast<unsigned>(result))) return KeepError(ref, i, -EFAULT);
    // The kernel, too, looks at the time only after each message.
    if (deadline != kNever && runtime::Now() >= deadline) return static_cast<int>(i + 1);
    if ((flags & MSG_WAITFORONE) != 0) flags |= MSG_DONTWAIT;
    if ((out_flags & MSG_OOB) != 0) return static_cast<int>(i + 1);
  }
  return static_cast<int>(count);
}

int ReceiveMessages(const SocketRef& ref, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
  count = std::min(count, kMaxMessages);
  Instant deadline = kNever;
  if (timeout != nullptr) {
    timespec time;
    if (!GetUser(time, timeout)) return -EFAULT;
    if (time.tv_sec < 0 || time.tv_nsec < 0 || time.tv_nsec >= 1'000'000'000) return -EINVAL;
    deadline = runtime::Now() + std::chrono::seconds{time.tv_sec} + Duration{time.tv_nsec};
  }
  int received = ReceiveEach(ref, messages, count, flags, deadline);
  if (timeout == nullptr || received <= 0) return received;
  int64_t left = std::max<int64_t>(ToNanos(deadline - runtime::Now()), 0);
  return PutUser(timeout, timespec{left / 1'000'000'000, left % 1'000'000'000}) ? received : -EFAULT;
}

// Through the kernel's socket: those before one that is refused, which comes first in the program's next call.
unsigned CountSendable(int fd, const mmsghdr* messages, unsigned count) {
  for (unsigned i = 0; i < std::min(count, kMaxMessages); ++i)
    if (HandsOverOurs(fd, &messages[i].msg_hdr)) return i;
  return count;
}

}  // namespace

USTCP_EXPORT ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  SocketRef ref = FindSocket(fd);
  if (!ref) return HandsOverOurs(fd, message) ? ToErrno(ssize_t{-kNotHandedOver}) : real::sendmsg(fd, message, flags);
  return ToErrno(SendMessage(ref, message, flags));
}

USTCP_EXPORT ssize_t recvmsg(int fd, msghdr* message, int flags) {
  SocketRef ref = FindSocket(fd);
  if (!ref) {
    ssize_t result = real::recvmsg(fd, message, flags);
    if (result >= 0) ReturnedBy(*message);
    return result;
  }
  int out_flags;
  return ToErrno(ReceiveMessage(ref, message, flags, &out_flags));
}

USTCP_EXPORT int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  SocketRef ref = FindSocket(fd);
  if (!ref) {
    unsigned sendable = CountSendable(fd, messages, count);
    return sendable == 0 && count > 0 ? ToErrno(-kNotHandedOver) : real::sendmmsg(fd, messages, sendable, flags);
  }
  return ToErrno(SendMessages(ref, messages, count, flags));
}

USTCP_EXPORT int recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
  SocketRef ref = FindSocket(fd);
  if (!ref) {
    int result = real::recvmmsg(fd, messages, count, flags, timeout);
    for (int i = 0; i < result; ++i) ReturnedBy(messages[i].msg_hdr);
    return result;
  }
  return ToErrno(ReceiveMessages(ref, messages, count, flags, timeout));
}
