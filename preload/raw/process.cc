// Processes made, ended and changed through syscall(). A child without the parent's memory is a fork, whatever else it
// shares or has of its own: with CLONE_FILES, too, it gets a table, since it cannot see what its parent writes into ours.
// What one of the two then closes is gone for the other, which notices as of any call that it did not see.
#include <linux/sched.h>
#include <unistd.h>

#include "preload/calls/parts.h"
#include "preload/libc/thread_identity.h"
#include "preload/raw/raw_call.h"
#include "preload/runtime/membership.h"
#include "preload/runtime/runtime.h"
#include "preload/transfer/translate.h"

namespace ustcp::raw {
namespace {

struct HowToFork {
  long number;
  long arguments[5];
  ThreadIdentity thread;
};

pid_t Make(const void* how) noexcept {
  const auto& h = *static_cast<const HowToFork*>(how);
  const auto& a = h.arguments;
  auto child = static_cast<pid_t>(real::Bare<long>(h.number, a[0], a[1], a[2], a[3], a[4]));
  if (child == 0) h.thread.RenewInChild();
  return child;
}

long ForkBy(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0) noexcept {
  HowToFork how{number, {a, b, c, d, e}, {}};
  return ForkWithTable(Make, &how);
}

}  // namespace

long Fork(long, long, long, long, long, long) noexcept { return ForkBy(SYS_fork); }

long Clone(long flags, long stack, long parent, long child, long tls, long) noexcept {
  return ForkBy(SYS_clone, flags, stack, parent, child, tls);
}

long Clone3(long how, long bytes, long, long, long, long) noexcept { return ForkBy(SYS_clone3, how, bytes); }

long Exit(long status, long, long, long, long, long) noexcept {
  runtime::LeaveQueue();
  return ToKernel<SYS_exit>(status, 0, 0, 0, 0, 0);
}

long ExitGroup(long status, long, long, long, long, long) noexcept {
  runtime::LeaveQueue();
  return ToKernel<SYS_exit_group>(status, 0, 0, 0, 0, 0);
}

// The calling thread alone changes, unlike with the C library's calls.
long Setuid(long user, long, long, long, long, long) noexcept {
  BeforeUserChanges(static_cast<uid_t>(user));
  return ToKernel<SYS_setuid>(user, 0, 0, 0, 0, 0);
}

long Setreuid(long real_user, long user, long, long, long, long) noexcept {
  BeforeUserChanges(static_cast<uid_t>(user));
  return ToKernel<SYS_setreuid>(real_user, user, 0, 0, 0, 0);
}

long Setresuid(long real_user, long user, long saved, long, long, long) noexcept {
  BeforeUserChanges(static_cast<uid_t>(user));
  return ToKernel<SYS_setresuid>(real_user, user, saved, 0, 0, 0);
}

}  // namespace ustcp::raw

// Asked by entry.cc. A structure that the kernel would refuse is left to it.
extern "C" __attribute__((visibility("hidden"), used)) bool ustcp_raw_clone3_forks(const clone_args* how,
                                                                                   size_t bytes) noexcept {
  clone_args given = {};
  if (bytes < CLONE_ARGS_SIZE_VER0) return false;
  if (ustcp::CopyFromUser(&given, how, CLONE_ARGS_SIZE_VER0) != 0) return false;
  return (given.flags & (CLONE_VM | CLONE_THREAD)) == 0 && given.stack == 0;
}
