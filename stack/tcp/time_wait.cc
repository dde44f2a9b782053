#include "stack/tcp/time_wait.h"

#include <algorithm>

#include "stack/base/fault.h"
#include "stack/host/host.h"
#include "stack/tcp/isn.h"
#include "stack/tcp/paws.h"
#include "stack/tcp/reply.h"
#include "stack/tcp/state.h"
#include "stack/tcp/tcb.h"

namespace ustcp {
namespace {

Duration TimeWaitLength(const Context& ctx) { return std::chrono::seconds(ctx.sysctls().tcp_timewait_len); }

void Arm(Context& ctx, TimeWait& tw, Duration wait) {
  tw.timer.owner = &tw;
  ctx.shard.timers.Arm(tw.timer, ctx.now + wait);
}

void AnswerUnlessLimited(Context& ctx, TimeWait& tw, const Segment& seg, Counter skipped) {
  if (!AnswerIsRateLimited(ctx, seg, tw.last_oow_ack, skipped)) SendAckFor(ctx, tw, tw.snd_nxt, tw.rcv_nxt);
}

void NoteTimestamp(Context& ctx, TimeWait& tw, const Segment& seg) {
  if (!seg.options.timestamps) return;
  tw.ts_recent = seg.options.timestamps->value;
  tw.ts_recent_age_s = SecondsOf(ctx.now);
}

// An orphan in FIN_WAIT2: only the peer's FIN is still expected.
void OnFinWait2Segment(Context& ctx, TimeWait& tw, Segment& seg, bool paws_reject) {
  if (paws_reject || !seg.Overlaps(tw.rcv_nxt, tw.rcv_nxt + tw.rcv_wnd)) {
    AnswerUnlessLimited(ctx, tw, seg, Counter::kTcpExtTCPACKSkippedFinWait2);
    return;
  }
  if (seg.rst()) {
    RemoveTimeWait(ctx, tw);
    return;
  }
  bool reset = seg.syn() && seg.seq.AtOrAfter(tw.rcv_nxt);
  if (!reset) {
    if (!seg.has_ack() || !seg.end.After(tw.rcv_nxt) || seg.end == seg.seq) return;  // nothing new
    // Data after close() would be lost: the peer has to know (RFC 9293 3.6.1).
    reset = !seg.fin() || seg.end != tw.rcv_nxt + 1;
  }
  if (reset) {
    SendResetFor(ctx, *seg.packet, seg);
    RemoveTimeWait(ctx, tw);
    return;
  }
  tw.substate = TcpState::kTimeWait;
  tw.rcv_nxt = seg.end;
  tw.entered = ctx.now;
  NoteTimestamp(ctx, tw, seg);
  Arm(ctx, tw, TimeWaitLength(ctx));
  SendAckFor(ctx, tw, tw.snd_nxt, tw.rcv_nxt);
}

}  // namespace

void EnterTimeWait(Context& ctx, Connection& conn, TcpState substate, Duration wait) noexcept {
  TimeWait* tw = nullptr;
  if (ctx.host.time_wait_count.load() < ctx.sysctls().tcp_max_tw_buckets) tw = ctx.shard.time_waits.Take();
  if (tw == nullptr) {
    ctx.counters().Add(Counter::kTcpExtTCPTimeWaitOverflow);
  } else {
    ctx.host.time_wait_count.fetch_add(1);
    tw->tuple = conn.tuple;
    tw->hash = conn.hash;
    tw->substate = substate;
    tw->rcv_wscale = conn.rcv_wscale;
    tw->tos = conn.tos;
    tw->timestamps_ok = conn.snd.timestamps_ok;
    tw->snd_nxt = conn.snd.snd_nxt;
    tw->rcv_nxt = conn.rcv_nxt;
    int32_t window = static_cast<int32_t>(conn.rcv_wup.raw() + conn.rcv_wnd - conn.rcv_nxt.raw());
    tw->rcv_wnd = window > 0 ? static_cast<uint32_t>(window) : 0;
    tw->ts_recent = conn.ts_recent;
    tw->ts_recent_age_s = conn.ts_recent_age_s;
    tw->ts_offset = conn.ts_offset;
    tw->uid = conn.bind.uid;
    tw->entered = ctx.now;
    tw->path = conn.path;
    tw->bind = conn.bind;
    tw->bind.next = tw->bind.prev = nullptr;
    tw->bind.linked = false;
    tw->bind.owner = tw;
    uint16_t port = conn.bind.port;
    USTCP_FAULT_POINT();
    ctx.host.ports.Remove(conn.bind);
    USTCP_FAULT_POINT();
    ctx.host.ports.Add(tw->bind, port);
    USTCP_FAULT_POINT();
    ctx.host.tuples.Replace(conn, *tw);
    USTCP_FAULT_POINT();
    Duration rto = conn.snd.rtt.rto;
    wait = substate == TcpState::kTimeWait ? TimeWaitLength(ctx) : std::max<Duration>(wait, rto * 4 - rto / 2);
    Arm(ctx, *tw, wait);
    // Linux counts on entry, and calls what is this short killed.
    ctx.counters().Add(wait <= 4s ? Counter::kTcpExtTWKilled : Counter::kTcpExtTW);
  }
  if (substate == TcpState::kTimeWait) SetState(ctx, conn, TcpState::kTimeWait);
  FinishConnection(ctx, conn);
}

void RemoveTimeWait(Context& ctx, TimeWait& tw) noexcept {
  ctx.shard.timers.Cancel(tw.timer);
  USTCP_FAULT_POINT();
  ctx.host.tuples.Remove(tw);
  USTCP_FAULT_POINT();
  ctx.host.ports.Remove(tw.bind);
  USTCP_FAULT_POINT();
  ctx.host.time_wait_count.fetch_sub(1);
  ctx.shard.time_waits.Give(&tw);
}

bool OnTimeWaitSegment(Context& ctx, TimeWait& tw, Segment& seg, Seq& iss) noexcept {
  bool has_timestamp = seg.options.timestamps.has_value();
  bool paws_reject = has_timestamp && tw.ts_recent_age_s != 0 &&
                     PawsRejects(tw.ts_recent, tw.ts_recent_age_s, seg.options.timestamps->value, ctx.now, seg.rst());
  if (tw.substate == TcpState::kFinWait2) {
    OnFinWait2Segment(ctx, tw, seg, paws_reject);
    return false;
  }
  if (!paws_reject && seg.seq == tw.rcv_nxt && (seg.seq == seg.end || seg.rst())) {
    if (seg.rst()) {
      // RFC 1337: a reset must not cut TIME_WAIT short; Linux lets it unless told otherwise.
      if (ctx.sysctls().tcp_rfc1337 == 0) {
        RemoveTimeWait(ctx, tw);
        return false;
      }
    } else {
      Arm(ctx, tw, TimeWaitLength(ctx));
    }
    NoteTimestamp(ctx, tw, seg);
    return false;
  }
  // RFC 6191: a SYN that is clearly newer opens the next incarnation.
  bool newer = seg.seq.After(tw.rcv_nxt) ||
               (has_timestamp && static_cast<int32_t>(tw.ts_recent - seg.options.timestamps->value) < 0);
  if (seg.syn() && !seg.rst() && !seg.has_ack() && !paws_reject && newer) {
    iss = tw.snd_nxt + (65535 + 2);
    if (iss.raw() == 0) iss += 1;
    return true;
  }
  if (paws_reject) ctx.counters().Add(Counter::kTcpExtPAWSEstab);
  if (!seg.rst()) {
    if (paws_reject || seg.has_ack()) Arm(ctx, tw, TimeWaitLength(ctx));
    AnswerUnlessLimited(ctx, tw, seg, Counter::kTcpExtTCPACKSkippedTimeWait);
  }
  return false;
}

void OnTimeWaitTimer(Context& ctx, TimeWait& tw) noexcept { RemoveTimeWait(ctx, tw); }

bool MayReuseTimeWait(const Context& ctx, const TimeWait& tw) noexcept {
  int32_t reuse = ctx.sysctls().tcp_tw_reuse;
  if (reuse == 2 && !tw.tuple.local.address.is_loopback()) reuse = 0;
  if (reuse == 0 || tw.substate != TcpState::kTimeWait || tw.ts_recent_age_s == 0) return false;
  return ctx.now - tw.entered > std::chrono::milliseconds(ctx.sysctls().tcp_tw_reuse_delay);
}

}  // namespace ustcp
