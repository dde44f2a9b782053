#include "preload/placeholder.h"

#include <sys/stat.h>

#include "io/parse.h"
#include "io/sys.h"
#include "preload/runtime/process.h"
#include "stack/mem/arena.h"

namespace ustcp {

namespace {

int OpenOnce(bool cloexec) {
  const Member& member = *runtime::AttachedMember();
  int flags = cloexec ? O_CLOEXEC : 0;
  char path[32];
  TextBuilder(path) << "/proc/self/fd/" << member.arena_fd;
  int fd = sys::Open(path, O_RDONLY | O_NOCTTY | flags);
  // Without /proc (chroot) the socket does without its name: it cannot be recognised in a process it is sent to.
  if (fd < 0 && fd != -EMFILE && fd != -ENFILE)
    fd = sys::Fcntl(member.arena_fd, cloexec ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
  return fd == -EINVAL ? -EMFILE : fd;
}

}  // namespace

int OpenPlaceholder(bool cloexec) noexcept {
  int fd = OpenOnce(cloexec);
  // The arena's own descriptor has gone: closed by a bare system call.
  if (fd == -EBADF && runtime::RestoreArenaDescriptor()) fd = OpenOnce(cloexec);
  return fd;
}

void NamePlaceholder(int fd, const Socket& socket) noexcept {
  sys::Call(SYS_lseek, fd, static_cast<long>(reinterpret_cast<uintptr_t>(&socket) - kArenaBase), SEEK_SET);
}

void ClosePlaceholder(int fd) noexcept { sys::Close(fd); }

void DescribeSocket(const Socket& socket, struct stat* out) noexcept {
  *out = {};
  out->st_dev = 8;   // any number of a file system without a device, as sockfs has
  out->st_ino = socket.inode;
  out->st_mode = S_IFSOCK | 0777;
  out->st_nlink = 1;
  out->st_uid = socket.uid;
  out->st_gid = socket.uid;
  out->st_blksize = 4096;
}

}  // namespace ustcp
