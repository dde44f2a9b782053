// How one driving thread moves frames and sleeps. Two implementations behind one class: io_uring, and plain read,
// writev and ppoll for where io_uring is not permitted. The answer to "who may call": the thread that created the
// engine, and nobody else. It makes no decisions about TCP and knows nothing of shards; calls that take a BufPool or
// hand frames to a sink run under the lock that guards those, Wait runs without it.
//
// Memory: the engine lives in a mapping of its own (no heap). The child of a fork finds that mapping wiped: call
// AbandonInChild() once there, forget every Engine pointer, and create engines anew. The parent's ring is not touched.
// (Calls on a wiped engine fail with ESTALE.)
//
// Buffers an engine holds for reads are marked kBufInEngine with the owner's tag (stack/mem/buf.h), so that whoever
// cleans up after a dead process finds them by walking the pool.
#pragma once

#include "io/device/frame_sink.h"
#include "io/device/tap.h"
#include "io/engine/engine_types.h"
#include "stack/base/frame.h"
#include "stack/mem/buf.h"

namespace ustcp {

class PlainEngine;
class UringEngine;

class Engine {
 public:
  // Never fails for want of io_uring unless kUring was asked for: says so on stderr once per process and goes on with
  // plain calls. Null when memory cannot be mapped, or kUring cannot be had. `ring_error` (may be null) gets the errno
  // number for which there is no ring, 0 otherwise.
  static Engine* Create(const EngineOptions& options, int* ring_error = nullptr) noexcept;
  // Whether kUring can be had: EACCES (not permitted) or ENETDOWN, with the line to show.
  static IoError CheckRing() noexcept;
  // Ends the ring and frees the engine. Queues must have been released, or their buffers be swept by tag later.
  static void Destroy(Engine* engine) noexcept;
  // In the child of a fork, before anything else: closes the descriptors that belonged to the parent's engines.
  static void AbandonInChild() noexcept;

  // Writes every frame of the batch to the queue, in order. All payload has been read when it returns. Frames that have
  // arrived meanwhile may be picked up in the same system call (HeldFrames counts them, Receive hands them out), unless
  // `pick_up` is false: while another thread reads the queue, none may stay here. The batch is not changed.
  TransmitResult Transmit(QueueRef queue, const TxBatch& batch, bool pick_up = true) noexcept;

  // Frames that were read from the queue and not handed out yet. Somebody has to call Receive before this thread goes off
  // to other work: nobody else can.
  uint32_t HeldFrames(QueueRef queue) const noexcept;

  // Hands frames that have arrived to the sink, `max_frames` at most; does not block. What it leaves behind ends the next
  // Wait at once (where frames come one at a time it does not look for another one each time). A sink that takes the frame's
  // buffer leaves null in RxFrame::buffer. When `pool` cannot replace a buffer, frames come with a null buffer, so that
  // the sink copies what it wants to keep: reception never stops for want of buffers.
  ReceiveResult Receive(QueueRef queue, BufPool& pool, FrameSink sink, uint32_t max_frames) noexcept;

  // True when Receive would certainly find nothing on the queue without entering the kernel: free to ask each turn.
  // False says nothing.
  bool CertainlyIdle(QueueRef queue) const noexcept;

  // Ends reads on the queue and gives every buffer back; frames read but not handed out are dropped (counted). To be
  // called before the queue is closed or handed to another thread for good.
  void ReleaseQueue(QueueRef queue, BufPool& pool) noexcept;

  // Sleeps; see WaitRequest. Whatever happened after the caller's last look at the queues, the polls or the futex word
  // ends the sleep. Reads on queues that the request does not name are disarmed first: only the waiter that names a
  // queue is woken by its frames.
  WaitResult Wait(const WaitRequest& request) noexcept;

  // A descriptor that wakers must write to (8 bytes) after changing the futex word; -1 when the word is enough.
  int wake_fd() const noexcept;
  bool is_uring() const noexcept;
  // EngineFeature bits in use.
  uint32_t features() const noexcept;
  EngineStats stats() const noexcept;

  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

 private:
  Engine() = default;
  bool RingWorks() const noexcept;

  EngineStats stats_;
  uint32_t ring_batch_ = kRingBatchThreshold;
  PlainEngine* plain_ = nullptr;  // always there: single frames, and everything when the ring fails
  UringEngine* ring_ = nullptr;   // null: plain calls only
};

}  // namespace ustcp
