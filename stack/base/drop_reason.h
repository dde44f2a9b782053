// DropReason: why a received frame went no further. Peer errors travel as these values and end up in counters and
// traces.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ustcp {

enum class DropReason : uint8_t {
#define USTCP_DROP_REASON(enumerator, name) enumerator,
#include "stack/base/drop_reason.def"
#undef USTCP_DROP_REASON
};

#define USTCP_DROP_REASON(enumerator, name) +1
inline constexpr size_t kDropReasonCount = 0
#include "stack/base/drop_reason.def"
    ;
#undef USTCP_DROP_REASON

// A static string; "unknown" for a value outside the enumeration (a damaged trace record).
constexpr const char* DropReasonName(DropReason reason) {
  switch (reason) {
#define USTCP_DROP_REASON(enumerator, name) \
  case DropReason::enumerator:              \
    return name;
#include "stack/base/drop_reason.def"
#undef USTCP_DROP_REASON
  }
  return "unknown";
}

}  // namespace ustcp
