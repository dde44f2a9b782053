// The sysctls of a host: generated from sysctl.def, kept in the arena, read without a lock (each value is one word).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace ustcp {

// One number of a sysctl. The tools check what is written, but every member of a host can store into the word itself:
// whoever reads it gets a number within its bounds, whatever it holds. Negative numbers are only kept for the sake of the
// kernel, which takes them where it means nothing by them; they read as 0.
template <int64_t kMin, int64_t kMax>
class SysctlWord {
 public:
  using Value = std::conditional_t<(kMax > INT32_MAX), uint32_t, int32_t>;

  explicit constexpr SysctlWord(int64_t value) noexcept : bits_(static_cast<uint32_t>(value)) {}
  SysctlWord& operator=(int64_t value) noexcept {
    __atomic_store_n(&bits_, static_cast<uint32_t>(value), __ATOMIC_RELAXED);
    return *this;
  }
  operator Value() const noexcept {
    constexpr auto kLeast = static_cast<Value>(std::max<int64_t>(kMin, 0));
    constexpr auto kMost = static_cast<Value>(kMax);
    auto value = static_cast<Value>(__atomic_load_n(&bits_, __ATOMIC_RELAXED));
    return value < kLeast ? kLeast : value > kMost ? kMost : value;
  }

 private:
  uint32_t bits_;
};

struct Sysctls {
#define SYSCTL(group, name, def, lo, hi, doc) SysctlWord<lo, hi> name{def};
#define SYSCTL2(group, name, d0, d1, lo, hi, doc) \
  SysctlWord<lo, hi> name[2] = {SysctlWord<lo, hi>{d0}, SysctlWord<lo, hi>{d1}};
#define SYSCTL3(group, name, d0, d1, d2, lo, hi, doc) \
  SysctlWord<lo, hi> name[3] = {SysctlWord<lo, hi>{d0}, SysctlWord<lo, hi>{d1}, SysctlWord<lo, hi>{d2}};
#include "stack/base/sysctl.def"
#undef SYSCTL
#undef SYSCTL2
#undef SYSCTL3
};
static_assert(std::is_trivially_copyable_v<Sysctls> && std::is_standard_layout_v<Sysctls>);

struct SysctlInfo {
  const char* group;  // "net_ipv4": the path is net/ipv4/NAME
  const char* name;
  size_t offset;     // into Sysctls
  int count;         // 1, 2 or 3 values
  int64_t min, max;  // of what may be written; a maximum above INT32_MAX: the word is unsigned
  const char* doc;
};

inline constexpr SysctlInfo kSysctlTable[] = {
#define SYSCTL(group, name, def, lo, hi, doc) {#group, #name, offsetof(Sysctls, name), 1, lo, hi, doc},
#define SYSCTL2(group, name, d0, d1, lo, hi, doc) {#group, #name, offsetof(Sysctls, name), 2, lo, hi, doc},
#define SYSCTL3(group, name, d0, d1, d2, lo, hi, doc) {#group, #name, offsetof(Sysctls, name), 3, lo, hi, doc},
#include "stack/base/sysctl.def"
#undef SYSCTL
#undef SYSCTL2
#undef SYSCTL3
};

struct PortRange {
  uint16_t first;
  uint16_t last;  // included; not below first
};

// ip_local_port_range. No check keeps two words that are stored singly in order: a range that is turned round counts as the
// one port it begins with.
inline PortRange EphemeralPorts(const Sysctls& sysctls) noexcept {
  int32_t first = sysctls.ip_local_port_range[0];
  int32_t last = sysctls.ip_local_port_range[1];
  return {static_cast<uint16_t>(first), static_cast<uint16_t>(std::max(first, last))};
}

}  // namespace ustcp
