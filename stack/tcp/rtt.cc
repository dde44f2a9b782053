#include "stack/tcp/rtt.h"

#include <algorithm>
#include <bit>

namespace ustcp {
namespace {

Duration MaxRto(const Sysctls& sysctls) { return std::chrono::milliseconds(sysctls.tcp_rto_max_ms); }
uint32_t MinRtoMicros(const Sysctls& sysctls) { return static_cast<uint32_t>(sysctls.tcp_rto_min_us); }

}  // namespace

uint32_t WindowedMin::Update(Instant now, Duration window, uint32_t value) noexcept {
  const Sample sample{now, value};
  if (value <= samples_[0].value || now - samples_[2].at > window) {
    Reset(now, value);
    return value;
  }
  if (value <= samples_[1].value) {
    samples_[1] = samples_[2] = sample;
  } else if (value <= samples_[2].value) {
    samples_[2] = sample;
  }
  const Duration age = now - samples_[0].at;
  if (age > window) {
    // The best has left the window: the runners-up move up; the second may have left as well.
    samples_[0] = samples_[1];
    samples_[1] = samples_[2];
    samples_[2] = sample;
    if (now - samples_[0].at > window) {
      samples_[0] = samples_[1];
      samples_[1] = samples_[2];
    }
  } else if (samples_[1].at == samples_[0].at && age > window / 4) {
    // A quarter of the window went by without a runner-up: take one from the second quarter.
    samples_[1] = samples_[2] = sample;
  } else if (samples_[2].at == samples_[1].at && age > window / 2) {
    samples_[2] = sample;
  }
  return samples_[0].value;
}

void AddRttSample(RttEstimator& rtt, const Sysctls& sysctls, uint32_t sample_us, Seq snd_una, Seq snd_nxt) noexcept {
  const uint32_t floor = MinRtoMicros(sysctls);
  if (!rtt.has_sample()) {
    // RFC 6298 2.2: SRTT = R, RTTVAR = R / 2.
    rtt.srtt8_us = sample_us << 3;
    rtt.mdev4_us = sample_us << 1;
    rtt.rttvar4_us = std::max(rtt.mdev4_us, floor);
    rtt.mdev_max4_us = rtt.rttvar4_us;
    rtt.round_end = snd_nxt;
  } else {
    // RFC 6298 2.3 with alpha 1/8 and beta 1/4.
    const int64_t error = int64_t{sample_us} - rtt.srtt_us();
    rtt.srtt8_us = static_cast<uint32_t>(rtt.srtt8_us + error);
    int64_t change = (error < 0 ? -error : error) - (rtt.mdev4_us >> 2);
    // A round trip that became shorter says little about the spread above it (Eifel, RFC 3522's authors): a deviation that
    // grows by it grows by an eighth only.
    if (error < 0 && change > 0) change >>= 3;
    rtt.mdev4_us = static_cast<uint32_t>(rtt.mdev4_us + change);
    if (rtt.mdev4_us > rtt.mdev_max4_us) {
      rtt.mdev_max4_us = rtt.mdev4_us;
      rtt.rttvar4_us = std::max(rtt.rttvar4_us, rtt.mdev_max4_us);
    }
    if (snd_una.After(rtt.round_end)) {
      if (rtt.mdev_max4_us < rtt.rttvar4_us) rtt.rttvar4_us -= (rtt.rttvar4_us - rtt.mdev_max4_us) >> 2;
      rtt.round_end = snd_nxt;
      rtt.mdev_max4_us = floor;
    }
  }
  rtt.srtt8_us = std::max(rtt.srtt8_us, 1u);
  rtt.backoff = 0;
  rtt.rto = ComputeRto(rtt, sysctls);
}

Duration ComputeRto(const RttEstimator& rtt, const Sysctls& sysctls) noexcept {
  if (!rtt.has_sample()) return std::min(kInitialRto, MaxRto(sysctls));
  return std::min<Duration>(std::chrono::microseconds(int64_t{rtt.srtt_us()} + rtt.rttvar4_us), MaxRto(sysctls));
}

void BackOffRto(RttEstimator& rtt, const Sysctls& sysctls) noexcept {
  if (rtt.backoff != 0xff) ++rtt.backoff;
  rtt.rto = std::min(rtt.rto * 2, MaxRto(sysctls));
}

void UseFallbackRto(RttEstimator& rtt) noexcept {
  rtt.rttvar4_us = static_cast<uint32_t>(ToMicros(kFallbackRto));
  rtt.mdev4_us = rtt.mdev_max4_us = rtt.rttvar4_us;
  rtt.rto = kFallbackRto;
}

Duration ModelTimeout(const Sysctls& sysctls, uint32_t retransmissions, Duration base) noexcept {
  const Duration longest = MaxRto(sysctls);
  const auto ratio = static_cast<uint64_t>(std::max<int64_t>(longest / base, 1));
  const auto doublings = static_cast<uint32_t>(std::bit_width(ratio) - 1);
  if (retransmissions <= doublings) return base * ((int64_t{2} << retransmissions) - 1);
  return base * ((int64_t{2} << doublings) - 1) + longest * (retransmissions - doublings);
}

}  // namespace ustcp
