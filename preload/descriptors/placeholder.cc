#include "preload/descriptors/placeholder.h"

#include <sys/stat.h>

#include "io/base/sys.h"
#include "preload/runtime/process.h"
#include "stack/socket/socket.h"

namespace ustcp {

int OpenPlaceholder(bool cloexec) noexcept {
  int command = cloexec ? F_DUPFD_CLOEXEC : F_DUPFD;
  int fd = sys::Fcntl(runtime::ReadOnlyArena(), command, 0);
  if (fd == -EBADF) {
    // Closed by a bare system call: made anew from the arena's own descriptor, or that may have gone with it.
    runtime::ForgetReadOnlyArena();
    if (runtime::ReadOnlyArena() < 0) (void)runtime::RestoreArenaDescriptor();
    fd = sys::Fcntl(runtime::ReadOnlyArena(), command, 0);
  }
  // Without /proc (chroot).
  if (fd == -EBADF) fd = sys::Fcntl(runtime::AttachedMember()->arena_fd, command, 0);
  return fd == -EINVAL ? -EMFILE : fd;
}

void ClosePlaceholder(int fd) noexcept { sys::Close(fd); }

void DescribeSocket(const Socket& socket, struct stat* out) noexcept {
  *out = {};
  out->st_dev = 8;  // any number of a file system without a device, as sockfs has
  out->st_ino = socket.inode;
  out->st_mode = S_IFSOCK | 0777;
  out->st_nlink = 1;
  out->st_uid = socket.uid;
  out->st_gid = socket.uid;
  out->st_blksize = 4096;
}

}  // namespace ustcp
