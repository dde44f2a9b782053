// The facade for drivers: what io/ and preload/ do with a shard whose lock they hold.
#pragma once

#include "stack/base/frame.h"
#include "stack/host/host.h"

namespace ustcp {

// A frame from the device. May take frame.buffer (see RxFrame). When the frame belongs to another shard it is delivered
// there (its lock being free) or put in its mailbox; the shard's leader is added to ctx.wakes.
void OnFrame(Context& ctx, RxFrame& frame) noexcept;

// Appends frames to the batch until it is full or there is nothing to say. Returns true when more remains.
bool PollTransmit(Context& ctx, TxBatch& batch) noexcept;

// Has something to transmit right now.
inline bool HasOutput(const Shard& shard) { return !shard.transmit.empty() || shard.ready_frames_head != nullptr; }

// After the batch was written: frees the buffers its frames own and empties it.
void ReleaseTransmitted(Context& ctx, TxBatch& batch) noexcept;

// Others have put something there that DrainMailbox handles.
inline bool HasMail(const Shard& shard) {
  return !shard.mailbox.empty() || shard.closing.load(std::memory_order_acquire) != nullptr;
}
// Handles what other drivers put in the mailbox. Call at the start of a turn and before dropping the lock.
void DrainMailbox(Context& ctx) noexcept;

// The earliest timer of this shard, kNever when none.
Instant NextDeadline(Context& ctx) noexcept;
// Stores it where those who sleep on the shard see it. Call before dropping a lock under which anything may have been armed.
// A leader that would sleep on past it is woken; for a shard without one ctx.nudge_keeper is set. A leader sets
// leader_until_ns to kNever before it reads next_deadline_ns, and to the end of its sleep then, so none is missed.
void PublishDeadline(Context& ctx) noexcept;
// Fires everything due at ctx.now.
void OnDeadline(Context& ctx) noexcept;

// A buffer on its way to ctx.shard (kOnTheWay): comes back to the pool when whoever sent or took it died in between. False
// when that cannot be told now, since the sender's shard is held.
bool ReclaimLostBuf(Context& ctx, Buf& b) noexcept;

// Counts the invariants that do not hold (tests, `ustcp ss --check`); explains the first one in `why`. On a host that
// runs, buffers that others are putting into the mailbox at this moment count as lost: ask again.
int CheckInvariants(Context& ctx, char* why, size_t why_bytes) noexcept;

}  // namespace ustcp
