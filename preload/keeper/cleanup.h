// What is left of a process that ended: its descriptors' references, its sleepers, the buffers of its engines, its lead.
// Everything is done in steps that can be repeated, each under the lock it needs: another driver goes on where one died.
#pragma once

#include <cstdint>

#include "preload/keeper/wakes.h"
#include "stack/host/host.h"
#include "stack/stack.h"

namespace ustcp::keeper {

class Burial {
 public:
  // `slot` is in state kDead.
  explicit Burial(uint16_t slot) : slot_(slot) {}
  // Waits for no shard's lock, whose holder may be stopped; locks below it are held briefly, and waited for. True when the slot is free.
  bool Advance(Host& host, Wakes& wakes, Instant now);
  uint16_t slot() const { return slot_; }

 private:
  bool SettleIntent(Host& host, Wakes& wakes, Instant now);
  bool DropDescriptors(Host& host, Wakes& wakes, Instant now);
  bool SweepShard(Host& host, Shard& shard, Wakes& wakes, Instant now);

  bool WakeAll(Host& host, Wakes& wakes, Instant now);

  uint16_t slot_;
  bool intent_settled_ = false;
  int next_page_ = 0;
  int next_shard_ = 0;
  int next_woken_ = 0;
  uint32_t repairs_ = 0;
};

// Takes a shard's lock if it is free, repairing the shard when its holder died.
class TryShardLock {
 public:
  TryShardLock(Host& host, Shard& shard, Instant now);
  ~TryShardLock() {
    if (held_) ctx.shard.lock.Unlock();
  }
  TryShardLock(const TryShardLock&) = delete;
  TryShardLock& operator=(const TryShardLock&) = delete;
  explicit operator bool() const { return held_; }
  // The wake-ups collected in ctx.wakes are the caller's to perform then.
  void Unlock() {
    if (!held_) return;
    PublishDeadline(ctx);
    ctx.shard.lock.Unlock();
    held_ = false;
  }
  Context ctx;

 private:
  bool held_ = false;
};

}  // namespace ustcp::keeper
