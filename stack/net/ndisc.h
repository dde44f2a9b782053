// Neighbour discovery input (RFC 4861): solicitations and advertisements. Router advertisements are ignored, addresses
// and routes being configured.
#pragma once

#include "stack/base/drop_reason.h"
#include "stack/net/ip_input.h"
#include "stack/wire/icmpv6.h"

namespace ustcp {

struct Context;

DropReason NeighborDiscoveryInput(Context& ctx, const IpPacket& packet, const Icmpv6View& message) noexcept;

// Unsolicited advertisements of our IPv6 addresses (RFC 9131).
void AnnounceIpv6(Context& ctx) noexcept;

}  // namespace ustcp
