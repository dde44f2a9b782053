// SYN-RECEIVED and the synchronised states, in the order of RFC 9293 3.10.7.4: one function per numbered check, each
// returning whether the segment goes on. What is to be sent in answer is only noted; output.cc sends it.
#include "stack/tcp/input.h"

#include <sys/epoll.h>

#include <algorithm>

#include "stack/host/host.h"
#include "stack/tcp/ack_check.h"
#include "stack/tcp/close.h"
#include "stack/tcp/connection_timers.h"
#include "stack/tcp/mss.h"
#include "stack/tcp/output.h"
#include "stack/tcp/paws.h"
#include "stack/tcp/receive.h"
#include "stack/tcp/receive_window.h"
#include "stack/tcp/recovery/env.h"
#include "stack/tcp/reply.h"
#include "stack/tcp/state.h"
#include "stack/tcp/tcb.h"
#include "stack/tcp/time_wait.h"

namespace ustcp {
namespace {

// Answers a segment that cannot be accepted; one that looks like a retransmission also tells the peer, by D-SACK, that it
// was superfluous (Linux: tcp_send_dupack).
void SendDuplicateAck(Context& ctx, Connection& conn, const Segment& seg) {
  if (seg.end != seg.seq && seg.seq.Before(conn.rcv_nxt)) {
    ctx.counters().Add(Counter::kTcpExtDelayedACKLost);
    EnterQuickAck(conn, kMaxQuickAcks);
    SetDsack(ctx, conn, {seg.seq, Seq::Earliest(seg.end, conn.rcv_nxt)});
  }
  AckNow(ctx, conn);
}

// RFC 7323 5.3 R1, before the sequence check. A pure ACK that merely arrived late is let through (Linux:
// tcp_disordered_ack).
bool CheckTimestamp(Context& ctx, Connection& conn, const Segment& seg) {
  conn.saw_timestamp = false;
  if (!conn.snd.timestamps_ok || !seg.options.timestamps) return true;
  conn.saw_timestamp = true;
  conn.rcv_tsval = seg.options.timestamps->value;
  conn.rcv_tsecr = seg.options.timestamps->echo;
  if (conn.ts_recent_age_s == 0) return true;
  if (PawsAccepts(conn.ts_recent, conn.ts_recent_age_s, conn.rcv_tsval, ctx.now, 1)) return true;
  bool late_ack =
      seg.has_ack() && seg.seq == seg.end && seg.seq == conn.rcv_nxt && seg.ack == conn.snd.snd_una &&
      !MayUpdateWindow(conn, seg) &&
      static_cast<int64_t>(static_cast<int32_t>(conn.ts_recent - conn.rcv_tsval)) <= ToMillis(conn.snd.rtt.rto) * 6 / 5;
  if (late_ack || seg.rst()) return true;
  ctx.counters().Add(Counter::kTcpExtPAWSEstab);
  if (!AnswerIsRateLimited(ctx, seg, conn.last_oow_ack, Counter::kTcpExtTCPACKSkippedPAWS))
    SendDuplicateAck(ctx, conn, seg);
  return false;
}

// The number of a RST that is believed at once: RCV.NXT, the right edge of what was reported received out of order, or,
// after the peer's FIN, the FIN's own (RFC 5961 3.2 and Linux's additions).
bool IsExactReset(const Connection& conn, const Segment& seg) {
  if (seg.seq == conn.rcv_nxt) return true;
  bool after_fin =
      conn.state == TcpState::kCloseWait || conn.state == TcpState::kLastAck || conn.state == TcpState::kClosing;
  if (after_fin && seg.seq == conn.rcv_nxt - 1) return true;
  if (conn.snd.sack_ok && conn.sack_count > 0) {
    Seq end = conn.sack_blocks[0].end;
    for (uint8_t i = 1; i < conn.sack_count; ++i) end = Seq::Latest(end, conn.sack_blocks[i].end);
    if (seg.seq == end) return true;
  }
  return false;
}

// "First, check sequence number." The window counts from what was last advertised, so that a retransmission of what was
// acknowledged since is not an error.
bool CheckSequence(Context& ctx, Connection& conn, const Segment& seg) {
  Seq right = conn.rcv_nxt + ReceiveWindow(conn);
  bool acceptable = seg.end.AtOrAfter(conn.rcv_wup) && seg.seq.AtOrBefore(right);
  // Beyond the window only when nothing waits to be read: the peer may not have seen the window shrink by its own data.
  if (acceptable && seg.end.After(right) && conn.rcv_head != nullptr) acceptable = false;
  if (acceptable) return true;
  if (seg.rst()) {
    if (IsExactReset(conn, seg) && seg.seq != conn.rcv_nxt) OnReset(ctx, conn);
    return false;
  }
  if (seg.syn()) {
    ctx.counters().Add(Counter::kTcpExtTCPSYNChallenge);
    SendChallengeAck(ctx, conn, seg);
    return false;
  }
  if (!AnswerIsRateLimited(ctx, seg, conn.last_oow_ack, Counter::kTcpExtTCPACKSkippedSeq))
    SendDuplicateAck(ctx, conn, seg);
  return false;
}

// "Second, check the RST bit." RFC 5961 3.
bool CheckReset(Context& ctx, Connection& conn, const Segment& seg) {
  if (!seg.rst()) return true;
  if (IsExactReset(conn, seg))
    OnReset(ctx, conn);
  else
    SendChallengeAck(ctx, conn, seg);
  return false;
}

// "Fourth, check the SYN bit." RFC 5961 4. In a simultaneous open the peer's SYN-ACK repeats its SYN (E10).
bool CheckSyn(Context& ctx, Connection& conn, const Segment& seg) {
  if (!seg.syn()) return true;
  if (conn.state == TcpState::kSynRecv && seg.has_ack() && seg.seq + 1 == seg.end && seg.seq + 1 == conn.rcv_nxt &&
      seg.ack == conn.snd.snd_nxt)
    return true;
  ctx.counters().Add(Counter::kTcpExtTCPSYNChallenge);
  SendChallengeAck(ctx, conn, seg);
  return false;
}

// "Fifth, check the ACK field." What the acknowledgement means for the state. Returns false when the segment ends here;
// `reset`: it is answered with RST.
bool CheckAck(Context& ctx, Connection& conn, const Segment& seg, bool& reset) {
  if (!seg.has_ack()) return false;
  if (conn.state == TcpState::kSynRecv) {
    // Acceptable: SND.UNA < SEG.ACK =< SND.NXT.
    if (!seg.ack.After(conn.snd.snd_una) || seg.ack.After(conn.snd.snd_nxt)) {
      reset = true;
      return false;
    }
    ProcessAck(ctx, conn, seg);
    Establish(ctx, conn, seg);
    OnEstablished(EnvOf(ctx), conn.snd, -1);
    SocketEvents(ctx, conn, EPOLLOUT | EPOLLWRNORM);
    return true;
  }
  AckFate fate = ProcessAck(ctx, conn, seg);
  if (fate == AckFate::kTooOld) {
    SendChallengeAck(ctx, conn, seg);
    return false;
  }
  if (fate == AckFate::kUnsent) {
    // An ACK of something not yet sent: answered and dropped (RFC 9293 3.10.7.4).
    SendChallengeAck(ctx, conn, seg);
    return false;
  }
  bool fin_acked = conn.snd.fin_queued && conn.snd.snd_una == conn.snd.write_end + 1;
  if (!fin_acked) return true;
  switch (conn.state) {
    case TcpState::kFinWait1: return OnFinAcked(ctx, conn, seg, reset);
    case TcpState::kClosing: EnterTimeWait(ctx, conn, TcpState::kTimeWait, {}); return false;
    case TcpState::kLastAck: FinishConnection(ctx, conn); return false;
    default: return true;
  }
}

// Data for a program that will not read it any more (RFC 9293 3.6.1).
bool DataAfterShutdown(const Connection& conn, const Segment& seg) {
  if (conn.state == TcpState::kEstablished || conn.state == TcpState::kSynRecv) return false;
  // Behind the FIN there is no text: what begins there is ignored, what reaches over it is a fault (Linux resets).
  if (conn.fin_received && !seg.seq.Before(conn.rcv_nxt)) return false;
  return (conn.shut_rd || conn.fin_received) && seg.HasDataAfter(conn.rcv_nxt);
}

bool MayCarryText(TcpState s) { return ReceivesData(s); }

}  // namespace

void AckNow(Context& ctx, Connection& conn) noexcept {
  conn.ack_now = true;
  ctx.shard.transmit.Add(conn);
}

void EnterQuickAck(Connection& conn, uint32_t most) noexcept {
  uint32_t wanted = conn.rcv_wnd / (2u * std::max<uint32_t>(conn.rcv_mss, 1));
  wanted = std::min(std::max(wanted, 2u), most);
  if (wanted > conn.quick) conn.quick = static_cast<uint8_t>(wanted);
  conn.pingpong = 0;
  conn.ato_ms = kMinAtoMs;
}

void SendChallengeAck(Context& ctx, Connection& conn, const Segment& seg) noexcept {
  Segment bare = seg;
  bare.payload = {};  // the limit holds for segments with data and FIN too
  bare.end = bare.seq;
  if (AnswerIsRateLimited(ctx, bare, conn.last_oow_ack, Counter::kTcpExtTCPACKSkippedChallenge)) return;
  ctx.counters().Add(Counter::kTcpExtTCPChallengeACK);
  AckNow(ctx, conn);
}

void Establish(Context& ctx, Connection& conn, const Segment& seg) noexcept {
  SetState(ctx, conn, TcpState::kEstablished);
  conn.copied_seq = conn.rcv_nxt;
  conn.snd_wl1 = seg.seq;
  if (conn.snd.timestamps_ok) conn.advmss = static_cast<uint16_t>(conn.advmss - kTimestampOptionBytes);
  SyncMss(ctx.sysctls(), conn);
  InitBufferSpace(ctx, conn);
  // Linux: tcp_initialize_rcv_mss.
  uint32_t hint = std::min<uint32_t>({conn.advmss, conn.snd.mss, conn.rcv_wnd / 2, uint32_t{kDefaultMss}});
  conn.rcv_mss = static_cast<uint16_t>(std::max<uint32_t>(hint, kMinMss));
  conn.pushed_seq = conn.snd.write_end;
  conn.last_ack_received = ctx.now;
  StartKeepalive(ctx, conn);
}

bool TakeFin(Context& ctx, Connection& conn) noexcept {
  conn.rcv_nxt += 1;
  conn.fin_received = true;
  conn.ack_scheduled = true;
  PurgeOutOfOrder(ctx, conn);
  switch (conn.state) {
    case TcpState::kSynRecv:
    case TcpState::kEstablished:
      SetState(ctx, conn, TcpState::kCloseWait);
      conn.pingpong = 255;  // an answer or our FIN is likely to follow: the ACK can wait for it
      break;
    case TcpState::kFinWait1:
      SetState(ctx, conn, TcpState::kClosing);
      AckNow(ctx, conn);
      break;
    case TcpState::kFinWait2:
      // The ACK of the FIN leaves from the TIME_WAIT record.
      SendFinalAck(ctx, conn);
      EnterTimeWait(ctx, conn, TcpState::kTimeWait, {});
      return false;
    default: break;
  }
  SocketEvents(ctx, conn, EPOLLIN | EPOLLRDNORM | EPOLLRDHUP);
  return true;
}

void OnConnectionSegment(Context& ctx, Connection& conn, Segment& seg) noexcept {
  ++conn.segs_in;
  conn.cork_more = false;  // MSG_MORE holds data back only until something happens
  if (conn.state == TcpState::kClosed) {
    SendResetFor(ctx, *seg.packet, seg);
    return;
  }
  if (!seg.has_ack() && !seg.rst() && !seg.syn()) return;
  bool reset = false;
  if (!CheckTimestamp(ctx, conn, seg) || !CheckSequence(ctx, conn, seg) || !CheckReset(ctx, conn, seg) ||
      !CheckSyn(ctx, conn, seg))
    return;
  if (!CheckAck(ctx, conn, seg, reset)) {
    if (reset) SendResetFor(ctx, *seg.packet, seg);
    return;
  }
  // "Sixth, check the URG bit."
  if (seg.flags.Has(kTcpUrg) || conn.urgent_data == kUrgentNotYet) TakeUrgent(ctx, conn, seg);
  if (DataAfterShutdown(conn, seg)) {
    ctx.counters().Add(Counter::kTcpExtTCPAbortOnData);
    SendResetFor(ctx, *seg.packet, seg);
    OnReset(ctx, conn);
    return;
  }
  // "Seventh, process the segment text." Retransmissions in later states still want their ACK.
  if (MayCarryText(conn.state) || seg.seq.Before(conn.rcv_nxt)) {
    TakeText(ctx, conn, seg);
  } else {
    ScheduleAnswer(ctx, conn);
  }
}

}  // namespace ustcp
