// An arriving ACK, step by step: SACK blocks, cumulative part, round-trip sample, probe, state, window.
#include "stack/tcp/recovery/internal.h"

namespace ustcp::recovery {
namespace {

// A retransmitted record whose ACK echoes a time before the retransmission: the original arrived.
bool IsSpuriousRetransmission(const Sender& s, const AckWork& w, const TxSegment& r) {
  return r.Has(TxSegment::kRetransmitted | TxSegment::kEverRetransmitted) && TimestampBefore(s, w.in, r.last_sent);
}

// The SYN timed out, but its answer is for the first one: nothing was lost, the initial window need not be one.
void CheckSpuriousSyn(Sender& s, const AckWork& w, const TxSegment& syn) {
  if (s.undo_marked && w.in.has_tsecr && w.in.tsecr_ms == TimestampClock(syn.first_sent)) s.undo_marked = false;
}

struct RttTimes {
  Instant first_acked{};  // of records never retransmitted; zero: none
  Instant last_acked{};
};

// Feeds the estimator, if this ACK holds a sample (Karn's rule, or the timestamp for lack of a better one).
bool UpdateRtt(const SenderEnv& env, Sender& s, AckWork& w, int64_t seq_rtt_us, int64_t sack_rtt_us,
               int64_t latest_rtt_us) {
  if (seq_rtt_us < 0) seq_rtt_us = sack_rtt_us;
  if (seq_rtt_us < 0 && s.timestamps_ok && w.in.has_tsecr && w.acked()) {
    const uint32_t delta_ms = TimestampClock(env.now) - w.in.tsecr_ms;
    if (delta_ms < INT32_MAX / 1000) seq_rtt_us = latest_rtt_us = int64_t{std::max(delta_ms, 1u)} * 1000;
  }
  w.rate.rtt_us = latest_rtt_us;
  if (seq_rtt_us < 0) return false;
  // A lone delayed ACK would become the minimum once the real one has left the window.
  const auto latest = static_cast<uint32_t>(latest_rtt_us);
  if (!w.maybe_delayed || latest <= s.rtt.min_rtt_us())
    s.rtt.min.Update(env.now, kMinRttWindow, latest != 0 ? latest : 1000);
  AddRttSample(s.rtt, env.sysctls, static_cast<uint32_t>(seq_rtt_us), s.snd_una, s.snd_nxt);
  w.result.rtt_us = seq_rtt_us;
  return true;
}

// What the ACK covers of one record.
struct Coverage {
  uint32_t segments;
  bool full;
};

Coverage Cover(Sender& s, AckWork& w, TxSegment& r) {
  if (!r.range.end.After(s.snd_una)) return {r.segments, true};
  if (r.Has(TxSegment::kSyn)) {
    // The SYN of a Fast Open arrived, its data was not taken.
    w.syn_acked = true;
    CheckSpuriousSyn(s, w, r);
  }
  const uint32_t before = r.segments;
  TrimRecord(r, s.snd_una, r.segments);
  const uint32_t left = before > 1 ? SegmentsFor(r.payload(), r.mss) : 1;
  r.segments = static_cast<uint16_t>(std::min(left, before));
  return {before - r.segments, false};
}

// Removes what is acknowledged cumulatively.
void CleanQueue(const SenderEnv& env, Sender& s, AckWork& w, Seq prior_highest_sacked, bool had_sacked) {
  Seq lowest_original = s.snd_nxt;
  RttTimes times;
  uint32_t segments = 0;
  bool fully = true;
  while (TxSegment* r = s.queue.head()) {
    if (!s.snd_una.After(r->range.begin)) break;
    const Seq begin = r->range.begin;
    const uint8_t flags = r->flags;
    const Coverage covered = Cover(s, w, *r);
    fully = covered.full;
    if (covered.segments == 0) break;

    if ((flags & (TxSegment::kRetransmitted | TxSegment::kEverRetransmitted)) != 0) {
      if ((flags & TxSegment::kRetransmitted) != 0) s.retrans_out -= covered.segments;
      w.retransmitted_acked = true;
    } else if ((flags & TxSegment::kSacked) == 0) {
      times.last_acked = r->last_sent;
      if (times.first_acked == Instant{}) times.first_acked = r->last_sent;
      lowest_original = Seq::Earliest(lowest_original, begin);
      if (!r->range.end.After(s.high_seq)) w.original_delivered = true;
    }
    if ((flags & TxSegment::kSacked) != 0) {
      s.sacked_out -= covered.segments;
    } else if (s.sack_ok) {
      CountDelivered(s, covered.segments, w.in.ece);
      if (!IsSpuriousRetransmission(s, w, *r)) RackAdvance(env, s, flags, r->mark());
    }
    if ((flags & TxSegment::kLost) != 0) s.lost_out -= covered.segments;
    s.packets_out -= covered.segments;
    segments += covered.segments;
    NoteDelivered(s, *r, w.rate);
    if ((flags & TxSegment::kSyn) != 0) {
      w.syn_acked = true;
      CheckSpuriousSyn(s, w, *r);
      s.first_retransmit = Instant{};
    } else {
      w.data_acked = true;
    }
    if (!covered.full) break;
    RemoveRecord(env, s, *r);
  }
  TxSegment* head = s.queue.head();
  if (head != nullptr && head->Has(TxSegment::kSacked)) w.reneging = true;
  if (w.syn_acked && head != nullptr && s.handshaking) {
    // Fast Open data that the SYN did not bring across is sent again at once.
    MarkLost(env, s, *head);
    s.retransmit_mode = RetransmitMode::kLost;
  }
  w.result.segments_acked = segments;

  int64_t seq_rtt_us = -1;
  int64_t latest_rtt_us = -1;
  if (times.first_acked != Instant{} && !w.retransmitted_acked) {
    seq_rtt_us = ToMicros(env.now - times.first_acked);
    latest_rtt_us = ToMicros(env.now - times.last_acked);
    w.maybe_delayed = segments == 1 && fully && !had_sacked && s.snd_una - w.prior_una < s.mss &&
                      w.rate.prior_delivered + 1 == s.delivered && !w.data_sacked && !w.in.ece && !w.dsack &&
                      !w.syn_acked;
  }
  int64_t sack_rtt_us = -1;
  if (w.first_sacked != Instant{}) {
    sack_rtt_us = ToMicros(env.now - w.first_sacked);
    latest_rtt_us = ToMicros(env.now - w.last_sacked);
  }
  const bool sampled = UpdateRtt(env, s, w, seq_rtt_us, sack_rtt_us, latest_rtt_us);

  if (w.acked()) {
    w.set_timer = true;
    if (!s.sack_ok) {
      RemoveRenoSacks(env, s, segments, w.in.ece);
      // Without SACK it cannot be told whether a retransmission or an original moved the ACK.
      if (w.retransmitted_acked) w.original_delivered = false;
    } else if (lowest_original.Before(prior_highest_sacked)) {
      CheckReordering(env, s, lowest_original, false);
    }
  } else if (head != nullptr && sampled && sack_rtt_us >= 0 && sack_rtt_us > ToMicros(env.now - head->last_sent)) {
    // Restart the timer for SACKs too, but not for data sent after the first record was last sent: the timeout would
    // recede for ever.
    w.set_timer = true;
  }
  CcOnSample(env, s, w.rate.rtt_us);
}

// Suspicious: it does nothing an ACK in order would do, or says more than that, or something is being repaired.
bool IsDubious(const Sender& s, const AckWork& w) {
  return !w.not_duplicate() || w.data_sacked || w.in.ece || w.dsack || s.ca_state != CaState::kOpen;
}

bool MayRaiseWindow(const SenderEnv& env, const Sender& s, const AckWork& w) {
  // With heavy reordering, SACKs are as good as ACKs.
  if (s.reordering > static_cast<uint32_t>(env.sysctls.tcp_reordering)) return w.forward_progress();
  return w.data_acked;
}

void CountDelivery(const SenderEnv& env, Sender& s, AckWork& w, uint32_t prior_delivered) {
  const uint32_t delivered = s.delivered - prior_delivered;
  w.result.segments_delivered = delivered;
  w.rate.acked_sacked = delivered;
  env.counters.Add(Counter::kTcpExtTCPDelivered, delivered);
  if (w.in.ece) env.counters.Add(Counter::kTcpExtTCPDeliveredCE, delivered);
}

void UseSacks(const SenderEnv& env, Sender& s, AckWork& w) {
  if (w.in.sack_count == 0 || !s.sack_ok) return;
  TagSacks(env, s, w);
  if (w.sack_delivered != 0) CountDelivered(s, w.sack_delivered, w.in.ece);
}

void Describe(const Sender& s, AckWork& w, CaState prior_state, uint32_t prior_lost) {
  AckResult& out = w.result;
  out.una_advanced = w.una_advanced;
  out.syn_acked = w.syn_acked;
  out.duplicate = w.duplicates != 0;
  out.entered_recovery = s.ca_state == CaState::kRecovery && prior_state != CaState::kRecovery;
  out.left_recovery = prior_state >= CaState::kRecovery && s.ca_state < CaState::kRecovery;
  out.forward_progress = w.forward_progress();
  out.segments_lost = s.lost - prior_lost;
}

// The ACK is older than snd_una: only its SACK blocks are of use.
void OnOldAck(const SenderEnv& env, Sender& s, AckWork& w) {
  w.result.old = true;
  if (w.in.sack_count == 0 || !s.sack_ok) return;
  const uint32_t prior_delivered = s.delivered;
  UseSacks(env, s, w);
  FastRetransmitAlert(env, s, w);
  CountDelivery(env, s, w, prior_delivered);
}

// Nothing was outstanding.
void OnIdleAck(const SenderEnv& env, Sender& s, AckWork& w) {
  const uint32_t prior_delivered = s.delivered;
  UseSacks(env, s, w);
  if (w.dsack) {
    FastRetransmitAlert(env, s, w);
    CountDelivery(env, s, w, prior_delivered);
  }
  ProcessProbeAck(env, s, w);
}

void OnCurrentAck(const SenderEnv& env, Sender& s, AckWork& w) {
  const uint32_t prior_delivered = s.delivered;
  const uint32_t prior_lost = s.lost;
  const Seq prior_highest = HighestSacked(s);
  const bool had_sacked = s.sacked_out != 0;
  w.rate.prior_in_flight = s.in_flight();
  UseSacks(env, s, w);

  w.una_advanced = w.in.ack.After(s.snd_una);
  if (w.una_advanced) {
    w.result.bytes_acked = w.in.ack.raw() - s.snd_una.raw();
    s.bytes_acked += w.result.bytes_acked;
    s.snd_una = w.in.ack;
    s.retransmits = 0;
    s.rto_head_due = false;
  }
  CleanQueue(env, s, w, prior_highest, had_sacked);
  RackUpdateWindow(env, s, w.rate);
  ProcessProbeAck(env, s, w);
  if (IsDubious(s, w)) {
    if (!w.una_advanced && !w.not_duplicate() && !w.dsack) w.duplicates = std::max<uint32_t>(w.in.segments, 1);
    FastRetransmitAlert(env, s, w);
  }
  if (w.set_timer && !ScheduleLossProbe(env, s, true)) RearmRto(env, s);

  CountDelivery(env, s, w, prior_delivered);
  w.rate.losses = s.lost - prior_lost;
  w.rate.ack_delayed = w.maybe_delayed;
  FinishRateSample(env, s, w.rate, s.sack_reneged);
  if (s.in_reduction()) {
    ProportionalReduction(s, w.rate.acked_sacked, w.rate.losses, w.una_advanced);
  } else if (MayRaiseWindow(env, s, w)) {
    CcOnAck(env, s, w.rate.acked_sacked);
  }
  UpdatePacingRate(s);
}

}  // namespace
}  // namespace ustcp::recovery

namespace ustcp {

using namespace recovery;

AckResult OnAck(const SenderEnv& env, Sender& s, const AckInput& in) noexcept {
  AckResult result;
  if (in.ack.After(s.snd_nxt)) {
    result.invalid = true;
    return result;
  }
  AckWork w(in, result, s.snd_una);
  const CaState prior_state = s.ca_state;
  const uint32_t prior_lost = s.lost;
  if (in.ack.Before(s.snd_una)) {
    OnOldAck(env, s, w);
  } else if (s.packets_out == 0) {
    OnIdleAck(env, s, w);
  } else {
    OnCurrentAck(env, s, w);
  }
  Describe(s, w, prior_state, prior_lost);
  return result;
}

}  // namespace ustcp
