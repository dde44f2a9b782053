// Between the program's arguments and the stack's: results into errno, and the checks the kernel makes before a socket
// sees a call. Inside preload/ a call's outcome is a value that is negative for an errno number, as at the kernel's edge.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "stack/base/result.h"
#include "stack/base/user_copy.h"

namespace ustcp {

struct Endpoint;

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

// A buffer of read() and write(): 0 or the negative errno; *n becomes what the call moves at most.
int CheckBuffer(const void* p, size_t* n) noexcept;

// A vector as readv() and sendmsg() take it: 0 or the negative errno: `too_many` (EINVAL or EMSGSIZE), EFAULT, EINVAL for
// a length that is negative. *total: what the call moves at most.
int CheckVector(const iovec* iov, size_t count, int too_many, size_t* total) noexcept;

// An address that bind(), connect() and sendto() take: 0 or the negative errno. What is beyond `length` stays.
int GetAddress(sockaddr_storage& to, const sockaddr* from, socklen_t length) noexcept;

// A name that accept() and getsockname() give, at most as long as *length says, which becomes its full length: 0 or the
// negative errno. AF_UNSPEC: no name, of length 0.
int PutAddress(uint16_t family, const Endpoint& name, sockaddr* to, socklen_t* length) noexcept;

}  // namespace ustcp
