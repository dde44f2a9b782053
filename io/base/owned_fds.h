// The process's own descriptors, all of them: TAP queues, rings, wake-up descriptors, and whatever preload/ adds
// (arena, keeper's socket). Programs close everything from 3 up and dup2 onto any number; the interposed calls ask here
// what to spare. Ours are kept high, out of the way of the numbers a program meets.
//
// A fixed table of atomics: safe at any time, in signal handlers and in the child of a fork too.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ustcp {

enum class OwnedFdKind : uint8_t {
  kEngine,  // a ring or wake-up descriptor of one thread: closed in the child of a fork
  kShared,  // stays valid in a child: arena, TAP queue, keeper's socket
};

class OwnedFds {
 public:
  static constexpr size_t kCapacity = 4096;

  // Moves `fd` (which is closed) to a free number at or above 60 % of the soft RLIMIT_NOFILE, or above that limit when it
  // is below 256 and the hard one is higher, close-on-exec, and lists it. Returns the new number; `fd` itself, listed, when there is no higher one; a negative errno number when the
  // table is full (fd is closed then).
  static int Adopt(int fd, OwnedFdKind kind) noexcept;
  // The program takes a number of ours (dup2): moves the descriptor elsewhere and returns its new number, or a negative
  // errno number. `fd` is closed afterwards. Whoever uses the descriptor must be told.
  static int Relocate(int fd) noexcept;
  // Closes a listed descriptor and takes it off the list.
  static void Close(int fd) noexcept;
  // Takes it off the list without closing (it is gone already, or was handed to somebody else).
  static void Forget(int fd) noexcept;
  static bool Contains(int fd) noexcept;
  // Calls visit(fd, kind) for each, in no order.
  template <typename Visit>
  static void ForEach(Visit&& visit) {
    for (size_t i = 0, end = Extent(); i < end; ++i) {
      int fd;
      OwnedFdKind kind;
      if (At(i, &fd, &kind)) visit(fd, kind);
    }
  }
  // In the child of a fork: closes what belonged to the parent's threads.
  static void CloseInheritedEngines() noexcept;

 private:
  static size_t Extent() noexcept;
  static bool At(size_t index, int* fd, OwnedFdKind* kind) noexcept;
};

}  // namespace ustcp
