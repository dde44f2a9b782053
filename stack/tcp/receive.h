// The receive queue (in order, waiting for the program), the out-of-order queue with the SACK blocks that describe it,
// and urgent data. Small payload is copied and collected in shared Bufs; large payload keeps the Buf it arrived in.
#pragma once

#include <cstdint>

#include "stack/tcp/tcb.h"
#include "stack/tcp/user.h"

namespace ustcp {

struct Context;
struct Segment;

// From this payload on, taking the received Buf costs less than copying.
inline constexpr size_t kTakeFrameFrom = 4096;

// Linux's TCP_URG_*: state of Connection::urgent_data, the low byte being the urgent one.
inline constexpr uint16_t kUrgentValid = 0x0100;
inline constexpr uint16_t kUrgentNotYet = 0x0200;
inline constexpr uint16_t kUrgentRead = 0x0400;

// Appends seg.payload, which begins at rcv_nxt, and advances rcv_nxt over it. False when memory is out.
bool QueueInOrder(Context& ctx, Connection& conn, const Segment& seg) noexcept;
// Keeps seg.payload (and the FIN) for later. False when it was dropped.
bool QueueOutOfOrder(Context& ctx, Connection& conn, const Segment& seg) noexcept;
// Moves what rcv_nxt has reached to the receive queue. Returns true when the peer's FIN became due.
bool DrainOutOfOrder(Context& ctx, Connection& conn) noexcept;
void PurgeOutOfOrder(Context& ctx, Connection& conn) noexcept;
void PurgeReceiveQueue(Context& ctx, Connection& conn) noexcept;

// Duplicate SACKs (RFC 2883).
void SetDsack(Context& ctx, Connection& conn, SeqRange range) noexcept;
void ExtendDsack(Context& ctx, Connection& conn, SeqRange range) noexcept;
// Drops blocks below rcv_nxt.
void TrimSackBlocks(Connection& conn) noexcept;

// RFC 9293 3.10.7.4 "sixth, check the URG bit".
void TakeUrgent(Context& ctx, Connection& conn, const Segment& seg) noexcept;

// SO_OOBINLINE: the urgent byte stays in the stream.
inline bool UrgentInline(const Connection& conn) { return conn.socket != nullptr && conn.socket->options.oob_inline; }

inline uint32_t UnreadBytes(const Connection& conn) {
  return conn.rcv_nxt.raw() - conn.copied_seq.raw() - (conn.fin_received ? 1 : 0);
}

}  // namespace ustcp
