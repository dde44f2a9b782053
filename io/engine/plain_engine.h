// Frames by read and writev, sleep by ppoll: for kernels and sandboxes without io_uring, and for single frames, where
// it is the faster way. Part of Engine (io/engine/engine.h), which documents the contract.
#pragma once

#include "io/device/frame_sink.h"
#include "io/engine/engine_types.h"
#include "stack/base/frame.h"
#include "stack/mem/buf.h"

namespace ustcp {

class PlainEngine {
 public:
  explicit PlainEngine(EngineStats* stats) noexcept : stats_(stats) {}
  ~PlainEngine();
  PlainEngine(const PlainEngine&) = delete;
  PlainEngine& operator=(const PlainEngine&) = delete;

  // `given` is EngineOptions::wake_fd; with -1 and `needs_wake_fd` an eventfd is made if one can be.
  void Open(int given, bool needs_wake_fd) noexcept;

  // Writes frames [first, count) of the batch.
  void Transmit(QueueRef queue, const TxBatch& batch, size_t first, TransmitResult* result) noexcept;
  void TransmitOne(QueueRef queue, const TxFrame& frame, TransmitResult* result) noexcept;
  ReceiveResult Receive(QueueRef queue, BufPool& pool, FrameSink sink, uint32_t max_frames) noexcept;
  WaitResult Wait(const WaitRequest& request) noexcept;

  int wake_fd() const noexcept { return wake_fd_; }
  // Empties the wake-up descriptor.
  void DrainWakeFd() noexcept;

 private:
  std::byte* Scratch() noexcept;

  EngineStats* stats_;
  std::byte* scratch_ = nullptr;  // where frames go while the pool has no buffer
  int wake_fd_ = -1;
  bool own_wake_fd_ = false;
};

// Looks at the descriptors without waiting, sets revents and returns how many are ready.
uint32_t PollNow(std::span<WaitPoll> polls) noexcept;

// Records a failed write, `error` being a positive errno number.
inline void CountFailure(EngineStats* stats, TransmitResult* result, int error) noexcept {
  ++stats->errors_out;
  ++result->failed;
  result->error = error;
}

}  // namespace ustcp
