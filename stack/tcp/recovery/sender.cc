// Life and output of a sender.
#include "stack/tcp/recovery/sender.h"

#include "stack/base/check.h"
#include "stack/tcp/recovery/internal.h"

namespace ustcp {

using namespace recovery;

namespace {

// Bookkeeping common to first transmissions and retransmissions.
void NoteSent(const SenderEnv& env, Sender& s, TxSegment& r) {
  const uint32_t payload = r.payload();
  if (payload == 0) return;
  if (s.in_flight() == 0) CcCwndEvent(env, s, CcEvent::kTransmitStart);
  s.data_segs_out += r.segments;
  s.bytes_sent += payload;
  s.last_sent = env.now;
}

void NoteProbeSent(const SenderEnv& env, Sender& s, bool retransmission) {
  s.tlp_outstanding = true;
  s.tlp_is_retransmission = retransmission;
  s.tlp_high_seq = s.snd_nxt;
  env.counters.Add(Counter::kTcpExtTCPLossProbes);
  ArmXmitTimer(env, s, XmitTimer::kRetransmit, s.rtt.rto, s.rtt.rto);
}

// Cuts the record to what may go now: `segments`, and the peer's window. False when it must not be sent.
bool FitRetransmission(const SenderEnv& env, Sender& s, TxSegment& r, uint32_t segments) {
  Resegment(s, r);
  // A window that shrank over what is in flight: only the first segment is sent again, as a probe.
  int64_t room = s.window_end() - r.range.begin;
  if (room <= 0) {
    if (r.range.begin != s.snd_una) return false;
    room = s.mss;
  }
  int64_t length = int64_t{segments} * s.mss;
  if (length > room) length = room >= s.mss ? room / s.mss * s.mss : room;
  if (r.payload() <= length) return true;
  return SplitRecord(env, s, r, static_cast<uint32_t>(length)) != nullptr;
}

TxSegment* NextLost(Sender& s) {
  TxSegment* r = s.retransmit_hint != nullptr ? s.retransmit_hint : s.queue.head();
  while (r != nullptr && (!r->Has(TxSegment::kLost) || r->Has(TxSegment::kSacked | TxSegment::kRetransmitted)))
    r = r->next;
  if (r != nullptr) s.retransmit_hint = r;
  return r;
}

// The window is only worth what was used of it lately (RFC 7661, 2861).
void ValidateWindow(const SenderEnv& env, Sender& s, bool cwnd_limited) {
  if (!s.snd_una.Before(s.cwnd_usage_seq) || cwnd_limited ||
      (!s.is_cwnd_limited && s.packets_out > s.max_packets_out)) {
    s.is_cwnd_limited = cwnd_limited;
    s.max_packets_out = s.packets_out;
    s.cwnd_usage_seq = s.snd_nxt;
  }
  if (CcIsCwndLimited(s)) {
    s.cwnd_used = 0;
    s.cwnd_stamp = env.now;
    return;
  }
  s.cwnd_used = std::max(s.cwnd_used, s.packets_out);
  if (env.sysctls.tcp_slow_start_after_idle == 0 || env.now - s.cwnd_stamp < s.rtt.rto) return;
  // Limited by the application or the peer's window for a whole timeout: halfway back to what was used.
  if (s.ca_state == CaState::kOpen) {
    const uint32_t used = std::max(s.cwnd_used, std::min(kInitialCwnd, s.cwnd_clamp));
    if (used < s.cwnd) {
      s.ssthresh = CurrentSsthresh(s);
      s.cwnd = (s.cwnd + used) >> 1;
    }
    s.cwnd_used = 0;
  }
  s.cwnd_stamp = env.now;
}

void RestartAfterIdle(const SenderEnv& env, Sender& s, Duration idle) {
  CcCwndEvent(env, s, CcEvent::kIdleRestart);
  s.ssthresh = CurrentSsthresh(s);
  // RFC 2861: half for every timeout spent idle, down to the restart window.
  const uint32_t floor = std::min({kInitialCwnd, s.cwnd_clamp, s.cwnd});
  uint32_t cwnd = s.cwnd;
  while ((idle -= s.rtt.rto) > Duration::zero() && cwnd > floor) cwnd >>= 1;
  s.cwnd = std::max(cwnd, floor);
  s.cwnd_stamp = env.now;
  s.cwnd_used = 0;
}

}  // namespace

void InitSender(const SenderEnv& env, Sender& s, Seq iss, CcKind cc) noexcept {
  USTCP_DCHECK(s.queue.empty());
  s = Sender{};
  s.snd_una = s.snd_nxt = s.write_end = iss;
  s.high_seq = s.cwnd_usage_seq = s.tlp_high_seq = s.undo_marker = s.highest_sacked = iss;
  s.rack.sent.end = s.rtt.round_end = iss;
  s.reordering = static_cast<uint32_t>(env.sysctls.tcp_reordering);
  s.cwnd_stamp = env.now;
  s.rtt.rto = ComputeRto(s.rtt, env.sysctls);
  CcInit(env, s, cc);
}

void OnEstablished(const SenderEnv& env, Sender& s, int64_t handshake_rtt_us) noexcept {
  if (handshake_rtt_us >= 0) {
    const auto rtt_us = static_cast<uint32_t>(std::min<int64_t>(handshake_rtt_us, UINT32_MAX / 16));
    s.rtt.min.Update(env.now, kMinRttWindow, rtt_us != 0 ? rtt_us : 1000);
    AddRttSample(s.rtt, env.sysctls, rtt_us, s.snd_una, s.snd_nxt);
  } else if (!s.rtt.has_sample()) {
    UseFallbackRto(s.rtt);
  }
  // The handshake's answer counts as delivered whoever sent it.
  if (s.delivered == 0) s.delivered = 1;
  // Lost SYNs say nothing about a threshold, but several of them ask for caution.
  s.ssthresh = kInfiniteSsthresh;
  s.cwnd = s.total_retransmits > 1 && s.undo_marked ? 1 : std::min(kInitialCwnd, s.cwnd_clamp);
  s.cwnd_stamp = env.now;
  CcInit(env, s, s.cc.kind);
  UpdatePacingRate(s);
}

void ReleaseSender(const SenderEnv& env, Sender& s) noexcept {
  while (TxSegment* r = s.queue.head()) RemoveRecord(env, s, *r);
  s.retransmit_hint = s.sack_hint = s.tlp_record = nullptr;
  s.packets_out = s.sacked_out = s.lost_out = s.retrans_out = 0;
  s.sack_cache_count = 0;
  s.probe_new_data = s.rto_head_due = s.tlp_outstanding = s.undo_marked = s.frto = false;
  s.retransmit_mode = RetransmitMode::kNone;
  s.ca_state = CaState::kOpen;
  StopXmitTimer(s);
}

Retransmission NextRetransmission(const SenderEnv& env, Sender& s, uint32_t max_segments) noexcept {
  Retransmission next;
  if (s.rto_head_due) {
    next = {s.queue.head(), RetransmitReason::kTimeout};
    if (next.record == nullptr || !FitRetransmission(env, s, *next.record, 1)) next.record = nullptr;
    return next;
  }
  if (s.tlp_record != nullptr) {
    next = {s.tlp_record, RetransmitReason::kLossProbe};
    if (!FitRetransmission(env, s, *next.record, 1)) {
      s.tlp_record = next.record = nullptr;
    }
    return next;
  }
  if (s.retransmit_mode != RetransmitMode::kLost || s.retrans_out >= s.lost_out) return next;
  const uint32_t in_flight = s.in_flight();
  if (in_flight >= s.cwnd) return next;
  TxSegment* r = NextLost(s);
  if (r != nullptr && FitRetransmission(env, s, *r, std::min(s.cwnd - in_flight, max_segments))) next.record = r;
  return next;
}

void OnRetransmit(const SenderEnv& env, Sender& s, const Retransmission& what) noexcept {
  TxSegment& r = *what.record;
  NoteSent(env, s, r);
  StampForRate(env, s, r);
  r.flags |= TxSegment::kEverRetransmitted;
  r.last_sent = env.now;
  r.send_number = ++s.send_count;
  env.counters.Add(Counter::kTcpRetransSegs, r.segments);
  if (r.Has(TxSegment::kSyn)) env.counters.Add(Counter::kTcpExtTCPSynRetrans);
  s.total_retransmits += r.segments;
  s.bytes_retransmitted += r.payload();

  if (what.reason == RetransmitReason::kLossProbe) {
    s.tlp_record = nullptr;
    if (r.in_time_list) MoveToTimeListEnd(s, r);
    NoteProbeSent(env, s, true);
    return;
  }
  if (!r.Has(TxSegment::kRetransmitted)) {
    r.flags |= TxSegment::kRetransmitted;
    s.retrans_out += r.segments;
  }
  MoveToTimeListEnd(s, r);
  if (s.first_retransmit == Instant{}) s.first_retransmit = env.now;
  s.undo_retransmits = std::max(s.undo_retransmits, 0) + r.segments;

  if (what.reason == RetransmitReason::kTimeout) {
    s.rto_head_due = false;
    return;
  }
  env.counters.Add(s.ca_state == CaState::kLoss ? Counter::kTcpExtTCPSlowStartRetrans : Counter::kTcpExtTCPFastRetrans,
                   r.segments);
  if (s.in_reduction()) s.prr_out += r.segments;
  if (&r == s.queue.head() && s.xmit_timer != XmitTimer::kReorder)
    ArmXmitTimer(env, s, XmitTimer::kRetransmit, s.rtt.rto, s.rtt.rto);
}

uint32_t SendAllowance(const Sender& s) noexcept {
  const uint32_t in_flight = s.in_flight();
  if (in_flight >= s.cwnd) return s.probe_new_data ? 1 : 0;
  return std::min(std::max(s.cwnd >> 1, 1u), s.cwnd - in_flight);
}

TxSegment* OnTransmit(const SenderEnv& env, Sender& s, uint32_t payload, uint8_t flags) noexcept {
  TxSegment* r = env.records.Take();
  if (r == nullptr) return nullptr;
  const bool was_idle = s.packets_out == 0;
  r->flags = flags & (TxSegment::kSyn | TxSegment::kFin | TxSegment::kPush);
  const uint32_t length = payload + (r->Has(TxSegment::kSyn) ? 1 : 0) + (r->Has(TxSegment::kFin) ? 1 : 0);
  USTCP_DCHECK(length != 0);
  r->sender = &s;
  r->mss = s.mss;
  r->range = {s.snd_nxt, s.snd_nxt + length};
  r->segments = static_cast<uint16_t>(SegmentsFor(payload, s.mss));
  r->first_sent = r->last_sent = env.now;
  r->send_number = ++s.send_count;
  NoteSent(env, s, *r);
  StampForRate(env, s, *r);
  s.queue.PushBack(r);
  MoveToTimeListEnd(s, *r);
  s.snd_nxt += length;
  s.packets_out += r->segments;
  s.sent_new_data = true;
  if (r->Has(TxSegment::kSyn)) {
    // Time-outs of a handshake count from its first SYN.
    s.first_retransmit = env.now;
  } else {
    env.counters.Add(Counter::kTcpExtTCPOrigDataSent, r->segments);
  }
  if (was_idle || s.xmit_timer == XmitTimer::kLossProbe) RearmRto(env, s);
  if (s.in_reduction()) s.prr_out += r->segments;
  if (s.probe_new_data) {
    s.probe_new_data = false;
    NoteProbeSent(env, s, false);
  } else {
    ScheduleLossProbe(env, s, false);
  }
  return r;
}

bool OnOutputIdle(const SenderEnv& env, Sender& s, bool cwnd_limited) noexcept {
  s.probe_new_data = false;
  if (s.sent_new_data || cwnd_limited) {
    s.sent_new_data = false;
    ValidateWindow(env, s, cwnd_limited || s.in_flight() >= s.cwnd);
  }
  if (s.retransmit_mode != RetransmitMode::kNew || s.snd_nxt.After(s.high_seq)) return false;
  // F-RTO wanted new data and there was none to send: retransmit in the ordinary way.
  s.frto = false;
  s.retransmit_mode = RetransmitMode::kLost;
  return s.retrans_out < s.lost_out && s.in_flight() < s.cwnd;
}

void OnApplicationWrite(const SenderEnv& env, Sender& s) noexcept {
  const uint32_t in_flight = s.in_flight();
  const bool less_than_a_segment = s.write_end - s.snd_nxt < s.mss;
  if (less_than_a_segment && in_flight < s.cwnd && s.lost_out <= s.retrans_out)
    s.app_limited = std::max(s.delivered + in_flight, 1u);
  if (s.packets_out != 0 || env.sysctls.tcp_slow_start_after_idle == 0 || s.last_sent == Instant{}) return;
  const Duration idle = env.now - s.last_sent;
  if (idle > s.rtt.rto) RestartAfterIdle(env, s, idle);
}

void OnMssLowered(const SenderEnv& env, Sender& s) noexcept {
  for (TxSegment* r = s.queue.head(); r != nullptr; r = r->next) {
    const uint32_t largest = r->segments > 1 ? r->mss : r->payload();
    if (largest > s.mss) MarkLost(env, s, *r);
  }
  if (s.lost_out == 0) return;
  if (!s.sack_ok) LimitRenoSacked(s);
  // The network carries no less data than before, so the window is not reduced: this is no congestion.
  if (s.ca_state != CaState::kLoss) {
    s.high_seq = s.snd_nxt;
    s.ssthresh = CurrentSsthresh(s);
    s.prior_ssthresh = 0;
    s.undo_marked = false;
    SetCaState(env, s, CaState::kLoss);
  }
  s.retransmit_mode = RetransmitMode::kLost;
}

}  // namespace ustcp
