// Who carries a TCP socket: ustcp or the kernel. Decided when the program names an address, at bind() or connect():
//   - 127.0.0.0/8 and ::1 are the kernel's, unless the host says `loopback = host`;
//   - destinations listed as `kernel_destinations` are the kernel's;
//   - everything else, wildcard binds included, is ustcp's.
// A socket whose address was given to the kernel goes on as the kernel socket it has had since socket().
#pragma once

#include "preload/descriptors/fd_table.h"
#include "stack/net/address.h"

namespace ustcp {

enum class Route : uint8_t { kUstcp, kKernel };

// Requires: attached.
Route RouteFor(const IpAddress& address) noexcept;

// The descriptor stands for its kernel socket from now on: what the program did to the socket is done to that one too
// (bind address, epoll registrations; options and flags were set on both all along), and the ustcp socket is released.
// Returns 0 or a negative errno: the kernel refused something that ustcp had accepted.
int GiveToKernel(int fd, const SocketRef& ref) noexcept;

// True while the socket's kernel socket may still become the real one: options and flags are set on both.
bool Undecided(const Socket& socket) noexcept;

}  // namespace ustcp
