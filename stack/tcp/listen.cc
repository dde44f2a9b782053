#include "stack/tcp/listen.h"

#include <algorithm>

#include "stack/base/fault.h"
#include "stack/host/host.h"
#include "stack/tcp/input.h"
#include "stack/tcp/isn.h"
#include "stack/tcp/listener.h"
#include "stack/tcp/mss.h"
#include "stack/tcp/output.h"
#include "stack/tcp/paws.h"
#include "stack/tcp/receive_window.h"
#include "stack/tcp/recovery/env.h"
#include "stack/tcp/reply.h"
#include "stack/tcp/state.h"
#include "stack/tcp/tcb.h"
#include "stack/tcp/user.h"

namespace ustcp {
namespace {

using std::chrono::seconds;

// How many SYN-ACK timeouts (after 1, 3, 7 ... s) TCP_DEFER_ACCEPT's time stands for.
uint32_t DeferTimeouts(int32_t defer_s) {
  uint32_t timeouts = 1;
  for (int32_t waited = 1, next = 1; waited < defer_s && timeouts < 255; ++timeouts) {
    next *= 2;
    waited += next;
  }
  return timeouts;
}

// What a listener's socket says, read once without its shard's lock: each value is one word, and a change that comes
// between two of them is a change that came a moment later.
const SocketOptions& OptionsOf(const TcpUser& s) { return s.options; }

// The socket of a listener that is still the one meant; null: it was closed.
TcpUser* LiveSocket(Listener& listener, uint32_t generation) {
  if (listener.kind != SlotKind::kListener || listener.generation != generation) return nullptr;
  ListenerLock guard(listener);
  return listener.generation == generation ? listener.socket : nullptr;
}

void LeaveSynQueue(HalfOpen& half) {
  if (half.listener->generation != half.listener_generation) return;
  half.listener->half_open_count.fetch_sub(1);
  if (half.young) half.listener->half_open_young.fetch_sub(1);
  half.young = false;
}

void FreeHalfOpen(Context& ctx, HalfOpen& half) {
  ctx.shard.timers.Cancel(half.timer);
  USTCP_FAULT_POINT();
  ctx.host.tuples.Remove(half);
  USTCP_FAULT_POINT();
  LeaveSynQueue(half);
  USTCP_FAULT_POINT();
  ctx.shard.half_opens.Give(&half);
}

Duration SynAckTimeout(const Context& ctx, const HalfOpen& half) {
  Duration most = std::chrono::milliseconds(ctx.sysctls().tcp_rto_max_ms);
  return std::min<Duration>(Duration{kInitialRto} * (int64_t{1} << std::min<int>(half.timeouts, 20)), most);
}

void ArmSynAckTimer(Context& ctx, HalfOpen& half) {
  half.timer.owner = &half;
  ctx.shard.timers.Arm(half.timer, ctx.now + SynAckTimeout(ctx, half));
}

bool SendSynAck(Context& ctx, HalfOpen& half) {
  TcpHeader h;
  h.seq = half.iss;
  h.ack = half.irs + 1;
  h.flags = kTcpSyn | kTcpAck;
  h.window = static_cast<uint16_t>(std::min(half.rcv_wnd, 65535u));
  TcpOptions o;
  o.mss = half.advmss;
  o.sack_permitted = half.sack_ok;
  if (half.timestamps_ok) o.timestamps = TcpTimestamps{TimestampClock(ctx.now, half.ts_offset), half.ts_recent};
  if (half.wscale_ok) o.window_scale = half.rcv_wscale;
  return SendStandalone(ctx, half.path, half.tuple, h, o, StandaloneIp(ctx, half.tos));
}

bool ResendSynAck(Context& ctx, HalfOpen& half) {
  if (!SendSynAck(ctx, half)) return false;
  if (half.retransmits < 255) ++half.retransmits;
  ctx.counters().Add(Counter::kTcpRetransSegs);
  ctx.counters().Add(Counter::kTcpExtTCPSynRetrans);
  return true;
}

// E5, E6: may this SYN have a place?
bool AdmitSyn(Context& ctx, const Listener& listener) {
  const Sysctls& sysctls = ctx.sysctls();
  uint32_t queued = listener.half_open_count.load();
  if (queued > listener.backlog) {
    ctx.counters().Add(Counter::kTcpExtTCPReqQFullDrop);
    return false;
  }
  if (listener.accept_queue_full()) {
    ctx.counters().Add(Counter::kTcpExtListenOverflows);
    return false;
  }
  // Without cookies the last quarter is kept for peers that have proven themselves.
  auto most = static_cast<uint32_t>(sysctls.tcp_max_syn_backlog);
  if (sysctls.tcp_syncookies == 0 && static_cast<int64_t>(most) - queued < most / 4) return false;
  return true;
}

// Windows and options of the SYN-ACK, from the SYN and the listener's socket.
void Negotiate(Context& ctx, HalfOpen& half, const TcpUser& socket, const Segment& seg) {
  const Sysctls& sysctls = ctx.sysctls();
  const SocketOptions& options = OptionsOf(socket);
  const TcpOptions& theirs = seg.options;
  half.peer_mss = theirs.mss.value_or(DefaultPeerMss(half.tuple.peer.address.is_v4()));
  if (options.maxseg != 0) half.peer_mss = std::min(half.peer_mss, options.maxseg);
  half.advmss = AdvertisedMss(half.path, half.tuple.peer.address.is_v4(), options.maxseg);
  half.timestamps_ok = theirs.timestamps.has_value() && sysctls.tcp_timestamps != 0;
  half.sack_ok = theirs.sack_permitted && sysctls.tcp_sack != 0;
  half.wscale_ok = theirs.window_scale.has_value() && sysctls.tcp_window_scaling != 0;
  half.snd_wscale = half.wscale_ok ? *theirs.window_scale : uint8_t{0};
  if (half.timestamps_ok) half.ts_recent = theirs.timestamps->value;
  half.ts_offset = ChooseTimestampOffset(ctx.host, half.tuple);
  half.syn_window = seg.window;
  half.tos = socket.family == 2 /* AF_INET */ ? options.tos : options.tclass;

  uint32_t full = WindowFromSpace(kInitialScalingRatio, InitialReceiveBuffer(sysctls, options));
  uint32_t clamp = options.window_clamp;
  if (options.rcvbuf != 0 && (clamp > full || clamp == 0)) clamp = full;
  uint32_t mss = half.advmss - (half.timestamps_ok ? static_cast<uint32_t>(kTimestampOptionBytes) : 0u);
  InitialWindow window = SelectInitialWindow(sysctls, full, mss, clamp, half.wscale_ok);
  half.rcv_wnd = window.rcv_wnd;
  half.window_clamp = window.window_clamp;
  half.rcv_wscale = window.rcv_wscale;
}

void OnSyn(Context& ctx, Listener& listener, Segment& seg, const Tuple& tuple, const Seq* iss) {
  TcpUser* socket = listener.socket;
  HalfOpen* half = nullptr;
  if (socket != nullptr && AdmitSyn(ctx, listener)) half = ctx.shard.half_opens.Take();
  if (half == nullptr) {
    ctx.counters().Add(Counter::kTcpExtListenDrops);
    return;
  }
  half->tuple = tuple;
  half->hash = ctx.host.tuples.Hash(tuple);
  half->listener = &listener;
  half->listener_generation = listener.generation;
  half->irs = seg.seq;
  if (!FindPath(ctx, tuple.local.address, tuple.peer.address, half->path)) {
    ctx.shard.half_opens.Give(half);
    ctx.counters().Add(Counter::kTcpExtListenDrops);
    return;
  }
  Negotiate(ctx, *half, *socket, seg);
  half->iss = iss != nullptr ? *iss : ChooseIss(ctx.host, tuple, ctx.now);
  if (!ctx.host.tuples.Insert(*half)) {
    ctx.shard.half_opens.Give(half);
    return;
  }
  half->young = true;
  USTCP_FAULT_POINT();
  listener.half_open_count.fetch_add(1);
  listener.half_open_young.fetch_add(1);
  USTCP_FAULT_POINT();
  half->syn_ack_sent = ctx.now;
  SendSynAck(ctx, *half);
  ArmSynAckTimer(ctx, *half);
}

// Fills a fresh connection from what the handshake agreed on.
void InitChild(Context& ctx, const HalfOpen& half, Connection& conn, const TcpUser& parent) {
  const SocketOptions& options = OptionsOf(parent);
  conn.tuple = half.tuple;
  conn.hash = half.hash;
  conn.path = half.path;
  InitSender(EnvOf(ctx), conn.snd, half.iss + 1, options.congestion);
  InitBuffers(ctx.sysctls(), options, conn);
  conn.iss = half.iss;
  conn.irs = half.irs;
  conn.rcv_nxt = conn.copied_seq = conn.rcv_wup = half.irs + 1;
  conn.rcv_wnd = conn.rcv_ssthresh = half.rcv_wnd;
  conn.window_clamp = half.window_clamp;
  conn.snd_wscale = half.snd_wscale;
  conn.rcv_wscale = half.rcv_wscale;
  conn.wscale_ok = half.wscale_ok;
  conn.snd.sack_ok = half.sack_ok;
  conn.snd.timestamps_ok = half.timestamps_ok;
  conn.peer_mss = half.peer_mss;
  conn.advmss = half.advmss;
  conn.snd.snd_wnd = half.syn_window;
  conn.snd.max_window = half.syn_window;
  conn.ts_offset = half.ts_offset;
  conn.ts_recent = half.ts_recent;
  conn.ts_recent_age_s = half.timestamps_ok ? std::max(SecondsOf(ctx.now), 1u) : 0;
  conn.tos = half.tos;
  conn.ttl = options.ttl > 0 ? static_cast<uint8_t>(options.ttl) : static_cast<uint8_t>(ctx.sysctls().ip_default_ttl);
  conn.user_timeout_ms = options.user_timeout_ms;
  conn.last_received = ctx.now;
  conn.bind.owner = &conn;
  conn.bind.address = half.tuple.local.address;
  conn.bind.port = half.tuple.local.port;
  conn.bind.uid = parent.uid;
  conn.bind.v6 = parent.bind.v6;
  conn.bind.v6only = parent.bind.v6only;
  conn.bind.reuse = options.reuse_addr;
  conn.bind.reuseport = options.reuse_port;
  conn.bind.explicitly_bound = true;
}

// The third ACK: a connection takes the half-open record's place. Null: no room (the record stays).
Connection* Promote(Context& ctx, HalfOpen& half) {
  Listener& listener = *half.listener;
  TcpUser* parent = LiveSocket(listener, half.listener_generation);
  if (parent == nullptr) return nullptr;
  Connection* conn = ctx.shard.connections.Take();
  if (conn == nullptr) {
    ctx.counters().Add(Counter::kTcpExtListenDrops);
    return nullptr;
  }
  ctx.shard.in_update = conn;
  USTCP_FAULT_POINT();
  InitChild(ctx, half, *conn, *parent);
  SetState(ctx, *conn, TcpState::kSynRecv);
  if (!SocketForAccepted(ctx, listener, *conn)) {
    ctx.shard.in_update = nullptr;
    ctx.shard.connections.Give(conn);
    return nullptr;
  }
  ctx.host.tuples.Replace(half, *conn);
  ctx.host.ports.Add(conn->bind, half.tuple.local.port);
  ctx.counters().Add(Counter::kTcpPassiveOpens);
  return conn;
}

// The handshake is over, badly: the embryonic connection goes, the listener is as before.
void DropEmbryo(Context& ctx, HalfOpen& half, const Segment& seg) {
  if (!seg.rst()) SendResetFor(ctx, *seg.packet, seg);
  ctx.counters().Add(Counter::kTcpExtEmbryonicRsts);
  FreeHalfOpen(ctx, half);
}

}  // namespace

Listener* LookUpListener(Context& ctx, const Tuple& tuple, uint32_t hash) noexcept {
  SlotHeader* owner = ctx.host.ports.FindListener(tuple.local, hash);
  if (owner == nullptr || owner->kind != SlotKind::kSocket) return nullptr;
  Listener* listener = static_cast<TcpUser*>(owner)->listener;
  if (listener == nullptr || listener->kind != SlotKind::kListener) return nullptr;
  ListenerLock guard(*listener);
  return listener->socket == owner ? listener : nullptr;
}

void OnListenSegment(Context& ctx, Listener& listener, Segment& seg, const Tuple& tuple, const Seq* iss) noexcept {
  if (seg.rst()) return;
  if (seg.has_ack()) {
    SendResetFor(ctx, *seg.packet, seg);
    return;
  }
  if (!seg.syn() || seg.fin()) return;
  OnSyn(ctx, listener, seg, tuple, iss);
}

void OnHalfOpenSegment(Context& ctx, HalfOpen& half, Segment& seg) noexcept {
  Listener& listener = *half.listener;
  TcpUser* parent = LiveSocket(listener, half.listener_generation);
  if (parent == nullptr) {
    // The listener is gone: its half-open connections are nobody's.
    SendResetFor(ctx, *seg.packet, seg);
    FreeHalfOpen(ctx, half);
    return;
  }
  bool has_timestamp = seg.options.timestamps.has_value() && half.timestamps_ok;
  bool paws_reject = has_timestamp && PawsRejects(half.ts_recent, SecondsOf(ctx.now - SynAckTimeout(ctx, half)),
                                                  seg.options.timestamps->value, ctx.now, seg.rst());
  // The same SYN again: the SYN-ACK was lost (E3).
  constexpr TcpFlags kSynBits = kTcpSyn | kTcpAck | kTcpRst | kTcpFin;
  if (seg.seq == half.irs && TcpFlags{static_cast<uint16_t>(seg.flags.bits & kSynBits.bits)} == kTcpSyn &&
      !paws_reject) {
    if (!AnswerIsRateLimited(ctx, seg, half.last_oow_ack, Counter::kTcpExtTCPACKSkippedSynRecv) &&
        ResendSynAck(ctx, half))
      ArmSynAckTimer(ctx, half);
    return;
  }
  if (seg.has_ack() && seg.ack != half.iss + 1) {
    // As if for the listener: RST (RFC 9293 3.10.7.4, SYN-RECEIVED).
    SendResetFor(ctx, *seg.packet, seg);
    return;
  }
  Seq begin = half.irs + 1;
  if (paws_reject || !seg.Overlaps(begin, begin + half.rcv_wnd)) {
    if (!seg.rst() && !AnswerIsRateLimited(ctx, seg, half.last_oow_ack, Counter::kTcpExtTCPACKSkippedSynRecv))
      SendAckFor(ctx, half, half.iss + 1, half.irs + 1);
    if (paws_reject) ctx.counters().Add(Counter::kTcpExtPAWSEstab);
    return;
  }
  if (has_timestamp && !seg.seq.After(begin)) half.ts_recent = seg.options.timestamps->value;
  if (seg.rst() || (seg.syn() && seg.seq != half.irs)) {
    ctx.counters().Add(Counter::kTcpAttemptFails);
    DropEmbryo(ctx, half, seg);
    return;
  }
  if (!seg.has_ack()) return;
  // TCP_DEFER_ACCEPT: a bare ACK does not make a connection until the retransmissions it stands for have passed.
  int32_t defer_s = parent->options.defer_accept_s;
  if (defer_s != 0 && seg.end == begin) {
    if (half.timeouts < DeferTimeouts(defer_s)) {
      half.acked = true;
      ctx.counters().Add(Counter::kTcpExtTCPDeferAcceptDrop);
      return;
    }
  }
  Connection* conn = Promote(ctx, half);
  if (conn == nullptr) {
    if (ctx.sysctls().tcp_abort_on_overflow != 0)
      DropEmbryo(ctx, half, seg);
    else
      half.acked = true;
    return;
  }
  int64_t rtt_us = half.retransmits == 0 ? ToMicros(ctx.now - half.syn_ack_sent) : -1;
  FreeHalfOpen(ctx, half);
  EstablishPassive(ctx, *conn, seg, rtt_us);
  ctx.shard.in_update = nullptr;
}

void OnHalfOpenTimer(Context& ctx, HalfOpen& half) noexcept {
  Listener& listener = *half.listener;
  TcpUser* parent = LiveSocket(listener, half.listener_generation);
  if (parent == nullptr) {
    FreeHalfOpen(ctx, half);
    return;
  }
  uint32_t most =
      parent->options.syncnt != 0 ? parent->options.syncnt : static_cast<uint32_t>(ctx.sysctls().tcp_synack_retries);
  // A long queue of old entries makes room for young ones: fewer retries the fuller it is.
  uint32_t queued = listener.half_open_count.load();
  if (2 * queued > std::max(8u, listener.backlog)) {
    uint32_t young = 2 * listener.half_open_young.load();
    while (most > 2 && queued >= young) {
      --most;
      young *= 2;
      if (young == 0) break;
    }
  }
  ctx.counters().Add(Counter::kTcpExtTCPTimeouts);
  // TCP_DEFER_ACCEPT: silence until the waiting is over, then the SYN-ACK asks for one more ACK (Linux: syn_ack_recalc).
  bool deferring = half.acked && parent->options.defer_accept_s != 0;
  uint32_t defer = deferring ? DeferTimeouts(parent->options.defer_accept_s) : 0;
  bool expire = half.timeouts >= most && half.timeouts >= defer;
  bool resend = half.timeouts + 1u >= defer;
  if (expire || (resend && !ResendSynAck(ctx, half) && !half.acked)) {
    FreeHalfOpen(ctx, half);
    return;
  }
  if (half.timeouts++ == 0 && half.young) {
    half.young = false;
    listener.half_open_young.fetch_sub(1);
  }
  ArmSynAckTimer(ctx, half);
}

}  // namespace ustcp
