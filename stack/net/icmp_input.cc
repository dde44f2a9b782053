// ICMP and ICMPv6 input (RFC 792, RFC 1122 3.2.2, RFC 4443).
#include <algorithm>

#include "stack/host/host.h"
#include "stack/net/ip.h"
#include "stack/net/ip_input.h"
#include "stack/net/ip_output.h"
#include "stack/net/ndisc.h"
#include "stack/net/transport.h"
#include "stack/wire/icmp.h"
#include "stack/wire/icmpv6.h"
#include "stack/wire/ipv6.h"
#include "stack/wire/ndisc.h"
#include "stack/wire/tcp.h"

namespace ustcp {
namespace {

// Linux's min_pmtu: a router that asks for less is an attack or a mistake, and gets this.
constexpr uint32_t kMinPathMtu = 552;

// What the code of a destination unreachable means to TCP: Linux's icmp_err_convert.
IcmpKind UnreachableKind(uint8_t code) {
  switch (code) {
    case kIcmpNetUnreachable:
    case 6:   // network unknown
    case 11:  // network unreachable for the type of service
      return IcmpKind::kNetUnreachable;
    case kIcmpProtocolUnreachable: return IcmpKind::kProtocolUnreachable;
    case kIcmpPortUnreachable: return IcmpKind::kPortUnreachable;
    case kIcmpFragmentationNeeded: return IcmpKind::kPacketTooBig;
    case 9:   // network prohibited
    case 10:  // host prohibited
    case 13:  // filtered
    case 14:  // precedence violation
    case 15:  // precedence cut-off
      return IcmpKind::kProhibited;
    default: return IcmpKind::kHostUnreachable;
  }
}

IcmpKind UnreachableKind6(uint8_t code) {
  switch (code) {
    case kIcmpv6NoRoute: return IcmpKind::kNetUnreachable;
    case kIcmpv6PortUnreachable: return IcmpKind::kPortUnreachable;
    case kIcmpv6Prohibited:
    case kIcmpv6PolicyFail:
    case kIcmpv6RejectRoute: return IcmpKind::kProhibited;
    default: return IcmpKind::kHostUnreachable;
  }
}

// An error about a packet of ours. Errors about anything but TCP concern nobody here.
DropReason ErrorInput(Context& ctx, const std::optional<QuotedPacket>& quoted, IcmpKind kind, uint32_t mtu) {
  if (!quoted) return DropReason::kIcmpQuote;
  if (quoted->protocol != kProtocolTcp || !IsLocalAddress(ctx.host, quoted->source)) return DropReason::kIcmpQuote;
  TcpIcmpError(ctx, quoted->tuple(), quoted->seq.raw(), kind, mtu);
  return DropReason::kNone;
}

DropReason EchoReply(Context& ctx, const IpPacket& packet, const IcmpView& request) {
  const bool never_answered = ctx.sysctls().icmp_echo_ignore_all != 0 || packet.destination.is_multicast();
  if (never_answered) return DropReason::kIcmpType;
  const size_t bytes = WriteIcmpEchoReply(packet.transport.data(), request);
  const IpFields ip{
      .tos = packet.tos, .ttl = static_cast<uint8_t>(ctx.sysctls().ip_default_ttl), .dont_fragment = false};
  if (SendPacket(ctx, packet.destination, packet.source, kProtocolIcmp, ip, packet.transport.first(bytes))) {
    ctx.counters().Add(Counter::kIcmpOutMsgs);
    ctx.counters().Add(Counter::kIcmpOutEchoReps);
  }
  return DropReason::kNone;
}

DropReason Error4(Context& ctx, const IcmpView& message) {
  IcmpKind kind = IcmpKind::kParameterProblem;
  uint32_t mtu = 0;
  switch (message.type()) {
    case kIcmpUnreachable:
      ctx.counters().Add(Counter::kIcmpInDestUnreachs);
      if (message.code() > kIcmpMaxUnreachableCode) return DropReason::kIcmpType;
      kind = UnreachableKind(message.code());
      if (kind != IcmpKind::kPacketTooBig) break;
      if (ctx.sysctls().ip_no_pmtu_disc != 0) return DropReason::kIcmpType;
      mtu = std::max<uint32_t>(message.next_hop_mtu(), kMinPathMtu);
      break;
    case kIcmpTimeExceeded: kind = IcmpKind::kTimeExceeded; break;
    default: break;
  }
  const DropReason reason = ErrorInput(ctx, message.quoted(), kind, mtu);
  if (reason == DropReason::kIcmpQuote && message.body().size() < kIcmpHeaderBytes + 20) {
    ctx.counters().Add(Counter::kIcmpInErrors);
  }
  return reason;
}

DropReason Error6(Context& ctx, const Icmpv6View& message) {
  IcmpKind kind = IcmpKind::kParameterProblem;
  uint32_t mtu = 0;
  switch (message.type()) {
    case kIcmpv6Unreachable:
      ctx.counters().Add(Counter::kIcmp6InDestUnreachs);
      kind = UnreachableKind6(message.code());
      break;
    case kIcmpv6PacketTooBig:
      ctx.counters().Add(Counter::kIcmp6InPktTooBigs);
      kind = IcmpKind::kPacketTooBig;
      // RFC 8201 4: less than 1280 would need fragment headers only for old translators.
      mtu = std::clamp<uint32_t>(message.mtu(), kMinIpv6Mtu, 65535);
      break;
    case kIcmpv6TimeExceeded: kind = IcmpKind::kTimeExceeded; break;
    case kIcmpv6ParameterProblem:
      if (message.code() == 1) kind = IcmpKind::kProtocolUnreachable;
      break;
    default: return DropReason::kIcmpType;
  }
  return ErrorInput(ctx, message.quoted(), kind, mtu);
}

DropReason EchoReply6(Context& ctx, const IpPacket& packet, const Icmpv6View& request) {
  if (packet.source.is_any()) return DropReason::kIpBadSource;
  // A request to a group is answered from the address that suits the asker.
  IpAddress source = packet.destination;
  if (source.is_multicast() && !ChooseSource(ctx.host, packet.source, source)) return DropReason::kIcmpType;
  const size_t bytes = WriteIcmpv6EchoReply(packet.transport.data(), request, source, packet.source);
  const IpFields ip{.tos = packet.tos, .ttl = static_cast<uint8_t>(ctx.sysctls().hop_limit)};
  if (SendPacket(ctx, source, packet.source, kProtocolIcmpv6, ip, packet.transport.first(bytes))) {
    ctx.counters().Add(Counter::kIcmp6OutMsgs);
    ctx.counters().Add(Counter::kIcmp6OutEchoReplies);
  }
  return DropReason::kNone;
}

}  // namespace

DropReason IcmpInput(Context& ctx, IpPacket& packet) noexcept {
  Counters& counters = ctx.counters();
  counters.Add(Counter::kIcmpInMsgs);
  DropReason why = DropReason::kNone;
  const auto message = IcmpView::Parse(packet.transport, packet.trust, &why);
  if (!message) {
    if (why == DropReason::kIcmpChecksum) counters.Add(Counter::kIcmpInCsumErrors);
    counters.Add(Counter::kIcmpInErrors);
    return why;
  }
  if (message->type() == kIcmpEchoRequest) {
    counters.Add(Counter::kIcmpInEchos);
    return EchoReply(ctx, packet, *message);
  }
  return message->is_error() ? Error4(ctx, *message) : DropReason::kIcmpType;
}

DropReason Icmpv6Input(Context& ctx, IpPacket& packet) noexcept {
  Counters& counters = ctx.counters();
  counters.Add(Counter::kIcmp6InMsgs);
  DropReason why = DropReason::kNone;
  const auto message = Icmpv6View::Parse(packet.transport, packet.source, packet.destination, packet.trust, &why);
  if (!message) {
    if (why == DropReason::kIcmpChecksum) counters.Add(Counter::kIcmp6InCsumErrors);
    counters.Add(Counter::kIcmp6InErrors);
    return why;
  }
  if (message->type() == kIcmpv6EchoRequest) {
    counters.Add(Counter::kIcmp6InEchos);
    return EchoReply6(ctx, packet, *message);
  }
  if (IsNeighborDiscovery(message->type())) return NeighborDiscoveryInput(ctx, packet, *message);
  return message->is_error() ? Error6(ctx, *message) : DropReason::kIcmpType;
}

}  // namespace ustcp
