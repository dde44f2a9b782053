// "Fifth, check the ACK field" (RFC 9293 3.10.7.4): the send window, and what the peer has received.
#pragma once

#include "stack/tcp/segment.h"
#include "stack/tcp/tcb.h"

namespace ustcp {

struct Context;

enum class AckFate : uint8_t {
  kTaken,   // new or duplicate: the segment goes on
  kTooOld,  // older than any ACK the peer could still have in flight (RFC 5961 5.2)
  kUnsent,  // acknowledges what was never sent
};
AckFate ProcessAck(Context& ctx, Connection& conn, const Segment& seg) noexcept;

// SND.WL1 and SND.WL2 of RFC 9293, as Linux has them.
bool MayUpdateWindow(const Connection& conn, const Segment& seg) noexcept;

}  // namespace ustcp
