#include "preload/keeper/haste.h"

#include <sys/time.h>
#include <unistd.h>

namespace ustcp::keeper {

namespace {

// Over and over: a first signal may come before the wait does. SIGALRM has a handler that does nothing (InstallStopSignals).
constexpr itimerval kOften{{0, 1000}, {0, 1000}};
constexpr itimerval kNever{};

}  // namespace

Haste::Haste(bool wanted) : wanted_(wanted) {
  if (wanted_) setitimer(ITIMER_REAL, &kOften, nullptr);
}

Haste::~Haste() {
  if (wanted_) setitimer(ITIMER_REAL, &kNever, nullptr);
}

void CloseHastily(int fd) {
  Haste haste(true);
  close(fd);
}

}  // namespace ustcp::keeper
