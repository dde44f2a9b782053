// One io_uring: set-up with run-time probing, submission, completion, buffer rings, and the encoding of user_data.
// Knows nothing of frames. Used by the thread that opened it, and by no other.
//
// Read io_uring_enter(2) first. Numbers that the build machine's headers may lack are defined here and probed for.
#pragma once

#include <liburing.h>
#include <signal.h>

#include <cstddef>
#include <cstdint>

#include "io/engine/engine_types.h"

namespace ustcp {

// Linux 6.7.
inline constexpr uint8_t kOpReadMultishot = 49;
inline constexpr uint8_t kOpFutexWait = 51;

// What a completion belongs to.
enum class RingTag : uint8_t {
  kIgnore,     // cancellations
  kWrite,      // index: frame of the batch
  kRead,       // serial: queue slot
  kQueuePoll,  // serial: queue slot
  kPoll,       // index: entry of WaitRequest::polls
  kKeptPoll,   // index: entry of the table of kept polls
  kFutex,
  kWakePoll,
};

struct RingToken {
  RingTag tag = RingTag::kIgnore;
  uint32_t serial = 0;  // 24 bits: tells an earlier use of the same index from this one
  uint32_t index = 0;

  static constexpr uint32_t kSerialMask = 0xffffff;
  constexpr uint64_t Encode() const {
    return static_cast<uint64_t>(tag) << 56 | static_cast<uint64_t>(serial & kSerialMask) << 32 | index;
  }
  static constexpr RingToken Decode(uint64_t user_data) {
    return {static_cast<RingTag>(user_data >> 56), static_cast<uint32_t>(user_data >> 32) & kSerialMask,
            static_cast<uint32_t>(user_data)};
  }
};

class Uring {
 public:
  Uring() = default;
  ~Uring() { Close(); }
  Uring(const Uring&) = delete;
  Uring& operator=(const Uring&) = delete;

  // 0, or a negative errno number: ENOSYS, EPERM (forbidden), ENOMEM, ... `disabled` are EngineFeature bits.
  int Open(unsigned entries, uint32_t disabled) noexcept;
  void Close() noexcept;

  uint32_t features() const noexcept { return features_; }
  bool has(EngineFeature f) const noexcept { return (features_ & f) != 0; }
  // The ring stopped working (its descriptor was closed by a raw system call, or a seccomp filter forbids it now).
  bool failed() const noexcept { return failed_; }

  // A cleared submission entry. Submits what is pending when there is no room. Null when the ring has failed.
  io_uring_sqe* Sqe(RingToken token) noexcept;
  // Room for `count` entries without a submission in between, so that they go in one system call.
  void Reserve(unsigned count) noexcept;
  unsigned pending() const noexcept { return ring_.sq.sqe_tail - ring_.sq.sqe_head; }

  // Submits everything pending, runs what the kernel left for this thread to do, and waits for `min_complete`
  // completions. `timeout` (relative) and `mask` may be null. Returns the kernel's value, which hides EINTR and ETIME
  // behind the number of submitted entries when there were any; those and EBUSY and EAGAIN are no failures.
  int Enter(unsigned min_complete, const timespec* timeout = nullptr, const sigset_t* mask = nullptr) noexcept;

  // The kernel has completions to deliver at the next Enter. Only meaningful with kFeatureDeferTaskrun.
  bool WorkPending() const noexcept {
    return (__atomic_load_n(ring_.sq.kflags, __ATOMIC_RELAXED) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
  }
  bool HasCompletions() const noexcept { return __atomic_load_n(ring_.cq.ktail, __ATOMIC_ACQUIRE) != *ring_.cq.khead; }

  // Calls visit(RingToken, int32_t result, uint32_t flags) for each completion and consumes it. Returns how many.
  template <typename Visit>
  unsigned Reap(Visit&& visit) noexcept {
    unsigned head = *ring_.cq.khead;
    unsigned count = 0;
    for (;;) {
      unsigned tail = __atomic_load_n(ring_.cq.ktail, __ATOMIC_ACQUIRE);
      if (head == tail) break;
      const io_uring_cqe& cqe = ring_.cq.cqes[head & cq_mask_];
      RingToken token = RingToken::Decode(cqe.user_data);
      int32_t result = cqe.res;
      uint32_t flags = cqe.flags;
      __atomic_store_n(ring_.cq.khead, ++head, __ATOMIC_RELEASE);
      ++count;
      visit(token, result, flags);
    }
    return count;
  }

  // 0 or a negative errno number. `memory` is page-aligned and holds `entries` (a power of two) io_uring_buf.
  int RegisterBufferRing(uint16_t group, io_uring_buf_ring* memory, unsigned entries) noexcept;
  int UnregisterBufferRing(uint16_t group) noexcept;

  uint64_t enters() const noexcept { return enters_; }

 private:
  int Register(unsigned opcode, const void* arg, unsigned count) noexcept;
  void LeaveDescriptor() noexcept;
  void ProbeOpcodes(uint32_t disabled) noexcept;
  unsigned Flush() noexcept;

  io_uring ring_{};
  unsigned cq_mask_ = 0;
  uint64_t enters_ = 0;
  uint32_t features_ = 0;
  bool open_ = false;
  bool failed_ = false;
  bool registered_ = false;  // enter through the thread's table of rings instead of a descriptor
};

}  // namespace ustcp
