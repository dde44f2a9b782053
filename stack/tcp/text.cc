// "Seventh, process the segment text" and "eighth, check the FIN bit" (RFC 9293 3.10.7.4), and when to acknowledge
// (RFC 9293 3.8.6.3, RFC 5681 4.2, with Linux's quick-ACK and delayed-ACK rules).
#include <sys/epoll.h>

#include <algorithm>

#include "stack/host/host.h"
#include "stack/tcp/connection_timers.h"
#include "stack/tcp/input.h"
#include "stack/tcp/output.h"
#include "stack/tcp/receive.h"
#include "stack/tcp/receive_window.h"
#include "stack/tcp/reply.h"
#include "stack/tcp/state.h"
#include "stack/tcp/tcb.h"
#include "stack/tcp/user.h"

namespace ustcp {
namespace {

using std::chrono::milliseconds;

bool InPingpong(const Context& ctx, const Connection& conn) {
  return conn.pingpong >= ctx.sysctls().tcp_pingpong_thresh;
}

// Data arrived (Linux: tcp_event_data_recv): how patient the delayed ACK may be.
void OnDataReceived(Context& ctx, Connection& conn, const Segment& seg) {
  conn.ack_scheduled = true;
  conn.data_segs_in += seg.count;
  MeasureSegmentSize(conn, seg);
  MeasureReceiverRtt(ctx, conn);
  auto raise_quick = [&] {
    uint32_t wanted = std::max(conn.rcv_wnd / (2u * std::max<uint32_t>(conn.rcv_mss, 1)), 2u);
    conn.quick = static_cast<uint8_t>(std::max<uint32_t>(conn.quick, std::min(wanted, kMaxQuickAcks)));
  };
  if (conn.ato_ms == 0) {
    raise_quick();
    conn.ato_ms = kMinAtoMs;
  } else {
    int64_t gap = ToMillis(ctx.now - conn.last_received);
    int64_t rto = ToMillis(conn.snd.rtt.rto);
    if (gap <= kMinAtoMs / 2) {
      conn.ato_ms = static_cast<uint16_t>(conn.ato_ms / 2 + kMinAtoMs / 2);
    } else if (gap < conn.ato_ms) {
      conn.ato_ms = static_cast<uint16_t>(std::min<int64_t>(conn.ato_ms / 2 + gap, rto));
    } else if (gap > rto) {
      // Too long a gap: the peer may have restarted slowly, help it.
      raise_quick();
    }
  }
  conn.last_received = ctx.now;
  GrowWindow(conn, seg);
}

Duration DelayedAckTime(Context& ctx, const Connection& conn) {
  Duration ato = milliseconds(conn.ato_ms);
  Duration least = milliseconds(ctx.sysctls().tcp_delack_min_ms);
  Duration most = milliseconds(ctx.sysctls().tcp_delack_max_ms);
  if (ato > least) {
    Duration limit = InPingpong(ctx, conn) || conn.ack_pushed ? most : Duration{500ms};
    if (conn.snd.rtt.has_sample())
      limit = std::min<Duration>(limit, std::max<Duration>(std::chrono::microseconds(conn.snd.rtt.srtt_us()), least));
    ato = std::min(ato, limit);
  }
  // The first FIN of a connection without data finds no estimate; a moment is left for our own FIN to carry its ACK, as
  // long as it takes Linux until the next timer tick.
  constexpr Duration kTick = 4ms;
  return std::clamp<Duration>(ato, std::min(kTick, most), most);
}

// Linux: __tcp_ack_snd_check and tcp_send_delayed_ack.
void AckOrDelay(Context& ctx, Connection& conn) {
  bool quick = conn.quick != 0 && !InPingpong(ctx, conn);
  uint32_t unacked = conn.rcv_nxt.raw() - conn.rcv_wup.raw();
  // More than one full segment, and the window has moved with it or the program is still waiting for more.
  bool full = unacked > conn.rcv_mss &&
              (UnreadBytes(conn) <
                   static_cast<uint32_t>(std::max(conn.socket != nullptr ? conn.socket->options.rcvlowat : 1, 1)) ||
               ComputeWindow(conn) >= conn.rcv_wnd);
  if (full || quick || conn.ack_now || conn.ofo_head != nullptr) {
    AckNow(ctx, conn);
    return;
  }
  Duration ato = DelayedAckTime(ctx, conn);
  if (conn.delack_deadline != kNever) {
    if (conn.delack_deadline <= ctx.now + ato / 4) {
      AckNow(ctx, conn);
      return;
    }
    ArmDelayedAck(ctx, conn, std::min(conn.delack_deadline, ctx.now + ato));
    return;
  }
  ArmDelayedAck(ctx, conn, ctx.now + ato);
}

void QuickAckFor(Connection& conn) {
  EnterQuickAck(conn, kMaxQuickAcks);
  conn.ack_scheduled = true;
}

void CutFront(Connection& conn, Segment& seg) {
  uint32_t cut = conn.rcv_nxt.raw() - seg.seq.raw();
  if (seg.syn() && cut > 0) --cut;
  seg.payload = seg.payload.subspan(std::min<size_t>(cut, seg.payload.size()));
  seg.seq = conn.rcv_nxt;
}

// Returns false when the connection is gone.
bool TakeInOrder(Context& ctx, Connection& conn, Segment& seg) {
  bool had_hole = conn.ofo_head != nullptr;
  uint32_t length = seg.length();
  if (length != 0) {
    if (!QueueInOrder(ctx, conn, seg)) {
      ctx.counters().Add(Counter::kTcpExtTCPRcvQDrop);
      conn.ack_scheduled = true;
      conn.ack_now = true;
      return true;
    }
    OnDataReceived(ctx, conn, seg);
    MeasureReceiverRttByTimestamp(ctx, conn, seg);
  }
  bool fin = seg.fin();
  if (had_hole && !fin) {
    fin = DrainOutOfOrder(ctx, conn);
    // RFC 5681 4.2: a filled hole is acknowledged at once.
    if (conn.ofo_head == nullptr) conn.ack_now = true;
  }
  if (conn.sack_count != 0) TrimSackBlocks(conn);
  if (fin && !TakeFin(ctx, conn)) return false;
  if (length != 0 && !fin) SocketEvents(ctx, conn, EPOLLIN | EPOLLRDNORM);
  return true;
}

// Returns false when the connection is gone.
bool QueueText(Context& ctx, Connection& conn, Segment& seg) {
  if (seg.seq == seg.end) return true;
  uint32_t window = ReceiveWindow(conn);
  if (conn.rcv_nxt == seg.seq) {
    if (window == 0 && !(seg.length() == 0 && seg.fin())) {
      ctx.counters().Add(Counter::kTcpExtTCPZeroWindowDrop);
      QuickAckFor(conn);
      return true;
    }
    return TakeInOrder(ctx, conn, seg);
  }
  if (seg.end.AtOrBefore(conn.rcv_nxt)) {
    // All of it is known: a retransmission whose ACK may have been lost.
    ctx.counters().Add(Counter::kTcpExtDelayedACKLost);
    SetDsack(ctx, conn, {seg.seq, seg.end});
    QuickAckFor(conn);
    return true;
  }
  if (seg.seq.AtOrAfter(conn.rcv_nxt + window)) {
    QuickAckFor(conn);  // a window probe, for example
    return true;
  }
  if (seg.seq.Before(conn.rcv_nxt)) {
    SetDsack(ctx, conn, {seg.seq, conn.rcv_nxt});
    if (window == 0) {
      QuickAckFor(conn);
      return true;
    }
    CutFront(conn, seg);
    return TakeInOrder(ctx, conn, seg);
  }
  conn.ack_scheduled = true;
  // A peer without SACK counts duplicate ACKs: each segment gets its own even when several are handled in one go.
  if (!conn.snd.sack_ok && conn.ack_now && conn.extra_acks < 255) ++conn.extra_acks;
  QueueOutOfOrder(ctx, conn, seg);
  conn.data_segs_in += seg.count;
  return true;
}

}  // namespace

void ScheduleAnswer(Context& ctx, Connection& conn) noexcept {
  if (conn.state == TcpState::kClosed || !conn.ack_scheduled) return;
  AckOrDelay(ctx, conn);
}

void TakeText(Context& ctx, Connection& conn, Segment& seg) noexcept {
  // The SYN of a SYN-ACK that crossed ours is old data: it is acknowledged once more, with a D-SACK.
  if (!QueueText(ctx, conn, seg)) return;
  ScheduleAnswer(ctx, conn);
}

void SendFinalAck(Context& ctx, Connection& conn) noexcept {
  TcpHeader h;
  h.seq = AcceptableSeq(conn);
  h.ack = conn.rcv_nxt;
  h.flags = kTcpAck;
  h.window = AdvertiseWindow(ctx, conn);
  TcpOptions options;
  if (conn.snd.timestamps_ok)
    options.timestamps = TcpTimestamps{TimestampClock(ctx.now) + conn.ts_offset, conn.ts_recent};
  SendStandalone(ctx, conn.path, conn.tuple, h, options, {conn.tos, conn.ttl, true});
}

}  // namespace ustcp
