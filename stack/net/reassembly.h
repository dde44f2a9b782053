// Reassembly of fragmented IPv4 and IPv6 packets (RFC 791, RFC 8200 4.5), per shard. Guarded by the shard's lock.
#pragma once

#include <cstdint>

#include "stack/base/drop_reason.h"
#include "stack/host/datagrams.h"
#include "stack/time/time.h"

namespace ustcp {

struct Context;
struct IpPacket;

// What a fragment says about itself besides its IP header.
struct FragmentInfo {
  uint32_t id = 0;
  uint32_t offset = 0;
  bool more = false;
  bool dont_fragment = false;
  uint8_t next_header = 0;  // IPv6
};

// Takes in a fragment, whose part of the datagram is packet.transport. When it completes the datagram, the whole packet
// goes up in a frame of its own.
DropReason FragmentInput(Context& ctx, const IpPacket& packet, const FragmentInfo& fragment) noexcept;

// The earliest deadline of an incomplete datagram.
Instant ReassemblyDeadline(const Reassembly& reassembly) noexcept;
// Gives up on datagrams whose time is over; the sender hears of it when the first fragment came (RFC 1122 3.3.2).
void ExpireDatagrams(Context& ctx) noexcept;

}  // namespace ustcp
