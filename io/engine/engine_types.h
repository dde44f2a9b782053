// What engines are asked and what they answer (io/engine/engine.h).
#pragma once

#include <poll.h>
#include <signal.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "stack/time/time.h"

namespace ustcp {

// A TAP queue as an engine sees it. Compared by value: a queue that was opened again under the same number must carry
// another generation, so that a read armed on the old one is not taken for one on the new.
struct QueueRef {
  int fd = -1;
  bool vnet = true;  // frames carry the 10-byte virtio header
  uint32_t generation = 0;
  friend constexpr bool operator==(const QueueRef&, const QueueRef&) = default;
};

enum class EngineKind : uint8_t {
  kAuto,   // io_uring where the kernel permits it, plain calls otherwise
  kUring,  // the same, for tests that must know: Create fails instead of falling back
  kPlain,
};

// Features of the ring that Create may be told to leave unused: how tests run on a new kernel what an old one does.
enum EngineFeature : uint32_t {
  kFeatureDeferTaskrun = 1 << 0,    // 6.1
  kFeatureMultishotRead = 1 << 1,   // 6.7
  kFeatureFutexWait = 1 << 2,       // 6.7
  kFeatureRegisteredRing = 1 << 3,  // 6.3: the ring lives without a descriptor
};

// Batches from this size on are written through the ring, smaller ones by a writev per frame. Measured on Linux 6.18,
// ns of CPU a frame, 60-byte frames: 1 frame 561 ring against 397 plain, 2: 460/384, 4: 404/367, 8: 373/368, 64:
// 407/422; with 60 KB frames the two meet at 8 as well.
inline constexpr uint32_t kRingBatchThreshold = 8;

struct EngineOptions {
  EngineKind kind = EngineKind::kAuto;
  uint64_t owner_tag = 0;     // Buf::tag of buffers the engine holds: the process's slot
  uint32_t read_buffers = 8;  // per queue; few recently used ones stay in cache (at most kMaxReadBuffers)
  uint32_t ring_batch = kRingBatchThreshold;
  int wake_fd = -1;                // a descriptor to wait on and to drain in place of an eventfd of the engine's own
  uint32_t disabled_features = 0;  // EngineFeature bits
  bool quiet = false;              // no line on stderr about a fall-back
};
inline constexpr uint32_t kMaxReadBuffers = 32;

// Counts since the engine was made. Written by its thread only.
struct EngineStats {
  uint64_t frames_in = 0;
  uint64_t frames_out = 0;
  uint64_t bytes_in = 0;  // Ethernet bytes, without the virtio header
  uint64_t bytes_out = 0;
  uint64_t ring_enters = 0;       // io_uring_enter calls
  uint64_t ring_frames_in = 0;    // of frames_in, those the ring read
  uint64_t ring_frames_out = 0;   // of frames_out, those the ring wrote
  uint64_t plain_reads = 0;       // read calls, those that found nothing included
  uint64_t plain_writes = 0;      // writev calls
  uint64_t waits = 0;             // times the thread went to sleep
  uint64_t read_rearms = 0;       // reads armed (again)
  uint64_t out_of_buffers = 0;    // the ring ran dry, or the pool had none to replace a taken one
  uint64_t short_frames = 0;      // received frames dropped because they end within their headers
  uint64_t errors_in = 0;         // reads that failed
  uint64_t errors_out = 0;        // frames the device refused: EINVAL, EIO (interface down), EAGAIN
  uint64_t frames_discarded = 0;  // read but thrown away with their queue
};

struct TransmitResult {
  uint32_t sent = 0;
  uint32_t failed = 0;
  int error = 0;  // errno number of the last frame that failed
};

struct ReceiveResult {
  uint32_t frames = 0;  // handed to the sink
  bool more = false;    // stopped at max_frames; there may be more
  // errno number of a read that failed: EBADFD (queue detached: the device was deleted), EBADF, EIO, ... The queue is
  // of no use any more and should be opened again; 0 while it is well.
  int error = 0;
};

// A kernel descriptor the program waits for as well, as in pollfd.
struct WaitPoll {
  int fd = -1;  // negative: ignored, as poll does
  short events = 0;
  short revents = 0;  // out
  // 0: looked at afresh, and let go of before Wait returns (a poll in a ring holds the file open, so that the program's
  // close() would have no effect). Anything else names the file behind the number for as long as it lives (an epoll
  // set's own number, say): the poll may then stay armed from wait to wait, and is dropped when the same number comes
  // with another identity. revents of such an entry may be out of date by the time it is reported: look again.
  uint64_t identity = 0;
};

struct WaitRequest {
  std::span<const QueueRef> queues{};
  std::span<WaitPoll> polls{};
  // Sleep only while *futex == futex_expected. May be null. Wakers change the word, then call FutexWake, then write to
  // the engine's wake_fd() if it has one.
  std::atomic<uint32_t>* futex = nullptr;
  uint32_t futex_expected = 0;
  // The word belongs to this engine's thread alone as long as the engine lives: the wait on it may stay armed between
  // sleeps. Words that pass from thread to thread must leave this false: a forgotten waiter would swallow a wake-up.
  bool futex_owned = false;
  Instant deadline = kNever;
  const sigset_t* signal_mask = nullptr;  // in force during the sleep only, as with ppoll
  Duration spin{0};                       // look for this long before going to sleep
};

// Several may hold at once. None holds after an early wake-up without a reason: look at everything and wait again.
struct WaitResult {
  bool frames = false;  // a queue has (or had) something: call Receive
  bool woken = false;   // the futex word changed, or somebody wrote to wake_fd
  bool timed_out = false;
  bool interrupted = false;  // a signal handler ran
  uint32_t ready_polls = 0;  // entries of `polls` with revents
  int error = 0;             // errno number: the wait was not possible at all (never EINTR)
};

}  // namespace ustcp
