// IPv6 input (RFC 8200, RFC 4443).
#include "stack/host/host.h"
#include "stack/net/icmp_output.h"
#include "stack/net/ip.h"
#include "stack/net/ip_input.h"
#include "stack/net/reassembly.h"
#include "stack/net/route.h"
#include "stack/wire/icmpv6.h"
#include "stack/wire/ipv6.h"

namespace ustcp {
namespace {

// Source and destination come first: whatever is wrong further on is answered only when they are right.
DropReason CheckAddresses(Context& ctx, const IpAddress& source, const IpAddress& destination, const LinkInfo& link) {
  // v4-mapped addresses on the wire would pass for IPv4 packets (RFC 4291 2.5.5.2, and Linux drops them too).
  if (source.is_v4() || destination.is_v4() || IsBadSource(ctx, source, link)) {
    ctx.counters().Add(Counter::kIp6InHdrErrors);
    return DropReason::kIpBadSource;
  }
  const bool group = destination.is_multicast();
  const bool ours = group ? IsOurGroup(ctx.host, destination) : IsLocalAddress(ctx.host, destination);
  if (!ours || (destination.is_loopback() && !link.local)) {
    ctx.counters().Add(Counter::kIp6InAddrErrors);
    return DropReason::kIpNotForUs;
  }
  return DropReason::kNone;
}

}  // namespace

DropReason Ipv6Input(Context& ctx, RxFrame& frame, Bytes packet, const LinkInfo& link) noexcept {
  Counters& counters = ctx.counters();
  if (!link.reassembled) counters.Add(Counter::kIp6InReceives);
  // RFC 8200 5; Linux switches IPv6 off on such a link.
  if (ctx.host.config.device.mtu < kMinIpv6Mtu && !link.local) return DropReason::kInterfaceDown;
  if (packet.size() < kIpv6HeaderBytes || Load8(packet.data()) >> 4 != 6) {
    counters.Add(Counter::kIp6InHdrErrors);
    return DropReason::kIpHeader;
  }
  IpPacket in;
  in.source = IpAddress::FromV6Bytes(packet.data() + 8);
  in.destination = IpAddress::FromV6Bytes(packet.data() + 24);
  const DropReason address_fault = CheckAddresses(ctx, in.source, in.destination, link);
  if (address_fault != DropReason::kNone) return address_fault;
  in.link = link;
  in.frame = &frame;
  in.tos = static_cast<uint8_t>(LoadBe16(packet.data()) >> 4);
  in.ttl = Load8(packet.data() + 7);

  Ipv6Fault fault;
  const auto ip = Ipv6View::Parse(packet, &fault);
  if (!ip) {
    counters.Add(fault.reason == DropReason::kIpTruncated ? Counter::kIp6InTruncatedPkts : Counter::kIp6InHdrErrors);
    if (fault.answer) {
      in.protocol = Load8(packet.data() + 6);
      in.ip = packet.first(kIpv6HeaderBytes + LoadBe16(packet.data() + 4));
      in.transport = in.ip.subspan(kIpv6HeaderBytes);
      SendIcmpError(ctx, in, kIcmpv6ParameterProblem, fault.code, fault.pointer, fault.answer_multicast);
    }
    return fault.reason;
  }
  in.ip = packet.first(ip->total_bytes());
  in.transport = in.ip.subspan(ip->header_bytes());
  in.protocol = ip->protocol();
  in.protocol_field = ip->chain().next_header_field;
  if (ip->is_fragment()) {
    if (link.reassembled) return DropReason::kFragmentHeader;
    const Ipv6Fragment& f = ip->fragment();
    return FragmentInput(ctx, in, {.id = f.id, .offset = f.offset, .more = f.more, .next_header = f.next_header});
  }
  in.trust = TrustOf(frame, link, in.transport.data());
  return DeliverPacket(ctx, in);
}

}  // namespace ustcp
