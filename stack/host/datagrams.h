// Fragmented packets that a shard has parts of: the record only. What fills it is stack/net/reassembly.h.
#pragma once

#include <cstdint>

#include "stack/base/address.h"
#include "stack/time/time.h"

namespace ustcp {

struct Buf;

// A datagram in the making: its payload grows in one kFrame Buf; the holes are kept as a short sorted list of received
// ranges, of which no two touch. As in Linux, a fragment that lies within one range is a duplicate and ignored; any
// other overlap discards the whole datagram (RFC 5722).
struct Datagram {
  bool used;
  bool last_seen;  // the fragment without more_fragments came: `total` is known
  IpAddress source;
  IpAddress destination;
  uint32_t id;
  uint8_t protocol;  // IPv6: of the first fragment
  uint8_t tos;       // of the first fragment
  uint8_t ttl;
  uint8_t ecn_seen;  // bit n: a fragment with ECN code point n
  bool local;        // from this host itself
  bool to_us;        // all fragments were sent to our MAC address alone
  bool dont_fragment;
  uint8_t range_count;
  uint16_t total;  // payload bytes so far known: end of the farthest fragment
  Buf* buffer;     // payload from kPayloadOffset of its data on
  Instant deadline;
  static constexpr int kMaxRanges = 48;
  struct Range {
    uint16_t begin, end;
  } ranges[kMaxRanges];

  static constexpr uint32_t kPayloadOffset = 64 + 40;  // room for Ethernet and an IPv6 header in front
};

struct Reassembly {
  static constexpr int kDatagrams = 16;
  Datagram datagrams[kDatagrams];
  uint32_t used_count;  // so that the usual answer, none, costs nothing
};

}  // namespace ustcp
