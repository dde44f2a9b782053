// Ethernet and IPv4 input (RFC 894, RFC 791, RFC 1122 3.2).
#include "stack/net/ip_input.h"
#include "stack/host/host.h"
#include "stack/net/arp.h"
#include "stack/net/frames.h"
#include "stack/net/ip.h"
#include "stack/net/reassembly.h"
#include "stack/net/route.h"
#include "stack/wire/ethernet.h"
#include "stack/wire/ipv4.h"

namespace ustcp {
namespace {

// RFC 2464: groups of IPv6. No IPv4 group has a member here.
bool IsIpv6GroupMac(const MacAddress& mac) { return mac[0] == 0x33 && mac[1] == 0x33; }

DropReason EthernetInput(Context& ctx, RxFrame& frame) {
  const auto ethernet = EthernetView::Parse(frame.bytes);
  if (!ethernet) return DropReason::kShortFrame;
  LinkInfo link;
  const MacAddress destination = ethernet->destination();
  link.to_us = destination == ctx.host.config.device.mac;
  if (!link.to_us && !ethernet->is_broadcast() && !IsIpv6GroupMac(destination)) return DropReason::kOtherHost;
  if (ethernet->vlan_id() != 0) return DropReason::kVlanTag;
  link.local = frame.buffer != nullptr && (frame.buffer->flags & kBufLocal) != 0;
  const Bytes payload = frame.bytes.subspan(ethernet->header_bytes());
  switch (ethernet->ethertype()) {
    case kEthertypeIpv4: return Ipv4Input(ctx, frame, payload, link);
    case kEthertypeIpv6: return Ipv6Input(ctx, frame, payload, link);
    case kEthertypeArp: return ArpInput(ctx, payload, link.to_us);
    default: return DropReason::kBadEthertype;
  }
}

}  // namespace

void NetInput(Context& ctx, RxFrame& frame) noexcept { EthernetInput(ctx, frame); }

ChecksumTrust TrustOf(const RxFrame& frame, const LinkInfo& link, const std::byte* transport) noexcept {
  if (link.reassembled) return ChecksumTrust::kVerify;
  if (link.local || (frame.vnet.flags & VirtioNetHeader::kDataValid) != 0) return ChecksumTrust::kVouched;
  const bool partial = (frame.vnet.flags & VirtioNetHeader::kNeedsChecksum) != 0 &&
                       frame.bytes.data() + frame.vnet.checksum_start == transport;
  return partial ? ChecksumTrust::kVouched : ChecksumTrust::kVerify;
}

bool IsBadSource(const Context& ctx, const IpAddress& source, const LinkInfo& link) noexcept {
  if (source.is_multicast() || IsBroadcast(ctx.host, source)) return true;
  if (link.local) return false;
  // 0.0.0.0/8 and loopback never come from a link, and our own addresses only when somebody forges them.
  if (source.is_v4() && source.v4()[0] == 0) return true;
  return source.is_loopback() || IsLocalAddress(ctx.host, source);
}

DropReason Ipv4Input(Context& ctx, RxFrame& frame, Bytes packet, const LinkInfo& link) noexcept {
  Counters& counters = ctx.counters();
  if (!link.reassembled) counters.Add(Counter::kIpInReceives);
  DropReason why = DropReason::kNone;
  const auto ip = Ipv4View::Parse(packet, ChecksumTrust::kVerify, &why);
  if (!ip) {
    if (why == DropReason::kIpTruncated) {
      counters.Add(Counter::kIpExtInTruncatedPkts);
      return why;
    }
    if (why == DropReason::kIpChecksum) counters.Add(Counter::kIpExtInCsumErrors);
    counters.Add(Counter::kIpInHdrErrors);
    return why;
  }
  if (ip->has_source_route()) {
    counters.Add(Counter::kIpInHdrErrors);
    return DropReason::kIpSourceRoute;
  }
  IpPacket in;
  in.source = ip->source();
  in.destination = ip->destination();
  if (IsBadSource(ctx, in.source, link)) {
    counters.Add(Counter::kIpInAddrErrors);
    return DropReason::kIpBadSource;
  }
  // Loopback addresses are ours only for packets that never were on a link.
  if (!IsLocalAddress(ctx.host, in.destination) || (in.destination.is_loopback() && !link.local)) {
    counters.Add(Counter::kIpInAddrErrors);
    return DropReason::kIpNotForUs;
  }
  in.ip = packet.first(ip->total_bytes());
  in.transport = in.ip.subspan(ip->header_bytes());
  in.protocol = ip->protocol();
  in.tos = ip->tos();
  in.ttl = ip->ttl();
  in.protocol_field = 9;
  in.link = link;
  in.frame = &frame;
  if (ip->is_fragment()) {
    return link.reassembled ? DropReason::kFragmentHeader
                            : FragmentInput(ctx, in,
                                            {.id = ip->id(),
                                             .offset = ip->fragment_offset(),
                                             .more = ip->more_fragments(),
                                             .dont_fragment = ip->dont_fragment()});
  }
  in.trust = TrustOf(frame, link, in.transport.data());
  return DeliverPacket(ctx, in);
}

}  // namespace ustcp
