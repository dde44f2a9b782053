// The C library's own calls behind the interposed ones, as typed function objects: real::read(fd, p, n).
//
// Usable at any time: before our constructor, from other constructors, from an allocator that runs inside dlsym. Each is
// looked up when it is first used (dlsym, RTLD_NEXT: another preloaded object behind us gets its turn); while that is not
// possible, or when this C library does not have the call, the bare system call stands in. Never allocates by itself.
#pragma once

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <type_traits>

#include "io/base/sys.h"

struct io_uring;
struct io_uring_params;

namespace ustcp::real {

enum class Symbol : uint16_t {
#define USTCP_CALL(result, name, parameters, exception, number) k_##name,
#define USTCP_VARIADIC(result, name, parameters, exception, number) k_##name,
#define USTCP_EXEC(result, name, parameters, exception)
#define USTCP_ALIAS(target, name)
#include "preload/calls/calls.def"
#undef USTCP_CALL
#undef USTCP_VARIADIC
#undef USTCP_EXEC
#undef USTCP_ALIAS
  kCount
};

extern std::atomic<void*> g_pointers[static_cast<size_t>(Symbol::kCount)];

// Looks the call up and remembers it. Null when that is not possible (now, or at all).
void* Resolve(Symbol symbol) noexcept;

inline void* Pointer(Symbol symbol) noexcept {
  void* p = g_pointers[static_cast<size_t>(symbol)].load(std::memory_order_relaxed);
  return __builtin_expect(p != nullptr, 1) ? p : Resolve(symbol);
}

template <typename T>
long AsLong(T value) noexcept {
  return (long)value;  // NOLINT: integers and pointers alike
}

template <typename R, typename... A>
R Bare(long number, A... arguments) noexcept {
  long result = -ENOSYS;
  if (number >= 0) {
    if constexpr (sizeof...(A) <= 6) result = sys::Call(number, AsLong(arguments)...);
  }
  if constexpr (std::is_void_v<R>) {
    return;
  } else if constexpr (std::is_pointer_v<R>) {
    errno = ENOSYS;
    return nullptr;
  } else {
    if (result < 0 && result >= -4095) {
      errno = static_cast<int>(-result);
      return (R)-1;
    }
    return (R)result;
  }
}

template <Symbol S, long Number, typename Signature>
struct Call;

template <Symbol S, long Number, typename R, typename... A>
struct Call<S, Number, R(A...)> {
  R operator()(A... arguments) const {
    void* p = Pointer(S);
    if (__builtin_expect(p == nullptr, 0)) return Bare<R>(Number, arguments...);
    return reinterpret_cast<R (*)(A...)>(p)(arguments...);
  }
};

template <Symbol S, long Number, typename R, typename... A>
struct Call<S, Number, R(A..., ...)> {
  R operator()(A... arguments, void* last) const {
    void* p = Pointer(S);
    if (__builtin_expect(p == nullptr, 0)) return Bare<R>(Number, arguments..., last);
    return reinterpret_cast<R (*)(A..., ...)>(p)(arguments..., last);
  }
};

#define USTCP_CALL(result, name, parameters, exception, number) \
  inline constexpr Call<Symbol::k_##name, number, result parameters> name;
#define USTCP_VARIADIC(result, name, parameters, exception, number) \
  inline constexpr Call<Symbol::k_##name, number, result parameters> name;
#define USTCP_EXEC(result, name, parameters, exception)
#define USTCP_ALIAS(target, name)
#include "preload/calls/calls.def"
#undef USTCP_CALL
#undef USTCP_VARIADIC
#undef USTCP_EXEC
#undef USTCP_ALIAS

}  // namespace ustcp::real
