// A received IP packet on its way up, and the steps it goes through. Internal to the network layer.
#pragma once

#include <cstdint>

#include "stack/base/address.h"
#include "stack/base/bytes.h"
#include "stack/base/drop_reason.h"
#include "stack/base/frame.h"
#include "stack/wire/checksum.h"

namespace ustcp {

struct Context;

// How the link delivered a frame.
struct LinkInfo {
  bool to_us = true;         // to our MAC address alone; otherwise broadcast or multicast
  bool local = false;        // from this very host, through the arena
  bool reassembled = false;  // made of fragments: not a new packet for the counters
};

// A packet whose IP header has been checked and which is for this host.
struct IpPacket {
  IpAddress source;
  IpAddress destination;
  Bytes ip;         // from the IP header on, padding cut off
  Bytes transport;  // behind all IP headers
  uint8_t protocol = 0;
  uint8_t tos = 0;  // traffic class
  uint8_t ttl = 0;
  uint32_t protocol_field = 0;                   // offset in `ip` of the byte that names `protocol`
  ChecksumTrust trust = ChecksumTrust::kVerify;  // of the transport checksum
  LinkInfo link;
  RxFrame* frame = nullptr;  // which holds all of the above

  bool v4() const { return source.is_v4(); }
};

// Each step returns why the packet went no further, kNone when it was acted on. `packet` is the link's payload within
// frame.bytes.
DropReason Ipv4Input(Context& ctx, RxFrame& frame, Bytes packet, const LinkInfo& link) noexcept;
DropReason Ipv6Input(Context& ctx, RxFrame& frame, Bytes packet, const LinkInfo& link) noexcept;
// Verifies transport checksums and hands the packet to its protocol.
DropReason DeliverPacket(Context& ctx, IpPacket& packet) noexcept;
DropReason IcmpInput(Context& ctx, IpPacket& packet) noexcept;
DropReason Icmpv6Input(Context& ctx, IpPacket& packet) noexcept;

// Whether somebody vouches for a transport checksum: the device, or the local sender whose segment has none yet. The
// sender's word counts for the checksum it named only, which must be the one at `transport`.
ChecksumTrust TrustOf(const RxFrame& frame, const LinkInfo& link, const std::byte* transport) noexcept;

// True for addresses that cannot be the source of anything the host answers to (martians).
bool IsBadSource(const Context& ctx, const IpAddress& source, const LinkInfo& link) noexcept;

}  // namespace ustcp
