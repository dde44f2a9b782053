// sendfile and splice.
#include <sys/stat.h>

#include <algorithm>

#include "preload/calls/interpose.h"
#include "preload/transfer/transfer.h"

using namespace ustcp;

namespace {

ssize_t SendFromFile(const SocketRef& ref, int in_fd, off_t* offset, size_t count) {
  off_t at = 0;
  if (offset != nullptr && !GetUser(at, offset)) return -EFAULT;
  if (static_cast<ssize_t>(count) < 0) return -EINVAL;
  struct stat file;
  if (long error = sys::Call(SYS_fstat, in_fd, sys::Arg(&file)); error < 0) return error;
  if (S_ISSOCK(file.st_mode)) return offset != nullptr ? -ESPIPE : -EINVAL;
  if (offset == nullptr) at = sys::Call(SYS_lseek, in_fd, 0, SEEK_CUR);
  if (at < 0) return -EINVAL;
  // What cannot be read at a position (pipes, sockets) is refused as where the kernel has no way to splice it either.
  if (!S_ISREG(file.st_mode) && !S_ISBLK(file.st_mode)) return -EINVAL;
  count = std::min(count, kMaxTransferBytes);
  if (S_ISREG(file.st_mode)) {
    off_t left = file.st_size - at;
    if (left <= 0) return 0;
    count = std::min(count, static_cast<size_t>(left));
  }
  ssize_t sent = SendFile(ref, in_fd, at, count);
  off_t end = at + std::max<ssize_t>(sent, 0);
  if (offset != nullptr) return PutUser(offset, end) ? sent : -EFAULT;
  if (sent > 0) sys::Call(SYS_lseek, in_fd, end, SEEK_SET);
  return sent;
}

}  // namespace

USTCP_EXPORT ssize_t sendfile(int out_fd, int in_fd, off_t* offset, size_t count) noexcept {
  SocketRef ref = FindSocket(out_fd);
  if (!ref) return real::sendfile(out_fd, in_fd, offset, count);
  return ToErrno(SendFromFile(ref, in_fd, offset, count));
}
USTCP_ALIAS_OF(sendfile, sendfile64);

// A file type that cannot be spliced, as far as the program can tell: it falls back to reading and writing.
USTCP_EXPORT ssize_t splice(int in_fd, off64_t* in_offset, int out_fd, off64_t* out_offset, size_t n, unsigned flags) {
  if (FindSocket(in_fd) || FindSocket(out_fd)) return n == 0 ? 0 : ToErrno(ssize_t{-EINVAL});
  return real::splice(in_fd, in_offset, out_fd, out_offset, n, flags);
}
