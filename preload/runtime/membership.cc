// Attaching, fork and its relatives.
//
// fork is prepared and finished by pthread_atfork handlers, so that forks from inside the C library (daemon, forkpty) are
// covered; the interposed fork adds what a handler cannot know: whether it failed. Being registered early, ours run last
// before the fork and first after it: the program's own handlers find a working stack.
#include "preload/runtime/membership.h"

#include <pthread.h>
#include <sys/wait.h>

#include <cstdlib>
#include <cstring>

#include "io/base/report.h"
#include "io/base/trusted_file.h"
#include "preload/calls/interpose.h"
#include "preload/descriptors/stale.h"
#include "preload/libc/signals.h"
#include "preload/libc/stdio_streams.h"
#include "preload/runtime/kernel_sleepers.h"
#include "preload/runtime/program_uring.h"
#include "preload/runtime/runtime.h"

using namespace ustcp;

namespace {

// Of the fork that is going on; written by the forking thread under the table's lock.
int g_child_slot = -1;
// In the thread that called the interposed fork: the parent's handler leaves the rest to it.
thread_local bool t_in_fork = false;

void BeforeFork() {
  int error = 0;
  stale::LookAtAll();
  g_child_slot = fd_table::PrepareFork(&error);
  if (error != 0)
    ReportLine("ustcp: fork: the host has no room for another process (%s); the child lacks sockets", ErrorName(error));
  if (runtime::AttachedHost() != nullptr) runtime::BeforeFork();
}

void AfterForkInParent() {
  if (runtime::AttachedHost() != nullptr) runtime::AfterForkParent();
  if (!t_in_fork) fd_table::FinishForkParent();
}

void AfterForkInChild() {
  runtime::ForgetKernelSleepers();
  if (runtime::AttachedHost() == nullptr) return;
  runtime::AfterForkChild(g_child_slot);
  fd_table::FinishForkChild(g_child_slot);
}

// Ends what PrepareFork began, in the parent, knowing how the fork went.
pid_t FinishInParent(pid_t child, int fork_errno) {
  if (child > 0) {
    fd_table::FinishForkParent();
  } else {
    fd_table::FinishForkFailed(g_child_slot);
    errno = fork_errno;
  }
  return child;
}

}  // namespace

namespace {

int AttachProcess(bool quiet) noexcept {
  signals::Section section;
  int error = 0;
  if (runtime::AttachOrFail(&error, quiet) == nullptr) return error;
  static std::atomic_flag registered = ATOMIC_FLAG_INIT;
  // fork() runs these handlers, _Fork() does not.
  if (!registered.test_and_set()) pthread_atfork(BeforeFork, AfterForkInParent, AfterForkInChild);
  signals::Attach();
  fd_table::Use(runtime::OwnProcess());
  program_uring::Attached();
  return 0;
}

bool Attached() { return g_own_process.load(std::memory_order_acquire) != nullptr; }

}  // namespace

int ustcp::EnsureAttached() noexcept { return __builtin_expect(Attached(), 1) ? 0 : AttachProcess(false); }

bool ustcp::TakesPart() noexcept { return Attached() || !StartedWithMoreRights(); }

void ustcp::AttachQuietly() noexcept {
  if (!Attached() && TakesPart()) (void)AttachProcess(true);
}

namespace {

// What such a program starts may have its rights and not be known by them any more (it became that user for good). The
// linker takes LD_PRELOAD and its like out of the environment for the same reason.
void ForgetOurVariables() {
  char** kept = environ;
  for (char** at = environ; at != nullptr && *at != nullptr; ++at)
    if (strncmp(*at, "USTCP_", 6) != 0) *kept++ = *at;
  if (kept != nullptr) *kept = nullptr;
}

// After exec: the table of this process is in the arena already. Descriptors that were close-on-exec are gone, as if closed
// by a call that was not seen.
__attribute__((constructor)) void TakeUpInheritance() {
  if (!TakesPart()) return ForgetOurVariables();
  const char* inherit = getenv(kInheritVariable);
  if (inherit == nullptr) return;
  char* rest = nullptr;
  bool own = strtol(inherit, &rest, 10) == sys::Call(SYS_getpid);
  if (own && *rest == ' ') runtime::UseKeeperAt(rest + 1);
  unsetenv(kInheritVariable);
  if (!own || EnsureAttached() != 0) return;
  fd_table::DropLostHolds();
  stale::LookAtAll();
  AdoptStandardStreams();
}

}  // namespace

USTCP_EXPORT pid_t fork() noexcept {
  if (g_own_process.load(std::memory_order_relaxed) == nullptr) {
    pid_t child = real::fork();
    if (child == 0) runtime::ForgetKernelSleepers();
    return child;
  }
  t_in_fork = true;
  pid_t child = real::fork();
  t_in_fork = false;
  return child == 0 ? 0 : FinishInParent(child, errno);
}
USTCP_ALIAS_OF(fork, __fork);
// A child of vfork shares our memory while it closes and duplicates descriptors: it would change the parent's table.
USTCP_ALIAS_OF(fork, vfork);
USTCP_ALIAS_OF(fork, __vfork);

// Children of servers that fork end this way, past every destructor.
USTCP_EXPORT void _exit(int status) {
  runtime::LeaveQueue();
  for (;;) real::_exit(status);
}

USTCP_EXPORT void _Exit(int status) noexcept { _exit(status); }

USTCP_EXPORT pid_t _Fork() noexcept {
  return ForkWithTable([](const void*) noexcept { return real::_Fork(); }, nullptr);
}

void ustcp::FinishForkInChild() noexcept {
  if (Attached()) AfterForkInChild();
}

pid_t ustcp::ForkWithTable(pid_t (*make)(const void* how) noexcept, const void* how) noexcept {
  if (!Attached()) return make(how);
  BeforeFork();
  pid_t child = make(how);
  if (child == 0) {
    AfterForkInChild();
    return 0;
  }
  int fork_errno = errno;
  runtime::AfterForkParent();
  return FinishInParent(child, fork_errno);
}
