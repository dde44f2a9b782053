// sendmsg and recvmsg, one and many at a time. TCP has no control messages of its own yet: those sent are ignored, none
// are received.
#include "preload/calls/interpose.h"
#include "preload/calls/parts.h"
#include "preload/runtime/runtime.h"
#include "preload/transfer/transfer.h"

using namespace ustcp;

namespace {

constexpr unsigned kMaxMessages = 1024;  // the kernel's limit of one sendmmsg or recvmmsg

ssize_t SendMessage(const SocketRef& ref, const msghdr* message, int flags) {
  if (BadPointer(message)) return -EFAULT;
  size_t total;
  if (int error = CheckVector(message->msg_iov, message->msg_iovlen, EMSGSIZE, &total)) return error;
  if (static_cast<ssize_t>(message->msg_controllen) < 0 || message->msg_controllen > INT_MAX) return -ENOBUFS;
  if (static_cast<int>(message->msg_namelen) < 0) return -EINVAL;
  return Send(ref, message->msg_iov, static_cast<int>(message->msg_iovlen), total, flags);
}

ssize_t ReceiveMessage(const SocketRef& ref, msghdr* message, int flags) {
  if (BadPointer(message)) return -EFAULT;
  size_t total;
  if (int error = CheckVector(message->msg_iov, message->msg_iovlen, EMSGSIZE, &total)) return error;
  if (static_cast<int>(message->msg_namelen) < 0) return -EINVAL;
  int out_flags;
  ssize_t result = Receive(ref, message->msg_iov, static_cast<int>(message->msg_iovlen), total, flags, &out_flags);
  if (result < 0) return result;
  if (message->msg_name != nullptr) message->msg_namelen = 0;
  message->msg_controllen = 0;
  message->msg_flags = out_flags;
  return result;
}

int SendMessages(const SocketRef& ref, mmsghdr* messages, unsigned count, int flags) {
  if (count > kMaxMessages) count = kMaxMessages;
  if (count > 0 && BadPointer(messages)) return -EFAULT;
  for (unsigned i = 0; i < count; ++i) {
    ssize_t result = SendMessage(ref, &messages[i].msg_hdr, flags);
    if (result < 0) return i > 0 ? static_cast<int>(i) : static_cast<int>(result);
    messages[i].msg_len = static_cast<unsigned>(result);
  }
  return static_cast<int>(count);
}

int ReceiveMessages(const SocketRef& ref, mmsghdr* messages, unsigned count, int flags, const timespec* timeout) {
  if (count > kMaxMessages) count = kMaxMessages;
  if (count > 0 && BadPointer(messages)) return -EFAULT;
  Instant deadline = kNever;
  if (timeout != nullptr) {
    if (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec >= 1'000'000'000) return -EINVAL;
    deadline = runtime::Now() + std::chrono::seconds{timeout->tv_sec} + Duration{timeout->tv_nsec};
  }
  for (unsigned i = 0; i < count; ++i) {
    ssize_t result = ReceiveMessage(ref, &messages[i].msg_hdr, flags & ~MSG_WAITFORONE);
    if (result < 0) return i > 0 ? static_cast<int>(i) : static_cast<int>(result);
    messages[i].msg_len = static_cast<unsigned>(result);
    // The kernel, too, looks at the time only after each message.
    if (deadline != kNever && runtime::Now() >= deadline) return static_cast<int>(i + 1);
    if ((flags & MSG_WAITFORONE) != 0) flags |= MSG_DONTWAIT;
    if ((messages[i].msg_hdr.msg_flags & MSG_OOB) != 0) return static_cast<int>(i + 1);
  }
  return static_cast<int>(count);
}

}  // namespace

USTCP_EXPORT ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  SocketRef ref = FindSocket(fd);
  if (!ref) return real::sendmsg(fd, message, flags);
  return ToErrno(SendMessage(ref, message, flags));
}

USTCP_EXPORT ssize_t recvmsg(int fd, msghdr* message, int flags) {
  SocketRef ref = FindSocket(fd);
  if (!ref) {
    ssize_t result = real::recvmsg(fd, message, flags);
    if (result >= 0) ReturnedBy(*message);
    return result;
  }
  return ToErrno(ReceiveMessage(ref, message, flags));
}

USTCP_EXPORT int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  SocketRef ref = FindSocket(fd);
  if (!ref) return real::sendmmsg(fd, messages, count, flags);
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
