// Signal handlers and the stack. A handler may call send() or close() while its thread holds a lock of the arena or of
// this layer, so the program's handlers are installed behind one of ours: it runs them at once where that is safe, and
// otherwise right after the lock was dropped, with the signal mask that the kernel would have set up.
//
// Nor does one run in the middle of a call that sleeps: it may leave by siglongjmp(), as alarm() around connect() does, and
// what the call holds would stay behind. The signal ends the sleep, the call puts everything down, the handler runs, and the
// call ends or begins anew. Handlers with SA_ONSTACK run in the middle: some (Go's) stop the program when they find themselves
// on another stack than they asked for.
//
// It also remembers what ran: whether a blocking call ends with EINTR or goes on is decided as in signal(7), by whether a
// handler without SA_RESTART ran since the call began.
//
// Left alone: signals that the thread's own instructions raise (but see faults.h) and those glibc keeps for itself.
#pragma once

#include <atomic>
#include <cstdint>

namespace ustcp::signals {

// Between the two, handlers of this thread wait. Nests.
void Enter() noexcept;
void Leave() noexcept;

class Section {
 public:
  Section() noexcept { Enter(); }
  ~Section() { Leave(); }
  Section(const Section&) = delete;
  Section& operator=(const Section&) = delete;
};

// The same for the time in which a call may sleep; handlers with SA_ONSTACK run nevertheless, as if outside of it.
class Sleeping {
 public:
  Sleeping() noexcept { Enter(); }
  ~Sleeping() { Leave(); }
  Sleeping(const Sleeping&) = delete;
  Sleeping& operator=(const Sleeping&) = delete;
  // Runs those that wait; the caller holds nothing that a siglongjmp() would leave behind.
  void LetRun() noexcept {
    Leave();
    Enter();
  }

 private:
  static void Enter() noexcept;
  static void Leave() noexcept;
};

// Tells the runtime to run deferred handlers when it drops a lock. Idempotent.
void Attach() noexcept;

// Runs the handlers that waited, if the thread may be interrupted now.
void RunDeferred() noexcept;

// The handlers this thread has run or must run, so far.
struct Mark {
  uint32_t all;
  uint32_t interrupting;  // of all, those installed without SA_RESTART
};
Mark Count() noexcept;

// A call that may sleep begins: handlers are counted from here, also those that run before the thread really sleeps. To be
// called again when the call goes on after one.
void BeginCall() noexcept;
bool HandlerRanInCall() noexcept;

// A word that every handler of the calling thread increments: the one its sleep compares, so that a signal between the
// last look and the sleep ends the sleep. Null for none.
void SetSleepWord(std::atomic<uint32_t>* word) noexcept;

}  // namespace ustcp::signals
