// Congestion control: how large the window may be, in segments. Which data is lost is decided in recovery/: it tells the
// algorithms here, and stores the threshold and the window to go back to that they answer with. They let the Sender's cwnd
// grow themselves, and HyStart its ssthresh end slow start. Dispatch is by enum because code pointers have no place in the
// arena.
//
// The window during fast recovery and CWR belongs to PRR (recovery/), not to the algorithm.
#pragma once

#include <cstdint>

#include "stack/base/seq.h"
#include "stack/tcp/cc/kind.h"
#include "stack/time/time.h"

namespace ustcp {

struct Sender;
struct SenderEnv;

inline constexpr uint32_t kInitialCwnd = 10;  // RFC 6928
inline constexpr uint32_t kInfiniteSsthresh = 0x7fffffff;

// RFC 9438 with the kernel's fixed-point arithmetic, and HyStart.
struct CubicVars {
  uint32_t cnt;            // segments to be acknowledged for one more segment of window
  uint32_t last_max_cwnd;  // W_max, after fast convergence
  uint32_t last_cwnd;      // window at the latest computation of cnt
  uint32_t origin;         // window at the curve's inflection point
  uint32_t k;              // time from the start of the epoch to the inflection point, in 1/1024 s
  uint32_t delay_min_us;   // smallest round trip; 0: none yet
  uint32_t ack_cnt;        // segments acknowledged in this epoch, for the Reno-friendly estimate
  uint32_t reno_cwnd;      // W_est: what Reno would have
  int64_t last_time_ms;
  int64_t epoch_start_ms;  // 0: no epoch
  // HyStart
  Instant round_start;
  Instant last_ack;
  Seq round_end;
  uint32_t round_min_rtt_us;
  uint8_t sample_count;
  bool found;  // the exit from slow start has been found
};

struct CcState {
  CcKind kind = CcKind::kCubic;
  union Vars {
    CubicVars cubic;
    constexpr Vars() : cubic{} {}
  } vars;
};

// Starts the algorithm afresh (a new connection, or TCP_CONGESTION changed it). cwnd and ssthresh stay.
void CcInit(const SenderEnv& env, Sender& s, CcKind kind) noexcept;

// Growth: `acked` segments were delivered outside of recovery.
void CcOnAck(const SenderEnv& env, Sender& s, uint32_t acked) noexcept;
// Every acknowledgement, recovery included. rtt_us: of the latest segment (S)ACKed, negative: none.
void CcOnSample(const SenderEnv& env, Sender& s, int64_t rtt_us) noexcept;
// The slow-start threshold after a loss or ECN echo, at least 2; may note what the window was.
uint32_t CcSsthresh(const SenderEnv& env, Sender& s) noexcept;
// The congestion state became Loss (a retransmission timeout).
void CcOnRto(const SenderEnv& env, Sender& s) noexcept;
// The window to go back to when a reduction turns out to have been unnecessary.
uint32_t CcUndoCwnd(const Sender& s) noexcept;

enum class CcEvent : uint8_t {
  kTransmitStart,  // first transmission with nothing in flight; Sender::last_send still holds the previous one
  kIdleRestart,    // the window is about to be reset after an idle period
  kReductionDone,  // PRR finished
};
void CcCwndEvent(const SenderEnv& env, Sender& s, CcEvent event) noexcept;

// Shared by the algorithms.
// Slow start up to ssthresh: one segment per segment acknowledged. Returns the part of `acked` left over for congestion
// avoidance.
uint32_t CcSlowStart(Sender& s, uint32_t acked) noexcept;
// Additive increase: one segment per `per_segment` segments acknowledged.
void CcAvoidCongestion(Sender& s, uint32_t per_segment, uint32_t acked) noexcept;
// cwnd may grow only when it was what held the sender back (RFC 7661, the kernel's variant).
bool CcIsCwndLimited(const Sender& s) noexcept;
inline bool CcInSlowStart(uint32_t cwnd, uint32_t ssthresh) { return cwnd < ssthresh; }

}  // namespace ustcp
