#include "stack/net/icmp_output.h"

#include <array>

#include "stack/host/host.h"
#include "stack/net/frames.h"
#include "stack/net/ip.h"
#include "stack/net/ip_output.h"
#include "stack/net/peek.h"
#include "stack/net/transport.h"
#include "stack/wire/ethernet.h"
#include "stack/wire/icmpv6.h"
#include "stack/wire/ipv4.h"
#include "stack/wire/ipv6.h"
#include "stack/wire/tcp.h"

namespace ustcp {
namespace {

// RFC 1812 4.3.2.5: errors carry the precedence of internetwork control.
constexpr uint8_t kErrorPrecedence = 0xc0;
constexpr uint8_t kTosMask = 0x1e;

// Whether `packet` is itself an error, or cannot be told: those are never answered.
bool IsIcmpError(const IpPacket& packet) {
  if (packet.protocol != (packet.v4() ? kProtocolIcmp : kProtocolIcmpv6)) return false;
  if (packet.transport.empty()) return true;
  const uint8_t type = Load8(packet.transport.data());
  constexpr uint8_t kSourceQuench = 4;
  constexpr uint8_t kIcmpv6Redirect = 137;
  if (!packet.v4()) return type < kIcmpv6EchoRequest || type == kIcmpv6Redirect;
  return type == kIcmpUnreachable || type == kSourceQuench || type == kIcmpRedirect || type == kIcmpTimeExceeded ||
         type == kIcmpParameterProblem;
}

}  // namespace

void SendIcmpError(Context& ctx, const IpPacket& packet, uint8_t type, uint8_t code, uint32_t rest,
                   bool even_to_group) noexcept {
  if ((!packet.link.to_us || packet.destination.is_multicast()) && !even_to_group) return;
  if (packet.source.is_any() || packet.source.is_multicast() || IsIcmpError(packet)) return;
  const Duration interval = std::chrono::milliseconds(ctx.sysctls().icmp_ratelimit);
  if (!ctx.shard.icmp_limiter.Allow(packet.source, interval, ctx.now)) return;
  IpAddress source = packet.destination;
  if (source.is_multicast() && !ChooseSource(ctx.host, packet.source, source)) return;

  std::array<std::byte, kMaxIcmpv6ErrorBytes> message;
  Counters& counters = ctx.counters();
  if (packet.v4()) {
    const size_t bytes = WriteIcmpError(message.data(), kMaxIcmpErrorBytes, type, code, rest, packet.ip);
    const IpFields ip{.tos = static_cast<uint8_t>((packet.tos & kTosMask) | kErrorPrecedence),
                      .ttl = static_cast<uint8_t>(ctx.sysctls().ip_default_ttl),
                      .dont_fragment = false};
    if (!SendPacket(ctx, source, packet.source, kProtocolIcmp, ip, {message.data(), bytes})) return;
    counters.Add(Counter::kIcmpOutMsgs);
    if (type == kIcmpUnreachable) counters.Add(Counter::kIcmpOutDestUnreachs);
    return;
  }
  const size_t bytes =
      WriteIcmpv6Error(message.data(), kMaxIcmpv6ErrorBytes, type, code, rest, packet.ip, source, packet.source);
  const IpFields ip{.tos = 0, .ttl = static_cast<uint8_t>(ctx.sysctls().hop_limit)};
  if (SendPacket(ctx, source, packet.source, kProtocolIcmpv6, ip, {message.data(), bytes})) {
    counters.Add(Counter::kIcmp6OutMsgs);
  }
}

void ReportUnreachable(Context& ctx, Buf* frame) noexcept {
  // The frame is an outgoing one: what PeekTuple takes for the local end is the peer.
  Tuple tuple;
  bool is_syn = false;
  const Bytes bytes = frame->bytes();
  if (bytes.size() > kEthernetHeaderBytes && PeekTuple(bytes, tuple, is_syn)) {
    std::swap(tuple.local, tuple.peer);
    const TupleNode* node = ctx.host.tuples.Find(tuple, ctx.host.tuples.Hash(tuple));
    if (node != nullptr && node->shard == ctx.shard.index) {
      TcpUnreachable(ctx, tuple);
    } else if (node != nullptr) {
      // Another shard's: it hears of it as the kernel's own sockets do, by an ICMP error of this host to itself.
      const IpAddress& own = tuple.local.address;
      const Bytes packet = bytes.subspan(kEthernetHeaderBytes);
      std::array<std::byte, kMaxIcmpErrorBytes> message;
      if (own.is_v4()) {
        const size_t length =
            WriteIcmpError(message.data(), message.size(), kIcmpUnreachable, kIcmpHostUnreachable, 0, packet);
        SendPacket(ctx, own, own, kProtocolIcmp, {}, {message.data(), length});
      } else {
        const size_t length = WriteIcmpv6Error(message.data(), message.size(), kIcmpv6Unreachable,
                                               kIcmpv6AddressUnreachable, 0, packet, own, own);
        SendPacket(ctx, own, own, kProtocolIcmpv6, {}, {message.data(), length});
      }
    }
  }
  ctx.shard.bufs.Give(frame);
}

}  // namespace ustcp
