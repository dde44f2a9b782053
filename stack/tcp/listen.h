// Passive opens: SYNs to a listener, half-open connections (Linux: request socks) and their promotion.
#pragma once

#include "stack/tcp/segment.h"
#include "stack/tcp/tcb.h"

namespace ustcp {

struct Context;

// The listener for packets to `local`, alive when looked at; null: none.
Listener* LookUpListener(Context& ctx, const Tuple& tuple, uint32_t hash) noexcept;

// RFC 9293 3.10.7.2: a segment for a listener. `iss`: the number to use (a TIME_WAIT entry was taken over), or null.
void OnListenSegment(Context& ctx, Listener& listener, Segment& seg, const Tuple& tuple, const Seq* iss) noexcept;

// A segment for a half-open connection.
void OnHalfOpenSegment(Context& ctx, HalfOpen& half, Segment& seg) noexcept;
// Its SYN-ACK timer.
void OnHalfOpenTimer(Context& ctx, HalfOpen& half) noexcept;

}  // namespace ustcp
