#include "stack/tcp/close.h"

#include <sys/epoll.h>

#include <algorithm>

#include "stack/base/fault.h"
#include "stack/host/host.h"
#include "stack/tcp/connection_timers.h"
#include "stack/tcp/input.h"
#include "stack/tcp/isn.h"
#include "stack/tcp/output.h"
#include "stack/tcp/receive.h"
#include "stack/tcp/receive_window.h"
#include "stack/tcp/reply.h"
#include "stack/tcp/send_queue.h"
#include "stack/tcp/state.h"
#include "stack/tcp/tcb.h"
#include "stack/tcp/time_wait.h"
#include "stack/tcp/user.h"

namespace ustcp {
namespace {

using std::chrono::seconds;

// States whose peer learns of an abort by RST (Linux: tcp_need_reset).
bool NeedsReset(TcpState s) {
  return s == TcpState::kEstablished || s == TcpState::kCloseWait || s == TcpState::kFinWait1 ||
         s == TcpState::kFinWait2 || s == TcpState::kSynRecv;
}

// The socket lets go: from here on the connection lives by its timers.
void BecomeOrphan(Context& ctx, Connection& conn) {
  conn.linger2_s = conn.socket->options.linger2_s;
  USTCP_FAULT_POINT();
  conn.socket = nullptr;
  USTCP_FAULT_POINT();
  conn.shut_rd = true;
  conn.orphan = true;
  USTCP_FAULT_POINT();
  ctx.host.orphan_count.fetch_add(1);
}

// The socket is told nothing more, the record goes.
void LetGo(Context& ctx, Connection& conn) {
  conn.socket = nullptr;
  FinishConnection(ctx, conn);
}

void StartOrphanFinWait2(Context& ctx, Connection& conn) {
  if (conn.linger2_s < 0) {
    SendActiveReset(ctx, conn);
    ctx.counters().Add(Counter::kTcpExtTCPAbortOnLinger);
    FinishConnection(ctx, conn);
    return;
  }
  Duration wait = FinTimeout(ctx, conn);
  Duration time_wait = seconds(ctx.sysctls().tcp_timewait_len);
  if (wait > time_wait)
    ArmSlowTimer(ctx, conn, SlowTimer::kFinWait2, ctx.now + (wait - time_wait));
  else
    EnterTimeWait(ctx, conn, TcpState::kFinWait2, wait);
}

bool HasUnread(const Connection& conn) { return conn.rcv_head != nullptr; }

}  // namespace

Duration FinTimeout(const Context& ctx, const Connection& conn) noexcept {
  Duration wait = seconds(conn.linger2_s > 0 ? conn.linger2_s : ctx.sysctls().tcp_fin_timeout);
  Duration rto = conn.snd.rtt.rto;
  return std::max<Duration>(wait, rto * 4 - rto / 2);
}

void SendActiveReset(Context& ctx, Connection& conn) noexcept {
  TcpHeader h;
  h.seq = AcceptableSeq(conn);
  h.ack = conn.rcv_nxt;
  h.flags = kTcpRst | kTcpAck;
  h.window = AdvertiseWindow(ctx, conn);
  TcpOptions options;
  if (conn.snd.timestamps_ok)
    options.timestamps = TcpTimestamps{TimestampClock(ctx.now, conn.ts_offset), conn.ts_recent};
  ctx.counters().Add(Counter::kTcpOutRsts);
  if (!SendStandalone(ctx, conn.path, conn.tuple, h, options, {conn.tos, conn.ttl, true}))
    ctx.counters().Add(Counter::kTcpExtTCPAbortFailed);
}

void SendFin(Context& ctx, Connection& conn) noexcept {
  SetState(ctx, conn, conn.state == TcpState::kCloseWait ? TcpState::kLastAck : TcpState::kFinWait1);
  conn.snd.fin_queued = true;
  ctx.shard.transmit.Add(conn);
}

bool OnFinAcked(Context& ctx, Connection& conn, const Segment& seg, bool& reset) noexcept {
  SetState(ctx, conn, TcpState::kFinWait2);
  if (conn.socket != nullptr) {
    SocketEvents(ctx, conn, EPOLLOUT);
    return true;
  }
  if (conn.linger2_s < 0 || seg.HasDataAfter(conn.rcv_nxt)) {
    ctx.counters().Add(Counter::kTcpExtTCPAbortOnData);
    FinishConnection(ctx, conn);
    reset = true;
    return false;
  }
  Duration wait = FinTimeout(ctx, conn);
  Duration time_wait = seconds(ctx.sysctls().tcp_timewait_len);
  if (wait > time_wait) {
    ArmSlowTimer(ctx, conn, SlowTimer::kFinWait2, ctx.now + (wait - time_wait));
  } else if (seg.fin()) {
    // The FIN in the same segment will move it on; the timer is for the case that it does not.
    ArmSlowTimer(ctx, conn, SlowTimer::kFinWait2, ctx.now + wait);
  } else {
    EnterTimeWait(ctx, conn, TcpState::kFinWait2, wait);
    return false;
  }
  return true;
}

void OnReset(Context& ctx, Connection& conn) noexcept {
  switch (conn.state) {
    case TcpState::kSynSent: FailConnection(ctx, conn, ECONNREFUSED); break;
    case TcpState::kCloseWait: FailConnection(ctx, conn, EPIPE); break;
    case TcpState::kClosed: break;
    default: FailConnection(ctx, conn, ECONNRESET); break;
  }
}

void TcpShutdownWrite(Context& ctx, Connection& conn) noexcept {
  if (conn.snd.fin_queued) return;
  if (conn.state != TcpState::kEstablished && conn.state != TcpState::kSynRecv && conn.state != TcpState::kCloseWait)
    return;
  SendFin(ctx, conn);
}

void TcpShutdownRead(Context& ctx, Connection& conn) noexcept {
  (void)ctx;
  conn.shut_rd = true;
}

void TcpClose(Context& ctx, Connection& conn) noexcept {
  const SocketOptions& options = conn.socket->options;
  bool unread = HasUnread(conn);
  PurgeReceiveQueue(ctx, conn);
  if (conn.state == TcpState::kClosed || conn.state == TcpState::kSynSent) {
    LetGo(ctx, conn);
    return;
  }
  if (unread) {
    // RFC 2525 2.17: data was lost, the peer must not take this for an orderly close.
    ctx.counters().Add(Counter::kTcpExtTCPAbortOnClose);
    SendActiveReset(ctx, conn);
    LetGo(ctx, conn);
    return;
  }
  if (options.linger_on && options.linger_seconds == 0) {
    ctx.counters().Add(Counter::kTcpExtTCPAbortOnData);
    if (NeedsReset(conn.state)) SendActiveReset(ctx, conn);
    LetGo(ctx, conn);
    return;
  }
  TcpShutdownWrite(ctx, conn);
  BecomeOrphan(ctx, conn);
  if (conn.state == TcpState::kFinWait2) {
    StartOrphanFinWait2(ctx, conn);
    return;
  }
  if (ctx.host.orphan_count.load() > ctx.sysctls().tcp_max_orphans) {
    SendActiveReset(ctx, conn);
    ctx.counters().Add(Counter::kTcpExtTCPAbortOnMemory);
    FinishConnection(ctx, conn);
    return;
  }
  if (conn.slow_timer == SlowTimer::kKeepalive) StopSlowTimer(conn);
}

void TcpAbort(Context& ctx, Connection& conn, int socket_error) noexcept {
  if (NeedsReset(conn.state)) SendActiveReset(ctx, conn);
  if (conn.socket != nullptr) {
    if (socket_error != 0) conn.socket->error = socket_error;
    SocketDetach(ctx, conn);
    conn.socket = nullptr;
  }
  if (conn.state == TcpState::kClosed)
    FreeConnection(ctx, conn);
  else
    FinishConnection(ctx, conn);
}

void TcpDisconnect(Context& ctx, Connection& conn) noexcept {
  if (NeedsReset(conn.state)) SendActiveReset(ctx, conn);
  if (conn.socket != nullptr) conn.socket->conn = nullptr;
  LetGo(ctx, conn);
}

bool TcpLingering(const Connection& conn) noexcept {
  return conn.state == TcpState::kFinWait1 || conn.state == TcpState::kClosing || conn.state == TcpState::kLastAck;
}

}  // namespace ustcp
