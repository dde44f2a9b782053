// The sending half of a connection as far as loss recovery and congestion control go: what is in flight, what of it is
// deemed lost, when to send it again, and how much may be in flight. Self-contained: it knows neither the Connection it is
// part of, nor payload, nor frames. The Connection tells it what it sends and what comes back, and asks what to send next.
//
// Sources: RFC 6298, 5681, 6582 (NewReno), 2018/6675 (SACK), 2883 (D-SACK), 8985 (RACK-TLP), 6937bis (PRR), 5682 (F-RTO),
// 3522 (Eifel detection), 3042 (limited transmit), 7661, with Linux 6.18 deciding wherever they leave a choice.
//
// How the Connection uses it, all under the shard's lock:
//   polling output    NextRetransmission() until null, then new data while SendAllowance() > 0 and the window is open;
//                     OnTransmit()/OnRetransmit() with each frame; at last OnOutputIdle() when there is nothing more now
//   ACK arrives       update snd_wnd, then OnAck(); put the connection on the transmit list
//   timer             xmit_deadline <= now: by xmit_timer, OnRetransmissionTimeout() (after the checks for giving up),
//                     OnTailLossProbe() or OnReorderTimer(); put the connection on the transmit list
//   program writes    OnApplicationWrite() before the data is queued
// After each call the wheel has to hold a deadline no later than xmit_deadline.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "stack/base/counters.h"
#include "stack/base/seq.h"
#include "stack/base/sysctl.h"
#include "stack/tcp/cc/congestion.h"
#include "stack/tcp/mss.h"
#include "stack/tcp/recovery/rate_sample.h"
#include "stack/tcp/recovery/tx_segment.h"
#include "stack/tcp/rtt.h"
#include "stack/time/time.h"

namespace ustcp {

// What the sender needs from its surroundings. Cheap to make for each call; EnvOf(Context&) in env.h.
struct SenderEnv {
  SlotPool<TxSegment>& records;
  Counters& counters;
  const Sysctls& sysctls;
  Instant now;
};

// What the one transmit timer of a connection stands for; as in Linux these exclude each other.
enum class XmitTimer : uint8_t {
  kNone,
  kRetransmit,  // RFC 6298; also SYN
  kLossProbe,   // RFC 8985 7
  kReorder,     // RFC 8985 6.3
  kPersist,     // zero-window probe, RFC 9293 3.8.6.1: the Connection's, set only while nothing is in flight
};

// Numbered as tcpi_ca_state.
enum class CaState : uint8_t {
  kOpen = 0,      // nothing suspicious
  kDisorder = 1,  // duplicate ACKs or SACKs, nothing deemed lost yet
  kCwr = 2,       // window being reduced after an ECN echo
  kRecovery = 3,  // fast retransmit, window being reduced
  kLoss = 4,      // retransmission timeout or SACK reneging
};

// What may be retransmitted when output is polled.
enum class RetransmitMode : uint8_t {
  kNone,  // nothing but what a timer asks for
  kLost,  // whatever is marked lost, as cwnd allows
  kNew,   // F-RTO step 2b: new data first; when there was none to send, kLost follows (OnOutputIdle)
};

// RFC 8985.
struct RackState {
  SendMark sent;                // of the most recently sent segment that was delivered
  uint32_t rtt_us = 0;          // and its round trip
  uint32_t last_delivered = 0;  // `delivered` when the reordering window was last widened
  uint8_t window_steps = 1;     // reordering window in quarters of the minimum round trip
  uint8_t window_persist = 0;   // recoveries until the window shrinks back
  bool dsack_seen = false;
  bool advanced = false;  // `sent` or rtt changed since losses were last looked for
};

struct Sender {
  static constexpr size_t kSackCacheBlocks = 4;

  // --- shared with the Connection ---
  Seq snd_una;                 // written by OnAck only, once established
  Seq snd_nxt;                 // written by OnTransmit only, once established
  Seq write_end;               // behind the last queued byte, the FIN not counted; the Connection's
  uint32_t snd_wnd = 0;        // bytes, scaled; the Connection's
  uint32_t max_window = 0;     // largest snd_wnd seen; the Connection's
  uint16_t mss = kDefaultMss;  // payload bytes per segment; the Connection's. Lowered: OnMssLowered()
  bool fin_queued = false;     // a FIN follows write_end; the Connection's
  bool sack_ok = false;        // negotiated; the Connection's, before the first data
  bool timestamps_ok = false;  // negotiated; the Connection's
  bool handshaking = false;    // SYN_SENT: SYN timeouts back off only after tcp_syn_linear_timeouts; the Connection's
  bool cwr_queued = false;     // ECN: set CWR on the next new data segment; the Connection clears it

  // --- read-only for the Connection ---
  XmitTimer xmit_timer = XmitTimer::kNone;
  Instant xmit_deadline = kNever;  // kNever iff xmit_timer is kNone
  CaState ca_state = CaState::kOpen;
  RetransmitMode retransmit_mode = RetransmitMode::kNone;
  bool probe_new_data = false;  // a tail loss probe of new data is due: one segment regardless of cwnd
  bool rto_head_due = false;    // a timeout's retransmission of the first segment is due, regardless of cwnd
  bool is_cwnd_limited = false;
  bool sent_new_data = false;  // since OnOutputIdle
  bool frto = false;           // F-RTO is judging a timeout
  bool sack_reneged = false;
  bool reordering_seen = false;
  bool tlp_is_retransmission = false;
  bool paced = false;               // pacing_rate is to be enforced, not only to size frames
  uint8_t retransmits = 0;          // timeouts in a row without progress (icsk_retransmits, at most 255)
  TxSegment* tlp_record = nullptr;  // a tail loss probe of old data is due

  // Counts in segments, over the records.
  uint32_t packets_out = 0;
  uint32_t sacked_out = 0;  // with SACK: records sacked; without: duplicate ACKs
  uint32_t lost_out = 0;
  uint32_t retrans_out = 0;  // retransmissions in flight

  uint32_t cwnd = kInitialCwnd;
  uint32_t ssthresh = kInfiniteSsthresh;
  uint32_t cwnd_clamp = 0xffffffff;
  uint32_t cwnd_count = 0;   // additive increase: segments acknowledged towards the next step
  uint64_t pacing_rate = 0;  // bytes/s; 0: none yet
  RttEstimator rtt;
  uint32_t reordering = 3;  // segments; starts at tcp_reordering
  uint32_t delivered = 0;   // segments known to have arrived
  uint32_t delivered_ce = 0;
  uint32_t lost = 0;               // segments ever deemed lost
  uint32_t send_count = 0;         // transmissions of records, for their order
  uint32_t app_limited = 0;        // `delivered` when the present application-limited phase will have left; 0: none
  uint32_t total_retransmits = 0;  // segments
  uint32_t total_timeouts = 0;
  uint32_t data_segs_out = 0;
  uint32_t dsack_dups = 0;
  uint32_t reorder_events = 0;  // tcpi_reord_seen
  uint64_t bytes_sent = 0;      // payload, retransmissions included
  uint64_t bytes_retransmitted = 0;
  uint64_t bytes_acked = 0;
  Instant last_sent{};  // any segment with data, SYN or FIN
  // First retransmission of the present episode; zero: none. The undo by timestamps and the time-outs count from here.
  Instant first_retransmit{};

  // --- private to recovery/ and cc/ ---
  SequenceList queue;
  TimeList by_time;
  TxSegment* retransmit_hint = nullptr;  // no lost, not yet retransmitted record lies before it
  TxSegment* sack_hint = nullptr;        // where the latest SACK block was found
  Seq highest_sacked;                    // end of the highest SACKed record; valid while sacked_out != 0 and sack_ok
  uint8_t sack_cache_count = 0;
  SeqRange sack_cache[kSackCacheBlocks];  // blocks of the latest ACK, in order: their records have been tagged
  Seq high_seq;                           // snd_nxt when the present state was entered
  Seq undo_marker;                        // snd_una when the window was reduced
  Seq tlp_high_seq;                       // snd_nxt at the tail loss probe
  Seq cwnd_usage_seq;
  bool undo_marked = false;      // undo_marker is meaningful
  bool tlp_outstanding = false;  // tlp_high_seq is meaningful
  int32_t undo_retransmits = 0;  // retransmissions not yet reported as duplicates; -1: none made yet
  uint32_t prior_cwnd = 0;
  uint32_t prior_ssthresh = 0;  // 0: nothing to undo
  uint32_t prr_delivered = 0;
  uint32_t prr_out = 0;
  uint32_t max_packets_out = 0;  // in the window that began at cwnd_usage_seq
  uint32_t cwnd_used = 0;
  Instant cwnd_stamp{};  // when cwnd was last found to be the limit, or set
  RackState rack;
  CcState cc;
  Instant window_started{};  // delivery rate: send time of the most recently acknowledged segment
  Instant delivered_at{};
  uint32_t rate_delivered = 0;    // the latest rate sample: segments
  uint32_t rate_interval_us = 0;  // and time
  bool rate_app_limited = false;

  uint32_t in_flight() const { return packets_out - (sacked_out + lost_out) + retrans_out; }
  bool in_reduction() const { return ca_state == CaState::kCwr || ca_state == CaState::kRecovery; }
  // Anything that has never been sent, the FIN included.
  bool has_unsent() const { return (fin_queued ? write_end + 1 : write_end).After(snd_nxt); }
  Seq window_end() const { return snd_una + snd_wnd; }
};
static_assert(std::is_trivially_destructible_v<Sender>);

// --- life ---

// A new connection that will send its SYN at `iss` (or has had its handshake done by a HalfOpen: then iss + 1). Sets
// snd_una = snd_nxt = write_end = iss; everything else starts afresh. Requires: no records.
void InitSender(const SenderEnv& env, Sender& s, Seq iss, CcKind cc) noexcept;

// Reaching ESTABLISHED, after the ACK of the SYN was processed: initial window (1 after several SYN timeouts, RFC 6928 and
// 5681 3.1), RTO fall-back, congestion control. `handshake_rtt_us`: SYN-ACK to ACK of a passive open when it was not
// retransmitted, negative otherwise or when OnAck has seen the SYN.
void OnEstablished(const SenderEnv& env, Sender& s, int64_t handshake_rtt_us) noexcept;

// Frees all records and stops the timer (close, abort, before the Connection's slot is given back). Idempotent.
void ReleaseSender(const SenderEnv& env, Sender& s) noexcept;

// --- output ---

enum class RetransmitReason : uint8_t { kTimeout, kLossProbe, kLost };

// What to send again now, or record == null. The record is cut so that all of it may be sent: at most `max_segments`, cwnd
// and the peer's window respected (a timeout's and a probe's retransmission go regardless of cwnd). Send the payload
// [record->range), with SYN or FIN as the record says, then call OnRetransmit; or do not send and call again later.
struct Retransmission {
  TxSegment* record = nullptr;
  RetransmitReason reason = RetransmitReason::kLost;
};
Retransmission NextRetransmission(const SenderEnv& env, Sender& s, uint32_t max_segments) noexcept;
// The record has just been put on its way (again). Counts RetransSegs and its kin.
void OnRetransmit(const SenderEnv& env, Sender& s, const Retransmission& what) noexcept;

// How many segments of new data cwnd admits now (half of cwnd at most, so that at least two frames are in flight; 1 when
// a tail loss probe of new data is due). 0: cwnd is full.
uint32_t SendAllowance(const Sender& s) noexcept;
// True when what is queued should go out without regard to Nagle or corking (a probe, F-RTO).
inline bool ForcesPush(const Sender& s) { return s.probe_new_data || s.retransmit_mode == RetransmitMode::kNew; }

// New sequence space [snd_nxt, snd_nxt + payload + syn + fin) is about to go out: makes its record, moves snd_nxt, arms
// the timer. Returns null when memory is out: then do not send. `flags`: TxSegment::kSyn, kFin, kPush.
TxSegment* OnTransmit(const SenderEnv& env, Sender& s, uint32_t payload, uint8_t flags) noexcept;

// Nothing more can be sent now. `cwnd_limited`: SendAllowance() == 0 was the reason although data was waiting. Returns
// true when there is something after all (F-RTO fell back to retransmitting): poll again.
bool OnOutputIdle(const SenderEnv& env, Sender& s, bool cwnd_limited) noexcept;

// The program is about to queue data: ends or marks application-limited phases, and shrinks the window after an idle
// period (tcp_slow_start_after_idle).
void OnApplicationWrite(const SenderEnv& env, Sender& s) noexcept;

// The path MTU fell and `mss` has been lowered: segments that no longer fit count as lost and are sent again at once,
// without a reduction of the window.
void OnMssLowered(const SenderEnv& env, Sender& s) noexcept;

// --- acknowledgements ---

struct AckInput {
  Seq ack;
  const SeqRange* sacks = nullptr;  // as received, unchecked; the first may be a D-SACK
  uint8_t sack_count = 0;
  bool has_data = false;        // the segment carried payload, SYN or FIN: never a duplicate ACK
  bool window_changed = false;  // it changed snd_wnd: likewise
  bool ece = false;             // ECE on a connection that negotiated ECN
  bool has_tsecr = false;       // a timestamp option with a non-zero TSecr
  // TSecr without the connection's offset, i.e. TimestampClock(time when the echoed segment was sent).
  uint32_t tsecr_ms = 0;
  uint16_t segments = 1;  // original segments when the device merged several pure ACKs
};

struct AckResult {
  bool invalid = false;  // acknowledges what was never sent: answer with an ACK, drop. Nothing was changed.
  bool old = false;      // ack < snd_una (SACK blocks were used nevertheless)
  bool una_advanced = false;
  bool syn_acked = false;
  bool duplicate = false;  // counted as a duplicate ACK
  bool entered_recovery = false;
  bool left_recovery = false;       // Recovery or Loss ended
  bool undone = false;              // a reduction was found to be spurious and taken back
  bool forward_progress = false;    // something was newly acknowledged or SACKed
  uint32_t bytes_acked = 0;         // sequence numbers, SYN and FIN included
  uint32_t segments_acked = 0;      // cumulatively
  uint32_t segments_delivered = 0;  // newly known to have arrived
  uint32_t segments_lost = 0;       // newly deemed lost
  int64_t rtt_us = -1;              // sample fed to the estimator; negative: none
};

// One acceptable ACK. snd_wnd and max_window are already those of this segment.
AckResult OnAck(const SenderEnv& env, Sender& s, const AckInput& in) noexcept;

// Our timestamp clock without offset: milliseconds, wrapping after 49 days.
constexpr uint32_t TimestampClock(Instant t) { return static_cast<uint32_t>(NanosOf(t) / 1'000'000); }

// --- timers ---

// xmit_timer was kRetransmit and the connection is not to be given up: everything but what was sent very recently counts
// as lost, the window closes to one segment, the timeout doubles (RFC 6298 5.4-5.7, 5681 3.1). The first segment is due.
// `user_timeout`: TCP_USER_TIMEOUT, zero: none; the next deadline is not later than its end. `zero_window`: the peer has
// closed its window over data in flight: the same, not counted as a timeout. Counts TCPTimeouts; a connection that is given
// up instead of calling this has to count its last one itself.
void OnRetransmissionTimeout(const SenderEnv& env, Sender& s, Duration user_timeout, bool zero_window) noexcept;
// xmit_timer was kLossProbe: new data is due when there is some and the window is open, else the last segment again.
void OnTailLossProbe(const SenderEnv& env, Sender& s) noexcept;
// xmit_timer was kReorder: what has waited long enough is lost.
void OnReorderTimer(const SenderEnv& env, Sender& s) noexcept;

// True when timeouts have lasted as long as `retries` doublings from the least RTO (1 s while handshaking) would, counted
// from the first retransmission; with `timeout` not zero, as long as that instead (TCP_USER_TIMEOUT). False before the
// first timeout.
bool RetriesExhausted(const SenderEnv& env, const Sender& s, uint32_t retries, Duration timeout) noexcept;

// The retransmission timeout comes almost at once (Linux: TCP_TIMEOUT_MIN). Requires: xmit_timer is kRetransmit.
void HastenTimeout(const SenderEnv& env, Sender& s) noexcept;
// Stops the transmit timer, whatever it stands for; sets it for kPersist. For the Connection.
void StopXmitTimer(Sender& s) noexcept;
void SetPersistTimer(Sender& s, Instant deadline) noexcept;

// --- tests ---

// Null when counts, lists and flags agree with each other, else the first disagreement (a static string). O(records).
const char* CheckSender(const Sender& s) noexcept;

}  // namespace ustcp
