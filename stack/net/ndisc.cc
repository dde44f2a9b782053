#include "stack/net/ndisc.h"

#include "stack/host/host.h"
#include "stack/net/frames.h"
#include "stack/net/ip.h"
#include "stack/net/route.h"
#include "stack/wire/ethernet.h"
#include "stack/wire/ipv6.h"
#include "stack/wire/ndisc.h"

namespace ustcp {
namespace {

// A message of `bytes`, for which `write(out)` fills in the ICMPv6 part and returns its size.
template <typename Write>
void SendMessage(Context& ctx, const MacAddress& mac, const IpAddress& source, const IpAddress& destination,
                 Write&& write) {
  constexpr size_t kHeaders = kEthernetHeaderBytes + kIpv6HeaderBytes;
  Buf* frame = NewFrame(ctx, kHeaders + kMaxNeighborMessageBytes);
  if (frame == nullptr) return;
  std::byte* out = frame->begin();
  WriteEthernet(out, mac, ctx.host.config.device.mac, kEthertypeIpv6);
  const size_t bytes = write(out + kHeaders);
  WriteIpv6(out + kEthernetHeaderBytes, {.source = source,
                                         .destination = destination,
                                         .protocol = kProtocolIcmpv6,
                                         .hop_limit = kNeighborHopLimit,
                                         .payload_bytes = static_cast<uint16_t>(bytes)});
  frame->length = static_cast<uint32_t>(kHeaders + bytes);
  ctx.counters().Add(Counter::kIp6OutRequests);
  ctx.counters().Add(Counter::kIcmp6OutMsgs);
  QueueFrame(ctx, frame);
}

void SendAdvertisement(Context& ctx, const MacAddress& mac, const IpAddress& destination,
                       const NeighborAdvertisement& a) {
  SendMessage(ctx, mac, a.target, destination,
              [&](std::byte* out) { return WriteNeighborAdvertisement(out, a.target, destination, a); });
}

DropReason OnSolicitation(Context& ctx, const IpPacket& packet, const NeighborView& message) {
  const IpAddress target = message.target();
  if (target.is_v4() || target.is_loopback() || !IsLocalAddress(ctx.host, target)) return DropReason::kIpNotForUs;
  const MacAddress& own = ctx.host.config.device.mac;
  if (packet.source.is_any()) {
    // Somebody wants to know whether the address is free (RFC 4862 5.4): it is not, and everybody may know.
    SendAdvertisement(ctx, MulticastMac(kAllNodes), kAllNodes,
                      {.target = target, .mac = own, .solicited = false, .override_cache = true});
    return DropReason::kNone;
  }
  const auto& source_mac = message.options().source_mac;
  if (source_mac) {
    OnNeighborNews(ctx, {.address = packet.source, .mac = source_mac, .create = true, .override_mac = true});
  }
  const NeighborAdvertisement answer{
      .target = target, .mac = own, .solicited = true, .override_cache = packet.destination.is_multicast()};
  if (source_mac) {
    SendAdvertisement(ctx, *source_mac, packet.source, answer);
    return DropReason::kNone;
  }
  // A unicast question need not say where it comes from: the answer takes the usual way, and is not given when that
  // would need a question of our own to somebody who just asked.
  Path path;
  if (!FindPath(ctx, target, packet.source, path) || path.local) return DropReason::kNeighborMessage;
  const auto mac = NeighborMac(ctx, path);
  if (!mac) return DropReason::kNeighborMessage;
  SendAdvertisement(ctx, *mac, packet.source, answer);
  return DropReason::kNone;
}

DropReason OnAdvertisement(Context& ctx, const NeighborView& message) {
  const IpAddress target = message.target();
  if (IsLocalAddress(ctx.host, target)) return DropReason::kNeighborMessage;
  OnNeighborNews(ctx, {.address = target,
                       .mac = message.options().target_mac,
                       .reachable = message.solicited(),
                       .override_mac = message.override_cache(),
                       .weaken_on_conflict = true});
  return DropReason::kNone;
}

}  // namespace

DropReason NeighborDiscoveryInput(Context& ctx, const IpPacket& packet, const Icmpv6View& message) noexcept {
  const auto view = NeighborView::Parse(message, packet.ttl, packet.source, packet.destination);
  if (!view) return DropReason::kNeighborMessage;
  switch (view->type()) {
    case kNeighborSolicitation: return OnSolicitation(ctx, packet, *view);
    case kNeighborAdvertisement: return OnAdvertisement(ctx, *view);
    default: return DropReason::kIcmpType;
  }
}

void SendNeighborSolicitation(Context& ctx, const IpAddress& target, const IpAddress& source_hint,
                              const std::optional<MacAddress>& unicast) noexcept {
  IpAddress source = source_hint;
  // RFC 4861 7.2.2: the source of the packet that prompts the question, so that the peer can answer it at once.
  if (source.is_any() || source.is_loopback() || !IsLocalAddress(ctx.host, source)) {
    source = LinkLocalAddress(ctx.host.config.device.mac);
  }
  const IpAddress destination = unicast ? target : SolicitedNodeGroup(target);
  const MacAddress mac = unicast ? *unicast : MulticastMac(destination);
  SendMessage(ctx, mac, source, destination, [&](std::byte* out) {
    return WriteNeighborSolicitation(out, source, destination, target, ctx.host.config.device.mac);
  });
}

void AnnounceIpv6(Context& ctx) noexcept {
  const MacAddress& own = ctx.host.config.device.mac;
  if (ctx.host.config.device.mtu < kMinIpv6Mtu) return;
  for (int i = 0; i < ctx.host.config.address_count; ++i) {
    const IpAddress& address = ctx.host.config.addresses[i].address;
    if (address.is_v4() || address.is_loopback()) continue;
    SendAdvertisement(ctx, MulticastMac(kAllNodes), kAllNodes,
                      {.target = address, .mac = own, .solicited = false, .override_cache = true});
  }
}

}  // namespace ustcp
