// A virtual network host: the root object at the arena's base.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "stack/base/sysctl.h"
#include "stack/host/config.h"
#include "stack/host/neighbor_table.h"
#include "stack/host/port_table.h"
#include "stack/host/process_table.h"
#include "stack/host/shard.h"
#include "stack/host/tuple_table.h"
#include "stack/host/waiter.h"
#include "stack/mem/arena.h"
#include "stack/time/time.h"

namespace ustcp {

inline constexpr uint64_t kArenaMagic = 0x7573'7463'7030'3031;  // "ustcp001"
inline constexpr uint32_t kWatchStripes = 256;

struct Secrets {
  std::array<uint8_t, 16> isn;  // SipHash keys
  std::array<uint8_t, 16> timestamp;
  std::array<uint8_t, 16> port;
  std::array<uint8_t, 16> cookie[2];
  uint64_t tuple_hash;
};

struct Host {
  uint64_t magic;        // stored last on creation
  uint64_t layout_hash;  // of the structures' sizes and offsets: members must agree
  uint64_t arena_bytes;
  HostConfig config;
  Sysctls sysctls;
  Secrets secrets;
  int64_t created_ns;

  SpanAllocator spans;
  BufExchange spare_bufs;
  RobustMutex host_lock;  // process table, shard table: attach, fork, exit
  std::atomic<uint64_t> next_inode;
  std::atomic<int32_t> orphan_count;
  std::atomic<int32_t> time_wait_count;
  std::atomic<uint64_t> buffer_bytes;  // for tcp_mem
  std::atomic<bool> time_wait_overflow_warned;
  std::atomic<uint32_t> repairs;       // of shards whose lock's holder died
  std::atomic<uint32_t> repairs_told;  // `repairs` when all sleepers were last woken on their account
  // With one queue for the whole interface every process may write to it and one shard reads it: its index plus one. The
  // keeper passes it on when that shard's process is gone.
  std::atomic<uint32_t> queue_reader;
  std::atomic<uint32_t> keeper_word;    // bumped to wake the keeper
  std::atomic<uint32_t> keeper_asleep;  // 1: it sleeps until told; whoever leaves a shard without a driver must wake it
  std::atomic<int32_t> keeper_pid;
  // Members start a keeper in place of one that was lost: all of them together not more often than makes sense.
  std::atomic<int64_t> keeper_started_ns;
  std::atomic<uint32_t> keeper_starts;  // in quick succession

  SlotPool<FdPage> fd_pages;  // under host_lock
  RobustMutex watch_stripes[kWatchStripes];
  NeighborTable neighbors;
  PortTable ports;
  TupleTable tuples;
  Shard shards[kMaxShards];
  ProcessSlot processes[kMaxProcesses];

  Shard& shard(const SlotHeader& slot) { return shards[slot.shard]; }
  RobustMutex& watch_stripe(const void* socket) {
    return watch_stripes[(reinterpret_cast<uintptr_t>(socket) >> 6) % kWatchStripes];
  }
};

// What every operation of the stack works on: the shard whose lock the caller holds, and the time.
struct Context {
  Host& host;
  Shard& shard;
  Instant now;
  WakeSet wakes;
  // Other shards that were given something in passing and now have output: the driver flushes them after its own.
  std::array<uint64_t, kMaxShards / 64> touched{};
  // A SYN that ends a TIME_WAIT of this shard may be offered to a listener in a better one: set by who can do that, and
  // answered when it is to be done.
  bool may_redirect = false;
  bool redirect = false;
  // A deadline of a shard without a leader has come nearer: the keeper is to be told once the lock is dropped.
  bool nudge_keeper = false;

  Counters& counters() { return shard.counters; }
  const Sysctls& sysctls() const { return host.sysctls; }
  // A pseudo-random number for timers and ports; unpredictable enough for jitter, not for secrets.
  uint32_t Random() noexcept;
};

// Makes the shard consistent after the holder of its lock died: rebuilds every list from the slots, resets the connection
// that was being changed towards its peer. Defined where all kinds of slots are known (stack/repair.cc).
void RepairShard(Context& ctx) noexcept;

// For whoever has just got the lock of ctx.shard, with what the lock said: sees to it that the shard's time does not go back,
// and repairs the shard when its previous holder died.
void TakeOver(Context& ctx, LockResult locked) noexcept;

// Holds a shard's lock and repairs the shard when its previous holder died. The wake-ups collected in ctx.wakes are the
// caller's to perform after Unlock().
class ShardLock {
 public:
  ShardLock(Host& host, Shard& shard, Instant now) noexcept;
  ~ShardLock() {
    if (held_) ctx.shard.lock.Unlock();
  }
  void Unlock() noexcept {
    ctx.shard.lock.Unlock();
    held_ = false;
  }
  ShardLock(const ShardLock&) = delete;
  ShardLock& operator=(const ShardLock&) = delete;

  Context ctx;

 private:
  bool held_ = true;
};

}  // namespace ustcp
