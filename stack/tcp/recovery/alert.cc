// What a suspicious ACK does to the congestion state: the machine Open, Disorder, CWR, Recovery, Loss.
#include "stack/tcp/recovery/internal.h"

namespace ustcp::recovery {
namespace {

void IdentifyLosses(const SenderEnv& env, Sender& s, AckWork& w) {
  if (s.queue.empty()) return;
  if (!s.sack_ok) {
    MarkLostByDuplicates(env, s, w.una_advanced);
    return;
  }
  const uint32_t before = s.retrans_out;
  if (RackMarkLost(env, s)) w.set_timer = false;
  if (s.retrans_out < before) w.lost_retransmission = true;
}

// In Loss: is the timeout spurious (RFC 5682 with SACK, RFC 3522), real, or over? Sets what may be sent.
void ProcessLoss(const SenderEnv& env, Sender& s, AckWork& w) {
  const bool recovered = !s.snd_una.Before(s.high_seq);
  if (w.una_advanced && TryUndoLoss(env, s, w, false)) return;

  if (s.frto) {
    // Step 3.b: data that was never retransmitted arrived, so it was not lost, nor was the rest.
    if (w.original_delivered && TryUndoLoss(env, s, w, true)) return;
    if (s.snd_nxt.After(s.high_seq)) {
      // Step 3.a: the new data made duplicates: the loss is real.
      if (w.data_sacked || w.duplicates != 0) s.frto = false;
    } else if (w.una_advanced && !recovered) {
      s.high_seq = s.snd_nxt;
      // Step 2.b: new data instead of retransmissions, where there is some.
      if (s.has_unsent() && s.window_end().After(s.snd_nxt)) {
        s.retransmit_mode = RetransmitMode::kNew;
        return;
      }
      s.frto = false;
    }
  }
  if (recovered) {
    TryUndoRecovery(env, s, w);
    return;
  }
  if (!s.sack_ok) {
    if (s.snd_nxt.After(s.high_seq) && w.duplicates != 0) {
      AddRenoSacks(env, s, w.duplicates, w.in.ece);
    } else if (w.una_advanced) {
      s.sacked_out = 0;
    }
  }
  s.retransmit_mode = RetransmitMode::kLost;
}

// The first record had been SACKed: give the receiver a moment to acknowledge properly before all SACKs are forgotten.
bool CheckReneging(const SenderEnv& env, Sender& s, AckWork& w) {
  if (!w.reneging || !w.una_advanced) return false;
  const Duration wait = std::max<Duration>(std::chrono::microseconds(s.rtt.srtt8_us >> 4), 10ms);
  ArmXmitTimer(env, s, XmitTimer::kRetransmit, wait, wait);
  w.set_timer = false;
  return true;
}

}  // namespace

void FastRetransmitAlert(const SenderEnv& env, Sender& s, AckWork& w) noexcept {
  s.retransmit_mode = RetransmitMode::kNone;
  if (s.packets_out == 0 && s.sacked_out != 0) s.sacked_out = 0;
  if (w.in.ece) s.prior_ssthresh = 0;
  if (CheckReneging(env, s, w)) return;

  // Everything that was outstanding when the state was entered is acknowledged: it ends.
  if (s.ca_state == CaState::kOpen) {
    s.first_retransmit = Instant{};
  } else if (!s.snd_una.Before(s.high_seq)) {
    if (s.ca_state == CaState::kCwr) {
      if (s.snd_una != s.high_seq) {
        EndReduction(env, s);
        SetCaState(env, s, CaState::kOpen);
      }
    } else if (s.ca_state == CaState::kRecovery) {
      if (!s.sack_ok) s.sacked_out = 0;
      if (TryUndoRecovery(env, s, w)) return;
      EndReduction(env, s);
    }
  }

  if (s.ca_state == CaState::kRecovery) {
    if (!w.una_advanced) {
      if (!s.sack_ok) AddRenoSacks(env, s, w.duplicates, w.in.ece);
    } else if (TryUndoPartial(env, s, w)) {
      return;
    }
    if (TryUndoDsack(env, s, w)) TryToOpen(env, s, w);
    IdentifyLosses(env, s, w);
    if (s.ca_state != CaState::kRecovery) {
      if (s.lost_out == 0) return;
      EnterRecovery(env, s, w.in.ece);
    }
  } else {
    if (s.ca_state == CaState::kLoss) {
      ProcessLoss(env, s, w);
      IdentifyLosses(env, s, w);
      if (s.ca_state != CaState::kOpen && !w.lost_retransmission) return;
    }
    if (!s.sack_ok) {
      if (w.una_advanced) s.sacked_out = 0;
      AddRenoSacks(env, s, w.duplicates, w.in.ece);
    }
    if (s.ca_state <= CaState::kDisorder) TryUndoDsack(env, s, w);
    IdentifyLosses(env, s, w);
    if (s.lost_out == 0) {
      TryToOpen(env, s, w);
      return;
    }
    EnterRecovery(env, s, w.in.ece);
  }
  s.retransmit_mode = RetransmitMode::kLost;
}

}  // namespace ustcp::recovery
