// ICMP errors about our segments (RFC 5461, RFC 5927) and failed neighbours.
#include <algorithm>
#include <cerrno>

#include "stack/host/host.h"
#include "stack/net/transport.h"
#include "stack/tcp/output.h"
#include "stack/tcp/recovery/env.h"
#include "stack/tcp/state.h"
#include "stack/tcp/tcb.h"
#include "stack/tcp/tcp.h"

namespace ustcp {
namespace {

int ErrnoOf(IcmpKind kind) {
  switch (kind) {
    case IcmpKind::kPortUnreachable: return ECONNREFUSED;
    case IcmpKind::kHostUnreachable: return EHOSTUNREACH;
    case IcmpKind::kNetUnreachable: return ENETUNREACH;
    case IcmpKind::kProhibited: return EHOSTUNREACH;
    case IcmpKind::kProtocolUnreachable: return ENOPROTOOPT;
    case IcmpKind::kPacketTooBig: return EMSGSIZE;
    case IcmpKind::kTimeExceeded: return EHOSTUNREACH;
    case IcmpKind::kParameterProblem: return EPROTO;
  }
  return EPROTO;
}

Connection* FindConnection(Context& ctx, const Tuple& tuple) {
  TupleNode* node = ctx.host.tuples.Find(tuple, ctx.host.tuples.Hash(tuple));
  if (node == nullptr || node->kind != SlotKind::kConnection || node->shard != ctx.shard.index) return nullptr;
  return static_cast<Connection*>(node);
}

// In a handshake the error ends the attempt; afterwards it is kept for the case that the connection times out.
void TakeError(Context& ctx, Connection& conn, int error) {
  if (conn.state == TcpState::kSynSent || (conn.state == TcpState::kSynRecv && conn.active_open)) {
    FailConnection(ctx, conn, error);
  } else {
    conn.soft_error = error;
  }
}

void OnPacketTooBig(Context& ctx, Connection& conn, uint32_t mtu) {
  constexpr uint32_t kLeastMtu = 552;  // Linux's ip_rt_min_pmtu: smaller claims are not believed
  mtu = std::max(mtu, conn.tuple.peer.address.is_v4() ? kLeastMtu : 1280u);
  if (mtu >= conn.path.mtu) return;
  conn.path.mtu = static_cast<uint16_t>(mtu);
  uint16_t before = conn.snd.mss;
  SyncMss(ctx.sysctls(), conn);
  if (conn.snd.mss < before) {
    OnMssLowered(EnvOf(ctx), conn.snd);
    ctx.shard.transmit.Add(conn);
  }
}

}  // namespace

void TcpIcmpError(Context& ctx, const Tuple& tuple, uint32_t seq, IcmpKind kind, uint32_t mtu) noexcept {
  TupleNode* node = ctx.host.tuples.Find(tuple, ctx.host.tuples.Hash(tuple));
  if (node != nullptr && node->kind == SlotKind::kHalfOpen && node->shard == ctx.shard.index) {
    // Linux drops a request that cannot be answered; its SYN-ACK timer gets there too, without trusting ICMP.
    return;
  }
  Connection* conn = FindConnection(ctx, tuple);
  if (conn == nullptr || conn->state == TcpState::kClosed) return;
  // RFC 5927: the quoted number must be of something in flight.
  Seq quoted(seq);
  bool in_window = quoted.AtOrAfter(conn->snd.snd_una) && quoted.AtOrBefore(conn->snd.snd_nxt);
  if (!in_window) {
    ctx.counters().Add(Counter::kTcpExtOutOfWindowIcmps);
    return;
  }
  if (kind == IcmpKind::kPacketTooBig)
    OnPacketTooBig(ctx, *conn, mtu);
  else
    TakeError(ctx, *conn, ErrnoOf(kind));
}

void TcpUnreachable(Context& ctx, const Tuple& tuple) noexcept {
  Connection* conn = FindConnection(ctx, tuple);
  if (conn != nullptr && conn->state != TcpState::kClosed) TakeError(ctx, *conn, EHOSTUNREACH);
}

}  // namespace ustcp
