// Frames for packet scripts: building what a script sends, decoding what the stack sends, and both in packetdrill's
// notation. Sequence numbers here are those on the wire; world.h translates.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "stack/base/address.h"
#include "stack/base/frame.h"
#include "stack/time/time.h"
#include "tests/packet/script.h"

namespace ustcp::packet {

// Both ends of the link. The gateway is the only neighbour: everything off the link goes through it.
struct Ends {
  IpAddress local, peer, gateway;
  MacAddress local_mac{}, gateway_mac{};
  bool v6 = false;
};

// One TCP segment that left the stack.
struct SentSegment {
  Instant at;
  uint16_t local_port = 0, peer_port = 0;
  std::string flags;  // as PacketSpec::flags
  uint32_t seq = 0, ack = 0;
  uint16_t window = 0, urgent = 0;
  int ecn = 0;
  std::vector<std::byte> payload;
  PacketOptions options;
  bool checksum_ok = false;
};

// Frame, Ethernet header first, for an inbound packet. `p` has wire numbers already; `payload` its data.
std::vector<std::byte> BuildTcpFrame(const Ends& ends, const PacketSpec& p, uint16_t peer_port, uint16_t local_port,
                                     const std::vector<std::byte>& payload);
// An ICMP or ICMPv6 error that quotes a segment of ours starting at wire sequence number `seq`. Empty with `error` set
// when the type or code is unknown.
std::vector<std::byte> BuildIcmpFrame(const Ends& ends, const PacketSpec& p, uint16_t peer_port, uint16_t local_port,
                                      uint32_t seq, std::string* error);
// The answer to an ARP request or a neighbour solicitation; empty when `frame` is neither.
std::vector<std::byte> NeighborAnswer(const Ends& ends, ConstBytes frame);

// Decodes one frame (already cut to MTU size, checksums complete). False: not TCP.
bool DecodeTcpFrame(ConstBytes frame, SentSegment* out);

// Option bytes as packetdrill lists them, in order.
PacketOptions DecodeOptions(ConstBytes bytes);

std::string FormatOptions(const PacketOptions& o);
std::string FormatSegment(const std::string& flags, uint32_t seq, uint32_t length, bool has_ack, uint32_t ack,
                          int window, int urgent, const PacketOptions& options);

}  // namespace ustcp::packet
