// Descriptors that a message hands to another process (SCM_RIGHTS). What lies under ours is empty, so the receiver would get a
// socket that was never connected: such a message is refused instead.
#pragma once

#include <sys/socket.h>

#include <cerrno>

namespace ustcp {

// What the sender is told. No program takes it for something that passes or for a fault of the descriptor: those that can do
// without (libuv's callers, multiprocessing, haproxy) report it and go on.
inline constexpr int kNotHandedOver = EOPNOTSUPP;

// The message, to be sent through the kernel's socket `fd`, names a socket of ours, or an epoll set with such sockets in it.
// True has told the user so, once in each process.
bool HandsOverOurs(int fd, const msghdr* message) noexcept;

}  // namespace ustcp
