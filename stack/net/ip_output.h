// Sending of everything that is not TCP: whole packets from the network layer itself.
#pragma once

#include "stack/base/address.h"
#include "stack/base/bytes.h"
#include "stack/mem/buf.h"
#include "stack/net/ip.h"

namespace ustcp {

// Sends a packet with a copy of `transport` as its payload, in fragments where the path cannot carry it whole. Groups
// are reached without a neighbour. False: no route or no memory (counted).
bool SendPacket(Context& ctx, const IpAddress& source, const IpAddress& destination, uint8_t protocol,
                const IpFields& ip, ConstBytes transport) noexcept;

// Sends one frame that is complete but for its destination MAC address along the path, or lets it wait there.
FrameFate SendAlong(Context& ctx, const Path& path, Buf* frame) noexcept;

}  // namespace ustcp
