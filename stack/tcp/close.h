// Ending connections: FIN, RST, orphans, FIN_WAIT2.
#pragma once

#include "stack/tcp/tcb.h"
#include "stack/time/time.h"

namespace ustcp {

struct Context;
struct Segment;

// RST|ACK at the sequence number the peer takes (Linux: tcp_send_active_reset).
void SendActiveReset(Context& ctx, Connection& conn) noexcept;

// Queues the FIN and moves on to the state that follows (RFC 9293 3.10.4). The state must allow it.
void SendFin(Context& ctx, Connection& conn) noexcept;

// Our FIN was acknowledged in FIN_WAIT1. False: the connection is gone.
bool OnFinAcked(Context& ctx, Connection& conn, const Segment& seg, bool& reset) noexcept;

// A reset was received and believed.
void OnReset(Context& ctx, Connection& conn) noexcept;

// How long an orphan may stay in FIN_WAIT2.
Duration FinTimeout(const Context& ctx, const Connection& conn) noexcept;

}  // namespace ustcp
