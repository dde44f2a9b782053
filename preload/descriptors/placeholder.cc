#include "preload/descriptors/placeholder.h"

#include <sys/socket.h>
#include <sys/stat.h>

#include <atomic>

#include "io/base/owned_fds.h"
#include "io/base/sys.h"
#include "preload/descriptors/fd_table.h"
#include "preload/runtime/process.h"
#include "stack/socket/socket.h"

namespace ustcp {

namespace {

constexpr int kKind = SOCK_SEQPACKET | SOCK_CLOEXEC;

// The socket that numbers of this process are duplicates of; a fork's child goes on with its parent's. -1: not made yet.
std::atomic<int> g_source{-1};

int Source() {
  int fd = g_source.load(std::memory_order_acquire);
  if (__builtin_expect(fd >= 0, 1)) return fd;
  int made = sys::Socket(AF_UNIX, kKind, 0);
  if (made >= 0) made = OwnedFds::Adopt(made, OwnedFdKind::kShared);
  if (made < 0) return made;
  if (g_source.compare_exchange_strong(fd, made)) return made;
  OwnedFds::Close(made);  // another thread was first
  return fd;
}

int DuplicateSource(bool cloexec) {
  int source = Source();
  if (source < 0) return source;
  int fd = sys::Fcntl(source, cloexec ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
  if (fd == -EBADF && g_source.compare_exchange_strong(source, -1)) {
    // Closed by a bare system call, and the arena's most likely with it.
    OwnedFds::Forget(source);
    (void)runtime::RestoreArenaDescriptor();
  }
  return fd;
}

// The inode of the shared socket, 0 when there is none: then nothing is shared.
ino_t SharedInode() {
  int source = g_source.load(std::memory_order_acquire);
  return source >= 0 ? fd_table::InodeUnder(source) : 0;
}

void ReplaceShared(fd_table::Frozen& table, int fd, const Socket& socket, ino_t shared) {
  if (fd_table::InodeUnder(fd) != shared) return;
  // Not blocking, where the program had set that: whoever gets the descriptor without the library finds it so.
  int own = sys::Socket(AF_UNIX, kKind | (socket.nonblocking() ? SOCK_NONBLOCK : 0), 0);
  if (own < 0) return;
  table.PutUnder(fd, socket, own);
  sys::Close(own);
}

}  // namespace

int OpenPlaceholder(bool cloexec) noexcept {
  int fd = DuplicateSource(cloexec);
  if (fd == -EBADF) fd = DuplicateSource(cloexec);
  return fd == -EINVAL ? -EMFILE : fd;
}

void ClosePlaceholder(int fd) noexcept { sys::Close(fd); }

void OwnPlaceholder(int fd, const Socket& socket) noexcept {
  fd_table::Frozen table;
  ino_t shared = SharedInode();
  if (shared != 0 && fd_table::Load(fd) == FdEntry::Pack(FdEntry::kSocket, &socket))
    ReplaceShared(table, fd, socket, shared);
}

void OwnInheritedPlaceholders() noexcept {
  if (g_source.load(std::memory_order_acquire) < 0) return;
  fd_table::Frozen table;
  ino_t shared = SharedInode();
  if (shared == 0) return;
  table.ForEachSocket(
      [](fd_table::Frozen& t, int fd, Socket& socket, void* inode) {
        int flags = sys::Fcntl(fd, F_GETFD);
        if (flags >= 0 && (flags & FD_CLOEXEC) == 0) ReplaceShared(t, fd, socket, *static_cast<ino_t*>(inode));
      },
      &shared);
}

bool GiveUpPlaceholderSource(int fd) noexcept {
  int source = fd;
  if (fd < 0 || !g_source.compare_exchange_strong(source, -1)) return false;
  OwnedFds::Close(fd);
  return true;
}

void DescribeSocket(const Socket& socket, struct stat* out) noexcept {
  out->st_ino = socket.inode;
  out->st_uid = socket.uid;
}

void DescribeSocket(const Socket& socket, struct statx* out) noexcept {
  out->stx_ino = socket.inode;
  out->stx_uid = socket.uid;
}

}  // namespace ustcp
