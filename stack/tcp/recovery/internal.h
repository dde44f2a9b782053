// What the files of recovery/ share. Not for anybody else.
#pragma once

#include <algorithm>
#include <cstdint>

#include "stack/tcp/recovery/sender.h"

namespace ustcp::recovery {

inline constexpr Duration kTimeoutMargin = 2ms;  // on reordering and probe timers: the clock's and the peer's slack
inline constexpr uint8_t kRackPersist = 16;      // recoveries after which the reordering window shrinks back

// One ACK being processed: what has been found out so far.
struct AckWork {
  AckWork(const AckInput& input, AckResult& out, Seq una) : in(input), result(out), prior_una(una) {}

  const AckInput& in;
  AckResult& result;
  const Seq prior_una;
  bool una_advanced = false;
  bool data_acked = false;  // records without SYN, cumulatively
  bool syn_acked = false;
  bool data_sacked = false;
  bool dsack = false;                // a credible D-SACK
  bool dsack_of_probe = false;       // and it reports the tail loss probe
  bool retransmitted_acked = false;  // records that had been retransmitted: no RTT sample from them
  bool original_delivered = false;   // never-retransmitted data from before the present episode arrived (F-RTO)
  bool reneging = false;             // the new first record had been SACKed
  bool set_timer = false;            // restart the probe or retransmission timer
  bool lost_retransmission = false;
  bool maybe_delayed = false;  // looks like a delayed ACK
  uint32_t duplicates = 0;     // duplicate ACKs this one stands for
  uint32_t sack_delivered = 0;
  Seq reordered;           // lowest never-retransmitted hole that got filled late
  Instant first_sacked{};  // send times; zero: none
  Instant last_sacked{};
  RateSample rate;

  bool acked() const { return data_acked || syn_acked; }
  // Not a duplicate ACK whatever its number says.
  bool not_duplicate() const { return in.has_data || in.window_changed || acked(); }
  bool forward_progress() const { return acked() || data_sacked; }
};

// --- scoreboard.cc ---

uint32_t SegmentsFor(uint32_t payload, uint32_t mss) noexcept;
// Cuts the record after `payload` bytes of it; the rest becomes a record of its own, which is returned. Null without
// memory. Requires 0 < payload < r.payload().
TxSegment* SplitRecord(const SenderEnv& env, Sender& s, TxSegment& r, uint32_t payload) noexcept;
// Counts the record's segments anew by the present mss.
void Resegment(Sender& s, TxSegment& r) noexcept;
// Removes the first `to - r.range.begin` numbers of the record, without accounting; `segments` remain.
void TrimRecord(TxSegment& r, Seq to, uint16_t segments) noexcept;
// Takes the record off every list and frees it. Counts are the caller's.
void RemoveRecord(const SenderEnv& env, Sender& s, TxSegment& r) noexcept;
void MarkLost(const SenderEnv& env, Sender& s, TxSegment& r) noexcept;
void LeaveTimeList(Sender& s, TxSegment& r) noexcept;
void MoveToTimeListEnd(Sender& s, TxSegment& r) noexcept;
// Nothing counts as lost any more (a reduction is undone).
void UnmarkAllLost(Sender& s) noexcept;
// The record that contains `seq`, null when none does.
TxSegment* FindRecord(Sender& s, Seq seq) noexcept;
// snd_una when nothing is SACKed.
Seq HighestSacked(const Sender& s) noexcept;
bool AnyRetransmissionDone(const Sender& s) noexcept;
void CountDelivered(Sender& s, uint32_t segments, bool ece) noexcept;

// --- sack.cc ---
void TagSacks(const SenderEnv& env, Sender& s, AckWork& w) noexcept;
// Data from `low` on arrived after data sent later: the reordering metric grows.
void CheckReordering(const SenderEnv& env, Sender& s, Seq low, bool by_timestamp) noexcept;

// --- reno.cc: emulation of sacked_out by duplicate ACKs ---
void AddRenoSacks(const SenderEnv& env, Sender& s, uint32_t duplicates, bool ece) noexcept;
void RemoveRenoSacks(const SenderEnv& env, Sender& s, uint32_t acked, bool ece) noexcept;
bool LimitRenoSacked(Sender& s) noexcept;
void MarkLostByDuplicates(const SenderEnv& env, Sender& s, bool una_advanced) noexcept;

// --- rack.cc ---
// A record with these flags was just delivered.
void RackAdvance(const SenderEnv& env, Sender& s, uint8_t flags, const SendMark& sent) noexcept;
void RackUpdateWindow(const SenderEnv& env, Sender& s, const RateSample& rate) noexcept;
// Looks for losses; true when the reordering timer was armed.
bool RackMarkLost(const SenderEnv& env, Sender& s) noexcept;
// Microseconds until the record counts as lost; not positive: it does.
int64_t RackRemaining(const SenderEnv& env, const Sender& s, const TxSegment& r, uint32_t window_us) noexcept;

// --- timer.cc ---
void ArmXmitTimer(const SenderEnv& env, Sender& s, XmitTimer kind, Duration after, Duration limit) noexcept;
void RearmRto(const SenderEnv& env, Sender& s) noexcept;
// False when no probe is called for.
bool ScheduleLossProbe(const SenderEnv& env, Sender& s, bool advancing_rto) noexcept;
void ProcessProbeAck(const SenderEnv& env, Sender& s, const AckWork& w) noexcept;

// --- window.cc: states, PRR and undo ---
void SetCaState(const SenderEnv& env, Sender& s, CaState state) noexcept;
uint32_t CurrentSsthresh(const Sender& s) noexcept;
void InitUndo(Sender& s) noexcept;
void InitReduction(const SenderEnv& env, Sender& s) noexcept;
void ProportionalReduction(Sender& s, uint32_t delivered, uint32_t newly_lost, bool una_advanced) noexcept;
void EndReduction(const SenderEnv& env, Sender& s) noexcept;
void EnterCwr(const SenderEnv& env, Sender& s) noexcept;
void EnterRecovery(const SenderEnv& env, Sender& s, bool ece) noexcept;
void EnterLoss(const SenderEnv& env, Sender& s) noexcept;
// The ACK shows that no retransmission was needed, by timestamp or because none was made yet.
bool PacketDelayed(const Sender& s, const AckWork& w) noexcept;
bool TimestampBefore(const Sender& s, const AckInput& in, Instant when) noexcept;
void TryKeepOpen(const SenderEnv& env, Sender& s) noexcept;
void TryToOpen(const SenderEnv& env, Sender& s, const AckWork& w) noexcept;
// True: stay in the state (NewReno until something beyond high_seq is acknowledged).
bool TryUndoRecovery(const SenderEnv& env, Sender& s, AckWork& w) noexcept;
bool TryUndoPartial(const SenderEnv& env, Sender& s, AckWork& w) noexcept;
bool TryUndoDsack(const SenderEnv& env, Sender& s, AckWork& w) noexcept;
bool TryUndoLoss(const SenderEnv& env, Sender& s, AckWork& w, bool by_frto) noexcept;
void UpdatePacingRate(Sender& s) noexcept;

// --- alert.cc: the state machine of suspicious ACKs ---
void FastRetransmitAlert(const SenderEnv& env, Sender& s, AckWork& w) noexcept;

}  // namespace ustcp::recovery
