// Options of a socket as its connection sees them: what a change does, and what getsockopt shows.
#include "stack/tcp/socket_options.h"

#include <algorithm>
#include <climits>

#include "stack/host/host.h"
#include "stack/tcp/connection_timers.h"
#include "stack/tcp/input.h"
#include "stack/tcp/mss.h"
#include "stack/tcp/output.h"
#include "stack/tcp/recovery/env.h"
#include "stack/tcp/state.h"
#include "stack/tcp/tcb.h"
#include "stack/tcp/user.h"

namespace ustcp {
namespace {

int Clamp(uint32_t v) { return v > INT_MAX ? INT_MAX : static_cast<int>(v); }

}  // namespace

void TcpOptionChanged(Context& ctx, Connection& conn, TcpOptionChange what, int value) noexcept {
  const SocketOptions& options = conn.socket->options;
  switch (what) {
    case TcpOptionChange::kNodelay:
    case TcpOptionChange::kCork:
      // Switching TCP_NODELAY on or TCP_CORK off lets out what waits (Linux: tcp_push_pending_frames).
      if (what == TcpOptionChange::kNodelay ? options.nodelay : !options.cork) {
        conn.cork_more = false;
        conn.nonagle_push = conn.nonagle_push || options.nodelay;
        ctx.shard.transmit.Add(conn);
      }
      break;
    case TcpOptionChange::kQuickAck:
      if (value == 0) {
        conn.pingpong = 255;
        break;
      }
      conn.pingpong = 0;
      if (SendsData(conn.state) && conn.ack_scheduled) {
        // Linux: as after a read, so that data the program has not taken yet keeps the ordinary delay.
        conn.ack_pushed = true;
        if (conn.rcv_head == nullptr || conn.rcv_nxt.raw() - conn.rcv_wup.raw() > conn.rcv_mss) AckNow(ctx, conn);
        if ((value & 1) == 0) conn.pingpong = 255;
      }
      break;
    case TcpOptionChange::kKeepalive:
      if (options.keepalive)
        StartKeepalive(ctx, conn);
      else if (conn.slow_timer == SlowTimer::kKeepalive)
        StopSlowTimer(conn);
      break;
    case TcpOptionChange::kUserTimeout: conn.user_timeout_ms = options.user_timeout_ms; break;
    case TcpOptionChange::kCongestion: CcInit(EnvOf(ctx), conn.snd, options.congestion); break;
    case TcpOptionChange::kBuffers:
      if (options.rcvbuf != 0) {
        conn.rcvbuf = static_cast<uint32_t>(options.rcvbuf);
        conn.rcvbuf_locked = true;
      }
      if (options.sndbuf != 0) {
        conn.sndbuf = static_cast<uint32_t>(options.sndbuf);
        conn.sndbuf_locked = true;
      }
      break;
    case TcpOptionChange::kWindowClamp:
      if (options.window_clamp != 0) {
        conn.window_clamp = options.window_clamp;
        conn.rcv_ssthresh = std::min(conn.rcv_ssthresh, conn.window_clamp);
      }
      break;
    case TcpOptionChange::kMaxSeg:
      if (options.maxseg != 0) conn.peer_mss = std::min(conn.peer_mss, options.maxseg);
      SyncMss(ctx.sysctls(), conn);
      break;
    case TcpOptionChange::kLinger2: conn.linger2_s = options.linger2_s; break;
  }
}

int TcpReceiveBuffer(const Context& ctx, const Connection* conn) noexcept {
  return conn != nullptr ? Clamp(conn->rcvbuf) : ctx.sysctls().tcp_rmem[1];
}

int TcpSendBuffer(const Context& ctx, const Connection* conn) noexcept {
  return conn != nullptr ? Clamp(conn->sndbuf) : ctx.sysctls().tcp_wmem[1];
}

bool TcpQuickAck(const Connection* conn, const SocketOptions& options) noexcept {
  if (options.quickack_locked) return false;
  return conn == nullptr || conn->pingpong == 0;
}

int TcpMaxSegment(const Connection* conn, const SocketOptions& options) noexcept {
  if (conn != nullptr && conn->state != TcpState::kClosed) return conn->snd.mss;
  return options.maxseg != 0 ? options.maxseg : kDefaultMss;
}

}  // namespace ustcp
