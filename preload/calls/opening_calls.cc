// Calls that return descriptors of the kernel's. A number that comes back is free of what it stood for: where its entry still
// says otherwise, it was closed past us (descriptors/stale.h).
#include <dirent.h>
#include <mqueue.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include <cstdarg>

#include "preload/calls/interpose.h"
#include "preload/calls/parts.h"
#include "preload/descriptors/placeholder.h"

using namespace ustcp;

int ustcp::Returned(int fd) noexcept {
  if (__builtin_expect(fd >= 0 && fd_table::Load(fd) != 0, 0)) {
    int saved_errno = errno;
    fd_table::Remove(fd);
    errno = saved_errno;
  }
  return fd;
}

int ustcp::ReturnedPair(int result, const int* fds) noexcept {
  if (result == 0) {
    Returned(fds[0]);
    Returned(fds[1]);
  }
  return result;
}

namespace {

FILE* Returned(FILE* stream) noexcept {
  if (stream != nullptr) ustcp::Returned(fileno_unlocked(stream));
  return stream;
}

}  // namespace

void ustcp::ReturnedBy(const msghdr& message) noexcept {
  if (g_own_process.load(std::memory_order_relaxed) == nullptr || message.msg_controllen == 0) return;
  auto* m = const_cast<msghdr*>(&message);
  for (cmsghdr* c = CMSG_FIRSTHDR(m); c != nullptr; c = CMSG_NXTHDR(m, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    auto* fds = reinterpret_cast<const int*>(CMSG_DATA(c));
    for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) Returned(fds[i]);
  }
}

USTCP_EXPORT int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  void* mode = va_arg(arguments, void*);
  va_end(arguments);
  return Returned(real::open(path, flags, mode));
}
USTCP_ALIAS_OF(open, open64);
USTCP_ALIAS_OF(open, __open);
USTCP_ALIAS_OF(open, __open64);

USTCP_EXPORT int openat(int directory, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  void* mode = va_arg(arguments, void*);
  va_end(arguments);
  return Returned(real::openat(directory, path, flags, mode));
}
USTCP_ALIAS_OF(openat, openat64);

USTCP_EXPORT int __open_2(const char* path, int flags) { return Returned(real::__open_2(path, flags)); }
USTCP_ALIAS_OF(__open_2, __open64_2);

USTCP_EXPORT int __openat_2(int directory, const char* path, int flags) {
  return Returned(real::__openat_2(directory, path, flags));
}
USTCP_ALIAS_OF(__openat_2, __openat64_2);

USTCP_EXPORT int creat(const char* path, mode_t mode) { return Returned(real::creat(path, mode)); }
USTCP_ALIAS_OF(creat, creat64);

USTCP_EXPORT int open_by_handle_at(int mount, file_handle* handle, int flags) {
  return Returned(real::open_by_handle_at(mount, handle, flags));
}

USTCP_EXPORT int shm_open(const char* name, int flags, mode_t mode) {
  return Returned(real::shm_open(name, flags, mode));
}

USTCP_EXPORT int memfd_create(const char* name, unsigned flags) noexcept {
  return Returned(real::memfd_create(name, flags));
}

USTCP_EXPORT int mkstemp(char* path) { return Returned(real::mkstemp(path)); }
USTCP_ALIAS_OF(mkstemp, mkstemp64);

USTCP_EXPORT int mkostemp(char* path, int flags) { return Returned(real::mkostemp(path, flags)); }
USTCP_ALIAS_OF(mkostemp, mkostemp64);

USTCP_EXPORT int mkstemps(char* path, int suffix) { return Returned(real::mkstemps(path, suffix)); }
USTCP_ALIAS_OF(mkstemps, mkstemps64);

USTCP_EXPORT int mkostemps(char* path, int suffix, int flags) { return Returned(real::mkostemps(path, suffix, flags)); }
USTCP_ALIAS_OF(mkostemps, mkostemps64);

USTCP_EXPORT int posix_openpt(int flags) { return Returned(real::posix_openpt(flags)); }

USTCP_EXPORT int pipe(int* fds) noexcept { return ReturnedPair(real::pipe(fds), fds); }
USTCP_ALIAS_OF(pipe, __pipe);

USTCP_EXPORT int pipe2(int* fds, int flags) noexcept { return ReturnedPair(real::pipe2(fds, flags), fds); }

USTCP_EXPORT int socketpair(int family, int type, int protocol, int* fds) noexcept {
  return ReturnedPair(real::socketpair(family, type, protocol, fds), fds);
}

USTCP_EXPORT int eventfd(unsigned value, int flags) noexcept { return Returned(real::eventfd(value, flags)); }

USTCP_EXPORT int timerfd_create(clockid_t clock, int flags) noexcept {
  return Returned(real::timerfd_create(clock, flags));
}

USTCP_EXPORT int signalfd(int fd, const sigset_t* mask, int flags) noexcept {
  return Returned(real::signalfd(fd, mask, flags));
}

USTCP_EXPORT int inotify_init() noexcept { return Returned(real::inotify_init()); }

USTCP_EXPORT int inotify_init1(int flags) noexcept { return Returned(real::inotify_init1(flags)); }

USTCP_EXPORT int fanotify_init(unsigned flags, unsigned file_flags) noexcept {
  return Returned(real::fanotify_init(flags, file_flags));
}

USTCP_EXPORT int pidfd_open(pid_t pid, unsigned flags) noexcept { return Returned(real::pidfd_open(pid, flags)); }

USTCP_EXPORT int pidfd_getfd(int pidfd, int fd, unsigned flags) noexcept {
  return Returned(real::pidfd_getfd(pidfd, fd, flags));
}

USTCP_EXPORT FILE* fopen(const char* path, const char* modes) { return Returned(real::fopen(path, modes)); }
USTCP_ALIAS_OF(fopen, fopen64);

USTCP_EXPORT FILE* freopen(const char* path, const char* modes, FILE* stream) {
  return Returned(real::freopen(path, modes, stream));
}
USTCP_ALIAS_OF(freopen, freopen64);

USTCP_EXPORT FILE* tmpfile() { return Returned(real::tmpfile()); }
USTCP_ALIAS_OF(tmpfile, tmpfile64);

USTCP_EXPORT FILE* popen(const char* command, const char* modes) {
  OwnInheritedPlaceholders();
  return Returned(real::popen(command, modes));
}

USTCP_EXPORT DIR* opendir(const char* path) {
  DIR* directory = real::opendir(path);
  if (directory != nullptr) Returned(dirfd(directory));
  return directory;
}
