// Whole frames in arena buffers: how they are laid out, queued, turned into TxFrames, and handed to other shards.
#pragma once

#include <cstdint>

#include "stack/base/bytes.h"
#include "stack/frame.h"
#include "stack/mem/buf.h"
#include "stack/net/address.h"

namespace ustcp {

struct Context;
struct Shard;

// Buf::flags of a frame.
inline constexpr uint8_t kBufVirtio = 1;   // a virtio header lies right in front of begin()
inline constexpr uint8_t kBufLocal = 2;    // made by this host for itself: its source address may be ours

// Where the Ethernet header of our own frames goes: as in frames read by a driver, with room for the virtio header.
inline constexpr uint32_t kFrameOffset = static_cast<uint32_t>(kFrameReadOffset + sizeof(VirtioNetHeader));

// An empty buffer for a frame of `bytes` from the Ethernet header on; its length is set. Null: no memory.
Buf* NewFrame(Context& ctx, size_t bytes) noexcept;

// A copy of the frame, virtio header included, that does not depend on send queues. Null: no memory.
Buf* CopyFrame(Context& ctx, const TxFrame& frame) noexcept;

// Takes the first frame that QueueFrame queued. False: none. Its buffer becomes frame.owned.
bool TakeQueuedFrame(Context& ctx, TxFrame& frame) noexcept;

// Writes the destination of a frame whose rest is complete.
void SetDestination(Buf* frame, const MacAddress& mac) noexcept;

// Gives a frame as a driver reads it (virtio header at begin()) to a shard's mailbox and has the shard's driver woken.
void HandToShard(Context& ctx, Shard& shard, Buf* frame) noexcept;

// The shard of the connection that a frame is for, as a hint: whoever holds its lock looks again. Null: none.
Shard* OwnerOfFrame(Context& ctx, ConstBytes frame) noexcept;

// Delivers a frame (Ethernet header at begin()) from this host to itself, to the shard that owns the connection it is
// for; what belongs to none goes through this shard's own mailbox.
void DeliverLocal(Context& ctx, Buf* frame) noexcept;

}  // namespace ustcp
