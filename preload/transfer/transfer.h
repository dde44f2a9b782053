// Sending and receiving on ustcp sockets, as the program's calls see it: blocking, time limits, partial results, signals.
// What a single attempt does is the stack's (SendSocket, ReceiveSocket). Outcomes are byte counts or negative errno
// numbers.
#pragma once

#include "preload/descriptors/fd_table.h"
#include "stack/base/user_vector.h"

namespace ustcp {

// MSG_ flags as send() takes them; EPIPE raises SIGPIPE without MSG_NOSIGNAL.
ssize_t Send(const SocketRef& ref, UserVector& from, int flags) noexcept;

// Sends `count` bytes of a file from `at` on, as send() would from memory; its position stays. Less when the file ends.
ssize_t SendFile(const SocketRef& ref, int file, off_t at, size_t count) noexcept;

// *out_flags receives the bits of msghdr::msg_flags.
ssize_t Receive(const SocketRef& ref, UserVector& to, int flags, int* out_flags) noexcept;

inline ssize_t SendBytes(const SocketRef& ref, const void* from, size_t n, int flags) noexcept {
  UserVector bytes(from, n);
  return Send(ref, bytes, flags);
}
inline ssize_t ReceiveBytes(const SocketRef& ref, void* to, size_t n, int flags) noexcept {
  UserVector bytes(to, n);
  int out_flags;
  return Receive(ref, bytes, flags, &out_flags);
}

}  // namespace ustcp
