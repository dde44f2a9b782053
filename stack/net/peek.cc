#include "stack/net/peek.h"

#include <optional>

#include "stack/wire/ethernet.h"
#include "stack/wire/icmp.h"
#include "stack/wire/icmpv6.h"
#include "stack/wire/ipv4.h"
#include "stack/wire/ipv6.h"
#include "stack/wire/tcp.h"

namespace ustcp {
namespace {

constexpr size_t kFlagsOffset = 13;

bool PeekTcp(ConstBytes segment, const IpAddress& source, const IpAddress& destination, Tuple& out, bool& is_syn) {
  if (segment.size() <= kFlagsOffset) return false;
  const std::byte* p = segment.data();
  out = {{destination, LoadBe16(p + 2)}, {source, LoadBe16(p)}};
  is_syn = (Load8(p + kFlagsOffset) & (kTcpSyn.bits | kTcpAck.bits)) == kTcpSyn.bits;
  return true;
}

bool PeekQuote(const std::optional<QuotedPacket>& quoted, Tuple& out, bool& is_syn) {
  if (!quoted || quoted->protocol != kProtocolTcp) return false;
  out = quoted->tuple();
  is_syn = false;
  return true;
}

bool PeekIpv4(ConstBytes packet, Tuple& out, bool& is_syn) {
  if (packet.size() < kIpv4HeaderBytes) return false;
  const std::byte* p = packet.data();
  const size_t header = (Load8(p) & 0x0fu) * 4u;
  if (Load8(p) >> 4 != 4 || header < kIpv4HeaderBytes || packet.size() < header) return false;
  if ((LoadBe16(p + 6) & 0x3fff) != 0) return false;
  const ConstBytes payload = packet.subspan(header);
  switch (Load8(p + 9)) {
    case kProtocolTcp:
      return PeekTcp(payload, IpAddress::FromV4Bytes(p + 12), IpAddress::FromV4Bytes(p + 16), out, is_syn);
    case kProtocolIcmp: {
      const auto icmp = IcmpView::Parse(payload, ChecksumTrust::kVouched);
      return icmp && icmp->is_error() && PeekQuote(icmp->quoted(), out, is_syn);
    }
    default: return false;
  }
}

bool PeekIpv6(ConstBytes packet, Tuple& out, bool& is_syn) {
  if (packet.size() < kIpv6HeaderBytes) return false;
  const auto ip = Ipv6View::Parse(packet);
  if (!ip || ip->is_fragment()) return false;
  // Such addresses would name one of our IPv4 connections.
  if (ip->source().is_v4() || ip->destination().is_v4()) return false;
  switch (ip->protocol()) {
    case kProtocolTcp: return PeekTcp(ip->payload(), ip->source(), ip->destination(), out, is_syn);
    case kProtocolIcmpv6: {
      const auto icmp = Icmpv6View::Parse(ip->payload(), ip->source(), ip->destination(), ChecksumTrust::kVouched);
      return icmp && icmp->is_error() && PeekQuote(icmp->quoted(), out, is_syn);
    }
    default: return false;
  }
}

}  // namespace

bool PeekTuple(ConstBytes frame, Tuple& out, bool& is_syn) noexcept {
  const auto ethernet = EthernetView::Parse(frame);
  if (!ethernet) return false;
  switch (ethernet->ethertype()) {
    case kEthertypeIpv4: return PeekIpv4(ethernet->payload(), out, is_syn);
    case kEthertypeIpv6: return PeekIpv6(ethernet->payload(), out, is_syn);
    default: return false;
  }
}

}  // namespace ustcp
