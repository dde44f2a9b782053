// From IP to the protocol above it.
#include "stack/host/host.h"
#include "stack/net/icmp_output.h"
#include "stack/net/ip_input.h"
#include "stack/net/transport.h"
#include "stack/wire/icmpv6.h"
#include "stack/wire/ipv6.h"
#include "stack/wire/tcp.h"

namespace ustcp {
namespace {

constexpr uint8_t kProtocolUdp = 17;
constexpr size_t kUdpHeaderBytes = 8;

// The size of the segments that a merged frame was made of, 0 for a single one.
uint16_t MergedSegmentBytes(const IpPacket& packet, const TcpView& tcp) {
  if (packet.link.reassembled) return 0;
  const VirtioNetHeader& v = packet.frame->vnet;
  const uint8_t type = packet.v4() ? VirtioNetHeader::kGsoTcpV4 : VirtioNetHeader::kGsoTcpV6;
  if ((v.gso_type & ~VirtioNetHeader::kGsoEcn) != type || v.gso_size == 0) return 0;
  return tcp.payload().size() > v.gso_size ? v.gso_size : uint16_t{0};
}

DropReason DeliverTcp(Context& ctx, IpPacket& packet) {
  // A connection has one peer: segments to groups or by broadcast are not for it (RFC 9293 3.9.2.3, MUST-57).
  if (!packet.link.to_us || packet.destination.is_multicast() || packet.source.is_any()) return DropReason::kOtherHost;
  Counters& counters = ctx.counters();
  const auto tcp = TcpView::Parse(packet.transport);
  if (!tcp) {
    counters.Add(Counter::kTcpInSegs);
    counters.Add(Counter::kTcpInErrs);
    return DropReason::kTcpHeader;
  }
  if (packet.trust == ChecksumTrust::kVerify &&
      !VerifyTransportChecksum(packet.source, packet.destination, kProtocolTcp, packet.transport)) {
    counters.Add(Counter::kTcpInSegs);
    counters.Add(Counter::kTcpInCsumErrors);
    counters.Add(Counter::kTcpInErrs);
    return DropReason::kTcpChecksum;
  }
  TcpPacket segment{.source = packet.source,
                    .destination = packet.destination,
                    .segment = packet.transport,
                    .tos = packet.tos,
                    .ttl = packet.ttl,
                    .gso_size = MergedSegmentBytes(packet, *tcp),
                    .frame = packet.frame};
  TcpInput(ctx, segment);
  return DropReason::kNone;
}

// There is no UDP here: every datagram meets a closed port.
DropReason DeliverUdp(Context& ctx, const IpPacket& packet) {
  if (packet.transport.size() < kUdpHeaderBytes) return DropReason::kIpTruncated;
  const size_t length = LoadBe16(packet.transport.data() + 4);
  if (length < kUdpHeaderBytes || length > packet.transport.size()) return DropReason::kIpTruncated;
  // Zero: the sender did without a checksum, which IPv4 allows (RFC 768).
  const bool none = LoadBe16(packet.transport.data() + 6) == 0;
  if (none ? !packet.v4()
           : packet.trust == ChecksumTrust::kVerify &&
                 !VerifyTransportChecksum(packet.source, packet.destination, kProtocolUdp,
                                          packet.transport.first(length))) {
    return DropReason::kIpNoProtocol;
  }
  ctx.counters().Add(Counter::kUdpNoPorts);
  if (packet.v4()) {
    SendIcmpError(ctx, packet, kIcmpUnreachable, kIcmpPortUnreachable, 0);
  } else {
    SendIcmpError(ctx, packet, kIcmpv6Unreachable, kIcmpv6PortUnreachable, 0);
  }
  return DropReason::kIpNoProtocol;
}

}  // namespace

DropReason DeliverPacket(Context& ctx, IpPacket& packet) noexcept {
  Counters& counters = ctx.counters();
  const bool v4 = packet.v4();
  switch (packet.protocol) {
    case kProtocolTcp:
      counters.Add(v4 ? Counter::kIpInDelivers : Counter::kIp6InDelivers);
      return DeliverTcp(ctx, packet);
    case kProtocolUdp:
      counters.Add(v4 ? Counter::kIpInDelivers : Counter::kIp6InDelivers);
      return DeliverUdp(ctx, packet);
    case kProtocolIcmp:
      if (!v4) break;
      counters.Add(Counter::kIpInDelivers);
      return IcmpInput(ctx, packet);
    case kProtocolIcmpv6:
      if (v4) break;
      counters.Add(Counter::kIp6InDelivers);
      return Icmpv6Input(ctx, packet);
    case kIpv6NoNextHeader:
      if (v4) break;
      return DropReason::kIpv6NoNextHeader;
    default: break;
  }
  if (v4) {
    counters.Add(Counter::kIpInUnknownProtos);
    SendIcmpError(ctx, packet, kIcmpUnreachable, kIcmpProtocolUnreachable, 0);
  } else {
    counters.Add(Counter::kIp6InUnknownProtos);
    // RFC 8200 4: code 1, pointing at the byte that named the header.
    SendIcmpError(ctx, packet, kIcmpv6ParameterProblem, 1, packet.protocol_field);
  }
  return DropReason::kIpNoProtocol;
}

}  // namespace ustcp
