// What both engines do with frames: where a received one lies in its buffer, and the iovec list of one to transmit.
#pragma once

#include <cstddef>
#include <cstring>

#include "io/device/frame_sink.h"
#include "io/engine/engine_types.h"
#include "stack/base/frame.h"
#include "stack/mem/buf.h"

namespace ustcp {

// The virtio header and the protocol headers lie one behind the other, so a frame is one piece plus its payload.
static_assert(offsetof(TxFrame, vnet) == 0 && offsetof(TxFrame, headers) == sizeof(VirtioNetHeader));

inline constexpr size_t kMaxFrameIovecs = 1 + TxFrame::kMaxPieces;
inline constexpr size_t kEthernetHeaderBytes = 14;
// Where the Ethernet header of a received frame lies in its buffer's data area.
inline constexpr size_t kFrameOffset = kFrameReadOffset + sizeof(VirtioNetHeader);

// Where a read on the queue begins in a buffer's data area, and how long it may be.
inline size_t ReadOffset(QueueRef queue) noexcept { return queue.vnet ? kFrameReadOffset : kFrameOffset; }
inline size_t ReadBytes(QueueRef queue) noexcept { return kMaxFrameBytes + (queue.vnet ? sizeof(VirtioNetHeader) : 0); }

inline size_t FillIovecs(QueueRef queue, const TxFrame& frame, iovec* v) noexcept {
  auto* start = const_cast<std::byte*>(reinterpret_cast<const std::byte*>(&frame));
  size_t skip = queue.vnet ? 0 : sizeof(VirtioNetHeader);
  v[0] = {start + skip, sizeof(VirtioNetHeader) - skip + frame.header_bytes};
  for (size_t i = 0; i < frame.piece_count; ++i) v[1 + i] = frame.pieces[i];
  return 1 + frame.piece_count;
}

// A frame whose payload is small is written from one piece: gathering costs the kernel more than copying does us.
inline constexpr size_t kFlattenBytes = 256;
struct FlatFrame {
  std::byte bytes[sizeof(VirtioNetHeader) + TxFrame::kMaxHeaderBytes + kFlattenBytes];
};

// As FillIovecs, with a frame of at most kFlattenBytes of payload put together in `flat`, which must last as long as `v`.
inline size_t FillIovecs(QueueRef queue, const TxFrame& frame, iovec* v, FlatFrame& flat) noexcept {
  size_t n = FillIovecs(queue, frame, v);
  if (n == 1 || frame.payload_bytes > kFlattenBytes) return n;
  size_t bytes = 0;
  for (size_t i = 0; i < n; ++i) {
    std::memcpy(flat.bytes + bytes, v[i].iov_base, v[i].iov_len);
    bytes += v[i].iov_len;
  }
  v[0] = {flat.bytes, bytes};
  return 1;
}

inline void MarkInEngine(Buf* b, uint64_t tag) noexcept {
  b->tag = tag;
  b->flags = kBufInEngine;
}

// Describes `n` bytes, read to `area + ReadOffset(queue)`. False when the frame ends within its headers.
inline bool DescribeFrame(QueueRef queue, std::byte* area, size_t n, RxFrame* out) noexcept {
  size_t header = queue.vnet ? sizeof(VirtioNetHeader) : 0;
  if (n < header + kEthernetHeaderBytes) return false;
  out->vnet = {};
  if (queue.vnet) std::memcpy(&out->vnet, area + kFrameReadOffset, sizeof out->vnet);
  out->bytes = {area + kFrameOffset, n - header};
  out->buffer = nullptr;
  return true;
}

// Hands the frame in `b` to the sink, with the buffer when `may_take`. True when the sink took it; otherwise the buffer
// is the caller's as before, unmarked.
inline bool DeliverFromBuf(RxFrame& frame, Buf* b, bool may_take, FrameSink sink) noexcept {
  b->flags = 0;
  b->tag = 0;
  b->next = nullptr;
  b->offset = static_cast<uint32_t>(kFrameOffset);
  b->length = static_cast<uint32_t>(frame.bytes.size());
  frame.buffer = may_take ? b : nullptr;
  sink(frame);
  return may_take && frame.buffer == nullptr;
}

}  // namespace ustcp
