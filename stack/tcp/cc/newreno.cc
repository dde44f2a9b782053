#include "stack/tcp/cc/newreno.h"

#include <algorithm>

#include "stack/tcp/cc/congestion.h"
#include "stack/tcp/recovery/sender.h"

namespace ustcp {

void RenoOnAck(Sender& s, uint32_t acked) noexcept {
  if (!CcIsCwndLimited(s)) return;
  if (CcInSlowStart(s.cwnd, s.ssthresh)) {
    acked = CcSlowStart(s, acked);
    if (acked == 0) return;
  }
  CcAvoidCongestion(s, s.cwnd, acked);
}

uint32_t RenoSsthresh(const Sender& s) noexcept { return std::max(s.cwnd / 2, 2u); }

}  // namespace ustcp
