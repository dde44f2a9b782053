// Active opens: TcpConnect and SYN-SENT (RFC 9293 3.10.1, 3.10.7.3), and the step into ESTABLISHED from either side.
#include <sys/epoll.h>

#include <algorithm>

#include "stack/base/fault.h"
#include "stack/host/host.h"
#include "stack/tcp/ack_check.h"
#include "stack/tcp/close.h"
#include "stack/tcp/connection_timers.h"
#include "stack/tcp/input.h"
#include "stack/tcp/isn.h"
#include "stack/tcp/mss.h"
#include "stack/tcp/output.h"
#include "stack/tcp/paws.h"
#include "stack/tcp/receive_window.h"
#include "stack/tcp/recovery/env.h"
#include "stack/tcp/reply.h"
#include "stack/tcp/state.h"
#include "stack/tcp/tcb.h"
#include "stack/tcp/time_wait.h"
#include "stack/tcp/user.h"

namespace ustcp {
namespace {

void StoreTsRecent(Context& ctx, Connection& conn) {
  conn.ts_recent = conn.rcv_tsval;
  conn.ts_recent_age_s = std::max(SecondsOf(ctx.now), 1u);
}

// What the peer's SYN says about itself.
void TakeSynOptions(Context& ctx, Connection& conn, const Segment& seg) {
  const TcpOptions& o = seg.options;
  conn.peer_mss = o.mss.value_or(DefaultPeerMss(conn.tuple.peer.address.is_v4()));
  if (conn.socket != nullptr && conn.socket->options.maxseg != 0)
    conn.peer_mss = std::min(conn.peer_mss, conn.socket->options.maxseg);
  conn.snd.sack_ok = conn.snd.sack_ok && o.sack_permitted;
  conn.snd.timestamps_ok = conn.snd.timestamps_ok && o.timestamps.has_value();
  conn.wscale_ok = conn.wscale_ok && o.window_scale.has_value();
  conn.snd_wscale = conn.wscale_ok ? *o.window_scale : uint8_t{0};
  if (!conn.wscale_ok) {
    conn.rcv_wscale = 0;
    conn.window_clamp = std::min(conn.window_clamp, 65535u);
  }
  conn.saw_timestamp = conn.snd.timestamps_ok;
  if (conn.saw_timestamp) {
    conn.rcv_tsval = o.timestamps->value;
    conn.rcv_tsecr = o.timestamps->echo;
    StoreTsRecent(ctx, conn);
  }
  conn.irs = seg.seq;
  conn.rcv_nxt = conn.rcv_wup = conn.copied_seq = seg.seq + 1;
}

void BecomeEstablished(Context& ctx, Connection& conn, Segment& seg) {
  TakeSynOptions(ctx, conn, seg);
  conn.snd_wl1 = seg.seq;
  conn.snd.handshaking = false;
  ProcessAck(ctx, conn, seg);
  Establish(ctx, conn, seg);
  OnEstablished(EnvOf(ctx), conn.snd, -1);
  conn.copied_seq = conn.rcv_nxt;
  SocketEvents(ctx, conn, EPOLLOUT | EPOLLWRNORM);
  // The ACK goes with the next poll: data the program writes until then rides on it.
  conn.ack_scheduled = true;
  AckNow(ctx, conn);
}

// E10: both sides sent their SYN before they saw the other's.
void EnterSynReceived(Context& ctx, Connection& conn, Segment& seg) {
  TakeSynOptions(ctx, conn, seg);
  SetState(ctx, conn, TcpState::kSynRecv);
  conn.simultaneous = true;
  conn.snd.handshaking = false;
  conn.snd_wl1 = seg.seq;
  conn.snd.snd_wnd = conn.snd.max_window = seg.window;
  SyncMss(ctx.sysctls(), conn);
  conn.syn_ack_due = true;
  ctx.shard.transmit.Add(conn);
}

// Frees the tuple for a new connection when all that holds it is a TIME_WAIT record that may be reused.
bool ClaimTuple(Context& ctx, const Tuple& tuple, uint32_t hash, Connection& conn) {
  TupleNode* node = ctx.host.tuples.Find(tuple, hash);
  if (node == nullptr) return true;
  if (node->kind != SlotKind::kTimeWait || node->shard != ctx.shard.index) return false;
  auto& tw = static_cast<TimeWait&>(*node);
  if (!MayReuseTimeWait(ctx, tw)) return false;
  conn.iss = tw.snd_nxt + (65535 + 2);
  if (conn.iss.raw() == 0) conn.iss += 1;
  conn.ts_recent = tw.ts_recent;
  conn.ts_recent_age_s = tw.ts_recent_age_s;
  RemoveTimeWait(ctx, tw);
  return true;
}

}  // namespace

void EstablishPassive(Context& ctx, Connection& conn, Segment& seg, int64_t rtt_us) noexcept {
  // The third ACK acknowledges nothing but the SYN, which the sender never saw: only its window counts here.
  conn.snd_wl1 = seg.seq;
  conn.snd.snd_wnd = uint32_t{seg.window} << conn.snd_wscale;
  conn.snd.max_window = conn.snd.snd_wnd;  // the SYN's window was that of another scale
  Establish(ctx, conn, seg);
  OnEstablished(EnvOf(ctx), conn.snd, rtt_us);
  SocketEvents(ctx, conn, EPOLLOUT | EPOLLWRNORM);
  OnConnectionSegment(ctx, conn, seg);
}

Error TcpConnect(Context& ctx, TcpUser& socket) noexcept {
  const Sysctls& sysctls = ctx.sysctls();
  const SocketOptions& options = socket.options;
  Tuple tuple{socket.local, socket.peer};
  Path path;
  if (!FindPath(ctx, tuple.local.address, tuple.peer.address, path)) return Error{ENETUNREACH};
  Connection* conn = ctx.shard.connections.Take();
  if (conn == nullptr) return Error{ENOBUFS};
  ctx.shard.in_update = conn;
  uint32_t hash = ctx.host.tuples.Hash(tuple);
  conn->iss = ChooseIss(ctx.host, tuple, ctx.now);
  conn->tuple = tuple;
  conn->hash = hash;
  if (!ClaimTuple(ctx, tuple, hash, *conn) || !ctx.host.tuples.Insert(*conn)) {
    ctx.shard.in_update = nullptr;
    ctx.shard.connections.Give(conn);
    return Error{EADDRNOTAVAIL};
  }
  bool v4 = tuple.peer.address.is_v4();
  conn->path = path;
  conn->active_open = true;
  conn->ts_offset = ChooseTimestampOffset(ctx.host, tuple);
  conn->advmss = AdvertisedMss(path, v4, options.maxseg);
  conn->tos = v4 ? options.tos : options.tclass;
  int16_t hops = v4 ? options.ttl : options.hop_limit;
  conn->ttl = static_cast<uint8_t>(hops > 0 ? hops : v4 ? int32_t{sysctls.ip_default_ttl} : int32_t{sysctls.hop_limit});
  conn->user_timeout_ms = options.user_timeout_ms;
  InitSender(EnvOf(ctx), conn->snd, conn->iss, options.congestion);
  InitBuffers(sysctls, options, *conn);
  conn->snd.handshaking = true;
  conn->snd.timestamps_ok = sysctls.tcp_timestamps != 0;
  conn->snd.sack_ok = sysctls.tcp_sack != 0;
  conn->wscale_ok = sysctls.tcp_window_scaling != 0;
  uint32_t clamp = options.window_clamp;
  uint32_t full = WindowFromSpace(kInitialScalingRatio, conn->rcvbuf);
  if (conn->rcvbuf_locked && (clamp > full || clamp == 0)) clamp = full;
  InitialWindow window = SelectInitialWindow(sysctls, full, conn->advmss, clamp, conn->wscale_ok);
  conn->rcv_wnd = conn->rcv_ssthresh = window.rcv_wnd;
  conn->window_clamp = window.window_clamp;
  conn->rcv_wscale = window.rcv_wscale;
  conn->bind.owner = conn;
  conn->bind.address = tuple.local.address;
  conn->bind.port = tuple.local.port;
  conn->bind.uid = socket.uid;
  conn->bind.v6 = socket.bind.v6;
  conn->bind.v6only = socket.bind.v6only;
  conn->bind.reuse = options.reuse_addr;
  conn->bind.reuseport = options.reuse_port;
  conn->bind.explicitly_bound = socket.bind.explicitly_bound;
  ctx.host.ports.Add(conn->bind, tuple.local.port);
  conn->socket = &socket;
  USTCP_FAULT_POINT();
  socket.conn = conn;
  SetState(ctx, *conn, TcpState::kSynSent);
  ctx.counters().Add(Counter::kTcpActiveOpens);
  ctx.shard.transmit.Add(*conn);
  ctx.shard.in_update = nullptr;
  return kOk;
}

void OnSynSentSegment(Context& ctx, Connection& conn, Segment& seg) noexcept {
  ++conn.segs_in;
  const Sender& s = conn.snd;
  if (seg.has_ack()) {
    if (!seg.ack.After(s.snd_una) || seg.ack.After(s.snd_nxt)) {
      // E9: an answer to something else, an old incarnation perhaps. Once that has heard our RST the next SYN may succeed:
      // it does not wait for the timeout.
      SendResetFor(ctx, *seg.packet, seg);
      if (s.retransmits == 0 && s.xmit_timer == XmitTimer::kRetransmit) HastenTimeout(EnvOf(ctx), conn.snd);
      SyncTimer(ctx, conn);
      return;
    }
    if (s.timestamps_ok && seg.options.timestamps && seg.options.timestamps->echo != 0) {
      uint32_t echo = seg.options.timestamps->echo - conn.ts_offset;
      int32_t age = static_cast<int32_t>(TimestampClock(ctx.now) - echo);
      Instant first = s.first_retransmit != Instant{} ? s.first_retransmit : s.last_sent;
      // TSecr must name one of our SYNs.
      bool too_old = s.retransmits == 0 && age > ToMillis(ctx.now - first) + 1;
      if (age < 0 || too_old) {
        ctx.counters().Add(Counter::kTcpExtPAWSActive);
        SendResetFor(ctx, *seg.packet, seg);
        return;
      }
    }
    if (seg.rst()) {
      OnReset(ctx, conn);
      return;
    }
    if (!seg.syn()) return;
    BecomeEstablished(ctx, conn, seg);
    return;
  }
  if (seg.rst() || !seg.syn()) return;
  if (conn.ts_recent_age_s != 0 && seg.options.timestamps &&
      PawsRejects(conn.ts_recent, conn.ts_recent_age_s, seg.options.timestamps->value, ctx.now, false))
    return;
  EnterSynReceived(ctx, conn, seg);
}

}  // namespace ustcp
