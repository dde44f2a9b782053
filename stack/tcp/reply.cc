#include "stack/tcp/reply.h"

#include "stack/host/host.h"
#include "stack/net/frames.h"

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
