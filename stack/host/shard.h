// A shard: one independent instance of the stack. Everything in it is guarded by its lock unless said otherwise.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "stack/base/counters.h"
#include "stack/host/datagrams.h"
#include "stack/host/icmp_limiter.h"
#include "stack/host/transmit_list.h"
#include "stack/host/waiter.h"
#include "stack/mem/buf.h"
#include "stack/mem/slot_pool.h"
#include "stack/sync/robust_mutex.h"
#include "stack/time/timer_wheel.h"

namespace ustcp {

// Of the layers above, which the host keeps and does not look into.
struct Connection;
struct EpollItem;
struct EpollSet;
struct HalfOpen;
struct Listener;
struct Socket;
struct TimeWait;
struct TxSegment;
struct WaitEntry;

inline constexpr int kMaxShards = 256;

// Frames that other shards' drivers hand over: pushed without a lock, taken all at once by whoever holds the shard's.
// A Buf here holds a whole frame as the driver read it (virtio header at `offset`).
class Mailbox {
 public:
  void Push(Buf* b) noexcept {
    Buf* head = head_.load(std::memory_order_relaxed);
    do b->next = head;
    while (!head_.compare_exchange_weak(head, b, std::memory_order_release, std::memory_order_relaxed));
  }
  bool empty() const noexcept { return head_.load(std::memory_order_acquire) == nullptr; }
  // Calls visit(const Buf&) for what is in it until that returns false. Requires the shard's lock: nobody takes anything out
  // meanwhile.
  template <typename Visit>
  void ForEach(Visit&& visit) const {
    for (const Buf* b = head_.load(std::memory_order_acquire); b != nullptr && visit(*b); b = b->next) continue;
  }
  // Oldest first.
  Buf* TakeAll() noexcept {
    Buf* in = head_.exchange(nullptr, std::memory_order_acquire);
    Buf* out = nullptr;
    while (in != nullptr) {
      Buf* next = in->next;
      in->next = out;
      out = in;
      in = next;
    }
    return out;
  }

 private:
  std::atomic<Buf*> head_;
};

// What drivers moved for a shard, members and keeper together: `ustcp ss --engine`. Added up under the shard's lock.
struct DriveStats {
  uint64_t frames_in = 0;
  uint64_t frames_out = 0;
  uint64_t bytes_in = 0;
  uint64_t bytes_out = 0;
  uint64_t ring_enters = 0;     // io_uring_enter calls
  uint64_t ring_frames_in = 0;  // of frames_in, those a ring read
  uint64_t ring_frames_out = 0;
  uint64_t plain_reads = 0;
  uint64_t plain_writes = 0;
  uint64_t waits = 0;         // sleeps
  uint64_t keeper_turns = 0;  // turns that the keeper made in the program's place
};

struct Shard {
  enum State : uint32_t { kFree = 0, kInUse, kOrphaned };  // orphaned: its process is gone, connections remain

  RobustMutex lock;
  std::atomic<uint32_t> state;
  uint16_t index;
  uint16_t process;  // slot of the process it was made for
  // Who drives. Readable without the lock.
  std::atomic<uint32_t> leader;  // thread that sleeps on this shard's queue, 0: nobody
  std::atomic<uint64_t> turns;   // grows with every turn of a driver
  std::atomic<int64_t> last_turn_ns;
  std::atomic<int64_t> next_deadline_ns;  // earliest timer, INT64_MAX: none; as of the last turn
  std::atomic<Waiter*> leader_waiter;     // to wake the leader for the mailbox
  std::atomic<int64_t> leader_until_ns;   // end of the leader's sleep; INT64_MIN while it is awake
  std::atomic<int64_t> others_at_ns;      // when somebody else last published a deadline during the leader's sleep
  std::atomic<bool> has_queue;            // a TAP queue is attached
  Mailbox mailbox;                        // lock-free
  std::atomic<Socket*> closing;           // lock-free: sockets of this shard whose last reference is gone (accept_next)

  SlotPool<Connection> connections;
  SlotPool<HalfOpen> half_opens;
  SlotPool<TimeWait> time_waits;
  SlotPool<TxSegment> tx_segments;
  SlotPool<Socket> sockets;
  SlotPool<Listener> listeners;
  SlotPool<EpollSet> epoll_sets;
  SlotPool<EpollItem> epoll_items;
  SlotPool<WaitEntry> wait_entries;
  SlotPool<Waiter> waiters;
  BufPool bufs;
  TimerWheel timers;

  TransmitList transmit;   // connections with something to say, in order of arrival
  Buf* ready_frames_head;  // whole frames ready to go: replies without a connection, ARP, ICMP
  Buf* ready_frames_tail;
  // What the holder of the lock is in the middle of, for the repair when it dies there.
  Connection* in_update;      // connection whose state is being changed: reset
  EpollItem* item_in_update;  // item that is being added to or taken from its lists: taken out
  Socket* in_close;           // socket taken off `closing`: closed
  Reassembly reassembly;
  IcmpLimiter icmp_limiter;
  Counters counters;
  DriveStats drive_stats;
  uint64_t random_state;
  Instant latest;  // time that a holder of the lock brought; see Advance

  // The time for whoever has just taken the lock. It does not go back, though drivers read the clock before they have the
  // lock, and a visitor brings the time at which its own turn began.
  Instant Advance(Instant now) noexcept { return latest = std::max(latest, now); }
};

}  // namespace ustcp
