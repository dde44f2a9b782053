// The kernel descriptor under a ustcp socket: it gives the socket its number, and dup, CLOEXEC, select's limits and /proc
// work on it as on any other.
//
// socket() makes a kernel TCP socket, because routing may still decide for the kernel. It is never bound or connected
// while the socket is ustcp's, so no packet can reach it. accept() makes a read-only open file of the arena's memfd whose
// offset is the socket's place in the arena: fstat and lseek on it tell which socket it stands for, also after it was
// sent to another process.
#pragma once

#include <cstdint>

struct stat;

namespace ustcp {

struct Socket;

// An accepted socket's placeholder before it is known for which socket. `cloexec`: close on exec. A negative errno
// (EMFILE, ENFILE) on failure.
int OpenPlaceholder(bool cloexec) noexcept;
void NamePlaceholder(int fd, const Socket& socket) noexcept;

// Closes a kernel descriptor without looking at the table.
void ClosePlaceholder(int fd) noexcept;

// fstat() of a socket: what the kernel's own would show.
void DescribeSocket(const Socket& socket, struct stat* out) noexcept;

}  // namespace ustcp
