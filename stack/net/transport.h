// What the network layer asks of the transport above it; TCP defines it. All functions run with the lock of ctx.shard held.
#pragma once

#include <cstdint>

#include "stack/base/address.h"
#include "stack/base/bytes.h"

namespace ustcp {

struct Context;
struct RxFrame;

// A TCP segment whose IP header and checksum have been verified. `segment` lies within frame.bytes. May take
// frame.buffer.
struct TcpPacket {
  IpAddress source;
  IpAddress destination;
  Bytes segment;    // TCP header and payload
  uint8_t tos = 0;  // with ECN bits
  uint8_t ttl = 0;
  uint16_t gso_size = 0;  // of a merged frame: bytes per original segment; 0: a single segment
  RxFrame* frame = nullptr;
};
void TcpInput(Context& ctx, TcpPacket& packet) noexcept;

// An ICMP error about a segment of ours: `tuple` and `seq` from the embedded packet (RFC 5927 checks are TCP's).
enum class IcmpKind : uint8_t {
  kPortUnreachable,
  kHostUnreachable,
  kNetUnreachable,
  kProhibited,
  kProtocolUnreachable,
  kPacketTooBig,
  kTimeExceeded,
  kParameterProblem
};
void TcpIcmpError(Context& ctx, const Tuple& tuple, uint32_t seq, IcmpKind kind, uint32_t mtu) noexcept;

// The neighbour of a path failed: connections in SYN_SENT end with EHOSTUNREACH, others remember a soft error.
void TcpUnreachable(Context& ctx, const Tuple& tuple) noexcept;

}  // namespace ustcp
