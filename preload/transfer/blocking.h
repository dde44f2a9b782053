// The waiting part of a blocking call on one socket: the time limit of SO_RCVTIMEO or SO_SNDTIMEO, what a signal does to
// the call, and a reference on the socket for as long as the thread sleeps.
//
// signal(7): a handler without SA_RESTART ends the call with EINTR; with SA_RESTART the call goes on, unless it has a time
// limit (Linux cannot restart those and returns EINTR too).
#pragma once

#include "preload/descriptors/fd_table.h"
#include "preload/libc/signals.h"
#include "preload/runtime/runtime.h"

namespace ustcp {

class BlockingCall {
 public:
  BlockingCall() noexcept : signals_(signals::Count()) { signals::BeginCall(); }

  // To be called with the lock of the socket's shard, once the call has to wait. The limit counts from the first time.
  void Prepare(Socket& socket, int64_t timeout_us) noexcept {
    hold_.Take(socket);
    if (prepared_) return;
    prepared_ = true;
    if (timeout_us > 0) deadline_ = runtime::Now() + Duration{timeout_us * 1000};
  }

  // Sleeps until the socket shows one of `events` or an error: 0. A negative errno ends the call: -EAGAIN (time is up),
  // -EINTR, -ENOMEM.
  int Wait(Socket& socket, uint32_t events) noexcept {
    int result = runtime::WaitSocket(socket, events, deadline_);
    if (result != EINTR) return -result;
    // A handler that closes the socket finds it closed, and the call that is begun anew says EBADF, as the kernel's does.
    hold_.Release();
    sleeping_.LetRun();
    signals::Mark now = signals::Count();
    bool interrupting = now.interrupting != signals_.interrupting;
    bool handled = now.all != signals_.all;
    signals_ = now;
    signals::BeginCall();
    return interrupting || (handled && deadline_ != kNever) ? -EINTR : 0;
  }

 private:
  signals::Sleeping sleeping_;  // first, so that nothing is held when it goes
  Hold hold_;
  Instant deadline_ = kNever;
  signals::Mark signals_;
  bool prepared_ = false;
};

// A call that must not block found nothing to do. A program that asks again and again without ever waiting would not see
// what has arrived before the keeper's tick: makes a turn when nobody made one lately, and says whether to look again.
bool TurnBeforeEagain(Socket& socket, uint32_t events) noexcept;

}  // namespace ustcp
