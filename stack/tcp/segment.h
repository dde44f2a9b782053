// A received segment in the form the state machine works on: numbers in host order, options read, payload trimmed as the
// checks go along (RFC 9293 3.10.7).
#pragma once

#include <cstdint>

#include "stack/net/transport.h"
#include "stack/tcp/tcp.h"
#include "stack/wire/tcp.h"
#include "stack/wire/tcp_options.h"

namespace ustcp {

struct Segment {
  TcpPacket* packet = nullptr;
  Seq seq;  // SEG.SEQ
  Seq end;  // behind the last sequence number, SYN and FIN counted
  Seq ack;  // with the ACK bit only
  TcpFlags flags;
  uint16_t window = 0;  // as on the wire, unscaled
  uint16_t urgent_pointer = 0;
  uint16_t count = 1;          // original segments in a merged frame
  uint16_t segment_bytes = 0;  // payload bytes of each of them (the last may be shorter)
  uint16_t header_bytes = 0;   // TCP header with options
  Bytes payload;
  TcpOptions options;

  bool syn() const { return flags.Has(kTcpSyn); }
  bool fin() const { return flags.Has(kTcpFin); }
  bool rst() const { return flags.Has(kTcpRst); }
  bool has_ack() const { return flags.Has(kTcpAck); }
  uint32_t length() const { return static_cast<uint32_t>(payload.size()); }
  // SEG.LEN
  uint32_t sequence_length() const { return end.raw() - seq.raw(); }
  // With a window, as Linux's tcp_in_window: an empty segment at either end counts.
  bool Overlaps(Seq window_begin, Seq window_end) const {
    if (seq == window_begin) return true;
    if (end.After(window_begin) && seq.Before(window_end)) return true;
    return seq == window_end && end == window_end;
  }
  // Sequence numbers behind `nxt` that are not the FIN's.
  bool HasDataAfter(Seq nxt) const { return end != seq && (end - (fin() ? 1u : 0u)).After(nxt); }
};

}  // namespace ustcp
