// read, write, recv, send and their vector forms, and the variants that _FORTIFY_SOURCE turns them into.
#include <algorithm>

#include "preload/calls/interpose.h"
#include "preload/transfer/transfer.h"
#include "stack/base/address.h"

extern "C" [[noreturn]] void __chk_fail() noexcept;

using namespace ustcp;

namespace {

ssize_t ReadSocket(const SocketRef& ref, void* to, size_t n) {
  if (int error = CheckBuffer(to, &n)) return error;
  if (n == 0) return 0;  // recv() of nothing may block, read() of nothing does not
  return ReceiveBytes(ref, to, n, 0);
}

ssize_t WriteSocket(const SocketRef& ref, const void* from, size_t n) {
  if (int error = CheckBuffer(from, &n)) return error;
  return SendBytes(ref, from, n, 0);
}

ssize_t ReceiveFrom(const SocketRef& ref, void* to, size_t n, int flags, sockaddr* from, socklen_t* from_length) {
  n = std::min(n, kMaxTransferBytes);
  if (int error = CheckBuffer(to, &n)) return error;
  ssize_t result = ReceiveBytes(ref, to, n, flags);
  if (result < 0 || from == nullptr) return result;
  // TCP names no sender.
  int error = PutAddress(AF_UNSPEC, Endpoint{}, from, from_length);
  return error != 0 ? error : result;
}

ssize_t SendTo(const SocketRef& ref, const void* from, size_t n, int flags, const sockaddr* to, socklen_t length) {
  n = std::min(n, kMaxTransferBytes);
  if (int error = CheckBuffer(from, &n)) return error;
  sockaddr_storage ignored;  // TCP sends to its peer; the kernel reads the address all the same
  if (to != nullptr)
    if (int error = GetAddress(ignored, to, length)) return error;
  return SendBytes(ref, from, n, flags);
}

ssize_t ReadVector(const SocketRef& ref, const iovec* iov, int count) {
  size_t total;
  int out_flags;
  if (int error = CheckVector(iov, static_cast<size_t>(count), EINVAL, &total)) return error;
  if (total == 0) return 0;
  UserVector to(iov, count, total);
  return Receive(ref, to, 0, &out_flags);
}

ssize_t WriteVector(const SocketRef& ref, const iovec* iov, int count) {
  size_t total;
  if (int error = CheckVector(iov, static_cast<size_t>(count), EINVAL, &total)) return error;
  if (total == 0) return 0;  // whatever state the socket is in
  UserVector from(iov, count, total);
  return Send(ref, from, 0);
}

}  // namespace

USTCP_EXPORT ssize_t read(int fd, void* to, size_t n) {
  SocketRef ref = FindSocket(fd);
  if (!ref) return real::read(fd, to, n);
  return ToErrno(ReadSocket(ref, to, n));
}
USTCP_ALIAS_OF(read, __read);

USTCP_EXPORT ssize_t readv(int fd, const iovec* iov, int count) {
  SocketRef ref = FindSocket(fd);
  if (!ref) return real::readv(fd, iov, count);
  return ToErrno(ReadVector(ref, iov, count));
}

USTCP_EXPORT ssize_t recv(int fd, void* to, size_t n, int flags) {
  SocketRef ref = FindSocket(fd);
  if (!ref) return real::recv(fd, to, n, flags);
  return ToErrno(ReceiveFrom(ref, to, n, flags, nullptr, nullptr));
}

USTCP_EXPORT ssize_t recvfrom(int fd, void* to, size_t n, int flags, sockaddr* from, socklen_t* from_length) {
  SocketRef ref = FindSocket(fd);
  if (!ref) return real::recvfrom(fd, to, n, flags, from, from_length);
  return ToErrno(ReceiveFrom(ref, to, n, flags, from, from_length));
}

USTCP_EXPORT ssize_t write(int fd, const void* from, size_t n) {
  SocketRef ref = FindSocket(fd);
  if (!ref) return real::write(fd, from, n);
  return ToErrno(WriteSocket(ref, from, n));
}
USTCP_ALIAS_OF(write, __write);

USTCP_EXPORT ssize_t writev(int fd, const iovec* iov, int count) {
  SocketRef ref = FindSocket(fd);
  if (!ref) return real::writev(fd, iov, count);
  return ToErrno(WriteVector(ref, iov, count));
}

USTCP_EXPORT ssize_t send(int fd, const void* from, size_t n, int flags) {
  SocketRef ref = FindSocket(fd);
  if (!ref) return real::send(fd, from, n, flags);
  return ToErrno(SendTo(ref, from, n, flags, nullptr, 0));
}
USTCP_ALIAS_OF(send, __send);

USTCP_EXPORT ssize_t sendto(int fd, const void* from, size_t n, int flags, const sockaddr* to, socklen_t length) {
  SocketRef ref = FindSocket(fd);
  if (!ref) return real::sendto(fd, from, n, flags, to, length);
  return ToErrno(SendTo(ref, from, n, flags, to, length));
}

// The size of the program's buffer, where the compiler knew it, comes with the call.
USTCP_EXPORT ssize_t __read_chk(int fd, void* to, size_t n, size_t buffer_size) {
  if (n > buffer_size) __chk_fail();
  return read(fd, to, n);
}

USTCP_EXPORT ssize_t __recv_chk(int fd, void* to, size_t n, size_t buffer_size, int flags) {
  if (n > buffer_size) __chk_fail();
  return recv(fd, to, n, flags);
}

USTCP_EXPORT ssize_t __recvfrom_chk(int fd, void* to, size_t n, size_t buffer_size, int flags, sockaddr* from,
                                    socklen_t* from_length) {
  if (n > buffer_size) __chk_fail();
  return recvfrom(fd, to, n, flags, from, from_length);
}
