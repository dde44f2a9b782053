// ICMP and ICMPv6 errors that this host sends, and those it tells itself.
#pragma once

#include <cstdint>

#include "stack/net/ip_input.h"

namespace ustcp {

struct Buf;

// Answers a packet with an error, if one may be sent (RFC 1122 3.2.2, RFC 4443 2.4 e) and the rate limit allows it.
// `rest`: the second word of the header. The type is ICMP's or ICMPv6's as the packet is IPv4 or IPv6.
void SendIcmpError(Context& ctx, const IpPacket& packet, uint8_t type, uint8_t code, uint32_t rest,
                   bool even_to_group = false) noexcept;

// A frame of ours (Ethernet header at begin()) that could not leave because its neighbour does not answer: tells the
// TCP connection that sent it, on whichever shard it lives. Takes the frame.
void ReportUnreachable(Context& ctx, Buf* frame) noexcept;

}  // namespace ustcp
