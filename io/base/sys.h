// System calls as the io layer makes them: past the C library, because the preloaded object interposes read, close,
// poll and the rest, and would otherwise meet itself. Each returns the kernel's value, an error as a negative errno
// number; errno itself is never touched, and none is a cancellation point.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#include <cstddef>
#include <cstdint>

namespace ustcp::sys {

inline long Call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) noexcept {
  long result;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

inline long Arg(const void* p) noexcept { return reinterpret_cast<long>(p); }
inline long Arg(size_t n) noexcept { return static_cast<long>(n); }

// The kernel's signal set: what its calls take, whatever the size of the C library's.
inline constexpr size_t kSignalSetBytes = 8;

inline ssize_t Read(int fd, void* to, size_t n) noexcept { return Call(SYS_read, fd, Arg(to), Arg(n)); }
inline ssize_t Write(int fd, const void* from, size_t n) noexcept { return Call(SYS_write, fd, Arg(from), Arg(n)); }
inline ssize_t Writev(int fd, const iovec* v, size_t n) noexcept { return Call(SYS_writev, fd, Arg(v), Arg(n)); }
inline int Close(int fd) noexcept { return static_cast<int>(Call(SYS_close, fd)); }
inline int Open(const char* path, int flags, unsigned mode = 0) noexcept {
  return static_cast<int>(Call(SYS_openat, AT_FDCWD, Arg(path), flags, mode));
}
inline int Ioctl(int fd, unsigned long request, const void* arg) noexcept {
  return static_cast<int>(Call(SYS_ioctl, fd, static_cast<long>(request), Arg(arg)));
}
inline int Ioctl(int fd, unsigned long request, unsigned long arg) noexcept {
  return static_cast<int>(Call(SYS_ioctl, fd, static_cast<long>(request), static_cast<long>(arg)));
}
inline int Fcntl(int fd, int command, long arg = 0) noexcept {
  return static_cast<int>(Call(SYS_fcntl, fd, command, arg));
}
inline int Socket(int domain, int type, int protocol) noexcept {
  return static_cast<int>(Call(SYS_socket, domain, type, protocol));
}
inline int EventFd(unsigned value, int flags) noexcept { return static_cast<int>(Call(SYS_eventfd2, value, flags)); }
inline int Ppoll(pollfd* fds, size_t n, timespec* timeout, const sigset_t* mask) noexcept {
  return static_cast<int>(Call(SYS_ppoll, Arg(fds), Arg(n), Arg(timeout), Arg(mask), kSignalSetBytes));
}
// The address, or a value in [-4095, -1] cast to a pointer: see MapFailed.
inline void* Map(void* at, size_t n, int protection, int flags, int fd, long offset) noexcept {
  return reinterpret_cast<void*>(Call(SYS_mmap, Arg(at), Arg(n), protection, flags, fd, offset));
}
inline bool MapFailed(const void* p) noexcept { return reinterpret_cast<uintptr_t>(p) > uintptr_t(-4096); }
inline int Unmap(void* at, size_t n) noexcept { return static_cast<int>(Call(SYS_munmap, Arg(at), Arg(n))); }
inline int Advise(void* at, size_t n, int advice) noexcept {
  return static_cast<int>(Call(SYS_madvise, Arg(at), Arg(n), advice));
}
inline int NanoSleep(int64_t ns) noexcept {
  timespec t{ns / 1'000'000'000, ns % 1'000'000'000};
  return static_cast<int>(Call(SYS_nanosleep, Arg(&t), 0));
}
inline int NoFileLimit(rlimit* limit) noexcept {
  return static_cast<int>(Call(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, Arg(limit)));
}
inline int SetNoFileLimit(const rlimit* limit) noexcept {
  return static_cast<int>(Call(SYS_prlimit64, 0, RLIMIT_NOFILE, Arg(limit), 0));
}

}  // namespace ustcp::sys
