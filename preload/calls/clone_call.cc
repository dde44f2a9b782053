// clone() of the C library: a child that begins with a function of its own. Without the parent's memory it is a fork.
#include <dlfcn.h>
#include <linux/sched.h>

#include <cstdarg>

#include "preload/calls/interpose.h"
#include "preload/libc/thread_identity.h"
#include "preload/runtime/membership.h"

using namespace ustcp;

namespace {

using Begin = int (*)(void*);
using Clone = int (*)(Begin, void*, int, void*, ...);

Clone Real() {
  static std::atomic<Clone> known{nullptr};
  Clone clone = known.load(std::memory_order_relaxed);
  if (clone == nullptr) {
    clone = reinterpret_cast<Clone>(dlsym(RTLD_NEXT, "clone"));
    known.store(clone, std::memory_order_relaxed);
  }
  return clone;
}

struct Child {
  Begin begin;
  void* stack;
  int flags;
  void* argument;
  void* more[3];  // where to put the parent's number, thread-local storage, where to put the child's
  ThreadIdentity thread;
};

// In the child, with a copy of what the parent had.
int BeginChild(void* child) {
  const auto& c = *static_cast<const Child*>(child);
  c.thread.RenewInChild();
  FinishForkInChild();
  return c.begin(c.argument);
}

pid_t Make(const void* child) noexcept {
  const auto& c = *static_cast<const Child*>(child);
  return Real()(BeginChild, c.stack, c.flags, const_cast<void*>(child), c.more[0], c.more[1], c.more[2]);
}

}  // namespace

USTCP_EXPORT int clone(Begin begin, void* stack, int flags, void* argument, ...) noexcept {
  va_list rest;
  va_start(rest, argument);
  void* more[3];
  for (void*& each : more) each = va_arg(rest, void*);
  va_end(rest);
  if (Real() == nullptr) {
    errno = ENOSYS;
    return -1;
  }
  // A vfork() with a stack of its own: the child closes descriptors and execs, and would do so in its parent's table. A fork
  // it is, as vfork() itself.
  constexpr int kOfVfork = CLONE_VM | CLONE_VFORK;
  if ((flags & (kOfVfork | CLONE_FILES | CLONE_THREAD)) == kOfVfork && g_own_process.load() != nullptr)
    flags &= ~kOfVfork;
  if ((flags & CLONE_VM) != 0 || begin == nullptr || stack == nullptr)
    return Real()(begin, stack, flags, argument, more[0], more[1], more[2]);
  Child child{begin, stack, flags, argument, {more[0], more[1], more[2]}, {}};
  return ForkWithTable(Make, &child);
}
USTCP_ALIAS_OF(clone, __clone);
