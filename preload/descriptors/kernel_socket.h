// The kernel TCP socket that takes a ustcp socket's place when routing decides for the kernel.
#pragma once

#include "stack/socket/socket.h"

namespace ustcp {

// One with the options and file status flags that the program has given `socket`, close-on-exec, not yet bound. A negative
// errno on failure. Requires: the lock of the socket's shard is held.
int OpenKernelSocket(const Socket& socket) noexcept;

}  // namespace ustcp
