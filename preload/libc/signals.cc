#include "preload/libc/signals.h"

#include <ucontext.h>

#include <cstring>

#include "preload/calls/interpose.h"
#include "preload/libc/faults.h"
#include "preload/libc/signal_actions.h"
#include "preload/runtime/runtime.h"
#include "stack/base/user_copy.h"

namespace ustcp::signals {

namespace {

constexpr int kSignals = 65;
constexpr int kMaxDeferred = 4;  // a second one comes only while the first is being noted; see Trampoline

constexpr uint64_t Bit(int signal) { return uint64_t{1} << (signal - 1); }
constexpr uint64_t kSynchronous =
    Bit(SIGSEGV) | Bit(SIGBUS) | Bit(SIGFPE) | Bit(SIGILL) | Bit(SIGTRAP) | Bit(SIGSYS) | Bit(SIGABRT);
constexpr uint64_t kOfGlibc = Bit(32) | Bit(33);
constexpr uint64_t kLeftAlone = kSynchronous | kOfGlibc;  // two of them once they are caught: see faults.h

bool Wrapped(int signal) { return signal > 0 && signal < kSignals && (kLeftAlone & Bit(signal)) == 0; }

void SetThreadMask(uint64_t mask) {
  sys::Call(SYS_rt_sigprocmask, SIG_SETMASK, sys::Arg(&mask), 0, static_cast<long>(sys::kSignalSetBytes));
}

Action g_actions[kSignals];

struct Deferred {
  int signal;
  int flags;
  uintptr_t handler;
  uint64_t mask;
  siginfo_t info;
};

struct Thread {
  int depth;     // Sections
  int sleeping;  // Sleeping
  int noting;    // trampolines that are putting a signal off
  int count;
  uint32_t handlers;
  uint32_t interrupting;
  uint32_t call_began;  // `handlers` at the beginning of the present call
  std::atomic<uint32_t>* sleep_word;
  uint64_t restore_mask;  // of the code that was interrupted first
  Deferred queue[kMaxDeferred];
};
thread_local Thread t_thread;

// The handler's own calls count for themselves, and its mask is not that of the code it interrupts. Handlers of one
// argument ignore the others.
void RunHandler(Thread& t, uintptr_t handler, int signal, siginfo_t* info, void* context) {
  uint32_t call_began = t.call_began;
  std::atomic<uint32_t>* sleep_word = t.sleep_word;
  int sleeping = t.sleeping;
  bool carefully = t_copy_carefully;
  t.sleeping = 0;
  t_copy_carefully = true;
  reinterpret_cast<Handler>(handler)(signal, info, context);
  t_copy_carefully = carefully;
  t.sleeping = sleeping;
  t.call_began = call_began;
  t.sleep_word = sleep_word;
}

void Trampoline(int signal, siginfo_t* info, void* context) { Deliver(signal, Read(g_actions[signal]), info, context); }

// The program's view of what is installed.
void Translate(struct sigaction* shown, uintptr_t handler, int flags) {
  if (shown->sa_sigaction != Trampoline) return;
  shown->sa_sigaction = reinterpret_cast<Handler>(handler);
  if ((flags & SA_SIGINFO) == 0) shown->sa_flags &= ~SA_SIGINFO;
}

}  // namespace

void Deliver(int signal, const Wanted& wanted, siginfo_t* info, void* context) noexcept {
  Thread& t = t_thread;
  int flags = wanted.flags;
  uintptr_t handler = wanted.handler;
  ++t.handlers;
  if ((flags & SA_RESTART) == 0) ++t.interrupting;
  if (t.sleep_word != nullptr) t.sleep_word->fetch_add(1);

  bool later = t.depth > 0 || runtime::InsideStack() || (t.sleeping > 0 && (flags & SA_ONSTACK) == 0);
  if (later && t.count < kMaxDeferred) {
    // Until the handlers have run, everything else stays blocked, so at most the few signals that interrupt this very
    // code are noted, and the kernel keeps (and merges) the rest as it does for any blocked signal. A trampoline that
    // interrupts this one finds a mask that is not the program's: only the outermost one's counts.
    bool outermost = t.noting++ == 0;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    Deferred& d = t.queue[t.count++];
    d.signal = signal;
    d.flags = flags;
    d.handler = handler;
    d.mask = wanted.mask;
    d.info = *info;
    auto* interrupted = static_cast<ucontext_t*>(context);
    if (outermost) t.restore_mask = MaskOf(interrupted->uc_sigmask);
    PutMask(~kLeftAlone, interrupted->uc_sigmask);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    --t.noting;
    return;
  }
  RunHandler(t, handler, signal, info, context);
}

void Enter() noexcept {
  ++t_thread.depth;
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

void Leave() noexcept {
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (--t_thread.depth == 0 && t_thread.count > 0) RunDeferred();
}

void Sleeping::Enter() noexcept {
  ++t_thread.sleeping;
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

void Sleeping::Leave() noexcept {
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (--t_thread.sleeping == 0 && t_thread.count > 0) RunDeferred();
}

void Attach() noexcept {
  runtime::g_after_unlock = RunDeferred;
  faults::Attach();
}

Mark Count() noexcept { return {t_thread.handlers, t_thread.interrupting}; }

void BeginCall() noexcept { t_thread.call_began = t_thread.handlers; }

bool HandlerRanInCall() noexcept { return t_thread.handlers != t_thread.call_began || t_thread.count > 0; }

void SetSleepWord(std::atomic<uint32_t>* word) noexcept { t_thread.sleep_word = word; }

void RunDeferred() noexcept {
  Thread& t = t_thread;
  if (__builtin_expect(t.count == 0, 1) || t.depth > 0 || t.sleeping > 0 || runtime::InsideStack()) return;
  // All signals are blocked here (the trampoline saw to that).
  Deferred pending[kMaxDeferred];
  int count = t.count;
  std::memcpy(pending, t.queue, sizeof(Deferred) * static_cast<size_t>(count));
  t.count = 0;
  uint64_t restore = t.restore_mask;
  int saved_errno = errno;
  for (int i = 0; i < count; ++i) {
    Deferred& d = pending[i];
    // The context of the interruption is gone; handlers that look at it get the present one.
    ucontext_t context;
    getcontext(&context);
    PutMask(restore, context.uc_sigmask);
    SetThreadMask(restore | d.mask | ((d.flags & SA_NODEFER) != 0 ? 0 : Bit(d.signal)));
    RunHandler(t, d.handler, d.signal, &d.info, &context);
  }
  SetThreadMask(restore);
  errno = saved_errno;
}

int Install(int signal, const struct sigaction* wanted, struct sigaction* old) noexcept {
  if (faults::Caught(signal)) return faults::Install(signal, wanted, old);
  if (!Wrapped(signal)) return real::sigaction(signal, wanted, old);
  Action& action = g_actions[signal];
  const Wanted before = Read(action);
  struct sigaction ours;
  const struct sigaction* use = wanted;
  if (wanted != nullptr && wanted->sa_handler != SIG_DFL && wanted->sa_handler != SIG_IGN) {
    ours = *wanted;
    ours.sa_sigaction = Trampoline;
    ours.sa_flags |= SA_SIGINFO;
    use = &ours;
    // First, so that a signal that comes right after the installation finds them.
    Store(action, WantedBy(*wanted));
  }
  int result = real::sigaction(signal, use, old);
  if (result != 0 && use == &ours) Store(action, before);
  if (result == 0 && old != nullptr) Translate(old, before.handler, before.flags);
  return result;
}

}  // namespace ustcp::signals

using namespace ustcp;

namespace {

// Signals for which siginterrupt(signal, 1) was called: signal() then installs without SA_RESTART.
std::atomic<uint64_t> g_interrupting_signals{0};

uint64_t SignalBit(int signal) { return signal > 0 && signal < 65 ? uint64_t{1} << (signal - 1) : 0; }

sighandler_t InstallSimple(int signal, sighandler_t handler, int flags, bool block_itself) {
  if (handler == SIG_ERR || signal < 1 || signal > 64) {
    errno = EINVAL;
    return SIG_ERR;
  }
  struct sigaction action = {};
  struct sigaction old;
  action.sa_handler = handler;
  action.sa_flags = flags;
  if (block_itself) sigaddset(&action.sa_mask, signal);
  return sigaction(signal, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
}

}  // namespace

USTCP_EXPORT int sigaction(int signal, const struct sigaction* wanted, struct sigaction* old) noexcept {
  return signals::Install(signal, wanted, old);
}
USTCP_ALIAS_OF(sigaction, __sigaction);

USTCP_EXPORT sighandler_t signal(int signal, sighandler_t handler) noexcept {
  bool interrupting = (g_interrupting_signals.load() & SignalBit(signal)) != 0;
  return InstallSimple(signal, handler, interrupting ? 0 : SA_RESTART, true);
}
USTCP_ALIAS_OF(signal, bsd_signal);
USTCP_ALIAS_OF(signal, ssignal);

USTCP_EXPORT sighandler_t sysv_signal(int signal, sighandler_t handler) noexcept {
  return InstallSimple(signal, handler, static_cast<int>(SA_RESETHAND | SA_NODEFER), false);
}
USTCP_ALIAS_OF(sysv_signal, __sysv_signal);

USTCP_EXPORT int siginterrupt(int signal, int interrupt) noexcept {
  struct sigaction action;
  if (sigaction(signal, nullptr, &action) != 0) return -1;
  if (interrupt != 0) {
    g_interrupting_signals.fetch_or(SignalBit(signal));
    action.sa_flags &= ~SA_RESTART;
  } else {
    g_interrupting_signals.fetch_and(~SignalBit(signal));
    action.sa_flags |= SA_RESTART;
  }
  return sigaction(signal, &action, nullptr);
}

USTCP_EXPORT sighandler_t sigset(int signal, sighandler_t disposition) noexcept {
  sigset_t one;
  sigset_t before;
  sigemptyset(&one);
  if (sigaddset(&one, signal) != 0) return SIG_ERR;
  struct sigaction old;
  if (disposition == SIG_HOLD) {
    if (sigprocmask(SIG_BLOCK, &one, &before) != 0 || sigaction(signal, nullptr, &old) != 0) return SIG_ERR;
  } else {
    struct sigaction action = {};
    action.sa_handler = disposition;
    if (sigaction(signal, &action, &old) != 0 || sigprocmask(SIG_UNBLOCK, &one, &before) != 0) return SIG_ERR;
  }
  return sigismember(&before, signal) == 1 ? SIG_HOLD : old.sa_handler;
}

USTCP_EXPORT int sigignore(int signal) noexcept {
  struct sigaction action = {};
  action.sa_handler = SIG_IGN;
  return sigaction(signal, &action, nullptr);
}
