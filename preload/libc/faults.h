// SIGSEGV and SIGBUS. The stack copies from and to the program's memory itself, so a bad pointer faults in our copy, with
// a shard locked: the handler here ends that copy short (stack/base/user_copy.h), and the call says EFAULT. Every other
// fault is the program's, and goes where the kernel would have sent it: to the program's handler, with the siginfo, the
// context, the mask and the stack that it asked for; or to the default, which kills with a core of the very instruction.
//
// Ours stands in front of the program's from the first socket on; before that it is not there at all. A program that
// installs a handler by a system call of its own takes the place of ours, and gets the faults of our copies.
//
// A fault while its signal is blocked kills at once, whoever handles it. Threads that may block the two are told by
// t_copy_carefully: each of their copies asks, and unblocks them for as long as it lasts.
#pragma once

#include <signal.h>

namespace ustcp::faults {

// Takes the two signals over. Idempotent.
void Attach() noexcept;

// Whether Install is to be used for the signal instead of the C library's sigaction.
bool Caught(int signal) noexcept;
// sigaction() as the program means it.
int Install(int signal, const struct sigaction* wanted, struct sigaction* old) noexcept;

// A signal that the program ignores stays ignored over exec; one that is caught, be it by us, does not. For as long as an
// exec may succeed.
class IgnoredOverExec {
 public:
  IgnoredOverExec() noexcept;
  ~IgnoredOverExec();
  IgnoredOverExec(const IgnoredOverExec&) = delete;
  IgnoredOverExec& operator=(const IgnoredOverExec&) = delete;
};

}  // namespace ustcp::faults
