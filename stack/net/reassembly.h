// Reassembly of fragmented IPv4 and IPv6 packets (RFC 791, RFC 8200 4.5), per shard.
#pragma once

#include <cstdint>

#include "stack/net/address.h"
#include "stack/time/time.h"

namespace ustcp {

struct Buf;

// A datagram in the making: its payload grows in one kFrame Buf; the holes are kept as a short sorted list of received
// ranges. Overlaps discard the whole datagram (RFC 5722).
struct Datagram {
  bool used = false;
  IpAddress source;
  IpAddress destination;
  uint32_t id = 0;
  uint8_t protocol = 0;
  uint8_t range_count = 0;
  uint16_t total = 0;              // payload bytes, known once the last fragment came; 0 before
  uint16_t header_bytes = 0;
  Buf* buffer = nullptr;
  Instant deadline = kNever;
  static constexpr int kMaxRanges = 48;
  struct Range {
    uint16_t begin, end;
  } ranges[kMaxRanges] = {};
};

struct Reassembly {
  static constexpr int kDatagrams = 16;
  Datagram datagrams[kDatagrams];
};

}  // namespace ustcp
