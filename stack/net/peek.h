// A quick look into a frame to find the shard it is for, before anything has been verified.
#pragma once

#include "stack/base/address.h"
#include "stack/base/bytes.h"

namespace ustcp {

// The tuple, seen from this host, of the connection that the frame is for: of its TCP header, or of the TCP header that
// an ICMP error quotes. `is_syn`: SYN without ACK. False: neither (also for fragments); any bytes are safe.
bool PeekTuple(ConstBytes frame, Tuple& out, bool& is_syn) noexcept;

}  // namespace ustcp
