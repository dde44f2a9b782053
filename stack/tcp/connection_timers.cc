#include "stack/tcp/connection_timers.h"

#include <algorithm>

#include "stack/host/host.h"
#include "stack/tcp/close.h"
#include "stack/tcp/input.h"
#include "stack/tcp/listen.h"
#include "stack/tcp/output.h"
#include "stack/tcp/recovery/env.h"
#include "stack/tcp/send_queue.h"
#include "stack/tcp/state.h"
#include "stack/tcp/tcb.h"
#include "stack/tcp/time_wait.h"
#include "stack/tcp/user.h"

namespace ustcp {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kMinProbeInterval = 200ms;

Duration RtoMax(const Context& ctx) { return milliseconds(ctx.sysctls().tcp_rto_max_ms); }

// Linux: tcp_probe0_base and tcp_probe0_when.
Duration ProbeInterval(const Context& ctx, const Connection& conn) {
  Duration base = std::max<Duration>(conn.snd.rtt.rto, kMinProbeInterval);
  constexpr int kMostDoublings = 10;  // log2(120 s / 200 ms), rounded up
  return std::min(base * (int64_t{1} << std::min<int>(conn.probe_backoff, kMostDoublings)), RtoMax(ctx));
}

// TCP_USER_TIMEOUT bounds the probing too.
Duration ClampToUserTimeout(const Context& ctx, const Connection& conn, Duration wait) {
  if (conn.user_timeout_ms == 0 || conn.first_probe == Instant{}) return wait;
  Duration left = conn.first_probe + milliseconds(conn.user_timeout_ms) - ctx.now;
  return std::min<Duration>(std::max<Duration>(left, 1ms), wait);
}

// Retransmissions or probes an orphan gets (Linux: tcp_orphan_retries).
uint32_t OrphanRetries(const Context& ctx, const Connection& conn, bool alive) {
  auto retries = static_cast<uint32_t>(ctx.sysctls().tcp_orphan_retries);
  if (conn.soft_error != 0 && !alive) retries = 0;
  if (retries == 0 && alive) retries = 8;
  return retries;
}

bool TooManyOrphans(const Context& ctx) { return ctx.host.orphan_count.load() > ctx.sysctls().tcp_max_orphans; }

void TimeOut(Context& ctx, Connection& conn) {
  ctx.counters().Add(Counter::kTcpExtTCPAbortOnTimeout);
  FailConnection(ctx, conn, conn.soft_error != 0 ? conn.soft_error : ETIMEDOUT);
}

// True when the connection is given up and gone (Linux: tcp_write_timeout).
bool GiveUpRetransmitting(Context& ctx, Connection& conn) {
  SenderEnv env = EnvOf(ctx);
  const Sysctls& sysctls = ctx.sysctls();
  bool handshake = conn.state == TcpState::kSynSent || conn.state == TcpState::kSynRecv;
  bool expired;
  Duration user_timeout = milliseconds(conn.user_timeout_ms);
  if (handshake) {
    uint32_t retries = conn.socket != nullptr && conn.socket->options.syncnt != 0
                           ? conn.socket->options.syncnt
                           : static_cast<uint32_t>(sysctls.tcp_syn_retries);
    uint32_t most = retries;
    if (conn.state == TcpState::kSynSent) most += static_cast<uint32_t>(sysctls.tcp_syn_linear_timeouts);
    // With linear intervals the time that doubling ones would have taken may be over first.
    expired = conn.snd.retransmits >= most || RetriesExhausted(env, conn.snd, retries, user_timeout);
  } else {
    auto retries = static_cast<uint32_t>(sysctls.tcp_retries2);
    if (conn.socket == nullptr) {
      bool alive = conn.snd.rtt.rto < RtoMax(ctx);
      retries = OrphanRetries(ctx, conn, alive);
      if (TooManyOrphans(ctx)) {
        if (alive || !RetriesExhausted(env, conn.snd, retries, Duration{})) SendActiveReset(ctx, conn);
        ctx.counters().Add(Counter::kTcpExtTCPAbortOnMemory);
        FinishConnection(ctx, conn);
        return true;
      }
    }
    expired = RetriesExhausted(env, conn.snd, retries, user_timeout);
  }
  if (!expired) return false;
  // The sender counts those it acts upon.
  ctx.counters().Add(Counter::kTcpExtTCPTimeouts);
  TimeOut(ctx, conn);
  return true;
}

// Returns false when the connection is gone.
bool OnRetransmitTimer(Context& ctx, Connection& conn) {
  if (GiveUpRetransmitting(ctx, conn)) return false;
  bool zero_window = conn.snd.snd_wnd == 0 && conn.socket != nullptr && conn.state != TcpState::kSynSent &&
                     conn.state != TcpState::kSynRecv;
  OnRetransmissionTimeout(EnvOf(ctx), conn.snd, milliseconds(conn.user_timeout_ms), zero_window);
  return true;
}

bool OnPersistTimer(Context& ctx, Connection& conn) {
  if (conn.snd.packets_out != 0 || !conn.snd.has_unsent()) {
    conn.probes_out = 0;
    conn.first_probe = Instant{};
    StopXmitTimer(conn.snd);
    return true;
  }
  auto most = static_cast<uint32_t>(ctx.sysctls().tcp_retries2);
  if (conn.first_probe == Instant{}) {
    conn.first_probe = ctx.now;
  } else if (conn.user_timeout_ms != 0 && ctx.now - conn.first_probe >= milliseconds(conn.user_timeout_ms)) {
    TimeOut(ctx, conn);
    return false;
  }
  if (conn.socket == nullptr) {
    bool alive = ProbeInterval(ctx, conn) < RtoMax(ctx);
    most = OrphanRetries(ctx, conn, alive);
    if (!alive && conn.probe_backoff >= most) {
      TimeOut(ctx, conn);
      return false;
    }
  }
  if (conn.probes_out >= most) {
    TimeOut(ctx, conn);
    return false;
  }
  ++conn.probes_out;
  if (conn.probe_backoff < ctx.sysctls().tcp_retries2 && conn.probe_backoff < 255) ++conn.probe_backoff;
  conn.wakeup_due = true;
  conn.probe_is_keepalive = false;
  SetPersistTimer(conn.snd, ctx.now + ClampToUserTimeout(ctx, conn, ProbeInterval(ctx, conn)));
  return true;
}

void OnDelayedAckTimer(Context& ctx, Connection& conn) {
  conn.delack_deadline = kNever;
  if (!conn.ack_scheduled) return;
  if (conn.pingpong < ctx.sysctls().tcp_pingpong_thresh) {
    auto rto_ms = static_cast<uint32_t>(ToMillis(conn.snd.rtt.rto));
    conn.ato_ms = static_cast<uint16_t>(std::min<uint32_t>(conn.ato_ms * 2u, rto_ms));
  } else {
    // Nothing came that the ACK could ride on: not interactive after all.
    conn.pingpong = 0;
    conn.ato_ms = kMinAtoMs;
  }
  conn.ack_now = true;
  ctx.counters().Add(Counter::kTcpExtDelayedACKs);
}

// The sysctls of keep-alive may be 0 or less, as Linux's: then a timer that runs out sets itself anew at once, and what is
// left between two is Linux's timer tick.
Duration KeepaliveDuration(int32_t own_s, int32_t default_s) {
  constexpr Duration kTick = 4ms;
  return std::max<Duration>(seconds(own_s != 0 ? own_s : default_s), kTick);
}

Duration KeepaliveIdle(const Context& ctx, const Connection& conn) {
  return KeepaliveDuration(conn.socket->options.keepidle_s, ctx.sysctls().tcp_keepalive_time);
}

// Returns false when the connection is gone.
bool OnKeepaliveTimer(Context& ctx, Connection& conn) {
  if (conn.socket == nullptr || !conn.socket->options.keepalive) return true;
  Duration idle = KeepaliveIdle(ctx, conn);
  if (conn.snd.packets_out != 0 || conn.snd.has_unsent()) {
    ArmSlowTimer(ctx, conn, SlowTimer::kKeepalive, ctx.now + idle);
    return true;
  }
  Duration elapsed = ctx.now - std::max(conn.last_received, conn.last_ack_received);
  if (elapsed < idle) {
    ArmSlowTimer(ctx, conn, SlowTimer::kKeepalive, ctx.now + (idle - elapsed));
    return true;
  }
  int32_t own_count = conn.socket->options.keepcnt;
  int32_t most = own_count != 0 ? own_count : ctx.sysctls().tcp_keepalive_probes;
  bool expired = conn.user_timeout_ms != 0 ? elapsed >= milliseconds(conn.user_timeout_ms) && conn.probes_out > 0
                                           : conn.probes_out >= most;
  if (expired) {
    SendActiveReset(ctx, conn);
    TimeOut(ctx, conn);
    return false;
  }
  ++conn.probes_out;
  conn.wakeup_due = true;
  conn.probe_is_keepalive = true;
  ArmSlowTimer(ctx, conn, SlowTimer::kKeepalive,
               ctx.now + KeepaliveDuration(conn.socket->options.keepintvl_s, ctx.sysctls().tcp_keepalive_intvl));
  return true;
}

bool OnSlowTimer(Context& ctx, Connection& conn) {
  SlowTimer kind = conn.slow_timer;
  StopSlowTimer(conn);
  if (kind == SlowTimer::kKeepalive) return OnKeepaliveTimer(ctx, conn);
  if (kind == SlowTimer::kFinWait2 && conn.state == TcpState::kFinWait2 && conn.socket == nullptr) {
    if (conn.linger2_s >= 0) {
      Duration left = FinTimeout(ctx, conn) - seconds(ctx.sysctls().tcp_timewait_len);
      if (left > Duration{}) {
        EnterTimeWait(ctx, conn, TcpState::kFinWait2, left);
        return false;
      }
    }
    SendActiveReset(ctx, conn);
    FinishConnection(ctx, conn);
    return false;
  }
  return true;
}

void OnConnectionTimer(Context& ctx, Connection& conn) {
  if (conn.state == TcpState::kClosed) return;
  if (std::min({conn.snd.xmit_deadline, conn.delack_deadline, conn.slow_deadline}) > ctx.now) {
    SyncTimer(ctx, conn);  // the deadline had moved
    return;
  }
  if (conn.delack_deadline <= ctx.now) OnDelayedAckTimer(ctx, conn);
  if (conn.snd.xmit_deadline <= ctx.now) {
    switch (conn.snd.xmit_timer) {
      case XmitTimer::kRetransmit:
        if (!OnRetransmitTimer(ctx, conn)) return;
        break;
      case XmitTimer::kLossProbe: OnTailLossProbe(EnvOf(ctx), conn.snd); break;
      case XmitTimer::kReorder: OnReorderTimer(EnvOf(ctx), conn.snd); break;
      case XmitTimer::kPersist:
        if (!OnPersistTimer(ctx, conn)) return;
        break;
      case XmitTimer::kNone: StopXmitTimer(conn.snd); break;
    }
  }
  if (conn.slow_deadline <= ctx.now && !OnSlowTimer(ctx, conn)) return;
  ctx.shard.transmit.Add(conn);
  SyncTimer(ctx, conn);
}

}  // namespace

void SyncTimer(Context& ctx, Connection& conn) noexcept {
  Instant first = std::min({conn.snd.xmit_deadline, conn.delack_deadline, conn.slow_deadline});
  if (first == kNever) return;
  conn.timer.owner = &conn;
  ctx.shard.timers.ArmEarlier(conn.timer, first);
}

void ArmDelayedAck(Context& ctx, Connection& conn, Instant deadline) noexcept {
  conn.delack_deadline = deadline;
  SyncTimer(ctx, conn);
}

void ArmSlowTimer(Context& ctx, Connection& conn, SlowTimer kind, Instant deadline) noexcept {
  conn.slow_timer = kind;
  conn.slow_deadline = deadline;
  SyncTimer(ctx, conn);
}

void StopSlowTimer(Connection& conn) noexcept {
  conn.slow_timer = SlowTimer::kNone;
  conn.slow_deadline = kNever;
}

void StartKeepalive(Context& ctx, Connection& conn) noexcept {
  if (conn.socket == nullptr || !conn.socket->options.keepalive) return;
  if (conn.state == TcpState::kClosed || conn.state == TcpState::kSynSent) return;
  Duration wait = KeepaliveIdle(ctx, conn);
  // A timer that runs already gets a new length: the silence so far counts (TCP_KEEPIDLE).
  if (conn.slow_timer == SlowTimer::kKeepalive)
    wait = std::max<Duration>(wait - (ctx.now - std::max(conn.last_received, conn.last_ack_received)), Duration{});
  ArmSlowTimer(ctx, conn, SlowTimer::kKeepalive, ctx.now + wait);
}

void CheckProbeTimer(Context& ctx, Connection& conn) noexcept {
  if (!SendsData(conn.state)) return;
  if (conn.snd.packets_out != 0 || !conn.snd.has_unsent() || conn.snd.xmit_timer != XmitTimer::kNone) return;
  SetPersistTimer(conn.snd, ctx.now + std::max<Duration>(conn.snd.rtt.rto, kMinProbeInterval));
}

void OnProbeAnswered(Context& ctx, Connection& conn) noexcept {
  if (!conn.snd.has_unsent()) return;
  uint32_t mss = CurrentMss(conn);
  uint32_t unsent = SendEnd(conn).raw() - conn.snd.snd_nxt.raw();
  int32_t window = conn.snd.window_end() - conn.snd.snd_nxt;
  if (window >= static_cast<int32_t>(std::min(unsent, mss))) {
    conn.probe_backoff = 0;
    conn.first_probe = Instant{};
    if (conn.snd.xmit_timer == XmitTimer::kPersist) StopXmitTimer(conn.snd);
  } else if (conn.snd.packets_out == 0) {
    SetPersistTimer(conn.snd, ctx.now + ClampToUserTimeout(ctx, conn, ProbeInterval(ctx, conn)));
  }
}

void TcpOnTimer(Context& ctx, SlotHeader& owner) noexcept {
  switch (owner.kind) {
    case SlotKind::kConnection: OnConnectionTimer(ctx, static_cast<Connection&>(owner)); break;
    case SlotKind::kHalfOpen: OnHalfOpenTimer(ctx, static_cast<HalfOpen&>(owner)); break;
    case SlotKind::kTimeWait: OnTimeWaitTimer(ctx, static_cast<TimeWait&>(owner)); break;
    default: USTCP_BUG("timer of a slot without deadlines"); break;
  }
}

}  // namespace ustcp
