#include "stack/tcp/output.h"

#include <algorithm>

#include "stack/host/host.h"
#include "stack/net/ip.h"
#include "stack/tcp/connection_timers.h"
#include "stack/tcp/input.h"
#include "stack/tcp/isn.h"
#include "stack/tcp/mss.h"
#include "stack/tcp/receive_window.h"
#include "stack/tcp/recovery/env.h"
#include "stack/tcp/send_queue.h"
#include "stack/tcp/state.h"
#include "stack/tcp/tcb.h"
#include "stack/tcp/user.h"
#include "stack/wire/tcp_options.h"

namespace ustcp {
namespace {

// A frame's IP packet is at most 64 KiB; the rest is room for the largest headers.
constexpr uint32_t kMaxFramePayload = 65535 - 40 - kMaxTcpHeaderBytes;

bool Corked(const Connection& conn) { return conn.cork_more || (conn.socket != nullptr && conn.socket->options.cork); }
// Nagle is off: by option, for orphans (nothing will follow), and where the sender needs a segment out.
bool NagleOff(const Connection& conn) {
  return conn.socket == nullptr || conn.socket->options.nodelay || conn.nonagle_push;
}

// RFC 896 with Minshall's refinement: only a small segment that waits for its ACK holds back another one.
NoSend NagleCheck(const Connection& conn, bool partial) {
  const Sender& s = conn.snd;
  if (!partial || s.fin_queued || conn.nonagle_push || ForcesPush(s)) return NoSend::kNone;
  if (Corked(conn)) return NoSend::kCork;
  if (!NagleOff(conn) && s.packets_out != 0 && conn.snd_sml.After(s.snd_una) && conn.snd_sml.AtOrBefore(s.snd_nxt))
    return NoSend::kNagle;
  return NoSend::kNone;
}

uint32_t MaxFrameSegments(const Context& ctx, const Connection& conn, uint32_t mss) {
  const DeviceInfo& device = ctx.host.config.device;
  bool v4 = conn.tuple.peer.address.is_v4();
  if (!conn.path.local && !(v4 ? device.tso4 : device.tso6)) return 1;
  return std::max(kMaxFramePayload / mss, 1u);
}

TcpOptions SynOptions(const Connection& conn, uint32_t clock) {
  TcpOptions o;
  o.mss = conn.advmss;
  o.sack_permitted = conn.snd.sack_ok;
  if (conn.snd.timestamps_ok) o.timestamps = TcpTimestamps{clock, conn.ts_recent};
  if (conn.wscale_ok) o.window_scale = conn.rcv_wscale;
  return o;
}

TcpOptions DataOptions(Connection& conn, uint32_t clock) {
  TcpOptions o;
  if (conn.snd.timestamps_ok) o.timestamps = TcpTimestamps{clock, conn.ts_recent};
  if (conn.dsack) o.sack[o.sack_count++] = conn.duplicate_sack;
  for (uint8_t i = 0; i < conn.sack_count && o.sack_count < MaxSackBlocks(conn.snd.timestamps_ok); ++i)
    o.sack[o.sack_count++] = conn.sack_blocks[i];
  return o;
}

// An ACK is on its way (Linux: tcp_event_ack_sent).
void OnAckSent(Connection& conn) {
  if (conn.quick != 0) {
    uint8_t used = conn.ack_scheduled ? 1 : 0;
    if (used >= conn.quick) {
      conn.quick = 0;
      conn.ato_ms = kMinAtoMs;
    } else {
      conn.quick = static_cast<uint8_t>(conn.quick - used);
    }
  }
  conn.ack_now = conn.ack_scheduled = conn.ack_pushed = conn.ack_pushed2 = false;
  conn.delack_deadline = kNever;
  conn.dsack = false;
}

void OnDataSent(Context& ctx, Connection& conn) {
  // A reply soon after the peer's data: the connection is interactive, its ACKs can ride on data.
  if (ctx.now - conn.last_received < std::chrono::milliseconds(conn.ato_ms) && conn.pingpong < 255) ++conn.pingpong;
}

struct Piece {
  Seq seq;
  uint32_t payload = 0;
  TcpFlags flags;
};

// Builds the segment in `frame`; the pieces have been gathered already.
PollResult Emit(Context& ctx, Connection& conn, TxFrame& frame, const Piece& what, uint32_t mss) {
  bool syn = what.flags.Has(kTcpSyn);
  uint32_t clock = TimestampClock(ctx.now, conn.ts_offset);
  TcpOptions options = syn ? SynOptions(conn, clock) : DataOptions(conn, clock);
  // A retransmission was cut when there was nothing to report: a full one has no room for SACK blocks, which the next
  // pure ACK carries as well.
  if (!syn && std::min(what.payload, mss) > CurrentMss(conn)) options.sack_count = 0;
  std::byte option_bytes[kMaxTcpOptionBytes];
  size_t n = WriteTcpOptions(option_bytes, options);

  TcpHeader h;
  h.source_port = conn.tuple.local.port;
  h.destination_port = conn.tuple.peer.port;
  h.seq = what.seq;
  h.flags = what.flags;
  h.option_bytes = static_cast<uint8_t>(n);
  if (what.flags.Has(kTcpAck)) h.ack = conn.rcv_nxt;
  if (syn) {
    h.window = static_cast<uint16_t>(std::min(conn.rcv_wnd, 65535u));
    conn.rcv_wup = conn.rcv_nxt;
  } else {
    h.window = AdvertiseWindow(ctx, conn);
  }
  if (conn.urgent_out && what.seq.Before(conn.snd_up)) {
    uint32_t distance = conn.snd_up.raw() - what.seq.raw();
    h.urgent_pointer = static_cast<uint16_t>(std::min(distance, 0xffffu));
    h.flags |= kTcpUrg;
  }

  // The receiver's merging of segments ends where the frame did (Linux marks every frame of several segments).
  if (what.payload > mss) h.flags |= kTcpPsh;

  uint16_t pieces = frame.piece_count;
  IpFields ip{conn.tos, conn.ttl, true};
  std::byte* out = BeginFrame(ctx, conn.path, frame, conn.tuple.local.address, conn.tuple.peer.address, kProtocolTcp,
                              ip, kTcpHeaderBytes + n, what.payload);
  if (out == nullptr) return PollResult::kConsumed;
  WriteTcp(out, h);
  std::memcpy(out + kTcpHeaderBytes, option_bytes, n);
  frame.piece_count = pieces;
  frame.payload_bytes = what.payload;

  uint32_t segments = what.payload > mss ? (what.payload + mss - 1) / mss : 1;
  conn.segs_out += segments;
  ctx.counters().Add(Counter::kTcpOutSegs, segments);
  if (what.flags.Has(kTcpAck)) OnAckSent(conn);
  auto gso = static_cast<uint16_t>(what.payload > mss ? mss : 0);
  FrameFate fate = FinishTcpFrame(ctx, conn.path, frame, conn.tuple.local.address, conn.tuple.peer.address, gso);
  return fate == FrameFate::kReady ? PollResult::kFrame : PollResult::kConsumed;
}

PollResult Retransmit(Context& ctx, Connection& conn, TxFrame& frame, const Retransmission& what) {
  const TxSegment& record = *what.record;
  Piece piece{record.range.begin, 0, {}};
  if (record.Has(TxSegment::kSyn)) {
    piece.flags = conn.state == TcpState::kSynRecv ? kTcpSyn | kTcpAck : kTcpSyn;
    frame.piece_count = 0;
  } else {
    piece.payload = record.payload();
    piece.flags = kTcpAck;
    if (record.Has(TxSegment::kFin)) piece.flags |= kTcpFin;
    if (record.Has(TxSegment::kPush)) piece.flags |= kTcpPsh;
    if (GatherFromSendQueue(conn, piece.seq, piece.payload, frame) != piece.payload) {
      USTCP_BUG("retransmission without its payload");
      return PollResult::kNothing;
    }
  }
  uint32_t mss = record.mss != 0 ? record.mss : conn.snd.mss;
  OnRetransmit(EnvOf(ctx), conn.snd, what);
  return Emit(ctx, conn, frame, piece, mss);
}

PollResult SendSyn(Context& ctx, Connection& conn, TxFrame& frame) {
  Seq seq = conn.snd.snd_nxt;
  if (OnTransmit(EnvOf(ctx), conn.snd, 0, TxSegment::kSyn) == nullptr) return PollResult::kNothing;
  conn.snd.write_end = conn.snd.snd_nxt;
  frame.piece_count = 0;
  return Emit(ctx, conn, frame, {seq, 0, kTcpSyn}, conn.snd.mss);
}

PollResult SendNewData(Context& ctx, Connection& conn, TxFrame& frame, NewData data, uint32_t mss, bool push) {
  Seq seq = conn.snd.snd_nxt;
  uint32_t gathered = GatherFromSendQueue(conn, seq, data.payload, frame);
  if (gathered < data.payload) {
    // Out of pieces: whole segments only.
    data.fin = false;
    if (gathered > mss) {
      gathered -= gathered % mss;
      GatherFromSendQueue(conn, seq, gathered, frame);
    }
    data.payload = gathered;
  }
  Seq end = seq + data.payload;
  Piece piece{seq, data.payload, kTcpAck};
  if (data.payload != 0) {
    bool pushed = end == conn.snd.write_end ? conn.pushed_seq.After(seq) : end == conn.pushed_seq;
    if (pushed || push) piece.flags |= kTcpPsh;
  }
  if (data.fin) piece.flags |= kTcpFin;
  uint8_t record_flags = 0;
  if (data.fin) record_flags |= TxSegment::kFin;
  if (piece.flags.Has(kTcpPsh)) record_flags |= TxSegment::kPush;
  if (OnTransmit(EnvOf(ctx), conn.snd, data.payload, record_flags) == nullptr) return PollResult::kNothing;
  if (data.payload % mss != 0) conn.snd_sml = conn.snd.snd_nxt;
  OnDataSent(ctx, conn);
  return Emit(ctx, conn, frame, piece, mss);
}

PollResult SendAck(Context& ctx, Connection& conn, TxFrame& frame, Seq seq) {
  frame.piece_count = 0;
  PollResult result = Emit(ctx, conn, frame, {seq, 0, kTcpAck}, conn.snd.mss);
  if (conn.extra_acks != 0) {
    --conn.extra_acks;
    conn.ack_now = true;
  }
  return result;
}

// RFC 9293 3.8.6.1 and 3.8.4: what the window admits, or a segment whose number the peer has seen already, so that it has
// to answer (Linux: tcp_write_wakeup).
PollResult SendProbe(Context& ctx, Connection& conn, TxFrame& frame) {
  conn.wakeup_due = false;
  ctx.counters().Add(conn.probe_is_keepalive ? Counter::kTcpExtTCPKeepAlive : Counter::kTcpExtTCPWinProbe);
  const Sender& s = conn.snd;
  int32_t window = s.window_end() - s.snd_nxt;
  if (s.has_unsent() && window > 0) {
    uint32_t mss = CurrentMss(conn);
    uint32_t unsent = s.write_end.raw() - s.snd_nxt.raw();
    NewData data;
    data.payload = std::min({unsent, mss, static_cast<uint32_t>(window)});
    data.fin = s.fin_queued && data.payload == unsent && static_cast<uint32_t>(window) > unsent;
    return SendNewData(ctx, conn, frame, data, mss, true);
  }
  return SendAck(ctx, conn, frame, s.snd_una - 1);
}

}  // namespace

uint32_t CurrentMss(const Connection& conn) noexcept {
  size_t blocks = conn.sack_count + (conn.dsack ? 1u : 0u);
  bool ts = conn.snd.timestamps_ok;
  auto extra = static_cast<uint32_t>(DataOptionBytes(ts, blocks) - DataOptionBytes(ts, 0));
  uint32_t mss = conn.snd.mss;
  return mss > extra + 8 ? mss - extra : mss;
}

uint16_t AdvertisedMss(const Path& path, bool v4, uint16_t maxseg) noexcept {
  auto headers = static_cast<uint32_t>(kTcpHeaderBytes + (v4 ? 20u : 40u));
  uint32_t mss = path.mtu > headers + 48u ? path.mtu - headers : 48;
  mss = std::min(mss, 65495u);
  if (maxseg != 0) mss = std::min<uint32_t>(mss, maxseg);
  return static_cast<uint16_t>(mss);
}

void SyncMss(const Sysctls& sysctls, Connection& conn) noexcept {
  bool v4 = conn.tuple.peer.address.is_v4();
  uint32_t mss = std::min<uint32_t>(AdvertisedMss(conn.path, v4, 0), conn.peer_mss);
  mss = std::max(mss, static_cast<uint32_t>(sysctls.tcp_min_snd_mss));
  if (conn.snd.timestamps_ok) mss -= static_cast<uint32_t>(kTimestampOptionBytes);
  // Never more than half of the largest window seen: a segment must not wait for the whole window (Linux:
  // tcp_bound_to_half_wnd).
  uint32_t most = conn.snd.max_window > kDefaultMss ? conn.snd.max_window / 2 : conn.snd.max_window;
  if (most != 0 && mss > most) mss = std::max<uint32_t>(most, 68 - kTcpHeaderBytes);
  conn.snd.mss = static_cast<uint16_t>(mss);
}

Seq AcceptableSeq(const Connection& conn) noexcept {
  Seq end = conn.snd.window_end();
  if (!end.Before(conn.snd.snd_nxt)) return conn.snd.snd_nxt;
  if (conn.wscale_ok && conn.snd.snd_nxt - end < (1 << conn.rcv_wscale)) return conn.snd.snd_nxt;
  return end;
}

NewData ChooseNewData(const Connection& conn, uint32_t max_segments) noexcept {
  const Sender& s = conn.snd;
  if (!SendsData(conn.state) || !s.has_unsent()) return {};
  uint32_t allowance = std::min(SendAllowance(s), max_segments);
  if (allowance == 0) return {NoSend::kCwnd};
  uint32_t mss = CurrentMss(conn);
  uint32_t unsent = s.write_end.raw() - s.snd_nxt.raw();
  int32_t room = s.window_end() - s.snd_nxt;
  uint32_t window = room > 0 ? static_cast<uint32_t>(room) : 0;
  bool last = unsent <= mss;
  uint32_t first = std::min(unsent, mss) + (last && s.fin_queued ? 1 : 0);
  if (window < first) return {window == 0 ? NoSend::kPeerWindow : NoSend::kSws};
  if (last) {
    if (NoSend why = NagleCheck(conn, unsent < mss); why != NoSend::kNone) return {why};
    return {NoSend::kNone, unsent, s.fin_queued};
  }
  uint32_t payload = static_cast<uint32_t>(std::min<uint64_t>({unsent, uint64_t{allowance} * mss, window}));
  uint32_t partial = payload % mss;
  if (partial != 0 && NagleCheck(conn, true) != NoSend::kNone) payload -= partial;
  // A segment that the window cuts short waits for more room, unless nothing is held back (Linux: tcp_mss_split_point).
  bool fin = s.fin_queued && payload == unsent && window > unsent;
  return {NoSend::kNone, payload, fin};
}

PollResult TcpPollSegment(Context& ctx, Connection& conn, TxFrame& frame) noexcept {
  if (conn.state == TcpState::kClosed) return PollResult::kNothing;
  SenderEnv env = EnvOf(ctx);
  if (conn.state == TcpState::kSynSent && conn.snd.snd_nxt == conn.iss) {
    PollResult r = SendSyn(ctx, conn, frame);
    SyncTimer(ctx, conn);
    return r;
  }
  if (conn.syn_ack_due) {
    conn.syn_ack_due = false;
    frame.piece_count = 0;
    return Emit(ctx, conn, frame, {conn.iss, 0, kTcpSyn | kTcpAck}, conn.snd.mss);
  }
  for (;;) {
    uint32_t max_segments = MaxFrameSegments(ctx, conn, conn.snd.mss);
    Retransmission again = NextRetransmission(env, conn.snd, max_segments);
    PollResult result = PollResult::kNothing;
    bool cwnd_limited = false;
    if (again.record != nullptr) {
      result = Retransmit(ctx, conn, frame, again);
    } else {
      uint32_t mss = CurrentMss(conn);
      NewData data = ChooseNewData(conn, MaxFrameSegments(ctx, conn, mss));
      cwnd_limited = data.why == NoSend::kCwnd;
      if (data.why == NoSend::kNone) result = SendNewData(ctx, conn, frame, data, mss, false);
    }
    if (result == PollResult::kNothing && conn.wakeup_due) result = SendProbe(ctx, conn, frame);
    if (result == PollResult::kNothing && conn.ack_now) {
      if (conn.state == TcpState::kSynRecv && conn.snd.snd_una == conn.iss)
        conn.ack_now = false;
      else
        result = SendAck(ctx, conn, frame, AcceptableSeq(conn));
    }
    if (result != PollResult::kNothing) {
      SyncTimer(ctx, conn);
      return result;
    }
    if (OnOutputIdle(env, conn.snd, cwnd_limited)) continue;
    conn.nonagle_push = false;
    CheckProbeTimer(ctx, conn);
    SyncTimer(ctx, conn);
    return PollResult::kNothing;
  }
}

}  // namespace ustcp
