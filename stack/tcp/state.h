// The one door for state changes, and what every record has in common: the end of its life.
#pragma once

#include "stack/tcp/tcb.h"
#include "stack/tcp/tcp.h"

namespace ustcp {

// Is `from` -> `to` an edge of RFC 9293 figure 5 (with resets and user aborts leading to CLOSED)?
bool IsLegalEdge(TcpState from, TcpState to) noexcept;

// Moves the connection to `to`: checks the edge, keeps CurrEstab and EstabResets as Linux does.
void SetState(Context& ctx, Connection& conn, TcpState to) noexcept;

// Reaches CLOSED (Linux: tcp_done): timers stop, tuple and port are free, what was to be sent is gone. A connection with
// a socket stays as a record in CLOSED, its received data readable; an orphan is freed, and `conn` with it.
void FinishConnection(Context& ctx, Connection& conn) noexcept;

// FinishConnection after a failure that the program gets to see as SO_ERROR.
void FailConnection(Context& ctx, Connection& conn, int error) noexcept;

// Gives everything back. No segment is sent, no socket told.
void FreeConnection(Context& ctx, Connection& conn) noexcept;

// States in which the peer may still send data that the program can read.
constexpr bool ReceivesData(TcpState s) {
  return s == TcpState::kEstablished || s == TcpState::kFinWait1 || s == TcpState::kFinWait2;
}
// States in which queued data and the FIN may be sent.
constexpr bool SendsData(TcpState s) {
  return s == TcpState::kEstablished || s == TcpState::kCloseWait || s == TcpState::kFinWait1 ||
         s == TcpState::kClosing || s == TcpState::kLastAck;
}

}  // namespace ustcp
