// RLIMIT_AS and the arena. The limit is on the addresses of a process, and the arena takes gigabytes of them that the program
// knows nothing of. So while it is mapped, the kernel's limit is the program's own plus the arena's size, and the program
// is told its own.
#pragma once

#include <sys/resource.h>

#include <cstdint>

namespace ustcp::address_limit {

// Between the program's and the kernel's view. Infinity stays infinity.
rlimit ForKernel(const rlimit& programs, uint64_t arena_bytes) noexcept;
rlimit ForProgram(const rlimit& kernels, uint64_t arena_bytes) noexcept;

// Around mapping and unmapping. Raising may not be permitted, or not all of it: then the mapping may fail. Returns what the
// limit was, for that case.
rlimit Raise(uint64_t arena_bytes) noexcept;
void Restore(const rlimit& before) noexcept;
void Lower(uint64_t arena_bytes) noexcept;

// While the process may become another program, which has no arena yet: it inherits the program's own limit. Of the hard
// one it does not, since that could not be raised again if no program came of it.
class AsOfProgram {
 public:
  // Nothing happens with `arena_bytes` 0.
  explicit AsOfProgram(uint64_t arena_bytes) noexcept;
  ~AsOfProgram();
  AsOfProgram(const AsOfProgram&) = delete;
  AsOfProgram& operator=(const AsOfProgram&) = delete;

 private:
  bool lowered_ = false;
  rlimit before_{};
};

}  // namespace ustcp::address_limit
