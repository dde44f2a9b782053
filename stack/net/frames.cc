#include "stack/net/frames.h"

#include <cstring>

#include "stack/host/host.h"
#include "stack/net/ip.h"

namespace ustcp {

Buf* NewFrame(Context& ctx, size_t bytes) noexcept {
  USTCP_DCHECK(bytes <= kMaxFrameBytes);
  Buf* b = ctx.shard.bufs.Take(BufPool::ClassFor(kFrameOffset + bytes));
  if (b == nullptr) return nullptr;
  b->offset = kFrameOffset;
  b->length = static_cast<uint32_t>(bytes);
  const VirtioNetHeader none;
  std::memcpy(b->begin() - sizeof none, &none, sizeof none);
  return b;
}

Buf* CopyFrame(Context& ctx, const TxFrame& frame) noexcept {
  size_t bytes = frame.header_bytes;
  for (int i = 0; i < frame.piece_count; ++i) bytes += frame.pieces[i].iov_len;
  if (bytes > kMaxFrameBytes) return nullptr;
  Buf* b = NewFrame(ctx, bytes);
  if (b == nullptr) return nullptr;
  std::memcpy(b->begin() - sizeof frame.vnet, &frame.vnet, sizeof frame.vnet);
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

void SetDestination(Buf* frame, const MacAddress& mac) noexcept { std::memcpy(frame->begin(), mac.data(), mac.size()); }

void DeliverLocal(Context& ctx, Buf* frame) noexcept {
  Shard& target = ShardForFrame(ctx, frame->bytes());
  frame->flags = kBufLocal;
  HandToShard(ctx, target, frame);
}

}  // namespace ustcp
