// The kernel descriptor under a ustcp socket: it gives the socket its number, and dup, CLOEXEC, select's limits and /proc
// work on it as on any other. Which socket a number stands for is in the process's table (fd_table.h), not in the kernel.
//
// Whoever reaches it past the library (a static child, an inlined system call, io_uring, AIO) finds an AF_UNIX
// SOCK_SEQPACKET socket, unbound and unconnected. That holds nothing and answers as an unconnected TCP socket does: ENOTCONN
// to reads and writes, POLLOUT | POLLHUP at once, EINVAL to fsync, copy_file_range and sendfile, ESPIPE to positions, ENODEV to
// mmap, socket:[inode] in /proc. What an unconnected TCP socket would still do, it refuses with EINVAL: bind, connect and
// listen, so that nothing falls back to the kernel's TCP. (Of the other kinds, SOCK_STREAM has EINVAL for a read, an
// end of a socketpair an end of file, which a program takes for the peer's; vsock and netlink sockets report no POLLHUP.)
//
// socket() and accept() duplicate one such socket of the process: the cheapest way to a number. A socket gets one of its own
// where sharing would show: when its descriptors are about to reach another program, or are told something that the kernel
// keeps with the file (owner, locks, mode). When routing gives the socket to the kernel, a kernel TCP socket takes its
// place (kernel_socket.h).
#pragma once

#include <cstdint>

struct stat;
struct statx;

namespace ustcp {

struct Socket;

// A descriptor for a new socket. `cloexec`: close on exec. A negative errno (EMFILE, ENFILE) on failure.
int OpenPlaceholder(bool cloexec) noexcept;

// Closes a kernel descriptor without looking at the table.
void ClosePlaceholder(int fd) noexcept;

// Puts a socket of its own, as empty, under the descriptors of this process that stand for the socket of `fd`, unless that
// has happened. Without effect when there is no descriptor to make one.
void OwnPlaceholder(int fd, const Socket& socket) noexcept;

// The same for all sockets whose descriptors another program is about to inherit. Async-signal-safe.
void OwnInheritedPlaceholders() noexcept;

// The program wants number `fd`: when it is the one that OpenPlaceholder duplicates, closes that (the next call makes
// another) and returns true.
bool GiveUpPlaceholderSource(int fd) noexcept;

// What the kernel said of the placeholder, made into what is true of the socket.
void DescribeSocket(const Socket& socket, struct stat* out) noexcept;
void DescribeSocket(const Socket& socket, struct statx* out) noexcept;

}  // namespace ustcp
