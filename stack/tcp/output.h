// Chooses and builds a connection's next segment. One segment (or one frame of equal segments for the device to cut) per
// call; when there is none to send, the reason has a name.
#pragma once

#include <cstdint>

#include "stack/tcp/tcb.h"

namespace ustcp {

struct Context;

// Why no (more) new data is sent.
enum class NoSend : uint8_t {
  kNone,        // it is sent
  kNothing,     // nothing queued
  kNagle,       // a small segment waits for the acknowledgement of another (RFC 896, Minshall)
  kCork,        // TCP_CORK or MSG_MORE
  kCwnd,        // congestion window
  kPeerWindow,  // the peer's window is closed
  kSws,         // it is open, but by less than the next segment (RFC 9293 3.8.6.2.1)
};

struct NewData {
  NoSend why = NoSend::kNothing;
  uint32_t payload = 0;
  bool fin = false;
};
// The next stretch of new data, of at most `max_segments` segments.
NewData ChooseNewData(const Connection& conn, uint32_t max_segments) noexcept;

// Payload bytes of the next segments: the MSS less what SACK blocks take.
uint32_t CurrentMss(const Connection& conn) noexcept;
// The MSS option for a peer reached by `path`; `maxseg`: TCP_MAXSEG or 0.
uint16_t AdvertisedMss(const Path& path, bool v4, uint16_t maxseg) noexcept;
// Recomputes snd.mss from path, peer's MSS and window (Linux: tcp_sync_mss).
void SyncMss(const Sysctls& sysctls, Connection& conn) noexcept;

// The sequence number for segments without data: snd_nxt, or the window's end when the peer has withdrawn what it offered.
Seq AcceptableSeq(const Connection& conn) noexcept;

}  // namespace ustcp
