// The congestion control algorithms there are, and their names in TCP_CONGESTION.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string_view>

namespace ustcp {

enum class CcKind : uint8_t { kReno = 0, kCubic = 1 };
inline constexpr const char* kCcNames[] = {"reno", "cubic"};

inline const char* CcName(CcKind kind) { return kCcNames[static_cast<size_t>(kind) % std::size(kCcNames)]; }

// False when there is no algorithm of that name.
inline bool CcFromName(std::string_view name, CcKind& kind) {
  for (size_t i = 0; i < std::size(kCcNames); ++i) {
    if (name != kCcNames[i]) continue;
    kind = static_cast<CcKind>(i);
    return true;
  }
  return false;
}

}  // namespace ustcp
