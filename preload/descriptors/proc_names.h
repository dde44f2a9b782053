// The names under which a process's descriptors stand in the file system: /proc/self/fd/N, /dev/fd/N and their relatives, whole
// or within a folder that is open; and what such a name, as a link, says of a socket.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ustcp {

// The descriptor of this process that `name` means as the *at() calls take it (AT_FDCWD; AT_EMPTY_PATH in `flags`), or -1.
// Requires: the kernel has found something by that name just now.
int DescriptorNamed(int folder, const char* name, int flags) noexcept;

// "socket:[..."
bool StartsAsSocketLink(const char* text, size_t length) noexcept;
// Writes the link of a socket as far as it fits, as readlink() does; returns the length written.
size_t WriteSocketLink(uint64_t inode, char* to, size_t room) noexcept;

}  // namespace ustcp
