// Initial sequence numbers (RFC 6528: a clock plus a keyed hash of the four-tuple) and timestamp offsets (one per pair of
// addresses, so that PAWS and TIME_WAIT reuse see monotonic values from one host).
#pragma once

#include "stack/base/address.h"
#include "stack/base/seq.h"
#include "stack/time/time.h"

namespace ustcp {

struct Host;

Seq ChooseIss(const Host& host, const Tuple& tuple, Instant now) noexcept;
uint32_t ChooseTimestampOffset(const Host& host, const Tuple& tuple) noexcept;

// The timestamp clock of RFC 7323: milliseconds, wrapping after 49 days.
constexpr uint32_t TimestampClock(Instant now, uint32_t offset) {
  return static_cast<uint32_t>(static_cast<uint64_t>(ToMillis(now.time_since_epoch()))) + offset;
}

}  // namespace ustcp
