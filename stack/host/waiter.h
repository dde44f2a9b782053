// Sleeping and waking across threads and processes, without system calls in the stack. A Waiter is one thread's place to
// sleep; the stack signals it while holding a shard's lock and collects those that are really asleep in a WakeSet, which
// the driver empties after it dropped the lock.
//
// Protocol. Sleeper: w = word; check the condition; state = kAsleep; if word == w sleep until word != w; state = kAwake.
// Waker: change the condition; word += 1; if state == kAsleep issue the wake-up. Both sides use sequentially consistent
// order on word and state, so at least one of them sees the other.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "stack/mem/slot_pool.h"

namespace ustcp {

struct Waiter : SlotHeader {
  static constexpr SlotKind kSlotKind = SlotKind::kWaiter;
  enum State : uint32_t { kAwake = 0, kAsleep = 1 };
  enum Mode : uint8_t {
    kFutex = 0,       // FUTEX_WAKE on `word` ends the sleep
    kDescriptor = 1,  // the sleeper waits on a descriptor of its own: the waker needs its process's help
  };

  Mode mode = kFutex;
  uint16_t process = 0;          // slot of the process the thread belongs to
  int32_t wake_descriptor = -1;  // of that process, for kDescriptor
  // Behind the place of a free slot's link: who read Shard::leader_waiter may signal a Waiter that was given back meanwhile.
  std::atomic<uint32_t> word{0};
  std::atomic<uint32_t> state{kAwake};
  int32_t thread_id = 0;

  // Returns true when the sleeper must be woken by a system call.
  bool Signal() noexcept {
    word.fetch_add(1);
    return state.load() == kAsleep;
  }
};

// Waiters to wake after the lock is dropped. Duplicates are dropped.
class WakeSet {
 public:
  static constexpr size_t kCapacity = 32;
  void Add(Waiter& w) noexcept;
  bool empty() const { return count_ == 0; }
  // Hands each to wake(Waiter&) and forgets it.
  template <typename Wake>
  void Flush(Wake&& wake) {
    for (size_t i = 0; i < count_; ++i) wake(*waiters_[i]);
    count_ = 0;
  }

 private:
  size_t count_ = 0;
  std::array<Waiter*, kCapacity> waiters_;
};

}  // namespace ustcp
