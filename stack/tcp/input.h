// Segments for connections (RFC 9293 3.10.7.3 and 3.10.7.4).
#pragma once

#include "stack/tcp/segment.h"
#include "stack/tcp/tcb.h"

namespace ustcp {

struct Context;

// SYN-SENT.
void OnSynSentSegment(Context& ctx, Connection& conn, Segment& seg) noexcept;
// SYN-RECEIVED and the synchronised states. `conn` may be gone afterwards.
void OnConnectionSegment(Context& ctx, Connection& conn, Segment& seg) noexcept;

// Reaching ESTABLISHED: windows from the segment that completed the handshake, estimators, buffers (Linux:
// tcp_init_transfer and around it).
void Establish(Context& ctx, Connection& conn, const Segment& seg) noexcept;

// The same for a connection that a listener's handshake made; then takes what else the segment carries. `rtt_us`: from
// SYN-ACK to ACK, negative when unknown.
void EstablishPassive(Context& ctx, Connection& conn, Segment& seg, int64_t rtt_us) noexcept;

// "eighth, check the FIN bit". False: the connection is gone or closed.
bool TakeFin(Context& ctx, Connection& conn) noexcept;

// Text, urgent data and FIN of an acceptable segment, then what is to be sent in answer.
void TakeText(Context& ctx, Connection& conn, Segment& seg) noexcept;

// Acknowledges now or later what waits for an ACK (Linux: tcp_ack_snd_check).
void ScheduleAnswer(Context& ctx, Connection& conn) noexcept;
// The ACK of the FIN that leads to TIME_WAIT: goes out at once, since the connection does not outlive the call.
void SendFinalAck(Context& ctx, Connection& conn) noexcept;

// Sends an ACK with the next poll, whatever the delayed-ACK rules say.
void AckNow(Context& ctx, Connection& conn) noexcept;
void SendChallengeAck(Context& ctx, Connection& conn, const Segment& seg) noexcept;
// Linux's quick-ACK mode: the next ACKs are not delayed.
void EnterQuickAck(Connection& conn, uint32_t most) noexcept;
inline constexpr uint32_t kMaxQuickAcks = 16;
inline constexpr uint16_t kMinAtoMs = 40;

}  // namespace ustcp
