// Copies from and to memory of the program, which need not be there. A fault does not kill: whoever handles SIGSEGV and
// SIGBUS for the process (preload/libc/faults.cc) sends an instruction of these functions that faults to its fix-up, and
// the function says how much is missing. Elsewhere a fault is what it always is.
//
// As fast as memcpy: plain loads and stores, no system call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace ustcp {

extern "C" {
// Each returns the number of bytes that were not copied: those at the end.
size_t ustcp_user_copy(void* to, const void* from, size_t n) noexcept;
// Each returns whether the access faulted.
bool ustcp_user_put16(void* to, uint16_t value) noexcept;
bool ustcp_user_put32(void* to, uint32_t value) noexcept;
bool ustcp_user_put64(void* to, uint64_t value) noexcept;
bool ustcp_user_touch_read(const void* p) noexcept;
bool ustcp_user_touch_write(void* p) noexcept;
}

// Where to go on after a fault at `pc`; 0 when that is none of these functions.
uintptr_t UserCopyFixup(uintptr_t pc) noexcept;

// A thread for which a fault may be lethal all the same, because it blocks the signals, copies by way of the hook. Threads
// start like that; the hook says when it is not so.
extern constinit thread_local bool t_copy_carefully __attribute__((tls_model("initial-exec")));
extern size_t (*g_careful_copy)(void* to, const void* from, size_t n) noexcept;

inline size_t CopyUser(void* to, const void* from, size_t n) noexcept {
  if (t_copy_carefully) [[unlikely]]
    return g_careful_copy(to, from, n);
  return ustcp_user_copy(to, from, n);
}
inline size_t CopyFromUser(void* to, const void* from, size_t n) noexcept { return CopyUser(to, from, n); }
inline size_t CopyToUser(void* to, const void* from, size_t n) noexcept { return CopyUser(to, from, n); }

// One value. False: a fault.
template <typename T>
bool GetUser(T& to, const T* from) noexcept {
  static_assert(std::is_trivially_copyable_v<T>);
  return CopyFromUser(&to, from, sizeof to) == 0;
}
template <typename T>
bool PutUser(T* to, const T& value) noexcept {
  static_assert(std::is_trivially_copyable_v<T>);
  if constexpr (std::is_integral_v<T> && sizeof(T) >= 2) {
    if (!t_copy_carefully) [[likely]] {
      if constexpr (sizeof(T) == 2) return !ustcp_user_put16(to, static_cast<uint16_t>(value));
      if constexpr (sizeof(T) == 4) return !ustcp_user_put32(to, static_cast<uint32_t>(value));
      if constexpr (sizeof(T) == 8) return !ustcp_user_put64(to, static_cast<uint64_t>(value));
    }
  }
  return CopyToUser(to, &value, sizeof value) == 0;
}

// Asks for every page of [p, p + n), which brings those in that are not there. False: at one there is none.
bool TouchUser(const void* p, size_t n, bool to_write) noexcept;

// The program's half of the addresses, as the kernel's access_ok: what lies beyond is refused before anything is done.
inline bool InUserSpace(const void* p, size_t n) noexcept {
  constexpr uintptr_t kEnd = 0x7fff'ffff'f000;
  auto at = reinterpret_cast<uintptr_t>(p);
  return n <= kEnd && at <= kEnd - n;
}

}  // namespace ustcp
