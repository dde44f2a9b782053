// Options of a socket that matter to its running connection.
#include <algorithm>

#include "stack/host/host.h"
#include "stack/tcp/input.h"
#include "stack/tcp/output.h"
#include "stack/tcp/recovery/env.h"
#include "stack/tcp/state.h"
#include "stack/tcp/timers.h"

namespace ustcp {

void TcpOptionChanged(Context& ctx, Connection& conn, TcpOptionChange what, int value) noexcept {
  const SocketOptions& options = conn.socket->options;
  switch (what) {
    case TcpOptionChange::kNodelay:
    case TcpOptionChange::kCork:
      // Switching TCP_NODELAY on or TCP_CORK off lets out what waits (Linux: tcp_push_pending_frames).
      if (what == TcpOptionChange::kNodelay ? options.nodelay : !options.cork) {
        conn.cork_more = false;
        conn.nonagle_push = conn.nonagle_push || options.nodelay;
        TcpScheduleOutput(ctx, conn);
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

}  // namespace ustcp
