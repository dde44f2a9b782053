// Calls made through syscall(). The numbers that concern descriptors of ours, and the processes that share them, come down
// to the interposed calls; what differs is told apart here: the kernel's forms of arguments, and that syscall() is never a
// cancellation point. Everything else, and every descriptor that is not ours, goes to the kernel as it came.
#pragma once

#include <pthread.h>

#include <cstddef>
#include <type_traits>
#include <utility>

#include "preload/calls/parts.h"
#include "preload/descriptors/fd_table.h"
#include "preload/libc/real.h"

namespace ustcp::raw {

// The six arguments of a call; the result as syscall() gives it (-1 and errno).
using Handler = long (*)(long, long, long, long, long, long);

inline constexpr size_t kNumbers = 512;

inline bool Attached() noexcept { return g_own_process.load(std::memory_order_relaxed) != nullptr; }

inline bool IsOurs(long fd) noexcept { return fd_table::Load(static_cast<int>(fd)) != 0; }

template <typename T>
T As(long value) noexcept {
  return (T)value;  // NOLINT: integers and pointers alike
}

template <long Number>
long ToKernel(long a, long b, long c, long d, long e, long f) noexcept {
  return real::Bare<long>(Number, a, b, c, d, e, f);
}

// The interposed calls are cancellation points.
class NotCancelled {
 public:
  NotCancelled() noexcept { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_); }
  ~NotCancelled() { pthread_setcancelstate(before_, nullptr); }
  NotCancelled(const NotCancelled&) = delete;
  NotCancelled& operator=(const NotCancelled&) = delete;

 private:
  int before_ = PTHREAD_CANCEL_ENABLE;
};

template <typename R, bool kNoexcept, typename... A>
long Invoke(R (*function)(A...) noexcept(kNoexcept), const long (&v)[6]) noexcept {
  NotCancelled guard;
  return [&]<size_t... I>(std::index_sequence<I...>) { return static_cast<long>(function(As<A>(v[I])...)); }
  (std::index_sequence_for<A...>{});
}

// An interposed call whose arguments are the kernel's.
template <auto kFunction>
long Invoked(long a, long b, long c, long d, long e, long f) noexcept {
  return Invoke(kFunction, {a, b, c, d, e, f});
}

// The same, where it is of interest only to a process that may have sockets.
template <long Number, auto kFunction>
long WhenAttached(long a, long b, long c, long d, long e, long f) noexcept {
  if (!Attached()) return ToKernel<Number>(a, b, c, d, e, f);
  return Invoke(kFunction, {a, b, c, d, e, f});
}

// The same, where only a descriptor of ours is of interest: argument kFirst, or kSecond.
template <long Number, auto kFunction, int kFirst = 0, int kSecond = kFirst>
long WhenOurs(long a, long b, long c, long d, long e, long f) noexcept {
  const long v[6] = {a, b, c, d, e, f};
  if (!IsOurs(v[kFirst]) && !IsOurs(v[kSecond])) return ToKernel<Number>(a, b, c, d, e, f);
  return Invoke(kFunction, v);
}

// The kernel's alone, but for the number that it returns.
template <long Number>
long ReturnsDescriptor(long a, long b, long c, long d, long e, long f) noexcept {
  return Returned(static_cast<int>(ToKernel<Number>(a, b, c, d, e, f)));
}

// Two of them, at argument kAt.
template <long Number, int kAt>
long ReturnsPair(long a, long b, long c, long d, long e, long f) noexcept {
  const long v[6] = {a, b, c, d, e, f};
  return ReturnedPair(static_cast<int>(ToKernel<Number>(a, b, c, d, e, f)), As<const int*>(v[kAt]));
}

// In descriptors.cc, waiting.cc, process.cc and signals.cc.
long Close(long fd, long, long, long, long, long) noexcept;
long Fcntl(long fd, long command, long argument, long, long, long) noexcept;
long Ioctl(long fd, long request, long argument, long, long, long) noexcept;
long Accept(long fd, long address, long length, long, long, long) noexcept;
long Accept4(long fd, long address, long length, long flags, long, long) noexcept;
long Recvmsg(long fd, long message, long flags, long, long, long) noexcept;
long Recvmmsg(long fd, long messages, long count, long flags, long timeout, long) noexcept;
long Kcmp(long one, long other, long type, long first, long second, long) noexcept;
long IoUringSetup(long entries, long params, long, long, long, long) noexcept;
long Preadv2(long fd, long iov, long count, long low, long high, long flags) noexcept;
long Pwritev2(long fd, long iov, long count, long low, long high, long flags) noexcept;
long Poll(long fds, long n, long timeout, long, long, long) noexcept;
long Ppoll(long fds, long n, long timeout, long mask, long mask_bytes, long) noexcept;
long Select(long n, long in, long out, long except, long timeout, long) noexcept;
long Pselect6(long n, long in, long out, long except, long timeout, long mask) noexcept;
long EpollPwait(long epfd, long events, long max, long timeout, long mask, long mask_bytes) noexcept;
long EpollPwait2(long epfd, long events, long max, long timeout, long mask, long mask_bytes) noexcept;
long Fork(long, long, long, long, long, long) noexcept;
long Clone(long flags, long stack, long parent, long child, long tls, long) noexcept;
long Clone3(long how, long bytes, long, long, long, long) noexcept;
long Exit(long status, long, long, long, long, long) noexcept;
long ExitGroup(long status, long, long, long, long, long) noexcept;
long Setuid(long user, long, long, long, long, long) noexcept;
long Setreuid(long real_user, long user, long, long, long, long) noexcept;
long Setresuid(long real_user, long user, long saved, long, long, long) noexcept;
long ChangeMask(long how, long set, long old, long mask_bytes, long, long) noexcept;
long Sigaction(long signal, long wanted, long old, long mask_bytes, long, long) noexcept;

}  // namespace ustcp::raw
