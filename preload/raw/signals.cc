// rt_sigprocmask, and rt_sigaction: the kernel's structure instead of the C library's. Handlers are installed behind ours like all others.
#include <csignal>
#include <cstring>

#include "preload/raw/raw_call.h"
#include "preload/transfer/translate.h"

namespace ustcp::raw {
namespace {

struct KernelAction {
  void (*handler)(int);
  unsigned long flags;
  void (*restorer)();
  uint64_t mask;
};

constexpr unsigned long kHasRestorer = 0x0400'0000;  // SA_RESTORER, in no header of the C library's

// Those the C library keeps for itself, and refuses to give: its own calls to the kernel are not seen here either.
bool IsForKernel(long signal) { return signal < 1 || signal > 64 || signal == 32 || signal == 33; }

}  // namespace

// Whatever it says: the next copy asks (preload/libc/faults.h).
long ChangeMask(long how, long set, long old, long mask_bytes, long, long) noexcept {
  t_copy_carefully = true;
  return ToKernel<SYS_rt_sigprocmask>(how, set, old, mask_bytes, 0, 0);
}

long Sigaction(long signal, long wanted, long old, long mask_bytes, long, long) noexcept {
  KernelAction action;
  if (IsForKernel(signal) || mask_bytes != static_cast<long>(sys::kSignalSetBytes) ||
      (wanted != 0 && !GetUser(action, As<const KernelAction*>(wanted))))
    return ToKernel<SYS_rt_sigaction>(signal, wanted, old, mask_bytes, 0, 0);
  struct sigaction to = {};
  struct sigaction from = {};
  if (wanted != 0) {
    to.sa_handler = action.handler;
    // The C library brings a restorer of its own, which does the same.
    to.sa_flags = static_cast<int>(action.flags & ~kHasRestorer);
    sigemptyset(&to.sa_mask);
    std::memcpy(&to.sa_mask, &action.mask, sizeof action.mask);
  }
  int result = ::sigaction(static_cast<int>(signal), wanted != 0 ? &to : nullptr, old != 0 ? &from : nullptr);
  if (result == 0 && old != 0) {
    action.handler = from.sa_handler;
    action.flags = static_cast<unsigned>(from.sa_flags);
    action.restorer = from.sa_restorer;
    std::memcpy(&action.mask, &from.sa_mask, sizeof action.mask);
    if (!PutUser(As<KernelAction*>(old), action)) return ToErrno(-EFAULT);
  }
  return result;
}

}  // namespace ustcp::raw
