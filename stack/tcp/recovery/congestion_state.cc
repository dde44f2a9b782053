// Congestion states, the proportional rate reduction and its undoing.
#include "stack/tcp/recovery/internal.h"

namespace ustcp::recovery {
namespace {

void UndoReduction(const SenderEnv& env, Sender& s, AckWork& w, bool unmark_lost) {
  if (unmark_lost) UnmarkAllLost(s);
  if (s.prior_ssthresh != 0) {
    s.cwnd = std::min(CcUndoCwnd(s), s.cwnd_clamp);
    if (s.prior_ssthresh > s.ssthresh) {
      s.ssthresh = s.prior_ssthresh;
      s.cwr_queued = false;
    }
  }
  s.cwnd_stamp = env.now;
  s.undo_marked = false;
  s.rack.advanced = true;  // losses must be judged anew
  w.result.undone = true;
}

bool MayUndo(const Sender& s, const AckWork& w) {
  return s.undo_marked && (s.undo_retransmits == 0 || PacketDelayed(s, w));
}

// Without SACK the state is kept until something beyond high_seq is acknowledged: duplicate ACKs caused by our own
// needless retransmissions must not start another recovery (RFC 6582 section 6).
bool PreventsReopening(Sender& s) {
  if (s.snd_una != s.high_seq || s.sack_ok) return false;
  if (!AnyRetransmissionDone(s)) s.first_retransmit = Instant{};
  return true;
}

}  // namespace

void SetCaState(const SenderEnv& env, Sender& s, CaState state) noexcept {
  s.ca_state = state;
  if (state == CaState::kLoss) CcOnRto(env, s);
}

uint32_t CurrentSsthresh(const Sender& s) noexcept {
  if (s.in_reduction()) return s.ssthresh;
  return std::max(s.ssthresh, (s.cwnd >> 1) + (s.cwnd >> 2));
}

void InitUndo(Sender& s) noexcept {
  s.undo_marker = s.snd_una;
  s.undo_marked = true;
  // D-SACKs for what is still on its way come later, and must not be taken for those of this episode.
  s.undo_retransmits = static_cast<int32_t>(s.retrans_out);
  if (s.tlp_outstanding && s.tlp_is_retransmission) ++s.undo_retransmits;
  if (s.undo_retransmits == 0) s.undo_retransmits = -1;
}

void InitReduction(const SenderEnv& env, Sender& s) noexcept {
  s.high_seq = s.snd_nxt;
  s.tlp_outstanding = false;
  s.cwnd_count = 0;
  s.prior_cwnd = s.cwnd;
  s.prr_delivered = 0;
  s.prr_out = 0;
  s.ssthresh = CcSsthresh(env, s);
  s.cwr_queued = true;
}

// RFC 6937bis: while more than ssthresh is in flight, send in proportion to what arrives, so that ssthresh is reached
// within a round trip; below, at most what arrives, and one more while nothing else gets lost (slow start).
void ProportionalReduction(Sender& s, uint32_t delivered, uint32_t newly_lost, bool una_advanced) noexcept {
  if (delivered == 0 || s.prior_cwnd == 0) return;
  s.prr_delivered += delivered;
  const int64_t room = int64_t{s.ssthresh} - s.in_flight();
  int64_t count;
  if (room < 0) {
    const uint64_t share = (uint64_t{s.ssthresh} * s.prr_delivered + s.prior_cwnd - 1) / s.prior_cwnd;
    count = static_cast<int64_t>(share) - s.prr_out;
  } else {
    count = std::max<int64_t>(int64_t{s.prr_delivered} - s.prr_out, delivered);
    if (una_advanced && newly_lost == 0) ++count;
    count = std::min(count, room);
  }
  // The first retransmission of an episode goes out in any case.
  count = std::max<int64_t>(count, s.prr_out != 0 ? 0 : 1);
  s.cwnd = static_cast<uint32_t>(s.in_flight() + count);
}

void EndReduction(const SenderEnv& env, Sender& s) noexcept {
  if (s.ssthresh < kInfiniteSsthresh && (s.ca_state == CaState::kCwr || s.undo_marked)) {
    s.cwnd = s.ssthresh;
    s.cwnd_stamp = env.now;
  }
  CcCwndEvent(env, s, CcEvent::kReductionDone);
}

void EnterCwr(const SenderEnv& env, Sender& s) noexcept {
  s.prior_ssthresh = 0;
  if (s.ca_state >= CaState::kCwr) return;
  s.undo_marked = false;
  InitReduction(env, s);
  SetCaState(env, s, CaState::kCwr);
}

void EnterRecovery(const SenderEnv& env, Sender& s, bool ece) noexcept {
  // The clock of the new episode starts with its first retransmission.
  if (!AnyRetransmissionDone(s)) s.first_retransmit = Instant{};
  env.counters.Add(s.sack_ok ? Counter::kTcpExtTCPSackRecovery : Counter::kTcpExtTCPRenoRecovery);
  s.prior_ssthresh = 0;
  InitUndo(s);
  if (!s.in_reduction()) {
    // A window reduced because of an ECN echo was reduced for good reason.
    if (!ece) s.prior_ssthresh = CurrentSsthresh(s);
    InitReduction(env, s);
  }
  SetCaState(env, s, CaState::kRecovery);
}

void EnterLoss(const SenderEnv& env, Sender& s) noexcept {
  const bool new_recovery = s.ca_state < CaState::kRecovery;
  TxSegment* head = s.queue.head();
  const bool reneged = head != nullptr && head->Has(TxSegment::kSacked);
  if (reneged) {
    // RFC 2018 8: the receiver threw away what it had SACKed; no SACK of this flight counts any longer.
    env.counters.Add(Counter::kTcpExtTCPSACKReneging);
    s.sack_reneged = true;
    s.sack_cache_count = 0;
  }
  if (reneged || !s.sack_ok) s.sacked_out = 0;
  for (TxSegment* r = head; r != nullptr; r = r->next) {
    if (reneged) {
      r->flags &= static_cast<uint8_t>(~TxSegment::kSacked);
    } else if (r != head && RackRemaining(env, s, *r, 0) > 0) {
      continue;  // sent too recently to be overdue
    }
    MarkLost(env, s, *r);
  }
  s.retransmit_hint = nullptr;

  // Once per window (RFC 5681 3.1, equation 4).
  if (s.ca_state <= CaState::kDisorder || !s.high_seq.After(s.snd_una) ||
      (s.ca_state == CaState::kLoss && s.retransmits == 0)) {
    s.prior_ssthresh = CurrentSsthresh(s);
    s.prior_cwnd = s.cwnd;
    s.ssthresh = CcSsthresh(env, s);
    InitUndo(s);
  }
  s.cwnd = s.in_flight() + 1;
  s.cwnd_count = 0;
  s.cwnd_stamp = env.now;

  // A timeout although enough duplicates came: the estimate of reordering was too high.
  const auto initial = static_cast<uint32_t>(env.sysctls.tcp_reordering);
  if (s.ca_state <= CaState::kDisorder && s.sacked_out >= initial) s.reordering = std::min(s.reordering, initial);

  SetCaState(env, s, CaState::kLoss);
  s.high_seq = s.snd_nxt;
  s.tlp_outstanding = false;
  s.tlp_record = nullptr;
  s.probe_new_data = false;
  s.cwr_queued = true;
  // RFC 5682 3.1 step 1: not when recovery had already retransmitted, except on repeated timeouts.
  s.frto = env.sysctls.tcp_frto != 0 && (new_recovery || s.retransmits != 0);
}

bool TimestampBefore(const Sender& s, const AckInput& in, Instant when) noexcept {
  return s.timestamps_ok && in.has_tsecr && static_cast<int32_t>(in.tsecr_ms - TimestampClock(when)) < 0;
}

bool PacketDelayed(const Sender& s, const AckWork& w) noexcept {
  if (s.first_retransmit != Instant{}) return TimestampBefore(s, w.in, s.first_retransmit);
  // Nothing retransmitted yet, so what arrived was the original; but two cases forget the stamp of a retransmission.
  if (!s.sack_ok && !s.snd_una.Before(s.high_seq)) return false;
  return !s.handshaking && !w.syn_acked;
}

void TryKeepOpen(const SenderEnv& env, Sender& s) noexcept {
  const bool disorder = s.sacked_out + s.lost_out != 0 || AnyRetransmissionDone(s);
  const CaState state = disorder ? CaState::kDisorder : CaState::kOpen;
  if (s.ca_state == state) return;
  SetCaState(env, s, state);
  s.high_seq = s.snd_nxt;
}

void TryToOpen(const SenderEnv& env, Sender& s, const AckWork& w) noexcept {
  if (!AnyRetransmissionDone(s)) s.first_retransmit = Instant{};
  if (w.in.ece) EnterCwr(env, s);
  if (s.ca_state != CaState::kCwr) TryKeepOpen(env, s);
}

bool TryUndoRecovery(const SenderEnv& env, Sender& s, AckWork& w) noexcept {
  if (MayUndo(s, w)) {
    const bool loss = s.ca_state == CaState::kLoss;
    UndoReduction(env, s, w, false);
    env.counters.Add(loss ? Counter::kTcpExtTCPLossUndo : Counter::kTcpExtTCPFullUndo);
  } else if (s.rack.window_persist != 0) {
    --s.rack.window_persist;
  }
  if (PreventsReopening(s)) return true;
  SetCaState(env, s, CaState::kOpen);
  s.sack_reneged = false;
  return false;
}

bool TryUndoPartial(const SenderEnv& env, Sender& s, AckWork& w) noexcept {
  if (!s.undo_marked || !PacketDelayed(s, w)) return false;
  // The hole was filled by the delayed original: reordering.
  CheckReordering(env, s, w.prior_una, true);
  // Retransmissions are out: their D-SACKs will tell about the rest. New data is clocked out until then.
  if (s.retrans_out != 0) return true;
  if (!AnyRetransmissionDone(s)) s.first_retransmit = Instant{};
  UndoReduction(env, s, w, true);
  env.counters.Add(Counter::kTcpExtTCPPartialUndo);
  TryKeepOpen(env, s);
  return false;
}

bool TryUndoDsack(const SenderEnv& env, Sender& s, AckWork& w) noexcept {
  if (!s.undo_marked || s.undo_retransmits != 0) return false;
  s.rack.window_persist = static_cast<uint8_t>(std::min(kRackPersist + 0, s.rack.window_persist + 1));
  UndoReduction(env, s, w, false);
  env.counters.Add(Counter::kTcpExtTCPDSACKUndo);
  return true;
}

bool TryUndoLoss(const SenderEnv& env, Sender& s, AckWork& w, bool by_frto) noexcept {
  if (!by_frto && !MayUndo(s, w)) return false;
  UndoReduction(env, s, w, true);
  env.counters.Add(Counter::kTcpExtTCPLossUndo);
  if (by_frto) env.counters.Add(Counter::kTcpExtTCPSpuriousRTOs);
  s.retransmits = 0;
  if (PreventsReopening(s)) return true;
  if (by_frto || s.sack_ok) {
    SetCaState(env, s, CaState::kOpen);
    s.sack_reneged = false;
  }
  return true;
}

// Twice the present rate in slow start, 1.2 times afterwards: never the limit, yet frames are not larger than a
// millisecond's worth.
void UpdatePacingRate(Sender& s) noexcept {
  if (!s.rtt.has_sample()) return;
  const uint64_t percent = s.cwnd < s.ssthresh / 2 ? 200 : 120;
  const uint64_t window_bytes = uint64_t{s.mss} * std::max(s.cwnd, s.packets_out);
  s.pacing_rate = window_bytes * (8 * 1'000'000 / 100) * percent / s.rtt.srtt8_us;
}

}  // namespace ustcp::recovery
