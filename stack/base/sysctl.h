// The sysctls of a host: generated from sysctl.def, kept in the arena, read without a lock (each value is one word).
#pragma once

#include <cstddef>
#include <cstdint>

namespace ustcp {

struct Sysctls {
#define SYSCTL(group, name, def, lo, hi, doc) int32_t name = def;
#define SYSCTL2(group, name, d0, d1, lo, hi, doc) int32_t name[2] = {d0, d1};
#define SYSCTL3(group, name, d0, d1, d2, lo, hi, doc) int32_t name[3] = {d0, d1, d2};
#include "stack/base/sysctl.def"
#undef SYSCTL
#undef SYSCTL2
#undef SYSCTL3
};

struct SysctlInfo {
  const char* group;  // "net_ipv4": the path is net/ipv4/NAME
  const char* name;
  size_t offset;  // into Sysctls
  int count;      // 1, 2 or 3 values
  int32_t min, max;
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

}  // namespace ustcp
