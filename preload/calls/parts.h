// What interposed calls do besides the C library's call behind them, for those who make the kernel's instead (raw/).
#pragma once

#include <poll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <cstdint>

namespace ustcp {

// The descriptor is about to be closed: lets go of what it stands for. A negative errno when it is not the program's.
// Requires: attached.
int BeforeClose(int fd) noexcept;

// A call of the kernel's returned this number, or did not: what it stood for until now is let go. Returns it.
int Returned(int fd) noexcept;
// The same for two numbers, if the call's result is 0.
int ReturnedPair(int result, const int* fds) noexcept;
// The same for those that came with a message.
void ReturnedBy(const msghdr& message) noexcept;

// The effective user is about to become `user`: joins the host while that is possible. Keeps errno.
void BeforeUserChanges(uid_t user) noexcept;

// What the arena takes of the process's address space; 0 while there is none.
uint64_t ArenaBytes() noexcept;

// True when no descriptor of the call is one of ours, and when the kernel refuses the arguments.
bool PollIsForKernel(pollfd* fds, nfds_t n) noexcept;
bool SelectIsForKernel(int n, fd_set* in, fd_set* out, fd_set* except) noexcept;

}  // namespace ustcp
