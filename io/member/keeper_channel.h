// Sending the protocol's structs and descriptors over a unix socket, and the places where the keeper is found.
#pragma once

#include <cstddef>
#include <cstdint>

#include "io/device/tap.h"
#include "io/member/keeper_protocol.h"
#include "io/settings/settings.h"

namespace ustcp {

// Sends one message, with a descriptor when fd >= 0. Returns 0 or a negative errno number. Never raises SIGPIPE.
int SendMessage(int socket, const void* data, size_t bytes, int fd) noexcept;

// Receives one message; an attached descriptor (close-on-exec) in *fd, -1 without one; further descriptors are closed. With
// `fd` null the kernel keeps what is attached.
// Returns the bytes, 0 at the end of the connection, or a negative errno number. `wait_ms` < 0: not at all (EAGAIN).
ssize_t ReceiveMessage(int socket, void* data, size_t bytes, int* fd, int wait_ms) noexcept;

QueueDescription DescribeQueue(const TapQueue& queue) noexcept;
TapQueue QueueFromDescription(const QueueDescription& description, int fd) noexcept;

// DIRECTORY/HOST.SUFFIX. False when it is longer than a socket address allows.
bool KeeperPath(const char* directory, const char* host_name, const char* suffix,
                char (&out)[kMaxSettingPath]) noexcept;

// Connects to the socket at `path`. Returns the descriptor or a negative errno number.
int ConnectKeeper(const char* path) noexcept;

}  // namespace ustcp
