// The deadlines of a connection and what happens when they pass. The timing wheel holds the earliest; later ones are found
// when it fires.
#pragma once

#include "stack/tcp/tcb.h"
#include "stack/time/time.h"

namespace ustcp {

struct Context;

void ArmDelayedAck(Context& ctx, Connection& conn, Instant deadline) noexcept;
void ArmSlowTimer(Context& ctx, Connection& conn, SlowTimer kind, Instant deadline) noexcept;
void StopSlowTimer(Connection& conn) noexcept;
// Makes the wheel hold the earliest deadline.
void SyncTimer(Context& ctx, Connection& conn) noexcept;

// Keep-alive (RFC 9293 3.8.4): starts when the socket's option asks for it.
void StartKeepalive(Context& ctx, Connection& conn) noexcept;
// Zero-window probing (RFC 9293 3.8.6.1): arms the timer when data waits, nothing is in flight and no timer runs.
void CheckProbeTimer(Context& ctx, Connection& conn) noexcept;
// The window opened, or an ACK came while probing (Linux: tcp_ack_probe).
void OnProbeAnswered(Context& ctx, Connection& conn) noexcept;

}  // namespace ustcp
