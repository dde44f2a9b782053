// TIME_WAIT (RFC 9293 3.6, RFC 6191) and orphans in FIN_WAIT2, both kept in small records of their own.
#pragma once

#include "stack/tcp/segment.h"
#include "stack/tcp/tcb.h"

namespace ustcp {

struct Context;

// Replaces the connection by a small record in `substate` for `wait` (ignored for TIME_WAIT) and finishes it: after this
// `conn` is in CLOSED or gone.
void EnterTimeWait(Context& ctx, Connection& conn, TcpState substate, Duration wait) noexcept;

// A segment for the record. When a fresh SYN may take the tuple over, the record is removed, the initial sequence number
// to use is stored in `iss` and true is returned: the caller offers the segment to the listener.
bool OnTimeWaitSegment(Context& ctx, TimeWait& tw, Segment& seg, Seq& iss) noexcept;
void OnTimeWaitTimer(Context& ctx, TimeWait& tw) noexcept;
void RemoveTimeWait(Context& ctx, TimeWait& tw) noexcept;
// May connect() take the tuple over (tcp_tw_reuse)?
bool MayReuseTimeWait(const Context& ctx, const TimeWait& tw) noexcept;

}  // namespace ustcp
