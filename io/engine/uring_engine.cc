#include "io/engine/uring_engine.h"

#include <bit>
#include <cerrno>
#include <cstring>

#include "io/base/sys.h"

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 0x00000008
#endif

namespace ustcp {
namespace {

constexpr size_t kPage = 4096;
// Entries of a buffer ring: a power of two that holds every buffer.
constexpr unsigned kBufferRingEntries = kMaxReadBuffers;
static_assert(std::has_single_bit(kBufferRingEntries));

}  // namespace

UringEngine::UringEngine(const EngineOptions& options, PlainEngine* plain, EngineStats* stats) noexcept
    : plain_(plain),
      stats_(stats),
      owner_tag_(options.owner_tag),
      read_buffers_(options.read_buffers < 2                 ? 2
                    : options.read_buffers > kMaxReadBuffers ? kMaxReadBuffers
                                                             : options.read_buffers),
      disabled_features_(options.disabled_features) {}

int UringEngine::Open() noexcept {
  int r = ring_.Open(kEntries, disabled_features_);
  if (r < 0) return r;
  void* p = sys::Map(nullptr, kMaxQueues * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (sys::MapFailed(p)) return -ENOMEM;
  sys::Advise(p, kMaxQueues * kPage, MADV_DONTFORK);
  ring_memory_ = static_cast<io_uring_buf_ring*>(p);
  // Buffer rings came with 5.19; without them there is nothing a ring does better than plain calls.
  r = ring_.RegisterBufferRing(0, ring_memory_, kBufferRingEntries);
  if (r < 0) return r;
  queues_[0].ring = ring_memory_;
  return 0;
}

UringEngine::~UringEngine() {
  if (!ring_.failed()) {
    for (QueueSlot& slot : queues_)
      if (slot.used) Disarm(slot);
  }
  ring_.Close();
  if (ring_memory_ != nullptr) sys::Unmap(ring_memory_, kMaxQueues * kPage);
}

// --- Completions ---

void UringEngine::ReapAll() noexcept {
  ring_.Reap([this](RingToken token, int32_t result, uint32_t flags) { OnCompletion(token, result, flags); });
}

void UringEngine::OnRead(QueueSlot& slot, int32_t result, uint32_t flags) noexcept {
  if ((flags & IORING_CQE_F_MORE) == 0 && slot.reads_armed > 0) --slot.reads_armed;
  if ((flags & IORING_CQE_F_BUFFER) != 0) {
    auto number = static_cast<uint16_t>(flags >> IORING_CQE_BUFFER_SHIFT);
    --slot.provided;
    uint32_t bytes = result > 0 ? static_cast<uint32_t>(result) : 0;
    if (result == 0) slot.error = EBADFD;  // never from a TAP; the end of a socket that stands in for one
    slot.ready[(slot.ready_first + slot.ready_count++) % kMaxReadBuffers] = {number, bytes};
    return;
  }
  switch (result) {
    case -ECANCELED:
    case -EINTR: break;
    case -EAGAIN: slot.empty = true; break;
    case -ENOBUFS:
      slot.starved = true;
      ++stats_->out_of_buffers;
      break;
    default: slot.error = result < 0 ? -result : EBADFD; ++stats_->errors_in;
  }
}

// --- Transmit ---

void UringEngine::Transmit(QueueRef queue, const TxBatch& batch, TransmitResult* result) noexcept {
  ring_.Reserve(static_cast<unsigned>(batch.count));
  transmit_result_ = result;
  transmit_batch_ = &batch;
  writes_refused_ = 0;
  for (size_t i = 0; i < batch.count; ++i) {
    io_uring_sqe* sqe = ring_.Sqe({RingTag::kWrite, 0, static_cast<uint32_t>(i)});
    if (sqe == nullptr) {
      plain_->Transmit(queue, batch, i, result);
      break;
    }
    size_t n = FillIovecs(queue, batch.frames[i], iovecs_[i], flat_[i]);
    if (n == 1) {
      sqe->opcode = IORING_OP_WRITE;
      sqe->addr = reinterpret_cast<uint64_t>(iovecs_[i][0].iov_base);
      sqe->len = static_cast<uint32_t>(iovecs_[i][0].iov_len);
    } else {
      sqe->opcode = IORING_OP_WRITEV;
      sqe->addr = reinterpret_cast<uint64_t>(iovecs_[i]);
      sqe->len = static_cast<uint32_t>(n);
    }
    sqe->fd = queue.fd;
    // Never wait for room: the payload belongs to send queues whose lock the caller drops afterwards.
    sqe->rw_flags = nowait_writes_ ? RWF_NOWAIT : 0;
    ++writes_pending_;
  }
  ring_.Enter(0);
  ReapAll();
  while (writes_pending_ > 0 && !ring_.failed()) {
    ring_.Enter(1);
    ReapAll();
  }
  if (ring_.failed() && writes_pending_ > 0) {
    // Which of them went out is unknown: TCP repeats what did not.
    result->failed += writes_pending_;
    result->error = EIO;
    stats_->errors_out += writes_pending_;
    writes_pending_ = 0;
  }
  transmit_result_ = nullptr;
  transmit_batch_ = nullptr;
  while (writes_refused_ != 0) {
    int i = std::countr_zero(writes_refused_);
    writes_refused_ &= writes_refused_ - 1;
    plain_->TransmitOne(queue, batch.frames[static_cast<size_t>(i)], result);
  }
}

void UringEngine::OnCompletion(RingToken token, int32_t result, uint32_t flags) noexcept {
  switch (token.tag) {
    case RingTag::kIgnore: break;
    case RingTag::kWrite: {
      if (transmit_batch_ == nullptr) break;
      --writes_pending_;
      const TxFrame& frame = transmit_batch_->frames[token.index];
      if (result >= 0) {
        ++transmit_result_->sent;
        ++stats_->frames_out;
        ++stats_->ring_frames_out;
        stats_->bytes_out += frame.header_bytes + frame.payload_bytes;
      } else if (result == -EOPNOTSUPP && nowait_writes_) {
        writes_refused_ |= uint64_t{1} << token.index;
      } else {
        CountFailure(stats_, transmit_result_, -result);
      }
      break;
    }
    case RingTag::kRead: OnRead(queues_[token.serial], result, flags); break;
    default: OnWaitCompletion(token, result);
  }
}

// --- Receive ---

const UringEngine::QueueSlot* UringEngine::FindSlot(QueueRef queue) const noexcept {
  for (const QueueSlot& slot : queues_)
    if (slot.used && slot.ref == queue) return &slot;
  return nullptr;
}

UringEngine::QueueSlot* UringEngine::FindSlot(QueueRef queue) noexcept {
  return const_cast<QueueSlot*>(static_cast<const UringEngine*>(this)->FindSlot(queue));
}

UringEngine::QueueSlot* UringEngine::SlotFor(QueueRef queue) noexcept {
  QueueSlot* unused = nullptr;
  for (QueueSlot& slot : queues_) {
    if (slot.used && slot.ref == queue) return &slot;
    if (slot.used && slot.ref.fd == queue.fd) {
      // The number means another file now: nothing armed on the old one may be taken for this one's.
      Disarm(slot);
      slot.ref = queue;
      slot.error = 0;
      slot.starved = slot.poll_fired = false;
      return &slot;
    }
    if (!slot.used && unused == nullptr) unused = &slot;
  }
  if (unused == nullptr || !SetUpBufferRing(*unused)) return nullptr;
  unused->used = true;
  unused->ref = queue;
  return unused;
}

bool UringEngine::SetUpBufferRing(QueueSlot& slot) noexcept {
  if (slot.ring != nullptr) return true;
  uint32_t index = IndexOf(slot);
  auto* memory = reinterpret_cast<io_uring_buf_ring*>(reinterpret_cast<std::byte*>(ring_memory_) + index * kPage);
  if (ring_.RegisterBufferRing(static_cast<uint16_t>(index), memory, kBufferRingEntries) < 0) return false;
  slot.ring = memory;
  return true;
}

Buf* UringEngine::TakeMarked(BufPool& pool) noexcept {
  Buf* b = pool.Take(BufClass::kFrame);
  if (b != nullptr)
    MarkInEngine(b, owner_tag_);
  else
    ++stats_->out_of_buffers;
  return b;
}

void UringEngine::Provide(QueueSlot& slot, uint16_t number) noexcept {
  // Entry 0 shares its last two bytes with the tail, so the fields are stored one by one.
  io_uring_buf& entry = slot.ring->bufs[slot.ring_tail & (kBufferRingEntries - 1)];
  entry.addr = reinterpret_cast<uint64_t>(slot.buffers[number]->data() + ReadOffset(slot.ref));
  entry.len = static_cast<uint32_t>(ReadBytes(slot.ref));
  entry.bid = number;
  ++slot.ring_tail;
  __atomic_store_n(&slot.ring->tail, slot.ring_tail, __ATOMIC_RELEASE);
  ++slot.provided;
}

void UringEngine::FillBuffers(QueueSlot& slot, BufPool& pool) noexcept {
  if (slot.spare == nullptr) slot.spare = TakeMarked(pool);
  for (uint16_t i = 0; i < read_buffers_ && slot.spare != nullptr; ++i) {
    if (slot.buffers[i] != nullptr) continue;
    Buf* b = TakeMarked(pool);
    if (b == nullptr) break;
    slot.buffers[i] = b;
    Provide(slot, i);
  }
}

void UringEngine::ArmRead(QueueSlot& slot) noexcept {
  bool multishot = ring_.has(kFeatureMultishotRead);
  uint32_t wanted = multishot ? 1 : slot.provided < kSingleReads ? slot.provided : kSingleReads;
  ring_.Reserve(wanted);
  for (uint32_t i = 0; i < wanted; ++i) {
    io_uring_sqe* sqe = ring_.Sqe({RingTag::kRead, IndexOf(slot), 0});
    if (sqe == nullptr) return;
    sqe->opcode = multishot ? kOpReadMultishot : static_cast<uint8_t>(IORING_OP_READ);
    sqe->fd = slot.ref.fd;
    sqe->off = static_cast<uint64_t>(-1);
    sqe->flags = IOSQE_BUFFER_SELECT;
    sqe->buf_group = static_cast<uint16_t>(IndexOf(slot));
    if (!multishot) {
      sqe->len = static_cast<uint32_t>(ReadBytes(slot.ref));
      sqe->rw_flags = RWF_NOWAIT;
    }
    ++slot.reads_armed;
  }
  ++stats_->read_rearms;
}

void UringEngine::Deliver(QueueSlot& slot, BufPool& pool, FrameSink sink, uint32_t max_frames,
                          ReceiveResult* result) noexcept {
  while (slot.ready_count > 0 && result->frames < max_frames) {
    ReadyFrame ready = slot.ready[slot.ready_first];
    slot.ready_first = (slot.ready_first + 1) % kMaxReadBuffers;
    --slot.ready_count;
    Buf* b = slot.buffers[ready.buffer];
    RxFrame frame;
    if (!DescribeFrame(slot.ref, b->data(), ready.bytes, &frame)) {
      ++stats_->short_frames;
      Provide(slot, ready.buffer);
      continue;
    }
    ++result->frames;
    ++stats_->frames_in;
    ++stats_->ring_frames_in;
    stats_->bytes_in += frame.bytes.size();
    if (slot.spare == nullptr) slot.spare = TakeMarked(pool);
    // Without a replacement at hand the stack must copy: the ring never shrinks.
    if (DeliverFromBuf(frame, b, slot.spare != nullptr, sink)) {
      slot.buffers[ready.buffer] = slot.spare;
      slot.spare = nullptr;
    } else {
      MarkInEngine(b, owner_tag_);
    }
    Provide(slot, ready.buffer);
  }
}

// Asks the kernel for frames. True when there are some to deliver.
bool UringEngine::Fetch(QueueSlot& slot) noexcept {
  ReapAll();
  if (slot.ready_count > 0) return true;
  if (slot.error != 0 || ring_.failed()) return false;
  bool multishot = ring_.has(kFeatureMultishotRead);
  if (slot.reads_armed == 0) {
    slot.starved = false;
    slot.empty = false;
    ArmRead(slot);
    ring_.Enter(0);
    ReapAll();
    // Single reads never stay armed; a kernel that finishes one later than its submission is waited for.
    while (!multishot && slot.reads_armed > 0 && !ring_.failed()) {
      ring_.Enter(1);
      ReapAll();
    }
  } else if (ring_.WorkPending()) {
    ring_.Enter(0);
    ReapAll();
  }
  return slot.ready_count > 0;
}

bool UringEngine::ReadsPending(QueueRef queue) const noexcept {
  if (!ring_.has(kFeatureMultishotRead) || !ring_.WorkPending()) return false;
  const QueueSlot* slot = FindSlot(queue);
  return slot == nullptr || slot->last_frames > 1;
}

// The armed read has been told of a frame, nothing is in the ring yet, and the last time there was just one.
bool UringEngine::ExpectsOne(const QueueSlot& slot) const noexcept {
  return slot.last_frames <= 1 && slot.reads_armed > 0 && slot.ready_count == 0 && slot.error == 0 &&
         ring_.has(kFeatureMultishotRead) && ring_.WorkPending() && !ring_.HasCompletions();
}

// Nothing overtakes: the ring reads only when this thread enters it. Its notice stays until then, so that a frame left
// behind here ends the next wait; a notice of a frame read here costs one read that finds nothing.
ReceiveResult UringEngine::ReadAlone(QueueSlot& slot, BufPool& pool, FrameSink sink) noexcept {
  // Looking for a second one every time would cost as much as it saves.
  constexpr uint32_t kLookForMore = 4;
  uint32_t most = slot.lone_frames % kLookForMore == 0 ? 2 : 1;
  ReceiveResult result = plain_->Receive(slot.ref, pool, sink, most);
  slot.lone_frames += result.frames;
  result.more = false;
  return result;
}

ReceiveResult UringEngine::Receive(QueueRef queue, BufPool& pool, FrameSink sink, uint32_t max_frames) noexcept {
  ReceiveResult result;
  QueueSlot* slot = SlotFor(queue);
  if (slot == nullptr || ring_.failed()) return plain_->Receive(queue, pool, sink, max_frames);
  FillBuffers(*slot, pool);
  slot->poll_fired = false;
  slot->empty = false;
  if (ExpectsOne(*slot)) {
    result = ReadAlone(*slot, pool, sink);
    if (result.frames <= 1) return result;
  }
  while (true) {
    Deliver(*slot, pool, sink, max_frames, &result);
    if (result.frames >= max_frames) {
      result.more = true;
      break;
    }
    if (slot->empty) break;  // the batch of single reads reached the end of the queue
    if (slot->provided == 0) {
      // Not one buffer to be had: frames go through the plain engine's scratch memory and are copied by the stack.
      ReceiveResult rest = plain_->Receive(queue, pool, sink, max_frames - result.frames);
      rest.frames += result.frames;
      return rest;
    }
    bool was_armed = slot->reads_armed > 0;
    if (Fetch(*slot)) continue;
    if (slot->error != 0) {
      result.error = slot->error;
      slot->error = 0;
      break;
    }
    // A multishot read that ended without a frame (starved, interrupted) is armed once more.
    if (was_armed && slot->reads_armed == 0 && ring_.has(kFeatureMultishotRead) && !ring_.failed()) continue;
    break;
  }
  if (result.frames > 0) slot->last_frames = result.frames;
  return result;
}

uint32_t UringEngine::HeldFrames(QueueRef queue) const noexcept {
  const QueueSlot* slot = FindSlot(queue);
  return slot != nullptr ? slot->ready_count : 0;
}

bool UringEngine::Reads(QueueRef queue) const noexcept {
  const QueueSlot* slot = FindSlot(queue);
  return slot != nullptr && slot->reads_armed > 0;
}

bool UringEngine::CertainlyIdle(QueueRef queue) const noexcept {
  const QueueSlot* slot = FindSlot(queue);
  return slot != nullptr && slot->reads_armed > 0 && slot->ready_count == 0 && slot->error == 0 &&
         ring_.has(kFeatureMultishotRead) && !ring_.HasCompletions() && !ring_.WorkPending();
}

// --- Disarming ---

void UringEngine::Cancel(RingToken token) noexcept {
  io_uring_sqe* sqe = ring_.Sqe({RingTag::kIgnore, 0, 0});
  if (sqe == nullptr) return;
  sqe->opcode = IORING_OP_ASYNC_CANCEL;
  sqe->fd = -1;
  sqe->addr = token.Encode();
  // What was cancelled reports itself; the cancellation only when it found nothing.
  sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
}

void UringEngine::CancelRead(QueueSlot& slot) noexcept { Cancel({RingTag::kRead, IndexOf(slot), 0}); }

void UringEngine::CancelQueuePoll(QueueSlot& slot) noexcept { Cancel({RingTag::kQueuePoll, IndexOf(slot), 0}); }

// Ends whatever is armed on the slot's file and waits for the end, so that the file is let go.
void UringEngine::Disarm(QueueSlot& slot) noexcept {
  ReapAll();
  while ((slot.reads_armed > 0 || slot.poll_armed) && !ring_.failed()) {
    if (slot.reads_armed > 0) CancelRead(slot);
    if (slot.poll_armed) CancelQueuePoll(slot);
    ring_.Enter(1);
    ReapAll();
  }
}

void UringEngine::ReleaseQueue(QueueRef queue, BufPool& pool) noexcept {
  QueueSlot* slot = FindSlot(queue);
  if (slot == nullptr) return;
  Disarm(*slot);
  stats_->frames_discarded += slot->ready_count;
  for (Buf*& b : slot->buffers) {
    if (b != nullptr) pool.Give(b);
    b = nullptr;
  }
  if (slot->spare != nullptr) pool.Give(slot->spare);
  // The kernel's ring still lists what was provided and not used: make it anew.
  io_uring_buf_ring* memory = slot->ring;
  auto group = static_cast<uint16_t>(IndexOf(*slot));
  *slot = QueueSlot{};
  if (ring_.UnregisterBufferRing(group) < 0) return;
  std::memset(static_cast<void*>(memory), 0, kPage);
  if (ring_.RegisterBufferRing(group, memory, kBufferRingEntries) == 0) slot->ring = memory;
}

}  // namespace ustcp
