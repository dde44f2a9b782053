#include "stack/tcp/state.h"

#include "stack/base/check.h"
#include "stack/base/fault.h"
#include "stack/host/host.h"
#include "stack/tcp/connection_timers.h"
#include "stack/tcp/send_queue.h"
#include "stack/tcp/tcb.h"

namespace ustcp {
namespace {

constexpr uint16_t Bit(TcpState s) { return static_cast<uint16_t>(1u << static_cast<unsigned>(s)); }

// Where each state may lead, by TcpState number; CLOSED is reachable from everywhere.
constexpr uint16_t kEdges[] = {
    0,
    /* kEstablished */ Bit(TcpState::kFinWait1) | Bit(TcpState::kCloseWait),
    /* kSynSent */ Bit(TcpState::kEstablished) | Bit(TcpState::kSynRecv),
    /* kSynRecv */ Bit(TcpState::kEstablished) | Bit(TcpState::kFinWait1) | Bit(TcpState::kCloseWait),
    /* kFinWait1 */ Bit(TcpState::kFinWait2) | Bit(TcpState::kClosing) | Bit(TcpState::kTimeWait),
    /* kFinWait2 */ Bit(TcpState::kTimeWait),
    /* kTimeWait */ 0,
    /* kClosed */ Bit(TcpState::kSynSent) | Bit(TcpState::kSynRecv),
    /* kCloseWait */ Bit(TcpState::kLastAck),
    /* kLastAck */ 0,
    /* kListen */ 0,
    /* kClosing */ Bit(TcpState::kTimeWait),
};

bool CountsAsEstablished(TcpState s) { return s == TcpState::kEstablished || s == TcpState::kCloseWait; }

// Everything but the record itself and its receive queue.
void ReleaseResources(Context& ctx, Connection& conn) {
  ctx.shard.timers.Cancel(conn.timer);
  conn.delack_deadline = conn.slow_deadline = kNever;
  conn.slow_timer = SlowTimer::kNone;
  ctx.shard.transmit.Remove(conn);
  USTCP_FAULT_POINT();
  ctx.host.tuples.Remove(conn);
  USTCP_FAULT_POINT();
  ctx.host.ports.Remove(conn.bind);
  USTCP_FAULT_POINT();
  ReleaseSendQueue(ctx, conn);
}

}  // namespace

bool IsLegalEdge(TcpState from, TcpState to) noexcept {
  if (to == TcpState::kClosed) return true;
  return (kEdges[static_cast<size_t>(from)] & Bit(to)) != 0;
}

void SetState(Context& ctx, Connection& conn, TcpState to) noexcept {
  TcpState from = conn.state;
  if (!IsLegalEdge(from, to)) USTCP_BUG("illegal state change");
  // Linux counts entering and leaving ESTABLISHED; CLOSE_WAIT belongs to it, and going from either straight to CLOSED is
  // a reset.
  if (to == TcpState::kEstablished) {
    ctx.counters().Add(Counter::kTcpCurrEstab);
  } else if (to == TcpState::kClosed && CountsAsEstablished(from)) {
    ctx.counters().Add(Counter::kTcpEstabResets);
  }
  if (CountsAsEstablished(from) && !CountsAsEstablished(to)) ctx.counters().Subtract(Counter::kTcpCurrEstab);
  if (to == TcpState::kCloseWait && from != TcpState::kEstablished) ctx.counters().Add(Counter::kTcpCurrEstab);
  USTCP_FAULT_POINT();
  conn.state = to;
  USTCP_FAULT_POINT();
}

void FinishConnection(Context& ctx, Connection& conn) noexcept {
  if (conn.state == TcpState::kSynSent || conn.state == TcpState::kSynRecv)
    ctx.counters().Add(Counter::kTcpAttemptFails);
  SetState(ctx, conn, TcpState::kClosed);
  if (conn.socket == nullptr) {
    FreeConnection(ctx, conn);
    return;
  }
  ReleaseResources(ctx, conn);
  conn.shut_rd = true;
  SocketEvents(ctx, conn, TcpPoll(conn, *conn.socket));
}

void FailConnection(Context& ctx, Connection& conn, int error) noexcept {
  if (conn.socket == nullptr) {
    FinishConnection(ctx, conn);
    return;
  }
  if (conn.state == TcpState::kSynSent || conn.state == TcpState::kSynRecv)
    ctx.counters().Add(Counter::kTcpAttemptFails);
  SetState(ctx, conn, TcpState::kClosed);
  ReleaseResources(ctx, conn);
  conn.shut_rd = true;
  SocketError(ctx, conn, error);
}

void FreeConnection(Context& ctx, Connection& conn) noexcept {
  ReleaseResources(ctx, conn);
  if (conn.orphan) ctx.host.orphan_count.fetch_sub(1);
  conn.orphan = false;
  USTCP_FAULT_POINT();
  ctx.shard.bufs.GiveChain(conn.rcv_head);
  ctx.shard.bufs.GiveChain(conn.ofo_head);
  ctx.shard.connections.Give(&conn);
}

}  // namespace ustcp
