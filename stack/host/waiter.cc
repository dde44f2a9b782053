#include "stack/host/waiter.h"

#include "stack/sync/futex.h"

namespace ustcp {

void WakeSet::Add(Waiter& w) noexcept {
  for (size_t i = 0; i < count_; ++i)
    if (waiters_[i] == &w) return;
  if (count_ == kCapacity) {
    // Rare: more sleepers became ready in one turn than fit. Waking one early under the lock is only slower.
    FutexWake(waiters_[0]->word);
    waiters_[0] = waiters_[--count_];
  }
  waiters_[count_++] = &w;
}

}  // namespace ustcp
