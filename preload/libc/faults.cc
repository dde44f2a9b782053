#include "preload/libc/faults.h"

#include <ucontext.h>

#include <atomic>
#include <cerrno>

#include "io/base/sys.h"
#include "preload/libc/real.h"
#include "preload/libc/signal_actions.h"
#include "stack/base/user_copy.h"

namespace ustcp::faults {

namespace {

using signals::Action;
using signals::Handler;
using signals::Wanted;

constexpr int kRestorer = 0x0400'0000;  // SA_RESTORER, which the C library adds to what it installs

std::atomic<bool> g_caught{false};
Action g_segv;
Action g_bus;

Action& ActionOf(int signal) { return signal == SIGSEGV ? g_segv : g_bus; }

uintptr_t AddressOf(sighandler_t handler) { return reinterpret_cast<uintptr_t>(handler); }

constexpr uint64_t Bit(int signal) { return uint64_t{1} << (signal - 1); }
constexpr uint64_t kBoth = Bit(SIGSEGV) | Bit(SIGBUS);

long ChangeMask(int how, const uint64_t* set, uint64_t* old) {
  return sys::Call(SYS_rt_sigprocmask, how, sys::Arg(set), sys::Arg(old), static_cast<long>(sys::kSignalSetBytes));
}

// Raised by the interrupted instruction, not sent by somebody.
bool RaisedHere(int signal, const siginfo_t* info) {
  return info->si_code > 0 && !(signal == SIGBUS && info->si_code == BUS_MCEERR_AO);
}

// The kernel's default, as if nothing had caught the signal: it stays blocked until this handler has returned, and is then
// delivered with the interrupted instruction as its place.
[[gnu::noinline]] void Default(int signal, siginfo_t* info) {
  uint64_t one = Bit(signal);
  ChangeMask(SIG_BLOCK, &one, nullptr);
  struct sigaction action = {};
  real::sigaction(signal, &action, nullptr);
  sys::Call(SYS_rt_tgsigqueueinfo, sys::Call(SYS_getpid), sys::Call(SYS_gettid), signal, sys::Arg(info));
}

// Sent by somebody, perhaps while the thread holds a lock.
[[gnu::noinline]] void PassOn(int signal, siginfo_t* info, void* context) {
  Action& action = ActionOf(signal);
  Wanted wanted = signals::Read(action);
  if ((wanted.flags & static_cast<int>(SA_RESETHAND)) != 0) action.handler.store(AddressOf(SIG_DFL));
  signals::Deliver(signal, wanted, info, context);
}

// Leaves no frame where the program's handler is called: a debugger, an unwinder see the program's only. So what needs room
// on the stack is done by functions of their own.
void OnFault(int signal, siginfo_t* info, void* context) {
  bool raised = RaisedHere(signal, info);
  if (raised) {
    greg_t& pc = static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP];
    if (uintptr_t next = UserCopyFixup(static_cast<uintptr_t>(pc)); next != 0) {
      pc = static_cast<greg_t>(next);
      return;
    }
  }
  Action& action = ActionOf(signal);
  const uintptr_t handler = action.handler.load(std::memory_order_acquire);
  if (handler == AddressOf(SIG_IGN) && !raised) return;
  if (handler == AddressOf(SIG_DFL) || handler == AddressOf(SIG_IGN)) return Default(signal, info);
  if (!raised) return PassOn(signal, info, context);
  if ((action.flags.load(std::memory_order_relaxed) & static_cast<int>(SA_RESETHAND)) != 0)
    action.handler.store(AddressOf(SIG_DFL));
  t_copy_carefully = true;  // the signal is blocked now
  return reinterpret_cast<Handler>(handler)(signal, info, context);
}

// The kernel sets up mask, stack and the rest for our handler as it would have for the program's.
int InstallOurs(int signal, const Wanted& wanted) {
  struct sigaction ours = {};
  ours.sa_sigaction = OnFault;
  ours.sa_flags = (wanted.flags & ~static_cast<int>(SA_RESETHAND)) | SA_SIGINFO;
  signals::PutMask(wanted.mask, ours.sa_mask);
  return real::sigaction(signal, &ours, nullptr);
}

// Calls visit(signal, wanted) for those of the two that the program ignores.
template <typename Visit>
void ForIgnored(Visit&& visit) {
  if (!g_caught.load(std::memory_order_acquire)) return;
  for (int signal : {SIGSEGV, SIGBUS}) {
    Wanted wanted = signals::Read(ActionOf(signal));
    if (wanted.handler == AddressOf(SIG_IGN)) visit(signal, wanted);
  }
}

size_t CopyUnblocked(void* to, const void* from, size_t n) noexcept {
  uint64_t both = kBoth;
  uint64_t before = 0;
  ChangeMask(SIG_UNBLOCK, &both, &before);
  size_t missing = ustcp_user_copy(to, from, n);
  if ((before & kBoth) != 0)
    ChangeMask(SIG_SETMASK, &before, nullptr);
  else
    t_copy_carefully = false;
  return missing;
}

}  // namespace

bool Caught(int signal) noexcept {
  return (signal == SIGSEGV || signal == SIGBUS) && g_caught.load(std::memory_order_acquire);
}

void Attach() noexcept {
  if (g_caught.load()) return;
  for (int signal : {SIGSEGV, SIGBUS}) {
    struct sigaction before;
    if (real::sigaction(signal, nullptr, &before) != 0) return;
    Wanted wanted = signals::WantedBy(before);
    signals::Store(ActionOf(signal), wanted);
    InstallOurs(signal, wanted);
  }
  g_careful_copy = CopyUnblocked;
  g_caught.store(true, std::memory_order_release);
}

int Install(int signal, const struct sigaction* wanted, struct sigaction* old) noexcept {
  Action& action = ActionOf(signal);
  Wanted before = signals::Read(action);
  if (wanted != nullptr) {
    Wanted now = signals::WantedBy(*wanted);
    now.flags |= kRestorer;
    signals::Store(action, now);
    if (InstallOurs(signal, now) != 0) return -1;
  }
  if (old != nullptr) {
    *old = {};
    old->sa_sigaction = reinterpret_cast<Handler>(before.handler);
    old->sa_flags = before.flags;
    signals::PutMask(before.mask, old->sa_mask);
  }
  return 0;
}

IgnoredOverExec::IgnoredOverExec() noexcept {
  ForIgnored([](int signal, const Wanted&) {
    struct sigaction action = {};
    action.sa_handler = SIG_IGN;
    real::sigaction(signal, &action, nullptr);
  });
}

IgnoredOverExec::~IgnoredOverExec() {
  int saved_errno = errno;
  ForIgnored([](int signal, const Wanted& wanted) { InstallOurs(signal, wanted); });
  errno = saved_errno;
}

}  // namespace ustcp::faults
