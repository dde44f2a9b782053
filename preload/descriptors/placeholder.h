// The kernel descriptor under a ustcp socket: it gives the socket its number, and dup, CLOEXEC, select's limits and /proc
// work on it as on any other.
//
// socket() makes a kernel TCP socket, because routing may still decide for the kernel. It is never bound or connected
// while the socket is ustcp's, so no packet can reach it. accept() duplicates a read-only descriptor of the arena's memfd:
// the cheapest way to a number, and one that no stray write through the kernel can do harm with. Which socket a number
// stands for is in the process's table (fd_table.h), not in the kernel.
#pragma once

#include <cstdint>

struct stat;

namespace ustcp {

struct Socket;

// An accepted socket's placeholder. `cloexec`: close on exec. A negative errno
// (EMFILE, ENFILE) on failure.
int OpenPlaceholder(bool cloexec) noexcept;

// Closes a kernel descriptor without looking at the table.
void ClosePlaceholder(int fd) noexcept;

// fstat() of a socket: what the kernel's own would show.
void DescribeSocket(const Socket& socket, struct stat* out) noexcept;

}  // namespace ustcp
