// What a thread needs to drive and to sleep: its engine and its place in the arena. Made on first use, taken down at thread
// exit, forgotten in the child of a fork.
#pragma once

#include "io/engine/engine.h"
#include "stack/host/host.h"

namespace ustcp::runtime {

struct ThreadState {
  Engine* engine = nullptr;
  bool engine_waits = false;         // made for waiting (a ring where possible), not only for sending
  bool wait_follows = false;         // working through what one wait gave
  bool handing_out = false;          // the same, and it was several events: sends may be collected
  uint8_t turns_without_kernel = 0;  // epoll_wait calls since the kernel's set was last asked
  uint16_t lock_depth = 0;           // arena locks held
  Waiter* waiter = nullptr;
  WaitEntry* entry = nullptr;  // for the calls that wait for one socket
  TxBatch* batch = nullptr;
  EngineStats counted;  // of the engine's, what the home shard's statistics have already
};

// The calling thread's; never null.
ThreadState& CurrentThread() noexcept;

// Makes what is missing. False when memory or descriptors ran out. `to_wait`: the thread is going to sleep on a queue.
bool PrepareToSend(ThreadState& t) noexcept;
bool PrepareToWait(ThreadState& t) noexcept;

// Adds what the engine did since the last time to the home shard's statistics. The caller holds the shard's lock.
void CountEngine(ThreadState& t, Shard& home) noexcept;

// The child of a fork starts without any of it.
void ForgetThread() noexcept;

}  // namespace ustcp::runtime
