#include "stack/tcp/ack_check.h"

#include <sys/epoll.h>

#include <algorithm>

#include "stack/host/host.h"
#include "stack/net/ip.h"
#include "stack/tcp/connection_timers.h"
#include "stack/tcp/output.h"
#include "stack/tcp/paws.h"
#include "stack/tcp/receive_window.h"
#include "stack/tcp/recovery/env.h"
#include "stack/tcp/send_queue.h"
#include "stack/tcp/state.h"
#include "stack/tcp/tcb.h"
#include "stack/tcp/user.h"

namespace ustcp {
namespace {

uint32_t ScaledWindow(const Connection& conn, const Segment& seg) {
  return seg.syn() ? seg.window : uint32_t{seg.window} << conn.snd_wscale;
}

// Returns true when SND.WND changed.
bool UpdateWindow(Context& ctx, Connection& conn, const Segment& seg) {
  if (!MayUpdateWindow(conn, seg)) return false;
  conn.snd_wl1 = seg.seq;
  uint32_t window = ScaledWindow(conn, seg);
  if (window == conn.snd.snd_wnd) return false;
  conn.snd.snd_wnd = window;
  if (window > conn.snd.max_window) {
    conn.snd.max_window = window;
    SyncMss(ctx.sysctls(), conn);
  }
  return true;
}

// TS.Recent moves only with segments that the last ACK we sent covers the start of (RFC 7323 4.3).
void UpdateTsRecent(Context& ctx, Connection& conn, const Segment& seg) {
  if (!conn.saw_timestamp || seg.seq.After(conn.rcv_wup)) return;
  if (!PawsAccepts(conn.ts_recent, conn.ts_recent_age_s, conn.rcv_tsval, ctx.now, 0) && conn.ts_recent_age_s != 0)
    return;
  conn.ts_recent = conn.rcv_tsval;
  conn.ts_recent_age_s = SecondsOf(ctx.now);
}

// Room in the send queue: tells a writer when enough has become free (Linux: sk_stream_write_space).
void OnSpaceFreed(Context& ctx, Connection& conn) {
  if (conn.snd.in_flight() < conn.snd.cwnd) ExpandSendBuffer(ctx.sysctls(), conn, conn.snd.cwnd);
  if (conn.socket == nullptr || conn.snd.fin_queued) return;
  bool was_writable = (conn.socket->ready.load() & EPOLLOUT) != 0;
  bool writable = (TcpPoll(conn, *conn.socket) & EPOLLOUT) != 0;
  if (writable && (!was_writable || conn.wants_space)) {
    conn.wants_space = false;
    SocketEvents(ctx, conn, EPOLLOUT | EPOLLWRNORM);
  }
}

}  // namespace

bool MayUpdateWindow(const Connection& conn, const Segment& seg) noexcept {
  uint32_t window = ScaledWindow(conn, seg);
  return seg.ack.After(conn.snd.snd_una) || seg.seq.After(conn.snd_wl1) ||
         (seg.seq == conn.snd_wl1 && (window > conn.snd.snd_wnd || window == 0));
}

AckFate ProcessAck(Context& ctx, Connection& conn, const Segment& seg) noexcept {
  Sender& s = conn.snd;
  if (seg.ack.After(s.snd_nxt)) return AckFate::kUnsent;
  bool old = seg.ack.Before(s.snd_una);
  if (old && seg.ack.Before(s.snd_una - s.max_window)) return AckFate::kTooOld;
  bool had_in_flight = s.packets_out != 0;
  AckInput in;
  in.ack = seg.ack;
  in.sacks = seg.options.sack.data();
  in.sack_count = s.sack_ok ? seg.options.sack_count : uint8_t{0};
  in.has_data = seg.end != seg.seq;
  in.has_tsecr = conn.saw_timestamp && conn.rcv_tsecr != 0;
  in.tsecr_ms = conn.rcv_tsecr - conn.ts_offset;
  in.segments = in.has_data ? uint16_t{1} : seg.count;
  if (!old) {
    UpdateTsRecent(ctx, conn, seg);
    in.window_changed = UpdateWindow(ctx, conn, seg);
    conn.probes_out = 0;
    conn.last_ack_received = ctx.now;
    conn.soft_error = 0;
  }
  AckResult result = OnAck(EnvOf(ctx), s, in);
  if (!old && !had_in_flight) OnProbeAnswered(ctx, conn);
  if (result.una_advanced) {
    TrimSendQueue(ctx, conn);
    if (conn.urgent_out && s.snd_una.AtOrAfter(conn.snd_up)) conn.urgent_out = false;
    if (result.forward_progress) ConfirmPath(ctx, conn.path);
    OnSpaceFreed(ctx, conn);
  }
  ctx.shard.transmit.Add(conn);
  return AckFate::kTaken;
}

}  // namespace ustcp
