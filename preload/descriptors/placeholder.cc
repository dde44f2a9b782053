#include "preload/descriptors/placeholder.h"

#include <sys/socket.h>
#include <sys/stat.h>

#include <atomic>

#include "io/base/owned_fds.h"
#include "io/base/sys.h"
#include "preload/runtime/process.h"
#include "stack/socket/socket.h"

namespace ustcp {

namespace {

// The socket that numbers of this process are duplicates of; a fork's child goes on with its parent's. -1: not made yet.
std::atomic<int> g_source{-1};

int Source() {
  int fd = g_source.load(std::memory_order_acquire);
  if (__builtin_expect(fd >= 0, 1)) return fd;
  int made = sys::Socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
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

}  // namespace

int OpenPlaceholder(bool cloexec) noexcept {
  int fd = DuplicateSource(cloexec);
  if (fd == -EBADF) fd = DuplicateSource(cloexec);
  return fd == -EINVAL ? -EMFILE : fd;
}

void ClosePlaceholder(int fd) noexcept { sys::Close(fd); }

bool GiveUpPlaceholderSource(int fd) noexcept {
  int source = fd;
  if (fd < 0 || !g_source.compare_exchange_strong(source, -1)) return false;
  OwnedFds::Close(fd);
  return true;
}

void DescribeSocket(const Socket& socket, struct stat* out) noexcept {
  out->st_ino = socket.inode;
  out->st_uid = socket.uid;
  out->st_gid = socket.uid;
}

}  // namespace ustcp
