// stat and readlink in all their forms: a socket is a file with its own inode number, whoever asks and however it is named. The
// kernel answers first; only where it found a socket does the name matter.
#include <sys/stat.h>

#include <cstring>

#include "preload/calls/interpose.h"
#include "preload/descriptors/placeholder.h"
#include "preload/descriptors/proc_names.h"

using namespace ustcp;

extern "C" [[noreturn]] void __chk_fail() noexcept;

namespace {

bool IsSocket(const struct stat& s) { return S_ISSOCK(s.st_mode); }
bool IsSocket(const struct statx& s) { return S_ISSOCK(s.stx_mode); }

// Of anything but a socket the kernel's answer is true: the number was closed and opened anew past us.
template <typename Stat>
int DescribeDescriptor(int fd, int result, Stat* out) {
  if (result == 0 && IsSocket(*out))
    if (SocketRef ref = FindSocket(fd)) DescribeSocket(*ref, out);
  return result;
}

template <typename Stat>
int DescribeNamed(int folder, const char* name, int flags, int result, Stat* out) {
  if (g_own_process.load(std::memory_order_relaxed) == nullptr || result != 0 || !IsSocket(*out)) return result;
  return DescribeDescriptor(DescriptorNamed(folder, name, flags), result, out);
}

// One layout, two types.
static_assert(sizeof(struct stat64) == sizeof(struct stat));
struct stat* Plain(struct stat64* out) {
  return reinterpret_cast<struct stat*>(out);
}

// What readlink() said of something, corrected.
ssize_t CorrectLink(int folder, const char* name, char* to, size_t room, ssize_t n) {
  if (n <= 0 || g_own_process.load(std::memory_order_relaxed) == nullptr) return n;
  if (!StartsAsSocketLink(to, static_cast<size_t>(n))) return n;
  SocketRef ref = FindSocket(DescriptorNamed(folder, name, 0));
  if (!ref) return n;
  size_t written = WriteSocketLink(ref->inode, to, room);
  // Nothing of the kernel's text behind ours: programs zero the buffer and leave out the length.
  if (written < static_cast<size_t>(n)) std::memset(to + written, 0, static_cast<size_t>(n) - written);
  return static_cast<ssize_t>(written);
}

}  // namespace

USTCP_EXPORT int fstat(int fd, struct stat* out) noexcept { return DescribeDescriptor(fd, real::fstat(fd, out), out); }

USTCP_EXPORT int fstat64(int fd, struct stat64* out) noexcept { return fstat(fd, Plain(out)); }

USTCP_EXPORT int stat(const char* path, struct stat* out) noexcept {
  return DescribeNamed(AT_FDCWD, path, 0, real::stat(path, out), out);
}

USTCP_EXPORT int stat64(const char* path, struct stat64* out) noexcept { return stat(path, Plain(out)); }

USTCP_EXPORT int fstatat(int folder, const char* path, struct stat* out, int flags) noexcept {
  return DescribeNamed(folder, path, flags, real::fstatat(folder, path, out, flags), out);
}

USTCP_EXPORT int fstatat64(int folder, const char* path, struct stat64* out, int flags) noexcept {
  return fstatat(folder, path, Plain(out), flags);
}

USTCP_EXPORT int statx(int folder, const char* path, int flags, unsigned mask, struct statx* out) noexcept {
  return DescribeNamed(folder, path, flags, real::statx(folder, path, flags, mask, out), out);
}

// What programs built against a C library before 2.33 call.
USTCP_EXPORT int __fxstat(int version, int fd, struct stat* out) noexcept {
  return DescribeDescriptor(fd, real::__fxstat(version, fd, out), out);
}

USTCP_EXPORT int __fxstat64(int version, int fd, struct stat64* out) noexcept {
  return __fxstat(version, fd, Plain(out));
}

USTCP_EXPORT int __xstat(int version, const char* path, struct stat* out) noexcept {
  return DescribeNamed(AT_FDCWD, path, 0, real::__xstat(version, path, out), out);
}

USTCP_EXPORT int __xstat64(int version, const char* path, struct stat64* out) noexcept {
  return __xstat(version, path, Plain(out));
}

USTCP_EXPORT int __fxstatat(int version, int folder, const char* path, struct stat* out, int flags) noexcept {
  return DescribeNamed(folder, path, flags, real::__fxstatat(version, folder, path, out, flags), out);
}

USTCP_EXPORT int __fxstatat64(int version, int folder, const char* path, struct stat64* out, int flags) noexcept {
  return __fxstatat(version, folder, path, Plain(out), flags);
}

USTCP_EXPORT ssize_t readlink(const char* path, char* to, size_t room) noexcept {
  return CorrectLink(AT_FDCWD, path, to, room, real::readlink(path, to, room));
}

USTCP_EXPORT ssize_t readlinkat(int folder, const char* path, char* to, size_t room) noexcept {
  return CorrectLink(folder, path, to, room, real::readlinkat(folder, path, to, room));
}

USTCP_EXPORT ssize_t __readlink_chk(const char* path, char* to, size_t room, size_t buffer_size) noexcept {
  if (room > buffer_size) __chk_fail();
  return readlink(path, to, room);
}

USTCP_EXPORT ssize_t __readlinkat_chk(int folder, const char* path, char* to, size_t room,
                                      size_t buffer_size) noexcept {
  if (room > buffer_size) __chk_fail();
  return readlinkat(folder, path, to, room);
}
