// RACK (RFC 8985 6): a segment is lost when one sent sufficiently later has been delivered. Linux' variant: the
// reordering window is zero while nothing was ever seen to be reordered and either three segments are SACKed or recovery
// is under way, which gives RFC 6675's three duplicates.
#include "stack/base/check.h"
#include "stack/tcp/recovery/internal.h"

namespace ustcp::recovery {
namespace {

constexpr int32_t kStaticWindow = 0x2;  // bits of tcp_recovery
constexpr int32_t kNoDupThresh = 0x4;

uint32_t ReorderingWindow(const SenderEnv& env, const Sender& s) {
  if (!s.reordering_seen) {
    if (s.ca_state >= CaState::kRecovery) return 0;
    if (s.sacked_out >= s.reordering && (env.sysctls.tcp_recovery & kNoDupThresh) == 0) return 0;
  }
  // A quarter of the minimum round trip, more after D-SACKs, but no more than the smoothed one.
  const uint64_t window = uint64_t{s.rtt.min_rtt_us() >> 2} * s.rack.window_steps;
  return static_cast<uint32_t>(std::min<uint64_t>(window, s.rtt.srtt_us()));
}

// Marks what is lost; returns the longest wait of what may yet be, in microseconds.
int64_t DetectLosses(const SenderEnv& env, Sender& s) {
  const uint32_t window = ReorderingWindow(env, s);
  int64_t longest = 0;
  for (TxSegment* r = s.by_time.head(); r != nullptr;) {
    TxSegment* next = r->time_next;
    if (!s.rack.sent.After(r->mark())) break;
    const int64_t remaining = RackRemaining(env, s, *r, window);
    if (remaining <= 0) {
      MarkLost(env, s, *r);
    } else {
      longest = std::max(longest, remaining);
    }
    r = next;
  }
  return longest;
}

}  // namespace

int64_t RackRemaining(const SenderEnv& env, const Sender& s, const TxSegment& r, uint32_t window_us) noexcept {
  return int64_t{s.rack.rtt_us} + window_us - ToMicros(env.now - r.last_sent);
}

void RackAdvance(const SenderEnv& env, Sender& s, uint8_t flags, const SendMark& sent) noexcept {
  const int64_t rtt_us = ToMicros(env.now - sent.at);
  USTCP_DCHECK(rtt_us >= 0);
  // Faster than any round trip ever: the original was delivered, not this retransmission (RFC 8985 6.2 step 2).
  if ((flags & (TxSegment::kRetransmitted | TxSegment::kEverRetransmitted)) != 0 && rtt_us < s.rtt.min_rtt_us()) return;
  s.rack.advanced = true;
  s.rack.rtt_us = static_cast<uint32_t>(rtt_us);
  if (sent.After(s.rack.sent)) s.rack.sent = sent;
}

void RackUpdateWindow(const SenderEnv& env, Sender& s, const RateSample& rate) noexcept {
  if ((env.sysctls.tcp_recovery & kStaticWindow) != 0 || rate.prior_delivered == 0) return;
  RackState& rack = s.rack;
  // At most once per round trip.
  if (static_cast<int32_t>(rate.prior_delivered - rack.last_delivered) < 0) rack.dsack_seen = false;
  if (rack.dsack_seen) {
    if (rack.window_steps != 0xff) ++rack.window_steps;
    rack.dsack_seen = false;
    rack.last_delivered = s.delivered;
    rack.window_persist = kRackPersist;
  } else if (rack.window_persist == 0) {
    rack.window_steps = 1;
  }
}

bool RackMarkLost(const SenderEnv& env, Sender& s) noexcept {
  if (!s.rack.advanced) return false;
  s.rack.advanced = false;
  const int64_t wait_us = DetectLosses(env, s);
  if (wait_us <= 0) return false;
  ArmXmitTimer(env, s, XmitTimer::kReorder, std::chrono::microseconds(wait_us) + kTimeoutMargin, s.rtt.rto);
  return true;
}

}  // namespace ustcp::recovery

namespace ustcp {

using namespace recovery;

void OnReorderTimer(const SenderEnv& env, Sender& s) noexcept {
  const uint32_t in_flight = s.in_flight();
  const uint32_t lost = s.lost;
  const int64_t wait_us = DetectLosses(env, s);
  if (wait_us > 0)
    ArmXmitTimer(env, s, XmitTimer::kReorder, std::chrono::microseconds(wait_us) + kTimeoutMargin, s.rtt.rto);
  if (s.in_flight() != in_flight) {
    if (s.ca_state != CaState::kRecovery) {
      EnterRecovery(env, s, false);
      ProportionalReduction(s, 1, s.lost - lost, false);
    }
    s.retransmit_mode = RetransmitMode::kLost;
  }
  if (wait_us <= 0) RearmRto(env, s);
}

}  // namespace ustcp
