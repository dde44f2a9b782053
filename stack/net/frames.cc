#include "stack/net/frames.h"

#include <cstring>

#include "stack/host/host.h"
#include "stack/net/ip.h"
#include "stack/net/peek.h"
#include "stack/wire/ethernet.h"

namespace ustcp {

Buf* NewFrame(Context& ctx, size_t bytes) noexcept {
  USTCP_DCHECK(bytes <= kMaxFrameBytes);
  Buf* b = ctx.shard.bufs.Take(BufPool::ClassFor(kFrameOffset + bytes));
  if (b == nullptr) return nullptr;
  b->offset = kFrameOffset;
  b->length = static_cast<uint32_t>(bytes);
  return b;
}

Buf* CopyFrame(Context& ctx, const TxFrame& frame) noexcept {
  size_t bytes = frame.header_bytes;
  for (int i = 0; i < frame.piece_count; ++i) bytes += frame.pieces[i].iov_len;
  if (bytes > kMaxFrameBytes) return nullptr;
  Buf* b = NewFrame(ctx, bytes);
  if (b == nullptr) return nullptr;
  std::memcpy(b->begin() - sizeof frame.vnet, &frame.vnet, sizeof frame.vnet);
  b->flags = kBufVirtio;
  std::byte* out = b->begin();
  std::memcpy(out, frame.headers.data(), frame.header_bytes);
  out += frame.header_bytes;
  for (int i = 0; i < frame.piece_count; ++i) {
    std::memcpy(out, frame.pieces[i].iov_base, frame.pieces[i].iov_len);
    out += frame.pieces[i].iov_len;
  }
  return b;
}

void QueueFrame(Context& ctx, Buf* frame) noexcept {
  Shard& shard = ctx.shard;
  frame->next = nullptr;
  if (shard.ready_frames_head == nullptr) {
    shard.ready_frames_head = frame;
  } else {
    shard.ready_frames_tail->next = frame;
  }
  shard.ready_frames_tail = frame;
}

bool TakeQueuedFrame(Context& ctx, TxFrame& frame) noexcept {
  Shard& shard = ctx.shard;
  Buf* b = shard.ready_frames_head;
  if (b == nullptr) return false;
  shard.ready_frames_head = b->next;
  if (b->next == nullptr) shard.ready_frames_tail = nullptr;
  b->next = nullptr;

  frame.vnet = {};
  if ((b->flags & kBufVirtio) != 0) std::memcpy(&frame.vnet, b->begin() - sizeof frame.vnet, sizeof frame.vnet);
  // The Ethernet header moves to the header array, so that no frame has an empty one.
  USTCP_DCHECK(b->length >= kEthernetHeaderBytes);
  std::memcpy(frame.headers.data(), b->begin(), kEthernetHeaderBytes);
  frame.header_bytes = kEthernetHeaderBytes;
  frame.payload_bytes = static_cast<uint32_t>(b->length - kEthernetHeaderBytes);
  frame.piece_count = 1;
  frame.pieces[0] = {b->begin() + kEthernetHeaderBytes, frame.payload_bytes};
  frame.owned = b;
  return true;
}

void SetDestination(Buf* frame, const MacAddress& mac) noexcept { std::memcpy(frame->begin(), mac.data(), mac.size()); }

void HandToShard(Context& ctx, Shard& shard, Buf* frame) noexcept {
  shard.mailbox.Push(frame);
  if (&shard == &ctx.shard) return;
  Waiter* leader = shard.leader_waiter.load(std::memory_order_acquire);
  if (leader != nullptr && leader->Signal()) ctx.wakes.Add(*leader);
}

Shard* OwnerOfFrame(Context& ctx, ConstBytes frame) noexcept {
  Tuple tuple;
  bool is_syn = false;
  if (!PeekTuple(frame, tuple, is_syn)) return nullptr;
  const TupleNode* node = ctx.host.tuples.Find(tuple, ctx.host.tuples.Hash(tuple));
  if (node == nullptr) return nullptr;
  const uint16_t shard = node->shard;
  return shard < kMaxShards ? &ctx.host.shards[shard] : nullptr;
}

void DeliverLocal(Context& ctx, Buf* frame) noexcept {
  Shard* owner = OwnerOfFrame(ctx, frame->bytes());
  Shard* to = owner != nullptr ? owner : &ctx.shard;
  if ((frame->flags & kBufVirtio) == 0) {
    const VirtioNetHeader none;
    std::memcpy(frame->begin() - sizeof none, &none, sizeof none);
  }
  frame->offset -= static_cast<uint32_t>(sizeof(VirtioNetHeader));
  frame->length += static_cast<uint32_t>(sizeof(VirtioNetHeader));
  frame->flags = kBufLocal;
  HandToShard(ctx, *to, frame);
}

}  // namespace ustcp
