// A bad network between stack and device: loss, duplication, reordering, delay, rate and corruption of frames, in
// either direction, the same for the same seed and the same instants. Time is an argument. It keeps copies of frames
// that are under way in memory of its own (a mapping, bounded); what does not fit is dropped and counted, as a full
// queue does.
#pragma once

#include <cstddef>
#include <cstdint>

#include "io/device/frame_sink.h"
#include "stack/base/bytes.h"
#include "stack/base/frame.h"
#include "stack/time/time.h"

namespace ustcp {

// Probabilities are parts per million.
struct Impairment {
  uint32_t loss_ppm = 0;
  uint32_t duplicate_ppm = 0;
  uint32_t corrupt_ppm = 0;  // one bit behind the Ethernet header is flipped, checksums are not mended
  uint32_t reorder_ppm = 0;  // the frame is held back for reorder_delay more
  Duration reorder_delay{1'000'000};
  Duration delay{0};   // one way
  Duration jitter{0};  // up to this much more, evenly; frames keep their order unless reorder_ppm strikes
  uint64_t rate_bits_per_second = 0;  // 0: unlimited
  uint32_t burst_bytes = 65536;       // of the token bucket

  bool any() const {
    return loss_ppm != 0 || duplicate_ppm != 0 || corrupt_ppm != 0 || reorder_ppm != 0 || delay.count() != 0 ||
           jitter.count() != 0 || rate_bits_per_second != 0;
  }
};

struct ImpairStats {
  uint64_t frames = 0;
  uint64_t lost = 0;
  uint64_t duplicated = 0;
  uint64_t corrupted = 0;
  uint64_t reordered = 0;
  uint64_t overflowed = 0;  // dropped because the store was full
};

// One direction. Feed frames with Offer, take those that are due with Release.
class Impairer {
 public:
  Impairer() = default;
  ~Impairer() { Close(); }
  Impairer(const Impairer&) = delete;
  Impairer& operator=(const Impairer&) = delete;

  // `store_frames` frames of up to 64 KiB at most are under way at once. False when no memory can be mapped.
  bool Open(const Impairment& impairment, uint64_t seed, uint32_t store_frames = 1024) noexcept;
  void Close() noexcept;
  void set_impairment(const Impairment& impairment) noexcept { impairment_ = impairment; }

  // Takes a copy (or drops the frame, or takes two).
  void Offer(const RxFrame& frame, Instant now) noexcept;
  void Offer(const TxFrame& frame, Instant now) noexcept;

  // When Release will next have something; kNever when nothing is under way.
  Instant NextDeadline() const noexcept;
  // Hands the frames that are due to the sink, in order of their instants. buffer is null: the bytes are the
  // impairer's, valid during the call. `max_frames` at most; returns how many.
  uint32_t Release(Instant now, FrameSink sink, uint32_t max_frames = UINT32_MAX) noexcept;
  // The same for frames to transmit: fills the batch up with frames whose pieces point into the store; they stay valid
  // until the next Offer or Release.
  void ReleaseInto(Instant now, TxBatch& batch) noexcept;

  const ImpairStats& stats() const noexcept { return stats_; }

 private:
  struct Slot;
  Slot* Store(const VirtioNetHeader& vnet, size_t bytes, Instant due) noexcept;
  bool Strikes(uint32_t ppm) noexcept;
  uint64_t Random() noexcept;
  Instant DueAt(size_t bytes, Instant now) noexcept;
  static bool Earlier(const Slot* a, const Slot* b) noexcept;
  template <typename Fill>
  void OfferBytes(const VirtioNetHeader& vnet, size_t bytes, Instant now, Fill&& fill) noexcept;
  Slot* PopDue(Instant now) noexcept;
  void Recycle() noexcept;

  Impairment impairment_;
  ImpairStats stats_;
  uint64_t random_state_ = 0;
  std::byte* memory_ = nullptr;
  size_t memory_bytes_ = 0;
  Slot** heap_ = nullptr;  // by due instant, then by number
  uint32_t heap_size_ = 0;
  uint32_t capacity_ = 0;
  uint32_t made_ = 0;  // slots used so far
  std::byte* slots_ = nullptr;
  Slot* free_ = nullptr;
  Slot* lent_ = nullptr;  // handed out by ReleaseInto
  uint64_t next_number_ = 0;
  Instant last_due_{};   // frames keep their order
  Instant link_free_{};  // token bucket: when the link has sent what it was given
};

}  // namespace ustcp
