// The listening side: half-open connections and the accept queue of one listening socket.
//
// Guarded by its own lock (below shard locks in the order); the counters that limits are checked against are atomic. The
// accept queue is kept per shard so that a process accepts what its own shard carries first.
#pragma once

#include <atomic>
#include <cstdint>

#include "stack/base/address.h"
#include "stack/host/shard.h"
#include "stack/mem/slot_pool.h"
#include "stack/sync/robust_mutex.h"

namespace ustcp {

struct Socket;
struct TcpUser;

struct Listener : SlotHeader {
  static constexpr SlotKind kSlotKind = SlotKind::kListener;
  RobustMutex lock;
  TcpUser* socket = nullptr;  // null once closed
  Endpoint local;
  uint32_t backlog = 0;                   // min(listen's argument, somaxconn)
  std::atomic<uint32_t> accept_count{0};  // established, waiting for accept()
  std::atomic<uint32_t> half_open_count{0};
  std::atomic<uint32_t> half_open_young{0};               // whose SYN-ACK was never retransmitted
  std::atomic<uint64_t> acceptors[kMaxShards / 64] = {};  // shards whose process accepts or waits on this listener
  struct Queue {
    Socket* head = nullptr;
    Socket* tail = nullptr;
  };
  Queue queues[kMaxShards];
  Socket* in_transit = nullptr;        // being taken from its queue: put back when the taker dies ...
  uint32_t in_transit_generation = 0;  // ... unless it was closed meanwhile

  // Linux: the queue is full when it holds more than backlog.
  bool accept_queue_full() const { return accept_count.load(std::memory_order_relaxed) > backlog; }
};

// Holds a listener's lock. When the previous holder died, what depends on the queues' links is made anew from them: by the
// socket layer, whose queues they are.
class ListenerLock {
 public:
  explicit ListenerLock(Listener& listener) noexcept;
  ~ListenerLock() { listener_.lock.Unlock(); }
  ListenerLock(const ListenerLock&) = delete;
  ListenerLock& operator=(const ListenerLock&) = delete;

 private:
  Listener& listener_;
};

}  // namespace ustcp
