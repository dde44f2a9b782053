// Segments that no connection's output produces: RSTs, SYN-ACKs of half-open connections, ACKs from TIME_WAIT. They are
// built at once and queued as whole frames.
#pragma once

#include "stack/base/counters.h"
#include "stack/net/ip.h"
#include "stack/net/transport.h"
#include "stack/tcp/segment.h"

namespace ustcp {

// Builds and queues a segment without payload from tuple.local to tuple.peer; header's ports and option size are filled
// in. Returns false when it could not be sent (no memory, peer unreachable).
bool SendStandalone(Context& ctx, const Path& path, const Tuple& tuple, TcpHeader header, const TcpOptions& options,
                    const IpFields& ip) noexcept;

// The IP header's fields of such a segment.
IpFields StandaloneIp(const Context& ctx, uint8_t tos) noexcept;

// An ACK in the name of a HalfOpen or TimeWait, for segments it cannot use.
template <typename Record>
void SendAckFor(Context& ctx, const Record& record, Seq seq, Seq ack) noexcept;

// RFC 9293 3.10.7.1: the answer to a segment that belongs to nothing here. Never answers a RST.
void SendResetFor(Context& ctx, const TcpPacket& packet, const Segment& seg) noexcept;

// The tuple a received packet belongs to.
Tuple TupleOf(const TcpPacket& packet, uint16_t destination_port, uint16_t source_port) noexcept;

// RFC 5961's rate limit as Linux has it (tcp_invalid_ratelimit): true when an answer to an invalid segment must be left
// out; data is always answered. Notes the time and counts `skipped`.
bool AnswerIsRateLimited(Context& ctx, const Segment& seg, Instant& last, Counter skipped) noexcept;

}  // namespace ustcp
