#include "stack/tcp/cc/congestion.h"

#include <algorithm>

#include "stack/base/check.h"
#include "stack/tcp/cc/cubic.h"
#include "stack/tcp/cc/newreno.h"
#include "stack/tcp/recovery/sender.h"

namespace ustcp {

void CcInit(const SenderEnv& env, Sender& s, CcKind kind) noexcept {
  s.cc.kind = kind;
  if (kind == CcKind::kCubic) CubicInit(env, s);
}

void CcOnAck(const SenderEnv& env, Sender& s, uint32_t acked) noexcept {
  switch (s.cc.kind) {
    case CcKind::kReno: RenoOnAck(s, acked); break;
    case CcKind::kCubic: CubicOnAck(env, s, acked); break;
  }
  USTCP_DCHECK(s.cwnd >= 1);
}

void CcOnSample(const SenderEnv& env, Sender& s, int64_t rtt_us) noexcept {
  if (s.cc.kind == CcKind::kCubic) CubicOnSample(env, s, rtt_us);
}

uint32_t CcSsthresh(const SenderEnv& env, Sender& s) noexcept {
  return s.cc.kind == CcKind::kCubic ? CubicSsthresh(env, s) : RenoSsthresh(s);
}

void CcOnRto(const SenderEnv& env, Sender& s) noexcept {
  if (s.cc.kind == CcKind::kCubic) CubicOnRto(env, s);
}

uint32_t CcUndoCwnd(const Sender& s) noexcept { return std::max(s.cwnd, s.prior_cwnd); }

void CcCwndEvent(const SenderEnv& env, Sender& s, CcEvent event) noexcept {
  if (s.cc.kind == CcKind::kCubic && event == CcEvent::kTransmitStart) CubicOnTransmitStart(env, s);
}

uint32_t CcSlowStart(Sender& s, uint32_t acked) noexcept {
  const uint32_t grown = static_cast<uint32_t>(std::min<uint64_t>(uint64_t{s.cwnd} + acked, s.ssthresh));
  acked -= grown - s.cwnd;
  s.cwnd = std::min(grown, s.cwnd_clamp);
  return acked;
}

void CcAvoidCongestion(Sender& s, uint32_t per_segment, uint32_t acked) noexcept {
  // Credit left from a time with a larger divisor is worth one segment at most.
  if (s.cwnd_count >= per_segment) {
    s.cwnd_count = 0;
    ++s.cwnd;
  }
  s.cwnd_count += acked;
  if (s.cwnd_count >= per_segment) {
    const uint32_t steps = s.cwnd_count / per_segment;
    s.cwnd_count -= steps * per_segment;
    s.cwnd += steps;
  }
  s.cwnd = std::min(s.cwnd, s.cwnd_clamp);
}

bool CcIsCwndLimited(const Sender& s) noexcept {
  if (s.is_cwnd_limited) return true;
  // In slow start the window may grow to twice what was used: the limit could not show yet.
  return CcInSlowStart(s.cwnd, s.ssthresh) && s.cwnd < 2 * s.max_packets_out;
}

}  // namespace ustcp
