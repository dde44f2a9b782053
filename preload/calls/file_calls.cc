// Calls on files that a program may try on a socket. The placeholder under it is one, so most answer for themselves: here is
// what they would tell of the placeholder instead of the socket.
#include "preload/calls/interpose.h"
#include "preload/descriptors/placeholder.h"
#include "preload/transfer/transfer.h"

using namespace ustcp;

namespace {

// What the kernel said of the placeholder. Of anything else it is true: the number was closed and opened anew past us.
int Described(int fd, int result, struct stat* out) {
  if (SocketRef ref = FindSocket(fd); ref && result == 0 && S_ISSOCK(out->st_mode)) DescribeSocket(*ref, out);
  return result;
}

}  // namespace

USTCP_EXPORT int fstat(int fd, struct stat* out) noexcept { return Described(fd, real::fstat(fd, out), out); }

// One layout, two types.
USTCP_EXPORT int fstat64(int fd, struct stat64* out) noexcept {
  static_assert(sizeof(struct stat64) == sizeof(struct stat));
  return fstat(fd, reinterpret_cast<struct stat*>(out));
}

// What programs built against a C library before 2.33 call.
USTCP_EXPORT int __fxstat(int version, int fd, struct stat* out) noexcept {
  return Described(fd, real::__fxstat(version, fd, out), out);
}

USTCP_EXPORT int __fxstat64(int version, int fd, struct stat64* out) noexcept {
  return __fxstat(version, fd, reinterpret_cast<struct stat*>(out));
}

// Without a position (-1) these are readv and writev with flags of the file system.
USTCP_EXPORT ssize_t preadv2(int fd, const iovec* iov, int count, off_t offset, int flags) {
  if (!FindSocket(fd)) return real::preadv2(fd, iov, count, offset, flags);
  if (offset != -1) return ToErrno(ssize_t{-ESPIPE});
  return flags == 0 ? readv(fd, iov, count) : ToErrno(ssize_t{-EOPNOTSUPP});
}
USTCP_ALIAS_OF(preadv2, preadv64v2);

USTCP_EXPORT ssize_t pwritev2(int fd, const iovec* iov, int count, off_t offset, int flags) {
  if (!FindSocket(fd)) return real::pwritev2(fd, iov, count, offset, flags);
  if (offset != -1) return ToErrno(ssize_t{-ESPIPE});
  return flags == 0 ? writev(fd, iov, count) : ToErrno(ssize_t{-EOPNOTSUPP});
}
USTCP_ALIAS_OF(pwritev2, pwritev64v2);
