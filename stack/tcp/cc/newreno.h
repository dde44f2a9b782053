// Reno's window rules (RFC 5681 3.1): one segment per segment acknowledged in slow start, one per window afterwards, half
// on loss.
#pragma once

#include <cstdint>

namespace ustcp {

struct Sender;

void RenoOnAck(Sender& s, uint32_t acked) noexcept;
uint32_t RenoSsthresh(const Sender& s) noexcept;

}  // namespace ustcp
