// Calls on files that a program may try on a socket. The placeholder under it is one, so most answer for themselves. Here is
// where it would tell of itself, or where what is done to it would be done to other sockets too.
#include <sys/file.h>
#include <sys/time.h>

#include "preload/calls/interpose.h"
#include "preload/descriptors/placeholder.h"
#include "preload/transfer/transfer.h"

using namespace ustcp;

namespace {

void OwnFile(int fd) {
  if (SocketRef ref = FindSocket(fd)) OwnPlaceholder(fd, *ref);
}

}  // namespace

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

USTCP_EXPORT int flock(int fd, int operation) noexcept {
  OwnFile(fd);
  return real::flock(fd, operation);
}

USTCP_EXPORT int fchmod(int fd, mode_t mode) noexcept {
  OwnFile(fd);
  return real::fchmod(fd, mode);
}

USTCP_EXPORT int fchown(int fd, uid_t owner, gid_t group) noexcept {
  OwnFile(fd);
  int result = real::fchown(fd, owner, group);
  if (SocketRef ref = FindSocket(fd); ref && result == 0 && owner != static_cast<uid_t>(-1)) ref->uid = owner;
  return result;
}

USTCP_EXPORT int futimens(int fd, const timespec* times) noexcept {
  OwnFile(fd);
  return real::futimens(fd, times);
}
