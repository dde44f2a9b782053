// Who carries a TCP socket: ustcp or the kernel. Decided when the program names an address, at bind() or connect():
//   - 127.0.0.0/8 and ::1 are the kernel's, unless the host says `loopback = host`;
//   - destinations listed as `kernel_destinations` are the kernel's;
//   - everything else, wildcard binds included, is ustcp's.
// A socket whose address was given to the kernel goes on as a kernel socket, which takes the placeholder's place.
#pragma once

#include "preload/descriptors/fd_table.h"
#include "stack/base/address.h"

namespace ustcp {

enum class Route : uint8_t { kUstcp, kKernel };

// Requires: attached.
Route RouteFor(const IpAddress& address) noexcept;

// The descriptor, and every other of this process that stands for the socket, is a kernel socket from now on: what the
// program did to the socket is done to that one too (options, flags, bind address, epoll registrations), and the ustcp
// socket is released. Returns 0 or a negative errno: the kernel refused something that ustcp had accepted. In processes
// that share the socket by a fork before this, the descriptors go on as unconnected.
int GiveToKernel(int fd, const SocketRef& ref) noexcept;

// True while the socket may still become a kernel socket.
bool Undecided(const Socket& socket) noexcept;

}  // namespace ustcp
