// Whole frames in arena buffers: the Ethernet header at begin(), the virtio header always right in front of it. In this
// form they wait for a neighbour, for the next PollTransmit, or in a shard's mailbox.
#pragma once

#include <cstdint>

#include "stack/base/address.h"
#include "stack/base/bytes.h"
#include "stack/base/frame.h"
#include "stack/mem/buf.h"

namespace ustcp {

struct Context;
struct Shard;

// In Buf::flags of a frame that this host made for itself: its source address may be ours.
inline constexpr uint8_t kBufLocal = 1;

// Where the Ethernet header of our own frames goes: as in frames read by a driver, with room for the virtio header.
inline constexpr uint32_t kFrameOffset = static_cast<uint32_t>(kFrameReadOffset + sizeof(VirtioNetHeader));

// A buffer for a frame of `bytes` from the Ethernet header on, with an empty virtio header; its length is set. Null: no
// memory.
Buf* NewFrame(Context& ctx, size_t bytes) noexcept;

// A copy of the frame, virtio header included, that does not depend on send queues. Null: no memory.
Buf* CopyFrame(Context& ctx, const TxFrame& frame) noexcept;

// Writes the destination of a frame whose rest is complete.
void SetDestination(Buf* frame, const MacAddress& mac) noexcept;

// Delivers a frame from this host to itself.
void DeliverLocal(Context& ctx, Buf* frame) noexcept;

// --- between shards (stack.cc) ---

// The shard that should look at a frame: the one that owns the connection it is for, or for a SYN one that accepts.
// Otherwise this one. Only a hint: whoever holds the shard's lock looks again.
Shard& ShardForFrame(Context& ctx, ConstBytes frame) noexcept;

// Gives a frame to a shard, which acts on it now if it is another one and its lock is free, or in its next turn.
void HandToShard(Context& ctx, Shard& target, Buf* frame) noexcept;

}  // namespace ustcp
