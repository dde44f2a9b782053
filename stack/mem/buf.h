// Arena buffers for payload and frames. A Buf is a header followed by its data area; it has one owner at a time (a queue
// of a connection, a frame on its way, the pool), so there is no reference count.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "stack/base/bytes.h"
#include "stack/base/frame.h"
#include "stack/mem/arena.h"

namespace ustcp {

enum class BufClass : uint8_t { kSmall, kMedium, kLarge, kFrame };
inline constexpr size_t kBufClassCount = 4;
// Whole size of a Buf by class, header included. kFrame holds the largest frame a TAP delivers with its virtio header.
inline constexpr size_t kBufBytes[kBufClassCount] = {1024, 4096, 16384, 65536 + 1024};

struct Buf {
  SlotKind kind;  // kBuf while taken
  BufClass buf_class;
  uint8_t flags;       // free for the owner
  uint32_t pool;       // index of the shard whose pool it belongs to at present, or kOnTheWay and where it goes
  uint32_t offset;     // of the first used byte, from data()
  uint32_t length;     // used bytes
  uint32_t seq;        // free for the owner: sequence number of the first used byte
  Buf* next;           // free for the owner
  uint64_t tag;        // free for the owner
  uint32_t parted_by;  // pool that it left, while it is on the way
  uint32_t reserved0;
  uint64_t reserved[2];

  std::byte* data() { return reinterpret_cast<std::byte*>(this + 1); }
  std::byte* begin() { return data() + offset; }
  std::byte* end() { return begin() + length; }
  Bytes bytes() { return {begin(), length}; }
  size_t capacity() const { return kBufBytes[static_cast<size_t>(buf_class)] - sizeof(Buf); }
  size_t tailroom() const { return capacity() - offset - length; }
};
static_assert(sizeof(Buf) == 64);

// In Buf::pool, beside the index of the pool it goes to, from Part() to Join(): it belongs to no pool, so no repair takes it
// for one that was forgotten. Who left it there by dying is found out by ReclaimLostBuf (stack/stack.h).
inline constexpr uint32_t kOnTheWay = 0x8000'0000;

// In Buf::flags while an engine holds the buffer for reads to come, with Buf::tag naming the engine's process (its slot
// in the host's table): when that process is dead, whoever cleans up walks the pool's spans and gives these back.
// Cleared before a frame is handed to the stack.
inline constexpr uint8_t kBufInEngine = 0x80;

// Where the driver reads frames to inside a kFrame Buf: the virtio header, then the Ethernet header, placed so that the
// IP header that follows is 16-byte aligned.
inline constexpr size_t kFrameReadOffset = 64 - 14 - sizeof(VirtioNetHeader);
static_assert(sizeof(Buf) + kFrameReadOffset + sizeof(VirtioNetHeader) + kMaxFrameBytes <= kBufBytes[3]);

// Free buffers of no shard: what pools have in excess, for pools that run short. Frames that arrive at the wrong shard take
// their buffers along, mostly in one direction: without a way back one pool would hoard what another has to make anew.
// Lock-free. A process that dies in between two stores here loses one free buffer.
class BufExchange {
 public:
  void Put(Buf* b) noexcept;
  // Null when there is none.
  Buf* Take(BufClass c) noexcept;

 private:
  // Address of the first buffer in the low 48 bits; above them a count of changes, so that a head that went and came back
  // is not taken for the one that was read.
  std::atomic<uint64_t> heads_[kBufClassCount];
};

// Free buffers of each class that a pool keeps for itself: about what one connection at full speed has in its queues.
inline constexpr uint32_t kFreeBufsKept[kBufClassCount] = {1024, 512, 256, 96};

// LIFO pools of all classes; guarded by the owning shard's lock. A Buf may go to another pool than the one it was taken
// from (Part, Join): it then belongs to that one.
class BufPool {
 public:
  // Without an exchange, every free buffer is kept.
  void Init(SpanAllocator* spans, uint32_t owner, BufExchange* exchange = nullptr) noexcept;
  // An empty Buf of the class (offset and length 0), or null when the arena or the pool's limit is used up.
  Buf* Take(BufClass c) noexcept;
  void Give(Buf* b) noexcept;
  void GiveChain(Buf* b) noexcept;
  // The smallest class that holds `bytes` of data (kFrame at most).
  static BufClass ClassFor(size_t bytes) noexcept;

  size_t bytes_taken() const noexcept { return bytes_taken_; }
  SpanHeader* spans() const noexcept { return spans_; }
  // A taken Buf changes pools: Part with it under this pool's lock, Join it under the other's. In between it is on its way
  // to `to` (into a shard's mailbox, before this pool's lock is dropped), or nobody's (kHostOwner).
  void Part(Buf* b, uint32_t to) noexcept {
    bytes_taken_ -= kBufBytes[static_cast<size_t>(b->buf_class)];
    b->parted_by = owner_;
    b->pool = to | kOnTheWay;
  }
  void Join(Buf* b) noexcept {
    bytes_taken_ += kBufBytes[static_cast<size_t>(b->buf_class)];
    b->pool = owner_;
  }
  // Repair after a crash: forgets the free lists and counts, so that Adopt() can make them anew.
  void ForgetAll() noexcept;
  // A Buf of this pool, free or taken as its kind says, is put where it belongs.
  void Adopt(Buf* b) noexcept;

 private:
  bool Grow(BufClass c) noexcept;

  void Keep(Buf* b) noexcept;

  SpanAllocator* span_source_;
  BufExchange* exchange_;
  SpanHeader* spans_;
  Buf* free_[kBufClassCount];
  uint32_t free_count_[kBufClassCount];
  size_t bytes_taken_;
  uint32_t owner_;
};

}  // namespace ustcp
