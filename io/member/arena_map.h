// The arena as a file: making it, and mapping it at its fixed address.
//
// A mapping of gigabytes inside somebody else's program has to be inconspicuous: only touched pages count, core dumps
// leave it out, mlockall(MCL_FUTURE) does not populate it, and where RLIMIT_AS or RLIMIT_MEMLOCK forbid it the error says
// which limit and what helps.
#pragma once

#include <cstddef>
#include <cstdint>

#include "io/device/tap.h"

namespace ustcp {

// A memfd of `bytes` that can neither grow nor shrink, named "ustcp-NAME" in /proc/PID/fd. *fd is close-on-exec and the
// caller's.
IoError CreateArenaFile(const char* host_name, uint64_t bytes, int* fd) noexcept;

// Which memory file it is. Holds for as long as somebody has it open: then the number may pass to another file.
struct ArenaIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
  bool operator==(const ArenaIdentity&) const = default;
};

struct ArenaFile {
  uint64_t bytes = 0;
  ArenaIdentity identity;
  uint32_t owner = 0;
  bool writable = false;  // through this descriptor
};

// Checks that `fd` is such a file (sealed: nobody can pull memory away under a reader) and tells what there is to know of
// it. Asks no file system but the one of memory files: a descriptor of a stranger's may be of one that never answers.
IoError InspectArenaFile(int fd, ArenaFile* out) noexcept;

// Maps the whole file at kArenaBase.
IoError MapArena(int fd, uint64_t bytes, bool writable) noexcept;
void UnmapArena(uint64_t bytes) noexcept;

}  // namespace ustcp
