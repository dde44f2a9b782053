// The kernel TCP socket that takes a ustcp socket's place when routing decides for the kernel.
#pragma once

#include "stack/socket/socket.h"

namespace ustcp {

// One with the options and file status flags that the program has given `socket`, and the owner it has given `placeholder`,
// close-on-exec, not yet bound. A negative errno on failure. Requires: the lock of the socket's shard is held.
int OpenKernelSocket(const Socket& socket, int placeholder) noexcept;

}  // namespace ustcp
