// Calls on files that a program may try on a socket: the answers of a socket, not of the placeholder under it.
#include "preload/calls/interpose.h"
#include "preload/descriptors/placeholder.h"
#include "preload/transfer/transfer.h"

extern "C" [[noreturn]] void __chk_fail() noexcept;

using namespace ustcp;

USTCP_EXPORT int fstat(int fd, struct stat* out) noexcept {
  SocketRef ref = FindSocket(fd);
  if (!ref) return real::fstat(fd, out);
  DescribeSocket(*ref, out);
  return 0;
}

// One layout, two types.
USTCP_EXPORT int fstat64(int fd, struct stat64* out) noexcept {
  static_assert(sizeof(struct stat64) == sizeof(struct stat));
  SocketRef ref = FindSocket(fd);
  if (!ref) return real::fstat64(fd, out);
  DescribeSocket(*ref, reinterpret_cast<struct stat*>(out));
  return 0;
}

// What programs built against a C library before 2.33 call.
USTCP_EXPORT int __fxstat(int version, int fd, struct stat* out) noexcept {
  SocketRef ref = FindSocket(fd);
  if (!ref) return real::__fxstat(version, fd, out);
  DescribeSocket(*ref, out);
  return 0;
}

USTCP_EXPORT int __fxstat64(int version, int fd, struct stat64* out) noexcept {
  SocketRef ref = FindSocket(fd);
  if (!ref) return real::__fxstat64(version, fd, out);
  DescribeSocket(*ref, reinterpret_cast<struct stat*>(out));
  return 0;
}

USTCP_EXPORT off_t lseek(int fd, off_t offset, int whence) noexcept {
  if (FindSocket(fd)) return ToErrno(off_t{-ESPIPE});
  return real::lseek(fd, offset, whence);
}
USTCP_ALIAS_OF(lseek, lseek64);
USTCP_ALIAS_OF(lseek, __lseek);

USTCP_EXPORT ssize_t pread(int fd, void* to, size_t n, off_t offset) {
  if (FindSocket(fd)) return ToErrno(ssize_t{-ESPIPE});
  return real::pread(fd, to, n, offset);
}
USTCP_ALIAS_OF(pread, pread64);
USTCP_ALIAS_OF(pread, __pread64);

USTCP_EXPORT ssize_t __pread_chk(int fd, void* to, size_t n, off_t offset, size_t buffer_size) {
  if (n > buffer_size) __chk_fail();
  return pread(fd, to, n, offset);
}

USTCP_EXPORT ssize_t __pread64_chk(int fd, void* to, size_t n, off64_t offset, size_t buffer_size) {
  if (n > buffer_size) __chk_fail();
  return pread(fd, to, n, offset);
}

USTCP_EXPORT ssize_t pwrite(int fd, const void* from, size_t n, off_t offset) {
  if (FindSocket(fd)) return ToErrno(ssize_t{-ESPIPE});
  return real::pwrite(fd, from, n, offset);
}
USTCP_ALIAS_OF(pwrite, pwrite64);
USTCP_ALIAS_OF(pwrite, __pwrite64);

USTCP_EXPORT ssize_t preadv(int fd, const iovec* iov, int count, off_t offset) {
  if (FindSocket(fd)) return ToErrno(ssize_t{-ESPIPE});
  return real::preadv(fd, iov, count, offset);
}
USTCP_ALIAS_OF(preadv, preadv64);

USTCP_EXPORT ssize_t pwritev(int fd, const iovec* iov, int count, off_t offset) {
  if (FindSocket(fd)) return ToErrno(ssize_t{-ESPIPE});
  return real::pwritev(fd, iov, count, offset);
}
USTCP_ALIAS_OF(pwritev, pwritev64);

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
