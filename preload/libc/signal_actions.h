// What the program asked for when it installed a handler behind which one of ours stands. Shared by signals.cc and
// faults.cc only.
#pragma once

#include <signal.h>

#include <atomic>
#include <cstdint>
#include <cstring>

namespace ustcp::signals {

using Handler = void (*)(int, siginfo_t*, void*);

struct Wanted {
  uintptr_t handler;
  int flags;
  uint64_t mask;
};

// Words, since a handler may look at any time.
struct Action {
  std::atomic<uintptr_t> handler{0};
  std::atomic<int> flags{0};
  std::atomic<uint64_t> mask{0};
};

// The kernel's part of a signal set.
inline uint64_t MaskOf(const sigset_t& set) noexcept {
  uint64_t mask;
  std::memcpy(&mask, &set, sizeof mask);
  return mask;
}
inline void PutMask(uint64_t mask, sigset_t& set) noexcept { std::memcpy(&set, &mask, sizeof mask); }

inline Wanted WantedBy(const struct sigaction& action) noexcept {
  return {reinterpret_cast<uintptr_t>(action.sa_sigaction), action.sa_flags, MaskOf(action.sa_mask)};
}
inline Wanted Read(const Action& action) noexcept {
  return {action.handler.load(std::memory_order_acquire), action.flags.load(std::memory_order_relaxed),
          action.mask.load(std::memory_order_relaxed)};
}
inline void Store(Action& action, const Wanted& wanted) noexcept {
  action.mask.store(wanted.mask);
  action.flags.store(wanted.flags);
  action.handler.store(wanted.handler);
}

// Runs the program's handler, or notes it for when the thread has left the stack.
void Deliver(int signal, const Wanted& wanted, siginfo_t* info, void* context) noexcept;

}  // namespace ustcp::signals
