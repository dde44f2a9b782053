// The calls that change a thread's signal mask. They are the C library's; a thread that blocks SIGSEGV or SIGBUS is to be
// known, since a fault would then kill it (faults.h).
#include "preload/calls/interpose.h"
#include "preload/libc/signal_actions.h"

using namespace ustcp;

namespace {

constexpr uint64_t kFaults = uint64_t{1} << (SIGSEGV - 1) | uint64_t{1} << (SIGBUS - 1);

void Note(int how, const sigset_t* set) {
  if (set != nullptr && how != SIG_UNBLOCK && (signals::MaskOf(*set) & kFaults) != 0) t_copy_carefully = true;
}

}  // namespace

USTCP_EXPORT int sigprocmask(int how, const sigset_t* set, sigset_t* old) noexcept {
  int result = real::sigprocmask(how, set, old);
  if (result == 0) Note(how, set);
  return result;
}

USTCP_EXPORT int pthread_sigmask(int how, const sigset_t* set, sigset_t* old) noexcept {
  int error = real::pthread_sigmask(how, set, old);
  if (error == 0) Note(how, set);
  return error;
}

// The old ones.
USTCP_EXPORT int sighold(int signal) noexcept {
  t_copy_carefully = true;
  return real::sighold(signal);
}

USTCP_EXPORT int sigblock(int mask) noexcept {
  t_copy_carefully = true;
  return real::sigblock(mask);
}

USTCP_EXPORT int sigsetmask(int mask) noexcept {
  t_copy_carefully = true;
  return real::sigsetmask(mask);
}
