#include "stack/tcp/reply.h"

#include <algorithm>
#include <cstring>

#include "stack/host/host.h"
#include "stack/net/frames.h"
#include "stack/net/transport.h"
#include "stack/tcp/isn.h"
#include "stack/tcp/tcb.h"

namespace ustcp {

bool SendStandalone(Context& ctx, const Path& path, const Tuple& tuple, TcpHeader header, const TcpOptions& options,
                    const IpFields& ip) noexcept {
  std::byte option_bytes[kMaxTcpOptionBytes];
  size_t n = WriteTcpOptions(option_bytes, options);
  TxFrame frame;
  std::byte* out =
      BeginFrame(ctx, path, frame, tuple.local.address, tuple.peer.address, kProtocolTcp, ip, kTcpHeaderBytes + n, 0);
  if (out == nullptr) return false;
  header.source_port = tuple.local.port;
  header.destination_port = tuple.peer.port;
  header.option_bytes = static_cast<uint8_t>(n);
  WriteTcp(out, header);
  std::memcpy(out + kTcpHeaderBytes, option_bytes, n);
  frame.piece_count = 0;
  frame.payload_bytes = 0;
  ctx.counters().Add(Counter::kTcpOutSegs);
  switch (FinishTcpFrame(ctx, path, frame, tuple.local.address, tuple.peer.address, 0)) {
    case FrameFate::kTaken: return true;
    case FrameFate::kDropped: return false;
    case FrameFate::kReady: break;
  }
  Buf* b = CopyFrame(ctx, frame);
  if (b == nullptr) return false;
  QueueFrame(ctx, b);
  return true;
}

IpFields StandaloneIp(const Context& ctx, uint8_t tos) noexcept {
  return {tos, static_cast<uint8_t>(ctx.sysctls().ip_default_ttl), true};
}

template <typename Record>
void SendAckFor(Context& ctx, const Record& record, Seq seq, Seq ack) noexcept {
  TcpHeader h;
  h.seq = seq;
  h.ack = ack;
  h.flags = kTcpAck;
  h.window = static_cast<uint16_t>(std::min(record.rcv_wnd >> record.rcv_wscale, 65535u));
  TcpOptions o;
  if (record.timestamps_ok) o.timestamps = TcpTimestamps{TimestampClock(ctx.now, record.ts_offset), record.ts_recent};
  SendStandalone(ctx, record.path, record.tuple, h, o, StandaloneIp(ctx, record.tos));
}
template void SendAckFor(Context& ctx, const HalfOpen& record, Seq seq, Seq ack) noexcept;
template void SendAckFor(Context& ctx, const TimeWait& record, Seq seq, Seq ack) noexcept;

Tuple TupleOf(const TcpPacket& packet, uint16_t destination_port, uint16_t source_port) noexcept {
  return {{packet.destination, destination_port}, {packet.source, source_port}};
}

void SendResetFor(Context& ctx, const TcpPacket& packet, const Segment& seg) noexcept {
  if (seg.rst() || packet.source.is_multicast() || packet.source.is_any()) return;
  auto view = TcpView::Parse(packet.segment);
  Tuple tuple = TupleOf(packet, view->destination_port(), view->source_port());
  Path path;
  if (!FindPath(ctx, tuple.local.address, tuple.peer.address, path)) return;
  TcpHeader header;
  header.flags = kTcpRst;
  if (seg.has_ack()) {
    header.seq = seg.ack;
  } else {
    header.ack = seg.end;
    header.flags |= kTcpAck;
  }
  IpFields ip;
  ip.tos = static_cast<uint8_t>(packet.tos & 0xfc);
  ip.ttl = static_cast<uint8_t>(ctx.sysctls().ip_default_ttl);
  ctx.counters().Add(Counter::kTcpOutRsts);
  SendStandalone(ctx, path, tuple, header, {}, ip);
}

bool AnswerIsRateLimited(Context& ctx, const Segment& seg, Instant& last, Counter skipped) noexcept {
  if (seg.end != seg.seq && !seg.syn()) return false;
  if (last != Instant{} && ctx.now - last < std::chrono::milliseconds(ctx.sysctls().tcp_invalid_ratelimit)) {
    ctx.counters().Add(skipped);
    return true;
  }
  last = ctx.now;
  return false;
}

}  // namespace ustcp
