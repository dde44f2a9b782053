// Frames and waits through an io_uring. Part of Engine (io/engine/engine.h), which documents the contract.
//
// Life of a read: Receive gives a few buffers of the shard's pool to the kernel (a provided-buffer ring per queue) and
// arms one multishot read. With deferred task work the kernel reads nothing until this thread enters the ring again, so
// another thread may drive the same queue meanwhile without loss. Completions are collected into the queue slot's
// `ready` list wherever they turn up (while transmitting, while waiting), and handed out by the next Receive, under
// the lock that guards the pool. While frames come one at a time (a request, its answer), a plain read of the one that the
// ring has noticed and not read yet takes its place: half the cost of an enter. Kernels without multishot reads (before 6.7) get a batch of single non-blocking reads
// from Receive, and a poll in Wait.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "io/device/frame_io.h"
#include "io/device/frame_sink.h"
#include "io/engine/engine_types.h"
#include "io/engine/plain_engine.h"
#include "io/engine/uring.h"
#include "stack/base/frame.h"
#include "stack/mem/buf.h"

namespace ustcp {

class UringEngine {
 public:
  UringEngine(const EngineOptions& options, PlainEngine* plain, EngineStats* stats) noexcept;
  ~UringEngine();
  UringEngine(const UringEngine&) = delete;
  UringEngine& operator=(const UringEngine&) = delete;

  // 0 or a negative errno number.
  int Open() noexcept;
  // Every call goes to the plain engine from then on.
  bool failed() const noexcept { return ring_.failed(); }
  uint32_t features() const noexcept { return ring_.features(); }
  // The kernel waits for the next enter to read frames that have arrived, and they come several at a time.
  bool ReadsPending(QueueRef queue) const noexcept;
  uint64_t enters() const noexcept { return ring_.enters(); }

  void Transmit(QueueRef queue, const TxBatch& batch, TransmitResult* result) noexcept;
  ReceiveResult Receive(QueueRef queue, BufPool& pool, FrameSink sink, uint32_t max_frames) noexcept;
  bool CertainlyIdle(QueueRef queue) const noexcept;
  uint32_t HeldFrames(QueueRef queue) const noexcept;
  // A read is armed on the queue: entering the ring may take frames from it.
  bool Reads(QueueRef queue) const noexcept;
  void ReleaseQueue(QueueRef queue, BufPool& pool) noexcept;
  WaitResult Wait(const WaitRequest& request) noexcept;

 private:
  static constexpr uint32_t kMaxQueues = 16;
  static constexpr uint32_t kMaxKeptPolls = 16;
  static constexpr unsigned kEntries = 128;
  static constexpr uint32_t kSingleReads = 8;  // reads submitted at once where multishot is missing

  struct ReadyFrame {
    uint16_t buffer;
    uint32_t bytes;
  };

  // A queue this thread has read from or waited for.
  struct QueueSlot {
    QueueRef ref;
    io_uring_buf_ring* ring = nullptr;  // shared with the kernel
    Buf* buffers[kMaxReadBuffers];      // by buffer number; null when the pool had none
    Buf* spare = nullptr;               // takes the place of the next one the stack takes
    ReadyFrame ready[kMaxReadBuffers];  // read, not handed out: a FIFO
    uint32_t ready_first = 0;
    uint32_t ready_count = 0;
    uint32_t provided = 0;     // buffers the kernel may fill
    uint32_t reads_armed = 0;  // multishot: 0 or 1
    uint32_t last_frames = 0;  // what the last Receive that found any found
    uint32_t lone_frames = 0;  // how many were read alone, past the ring
    uint16_t ring_tail = 0;
    bool used = false;
    bool poll_armed = false;
    bool poll_fired = false;
    bool starved = false;  // a read ended for want of buffers: there are frames
    bool empty = false;    // a single read found nothing
    int error = 0;         // errno number of a read that failed
  };

  // A poll that stays armed between waits (WaitPoll::identity).
  struct KeptPoll {
    int fd = -1;
    short events = 0;
    uint64_t identity = 0;
    uint64_t last_wait = 0;
    bool armed = false;
    short revents = 0;  // of a completion during the current wait
  };

  void ReapAll() noexcept;
  void OnCompletion(RingToken token, int32_t result, uint32_t flags) noexcept;
  void OnWaitCompletion(RingToken token, int32_t result) noexcept;
  void OnRead(QueueSlot& slot, int32_t result, uint32_t flags) noexcept;

  QueueSlot* FindSlot(QueueRef queue) noexcept;
  const QueueSlot* FindSlot(QueueRef queue) const noexcept;
  // Finds or makes one; a slot of an earlier descriptor of the same number is taken over. Null when all are in use.
  QueueSlot* SlotFor(QueueRef queue) noexcept;
  uint32_t IndexOf(const QueueSlot& slot) const noexcept { return static_cast<uint32_t>(&slot - queues_); }
  bool SetUpBufferRing(QueueSlot& slot) noexcept;
  void FillBuffers(QueueSlot& slot, BufPool& pool) noexcept;
  Buf* TakeMarked(BufPool& pool) noexcept;
  void Provide(QueueSlot& slot, uint16_t number) noexcept;
  void ArmRead(QueueSlot& slot) noexcept;
  void CancelRead(QueueSlot& slot) noexcept;
  void CancelQueuePoll(QueueSlot& slot) noexcept;
  void Disarm(QueueSlot& slot) noexcept;
  void Deliver(QueueSlot& slot, BufPool& pool, FrameSink sink, uint32_t max_frames, ReceiveResult* result) noexcept;
  bool Fetch(QueueSlot& slot) noexcept;
  bool ExpectsOne(const QueueSlot& slot) const noexcept;
  ReceiveResult ReadAlone(QueueSlot& slot, BufPool& pool, FrameSink sink) noexcept;
  void Cancel(RingToken token) noexcept;

  // Wait (uring_wait.cc).
  struct Waiting;
  bool Satisfied(Waiting& w) noexcept;
  void Arm(Waiting& w) noexcept;
  void ArmQueues(const WaitRequest& request) noexcept;
  void ArmFutex(const WaitRequest& request) noexcept;
  void ArmPolls(Waiting& w) noexcept;
  KeptPoll* KeptFor(const WaitPoll& poll) noexcept;
  KeptPoll* PlaceFor(const WaitPoll& poll) noexcept;
  void Sleep(Waiting& w, Instant now) noexcept;
  void LetGo(Waiting& w) noexcept;

  Uring ring_;
  PlainEngine* plain_;
  EngineStats* stats_;
  uint64_t owner_tag_;
  uint32_t read_buffers_;
  uint32_t disabled_features_;
  io_uring_buf_ring* ring_memory_ = nullptr;  // one page for each queue
  bool nowait_writes_ = true;                 // false once a queue refused RWF_NOWAIT

  // The batch being written.
  TransmitResult* transmit_result_ = nullptr;
  const TxBatch* transmit_batch_ = nullptr;
  uint32_t writes_pending_ = 0;
  uint64_t writes_refused_ = 0;  // bit by frame: to be written by plain calls

  // The wait under way.
  Waiting* waiting_ = nullptr;
  uint32_t wait_serial_ = 0;
  uint64_t wait_count_ = 0;
  uint32_t polls_pending_ = 0;
  uint32_t futex_serial_ = 0;
  std::atomic<uint32_t>* futex_ = nullptr;  // armed; null when none is
  bool wake_poll_armed_ = false;
  bool wake_poll_fired_ = false;

  KeptPoll kept_[kMaxKeptPolls];
  QueueSlot queues_[kMaxQueues];
  iovec iovecs_[TxBatch::kCapacity][kMaxFrameIovecs];
  FlatFrame flat_[TxBatch::kCapacity];
};

}  // namespace ustcp
