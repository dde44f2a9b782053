// Between the program's arguments and the stack's: results into errno, and the checks the kernel makes before a socket
// sees a call. Inside preload/ a call's outcome is a value that is negative for an errno number, as at the kernel's edge.
#pragma once

#include <limits.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "stack/base/result.h"

namespace ustcp {

// The only place that sets errno for calls on ustcp sockets.
template <typename T>
T ToErrno(T outcome) noexcept {
  if (outcome >= 0) return outcome;
  errno = static_cast<int>(-outcome);
  return -1;
}

inline int Outcome(Error error) noexcept { return -error.code; }

// What one call moves at most (the kernel's MAX_RW_COUNT).
inline constexpr size_t kMaxTransferBytes = 0x7fff'f000;

// An address no program has. Full checks would cost a system call; what is mapped is the program's own risk.
inline bool BadPointer(const void* p) noexcept { return reinterpret_cast<uintptr_t>(p) - 1 >= 0x7fff'ffff'efff; }

// Checks a vector as readv() and sendmsg() do. Returns 0 or the negative errno: `too_many` (EINVAL or EMSGSIZE), EFAULT,
// EINVAL for a length that is negative.
inline int CheckVector(const iovec* iov, size_t count, int too_many, size_t* total) noexcept {
  if (count > IOV_MAX) return -too_many;
  if (count > 0 && BadPointer(iov)) return -EFAULT;
  size_t sum = 0;
  for (size_t i = 0; i < count; ++i) {
    if (static_cast<ssize_t>(iov[i].iov_len) < 0) return -EINVAL;
    if (iov[i].iov_len > 0 && BadPointer(iov[i].iov_base)) return -EFAULT;
    sum += iov[i].iov_len;
    if (sum > kMaxTransferBytes) sum = kMaxTransferBytes;
  }
  *total = sum;
  return 0;
}

// Checks an address that the kernel would write: 0, EFAULT or EINVAL (negative). Requires: `address` is not null.
inline int CheckAddressOut(const sockaddr* address, const socklen_t* length) noexcept {
  if (BadPointer(length)) return -EFAULT;
  if (static_cast<int>(*length) < 0) return -EINVAL;
  if (*length > 0 && BadPointer(address)) return -EFAULT;
  return 0;
}

}  // namespace ustcp
