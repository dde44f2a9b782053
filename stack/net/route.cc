#include "stack/net/route.h"

#include <algorithm>

#include "stack/host/host.h"
#include "stack/net/ip.h"
#include "stack/wire/ipv6.h"
#include "stack/wire/ndisc.h"

namespace ustcp {
namespace {

constexpr IpAddress kLoopbackV4 = IpAddress::V4(127, 0, 0, 1);
constexpr uint8_t kLinkLocalPrefixBits = 64;

// Linux's loopback interface has 65536, which an IP packet cannot fill.
constexpr uint16_t kLocalMtu = 65535;

bool Configured(const Host& host, const IpAddress& address) {
  for (int i = 0; i < host.config.address_count; ++i)
    if (host.config.addresses[i].address == address) return true;
  return address == LinkLocalAddress(host.config.device.mac);
}

// Leading bits that two addresses share.
int CommonBits(const IpAddress& a, const IpAddress& b) {
  for (int i = 0; i < 16; ++i) {
    const auto differ = static_cast<uint8_t>(a.bytes[i] ^ b.bytes[i]);
    if (differ != 0) return i * 8 + __builtin_clz(differ) - 24;
  }
  return 128;
}

}  // namespace

IpAddress LinkLocalAddress(const MacAddress& mac) noexcept {
  return IpAddress{{0xfe, 0x80, 0, 0, 0, 0, 0, 0, static_cast<uint8_t>(mac[0] ^ 2), mac[1], mac[2], 0xff, 0xfe, mac[3],
                    mac[4], mac[5]}};
}

uint16_t LinkMtu(const Host& host) noexcept {
  return static_cast<uint16_t>(std::min<uint32_t>(host.config.device.mtu, 65535));
}

bool IsLocalAddress(const Host& host, const IpAddress& address) noexcept {
  if (address.is_loopback()) return host.config.loopback_inside;
  return Configured(host, address);
}

bool IsBroadcast(const Host& host, const IpAddress& address) noexcept {
  if (!address.is_v4()) return false;
  if (address == IpAddress::V4(255, 255, 255, 255)) return true;
  for (int i = 0; i < host.config.address_count; ++i) {
    const IpPrefix& p = host.config.addresses[i];
    // A /31 has two hosts and no broadcast address (RFC 3021).
    if (!p.address.is_v4() || p.length > 30 || !p.Contains(address)) continue;
    uint32_t value = 0;
    for (int b = 0; b < 4; ++b) value = value << 8 | address.v4()[b];
    if ((value | (p.length == 0 ? 0 : ~uint32_t{0} << (32 - p.length))) == ~uint32_t{0}) return true;
  }
  return false;
}

bool IsOurGroup(const Host& host, const IpAddress& address) noexcept {
  if (address.is_v4()) return false;
  constexpr IpAddress kNodeLocalAllNodes{{0xff, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01}};
  if (address == kAllNodes || address == kNodeLocalAllNodes) return true;
  if (address == SolicitedNodeGroup(LinkLocalAddress(host.config.device.mac))) return true;
  for (int i = 0; i < host.config.address_count; ++i) {
    const IpAddress& own = host.config.addresses[i].address;
    if (!own.is_v4() && address == SolicitedNodeGroup(own)) return true;
  }
  return false;
}

bool NextHop(const Host& host, const IpAddress& destination, IpAddress& next_hop) noexcept {
  int best = -1;
  for (int i = 0; i < host.config.address_count; ++i) {
    const IpPrefix& p = host.config.addresses[i];
    if (p.length <= best || !p.Contains(destination)) continue;
    best = p.length;
    next_hop = destination;
  }
  for (int i = 0; i < host.config.route_count; ++i) {
    const RouteRule& rule = host.config.routes[i];
    if (rule.destination.length <= best || !rule.destination.Contains(destination)) continue;
    best = rule.destination.length;
    next_hop = rule.gateway.is_any() ? destination : rule.gateway;
  }
  if (best < kLinkLocalPrefixBits && !destination.is_v4() && destination.is_link_local()) {
    next_hop = destination;
    best = kLinkLocalPrefixBits;
  }
  return best >= 0;
}

bool FindPath(Context& ctx, const IpAddress& source, const IpAddress& destination, Path& path) noexcept {
  const Host& host = ctx.host;
  if (source.is_v4() != destination.is_v4()) return false;
  if (IsLocalAddress(host, destination)) {
    path = Path{.mtu = kLocalMtu, .local = true};
    return true;
  }
  // TCP has nothing to say to groups and broadcast addresses, and loopback that is not ours is the kernel's.
  if (destination.is_any() || destination.is_multicast() || destination.is_loopback() ||
      IsBroadcast(host, destination)) {
    return false;
  }
  path = Path{.mtu = LinkMtu(host), .local = false};
  // RFC 8200 5: a link that cannot carry 1280 bytes carries no IPv6.
  if (!destination.is_v4() && path.mtu < kMinIpv6Mtu) return false;
  IpAddress next_hop;
  if (!NextHop(host, destination, next_hop)) {
    ctx.counters().Add(destination.is_v4() ? Counter::kIpOutNoRoutes : Counter::kIp6OutNoRoutes);
    return false;
  }
  return AttachNeighbor(ctx, next_hop, path);
}

bool ChooseSource(const Host& host, const IpAddress& destination, IpAddress& source) noexcept {
  if (IsLocalAddress(host, destination)) {
    // As the kernel's local routes do: the address itself, and 127.0.0.1 for all of 127.0.0.0/8.
    source = destination.is_v4() && destination.is_loopback() ? kLoopbackV4 : destination;
    return true;
  }
  const bool v4 = destination.is_v4();
  IpAddress next_hop = destination;
  const bool link_scope =
      !v4 && (destination.is_link_local() || (destination.is_multicast() && destination.bytes[1] == 2));
  if (!link_scope && !NextHop(host, destination, next_hop)) return false;

  // RFC 6724 5 for one interface: rule 2 (scope), then rule 8 (longest common prefix). IPv4: the first address on the
  // next hop's subnet, as the kernel's primary addresses.
  const IpAddress link_local = LinkLocalAddress(host.config.device.mac);
  if (link_scope) {
    source = link_local;
    return true;
  }
  int best = -1;
  for (int i = 0; i < host.config.address_count; ++i) {
    const IpPrefix& own = host.config.addresses[i];
    if (own.address.is_v4() != v4) continue;
    int score = v4 ? (own.Contains(next_hop) ? 1 : 0) : CommonBits(own.address, destination);
    if (!v4 && own.address.is_link_local()) score = 0;
    if (score <= best) continue;
    best = score;
    source = own.address;
  }
  if (best >= 0) return true;
  if (v4) return false;
  source = link_local;
  return true;
}

}  // namespace ustcp
