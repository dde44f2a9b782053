// The transmit timer: retransmission timeout (RFC 6298 5), tail loss probe (RFC 8985 7), and how long to go on.
#include "stack/base/check.h"
#include "stack/tcp/recovery/internal.h"

namespace ustcp::recovery {
namespace {

// Until the retransmission timeout of the first outstanding segment.
Duration RtoRemaining(const SenderEnv& env, const Sender& s) {
  const TxSegment* head = s.queue.head();
  return head == nullptr ? s.rtt.rto : head->last_sent + s.rtt.rto - env.now;
}

}  // namespace

void ArmXmitTimer(const SenderEnv& env, Sender& s, XmitTimer kind, Duration after, Duration limit) noexcept {
  s.xmit_timer = kind;
  s.xmit_deadline = env.now + std::min(after, limit);
}

void RearmRto(const SenderEnv& env, Sender& s) noexcept {
  if (s.packets_out == 0) {
    StopXmitTimer(s);
    return;
  }
  Duration after = s.rtt.rto;
  // The time since the segment was sent has been spent waiting for the other timer.
  if (s.xmit_timer == XmitTimer::kReorder || s.xmit_timer == XmitTimer::kLossProbe)
    after = std::max<Duration>(RtoRemaining(env, s), 1us);
  ArmXmitTimer(env, s, XmitTimer::kRetransmit, after, after);
}

bool ScheduleLossProbe(const SenderEnv& env, Sender& s, bool advancing_rto) noexcept {
  const int32_t early = env.sysctls.tcp_early_retrans;
  if ((early != 3 && early != 4) || s.packets_out == 0 || !s.sack_ok || s.handshaking ||
      (s.ca_state != CaState::kOpen && s.ca_state != CaState::kCwr))
    return false;
  // RFC 8985 7.2: two round trips, and the least RTO on top when a lone segment's ACK may be delayed.
  Duration after = kInitialRto;
  if (s.rtt.has_sample()) {
    after = std::chrono::microseconds(s.rtt.srtt8_us >> 2);
    after += s.packets_out == 1 ? Duration(std::chrono::microseconds(env.sysctls.tcp_rto_min_us)) : kTimeoutMargin;
  }
  const Duration rto = advancing_rto ? s.rtt.rto : RtoRemaining(env, s);
  if (rto > Duration::zero()) after = std::min(after, rto);
  ArmXmitTimer(env, s, XmitTimer::kLossProbe, after, std::chrono::milliseconds(env.sysctls.tcp_rto_max_ms));
  return true;
}

void ProcessProbeAck(const SenderEnv& env, Sender& s, const AckWork& w) noexcept {
  if (!s.tlp_outstanding || w.in.ack.Before(s.tlp_high_seq)) return;
  if (!s.tlp_is_retransmission || w.dsack_of_probe) {
    // New data arrived, or both original and probe did: nothing was lost.
    s.tlp_outstanding = false;
  } else if (w.in.ack.After(s.tlp_high_seq)) {
    // The probe repaired a loss that no other signal shows (RFC 8985 7.4.2): reduce as for any loss.
    InitReduction(env, s);
    SetCaState(env, s, CaState::kCwr);
    EndReduction(env, s);
    TryKeepOpen(env, s);
    env.counters.Add(Counter::kTcpExtTCPLossProbeRecovery);
  } else if (!w.una_advanced && !w.not_duplicate() && !w.data_sacked) {
    // A duplicate ACK for the probe: its original had arrived.
    s.tlp_outstanding = false;
  }
}

}  // namespace ustcp::recovery

namespace ustcp {

using namespace recovery;

void HastenTimeout(const SenderEnv& env, Sender& s) noexcept {
  s.xmit_deadline = std::min(s.xmit_deadline, env.now + kTimeoutMargin);
}

void StopXmitTimer(Sender& s) noexcept {
  s.xmit_timer = XmitTimer::kNone;
  s.xmit_deadline = kNever;
}

void SetPersistTimer(Sender& s, Instant deadline) noexcept {
  USTCP_DCHECK(s.packets_out == 0);
  s.xmit_timer = XmitTimer::kPersist;
  s.xmit_deadline = deadline;
}

void OnRetransmissionTimeout(const SenderEnv& env, Sender& s, Duration user_timeout, bool zero_window) noexcept {
  if (s.packets_out == 0) {
    StopXmitTimer(s);
    return;
  }
  if (!zero_window) {
    env.counters.Add(Counter::kTcpExtTCPTimeouts);
    if (s.retransmits == 0) {
      if (s.ca_state == CaState::kRecovery) {
        env.counters.Add(s.sack_ok ? Counter::kTcpExtTCPSackRecoveryFail : Counter::kTcpExtTCPRenoRecoveryFail);
      } else if (s.ca_state == CaState::kLoss) {
        env.counters.Add(Counter::kTcpExtTCPLossFailures);
      } else if (s.ca_state == CaState::kDisorder || s.sacked_out != 0) {
        env.counters.Add(s.sack_ok ? Counter::kTcpExtTCPSackFailures : Counter::kTcpExtTCPRenoFailures);
      }
    }
  }
  EnterLoss(env, s);
  if (!zero_window) {
    if (s.retransmits != 0xff) ++s.retransmits;
    ++s.total_timeouts;
  }
  if (s.first_retransmit == Instant{}) s.first_retransmit = env.now;
  s.rto_head_due = true;
  s.retransmit_mode = RetransmitMode::kLost;

  // RFC 6298 5.5. SYNs first go out at a constant pace (tcp_syn_linear_timeouts).
  if (!s.handshaking || s.total_timeouts > static_cast<uint32_t>(env.sysctls.tcp_syn_linear_timeouts))
    BackOffRto(s.rtt, env.sysctls);
  Duration after = s.rtt.rto;
  if (user_timeout != Duration::zero())
    after = std::min(after, std::max<Duration>(user_timeout - (env.now - s.first_retransmit), 1ms));
  ArmXmitTimer(env, s, XmitTimer::kRetransmit, after, after);
}

void OnTailLossProbe(const SenderEnv& env, Sender& s) noexcept {
  // At most one at a time.
  if (!s.tlp_outstanding && s.packets_out != 0) {
    s.tlp_is_retransmission = false;
    const Seq unsent_end = s.fin_queued ? s.write_end + 1 : s.write_end;
    const uint32_t unsent = s.has_unsent() ? unsent_end.raw() - s.snd_nxt.raw() : 0;
    if (unsent != 0 && !(s.snd_nxt + std::min<uint32_t>(unsent, s.mss)).After(s.window_end())) {
      s.probe_new_data = true;
    } else {
      TxSegment* last = s.queue.tail();
      Resegment(s, *last);
      if (last->segments > 1) {
        TxSegment* tail = SplitRecord(env, s, *last, (last->segments - 1u) * last->mss);
        last = tail;
      }
      s.tlp_record = last;
    }
  }
  RearmRto(env, s);
}

bool RetriesExhausted(const SenderEnv& env, const Sender& s, uint32_t retries, Duration timeout) noexcept {
  // A SYN's patience counts from its first transmission.
  const Instant since = s.handshaking && s.queue.head() != nullptr ? s.queue.head()->first_sent : s.first_retransmit;
  if (s.retransmits == 0 || since == Instant{}) return false;
  if (timeout == Duration::zero())
    timeout = ModelTimeout(env.sysctls, retries, s.handshaking ? kInitialRto : Duration(200ms));
  return env.now - since >= timeout;
}

}  // namespace ustcp
