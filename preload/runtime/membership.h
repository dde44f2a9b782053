// The process as a member: when it attaches, and how membership goes through fork and exec.
#pragma once

#include <sys/types.h>

namespace ustcp {

// A program with more rights than whoever started it takes no part: its calls are the kernel's, and nothing of what its
// environment says is looked at. The dynamic linker keeps us out of most such programs; it loads us where an administrator
// put us into /etc/ld.so.preload.
bool TakesPart() noexcept;

// Attaches to the host if that has not happened. Returns 0 or the errno for the socket call; the reason was printed.
int EnsureAttached() noexcept;
// The same before the process gives up the right to. A failure is neither told nor remembered: there may never be a socket.
void AttachQuietly() noexcept;

// fork by a way of the caller's: `make` is called with the child's table prepared, and its outcome, which is fork's,
// decides what becomes of it. No handlers of pthread_atfork are run.
pid_t ForkWithTable(pid_t (*make)(const void* how) noexcept, const void* how) noexcept;
// In a child that does not come back out of `make`.
void FinishForkInChild() noexcept;

// exec hands the sockets on: the program that starts finds this in its environment, and takes them up before its main().
// A program without it does not look for a host at all until it asks for a TCP socket.
// It names the process, and the keeper's socket, which the program may be another user by then to look for elsewhere.
inline constexpr char kInheritVariable[] = "USTCP_INHERIT";

}  // namespace ustcp
