// close, dup, fcntl and their relatives. Descriptors of the stack itself are not the program's: closing one says EBADF,
// closing a range leaves them out, and a number that the program asks for is freed first.
#include <algorithm>
#include <cstdarg>

#include "io/base/owned_fds.h"
#include "preload/calls/interpose.h"
#include "preload/calls/parts.h"
#include "preload/descriptors/placeholder.h"
#include "preload/descriptors/routing.h"
#include "preload/libc/signals.h"
#include "preload/libc/stdio_streams.h"
#include "preload/runtime/runtime.h"
#include "stack/tcp/tcp.h"

using namespace ustcp;

namespace {

bool Attached() { return g_own_process.load(std::memory_order_relaxed) != nullptr; }

bool IsOurs(int fd) { return Attached() && runtime::IsOwnDescriptor(fd); }

// The time that close() waits for queued data to be acknowledged (SO_LINGER): not with unread data, which resets the
// connection, and only for the last reference.
int64_t LingerSeconds(const SocketRef& ref) {
  runtime::Locked lock(*ref);
  if (!Current(ref) || ref->conn == nullptr || ref->refs.load() != 1) return 0;
  if (!ref->options.linger_on || ref->options.linger_seconds == 0 || TcpReadable(*ref->conn) > 0) return 0;
  TcpShutdownWrite(lock.ctx(), *ref->conn);
  ref->shut_wr = true;
  return ref->options.linger_seconds;
}

// Nothing tells of an acknowledged FIN, so the wait looks again every so often.
constexpr Duration kLingerLook = 2ms;

void Linger(const SocketRef& ref) {
  int64_t seconds = LingerSeconds(ref);
  if (seconds <= 0) return;
  signals::Sleeping sleeping;
  signals::BeginCall();
  Hold hold;
  Instant end = runtime::Now() + std::chrono::seconds{std::min<int64_t>(seconds, 1'000'000)};
  for (;;) {
    {
      runtime::Locked lock(*ref);
      if (!Current(ref) || ref->conn == nullptr || !TcpLingering(*ref->conn)) return;
      hold.Take(*ref);
    }
    Instant now = runtime::Now();
    if (now >= end || runtime::WaitSocket(*ref, 0, std::min(end, now + kLingerLook)) == EINTR) return;
  }
}

void CloseEntry(int fd) {
  if (fd_table::Load(fd) == 0) return;
  if (SocketRef ref = FindSocket(fd)) Linger(ref);
  // Before the descriptor: its number may be somebody else's right after.
  fd_table::Remove(fd);
}

// Closes [first, last] except for the descriptors of the stack.
int CloseRange(unsigned first, unsigned last, int flags) {
  if (first > last) return -EINVAL;
  constexpr int kUnshare = 1 << 1;
  constexpr int kCloexec = 1 << 2;
  if ((flags & ~(kUnshare | kCloexec)) != 0) return -EINVAL;
  if (!Attached() || (flags & kCloexec) != 0) return real::close_range(first, last, flags) == 0 ? 0 : -errno;
  fd_table::RemoveRange(first, last);
  unsigned from = first;
  for (;;) {
    unsigned next_own = UINT_MAX;
    OwnedFds::ForEach([&](int fd, OwnedFdKind) {
      auto n = static_cast<unsigned>(fd);
      if (n >= from && n <= last) next_own = std::min(next_own, n);
    });
    if (next_own != from) {
      unsigned until = next_own == UINT_MAX ? last : next_own - 1;
      if (real::close_range(from, until, flags) != 0) return -errno;
    }
    if (next_own >= last) return 0;
    from = next_own + 1;
  }
}

// A descriptor that now stands for what `from` stands for. Undone where the table has no memory.
int Duplicated(int from, int to) {
  if (to < 0 || !Attached()) return to;
  if (fd_table::Duplicate(from, to)) {
    if (to < 3) AdoptStandardStreams();
    return to;
  }
  ClosePlaceholder(to);
  return ToErrno(-EMFILE);
}

// dup2 and dup3 onto a number of ours.
void MakeRoom(int to) {
  if (IsOurs(to) && !GiveUpPlaceholderSource(to)) (void)runtime::RelocateDescriptor(to);
}

constexpr int kSettableFlags = O_APPEND | O_NONBLOCK | O_ASYNC | O_NOATIME;

int ControlFlags(const SocketRef& ref, int command, long argument) {
  if (command == F_GETFL) return O_RDWR | static_cast<int>(ref->status_flags.load() & ~kGivenToKernel);
  auto flags = static_cast<uint32_t>(argument) & kSettableFlags;
  if ((argument & O_DIRECT) != 0) return -EINVAL;
  ref->status_flags.store(flags);
  return 0;
}

}  // namespace

int ustcp::BeforeClose(int fd) noexcept {
  if (runtime::IsOwnDescriptor(fd)) return -EBADF;
  CloseEntry(fd);
  return 0;
}

USTCP_EXPORT int close(int fd) {
  if (Attached())
    if (int error = BeforeClose(fd)) return ToErrno(error);
  return real::close(fd);
}
USTCP_ALIAS_OF(close, __close);

USTCP_EXPORT int close_range(unsigned first, unsigned last, int flags) noexcept {
  return ToErrno(CloseRange(first, last, flags));
}

USTCP_EXPORT void closefrom(int first) noexcept {
  if (!Attached()) return real::closefrom(first);
  (void)CloseRange(static_cast<unsigned>(std::max(first, 0)), UINT_MAX, 0);
}

USTCP_EXPORT int dup(int fd) noexcept {
  if (IsOurs(fd)) return ToErrno(-EBADF);
  return Duplicated(fd, real::dup(fd));
}

USTCP_EXPORT int dup2(int from, int to) noexcept {
  if (IsOurs(from)) return ToErrno(-EBADF);
  if (from == to) return real::dup2(from, to);
  MakeRoom(to);
  return Duplicated(from, real::dup2(from, to));
}
USTCP_ALIAS_OF(dup2, __dup2);

USTCP_EXPORT int dup3(int from, int to, int flags) noexcept {
  if (IsOurs(from)) return ToErrno(-EBADF);
  if (from != to) MakeRoom(to);
  return Duplicated(from, real::dup3(from, to, flags));
}

USTCP_EXPORT int fcntl(int fd, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) return Duplicated(fd, real::fcntl(fd, command, argument));
  if (command != F_GETFD && command != F_SETFD)
    if (SocketRef ref = FindSocket(fd)) {
      if (command == F_GETFL || command == F_SETFL)
        return ToErrno(ControlFlags(ref, command, static_cast<long>(reinterpret_cast<intptr_t>(argument))));
      // Owner, signal, locks, leases: the kernel's, but this socket's alone.
      OwnPlaceholder(fd, *ref);
    }
  return real::fcntl(fd, command, argument);
}
USTCP_ALIAS_OF(fcntl, __fcntl);
USTCP_ALIAS_OF(fcntl, fcntl64);
