// Protection against wrapped sequence numbers (RFC 7323 5), with Linux's allowances.
#pragma once

#include <cstdint>

#include "stack/time/time.h"

namespace ustcp {

inline constexpr uint32_t kPawsTimestampLife =
    24 * 24 * 60 * 60;                         // s after which an idle connection's TS.Recent is void
inline constexpr uint32_t kPawsResetAge = 60;  // s after which a RST is believed in any case

inline uint32_t SecondsOf(Instant t) {
  return static_cast<uint32_t>(std::chrono::duration_cast<std::chrono::seconds>(t.time_since_epoch()).count());
}

// True when `value` may follow `recent`. `slack`: how many ms it may lie behind.
inline bool PawsAccepts(uint32_t recent, uint32_t recent_age_s, uint32_t value, Instant now, int32_t slack) {
  if (static_cast<int32_t>(recent - value) <= slack) return true;
  if (SecondsOf(now) - recent_age_s >= kPawsTimestampLife) return true;
  return recent == 0;  // peers that send zero in their SYN
}

inline bool PawsRejects(uint32_t recent, uint32_t recent_age_s, uint32_t value, Instant now, bool rst) {
  if (PawsAccepts(recent, recent_age_s, value, now, 0)) return false;
  return !(rst && SecondsOf(now) - recent_age_s >= kPawsResetAge);
}

}  // namespace ustcp
