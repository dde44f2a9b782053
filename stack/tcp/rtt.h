// Round-trip time and retransmission timeout (RFC 6298) with the kernel's refinements: microseconds, a deviation that
// grows at once but shrinks at most once per round trip, a lower bound on the variance part instead of on the sum, and a
// windowed minimum. What counts as a sample (Karn's rule, timestamps) is decided in recovery/.
#pragma once

#include <array>
#include <cstdint>

#include "stack/base/seq.h"
#include "stack/base/sysctl.h"
#include "stack/time/time.h"

namespace ustcp {

inline constexpr Duration kInitialRto = 1s;      // RFC 6298 2.1
inline constexpr Duration kFallbackRto = 3s;     // RFC 6298 5.7: the handshake gave no sample
inline constexpr Duration kMinRttWindow = 300s;  // net.ipv4.tcp_min_rtt_wlen of the kernel
inline constexpr uint32_t kNoRtt = 0xffffffff;

// The smallest value seen within a sliding window, from three samples (Kathleen Nichols' algorithm): the best of the whole
// window, of its later part, and of the latest part.
class WindowedMin {
 public:
  // Forgets everything before this sample.
  void Reset(Instant now, uint32_t value) noexcept { samples_.fill({now, value}); }
  // Takes a sample and returns the minimum as of now.
  uint32_t Update(Instant now, Duration window, uint32_t value) noexcept;
  // kNoRtt before the first sample.
  uint32_t value() const noexcept { return samples_[0].value; }

 private:
  struct Sample {
    Instant at{};
    uint32_t value = kNoRtt;
  };
  std::array<Sample, 3> samples_;
};

// All durations in microseconds; srtt is kept times 8, the deviations times 4, as the formulas want them.
struct RttEstimator {
  uint32_t srtt8_us = 0;  // 0: no sample yet
  uint32_t mdev4_us = 0;
  uint32_t mdev_max4_us = 0;   // largest deviation within this round trip
  uint32_t rttvar4_us = 0;     // what the timeout uses
  Seq round_end;               // when snd_una passes it, a round trip is over
  uint8_t backoff = 0;         // doublings since the last sample
  Duration rto = kInitialRto;  // with backoff applied
  WindowedMin min;

  bool has_sample() const { return srtt8_us != 0; }
  uint32_t srtt_us() const { return srtt8_us >> 3; }
  uint32_t min_rtt_us() const { return min.value(); }  // kNoRtt: none
};

// Feeds one measurement. `snd_una` and `snd_nxt` as of now (they delimit the round trip). Recomputes rto and ends the
// backoff.
void AddRttSample(RttEstimator& rtt, const Sysctls& sysctls, uint32_t sample_us, Seq snd_una, Seq snd_nxt) noexcept;

// SRTT + max(4 RTTVAR, tcp_rto_min_us), at most tcp_rto_max_ms, without backoff; kInitialRto before the first sample.
Duration ComputeRto(const RttEstimator& rtt, const Sysctls& sysctls) noexcept;

// RFC 6298 5.5: doubles the timeout, up to tcp_rto_max_ms.
void BackOffRto(RttEstimator& rtt, const Sysctls& sysctls) noexcept;

// RFC 6298 5.7: the connection is established without a sample; the timeout becomes 3 s.
void UseFallbackRto(RttEstimator& rtt) noexcept;

// How long `retransmissions` timeouts with doubling last in total, starting from `base` (200 ms for data, the kernel's
// constant; 1 s for a SYN), each at most tcp_rto_max_ms: 924.6 s for 15 from 200 ms. This is the time after which
// tcp_retries2 gives up, not a count of actual retransmissions.
Duration ModelTimeout(const Sysctls& sysctls, uint32_t retransmissions, Duration base) noexcept;

}  // namespace ustcp
