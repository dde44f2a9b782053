// Questions about addresses and routes that the network layer asks itself. The route table is the host's configuration:
// on-link prefixes of its addresses, fe80::/64 for its link-local address, and the configured rules; the longest prefix
// wins.
#pragma once

#include "stack/base/address.h"

namespace ustcp {

struct Host;

// The link-local address made from the MAC address (RFC 4291 appendix A). Every host has it.
IpAddress LinkLocalAddress(const MacAddress& mac) noexcept;

// The address on the link that packets to `destination` go to. False: no route.
bool NextHop(const Host& host, const IpAddress& destination, IpAddress& next_hop) noexcept;

// 255.255.255.255 and the last address of our own IPv4 prefixes.
bool IsBroadcast(const Host& host, const IpAddress& address) noexcept;

// Multicast groups that the host listens to: all nodes and the solicited-node groups of its IPv6 addresses. IPv4: none.
bool IsOurGroup(const Host& host, const IpAddress& address) noexcept;

// The smaller of the device's MTU and the largest IP packet.
uint16_t LinkMtu(const Host& host) noexcept;

}  // namespace ustcp
