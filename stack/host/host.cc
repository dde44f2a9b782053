#include "stack/host/host.h"

namespace ustcp {

uint32_t Context::Random() noexcept {
  // xorshift64*: per shard, under its lock.
  uint64_t x = shard.random_state;
  x ^= x >> 12;
  x ^= x << 25;
  x ^= x >> 27;
  shard.random_state = x;
  return static_cast<uint32_t>((x * 0x2545f4914f6cdd1du) >> 32);
}

void TakeOver(Context& ctx, LockResult locked) noexcept {
  ctx.now = ctx.shard.Advance(ctx.now);
  if (locked != LockResult::kOwnerDied) return;
  RepairShard(ctx);
  ctx.shard.lock.MarkConsistent();
}

ShardLock::ShardLock(Host& host, Shard& shard, Instant now) noexcept : ctx{host, shard, now, {}, {}} {
  TakeOver(ctx, shard.lock.Lock());
}

}  // namespace ustcp
