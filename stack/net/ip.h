// The network layer's seam towards TCP: where a packet goes, and the headers in front of it; and the way in.
#pragma once

#include <cstdint>

#include "stack/base/address.h"
#include "stack/base/frame.h"
#include "stack/net/neighbor.h"

namespace ustcp {

struct Context;
struct Host;

// Where packets to one peer go. Small enough to be kept in each connection.
struct Path {
  Neighbor* neighbor = nullptr;  // null for destinations inside the host
  uint32_t neighbor_generation = 0;
  uint16_t mtu = 1500;  // bytes of IP packet, lowered by path MTU discovery
  bool local = false;   // the peer is an address of this host: frames stay in the arena
};

struct IpFields {
  uint8_t tos = 0;  // traffic class for IPv6; ECN bits included
  uint8_t ttl = 64;
  bool dont_fragment = true;
};

// Finds the way from `source` to `destination`. False: no route (ENETUNREACH).
bool FindPath(Context& ctx, const IpAddress& source, const IpAddress& destination, Path& path) noexcept;
// The source address the host would use towards `destination`. False: no route (ENETUNREACH) or no address of the
// family (EADDRNOTAVAIL).
bool ChooseSource(const Host& host, const IpAddress& destination, IpAddress& source) noexcept;
// True for the host's own unicast addresses (loopback when loopback_inside).
bool IsLocalAddress(const Host& host, const IpAddress& address) noexcept;

// Begins a packet in `frame`: Ethernet and IP headers for `transport_header_bytes` + `payload_bytes` behind them.
// Returns where the transport header goes. The caller fills it and the pieces, then calls FinishTcpFrame.
std::byte* BeginFrame(Context& ctx, const Path& path, TxFrame& frame, const IpAddress& source,
                      const IpAddress& destination, uint8_t protocol, const IpFields& ip, size_t transport_header_bytes,
                      size_t payload_bytes) noexcept;

enum class FrameFate : uint8_t {
  kReady,    // the driver may write it
  kTaken,    // copied: it waits for the neighbour, or was delivered inside the host; the frame slot is free again
  kDropped,  // neighbour unreachable or no memory
};

// Completes a TCP frame: checksum (partial where the device fills it in, otherwise computed over the pieces) and
// segmentation request when gso_size is not 0.
FrameFate FinishTcpFrame(Context& ctx, const Path& path, TxFrame& frame, const IpAddress& source,
                         const IpAddress& destination, uint16_t gso_size) noexcept;

// The peer answered in a way that proves that the path works (RFC 4861 7.3.1): keeps the neighbour reachable.
void ConfirmPath(Context& ctx, const Path& path) noexcept;

// A received frame, from the Ethernet header on. Calls TcpInput for TCP segments to this host, answers ARP, neighbour
// discovery and echo requests, reassembles fragments, hands ICMP errors to TcpIcmpError.
void NetInput(Context& ctx, RxFrame& frame) noexcept;

// Queues a complete frame in a Buf (Ethernet header at begin(), virtio header in front of it) for the next
// PollTransmit.
void QueueFrame(Context& ctx, Buf* frame) noexcept;

// Timers of the network layer: neighbour probes, reassembly.
Instant NetNextDeadline(Context& ctx) noexcept;
void NetOnDeadline(Context& ctx) noexcept;

}  // namespace ustcp
