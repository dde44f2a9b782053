// Counters under the kernel's names. Each shard has its own set (guarded by its lock); readers add the shards up.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace ustcp {

enum class Counter : uint16_t {
#define COUNTER(group, name) k##group##name,
#include "stack/base/counters.def"
#undef COUNTER
  kCount
};

struct CounterInfo {
  const char* group;
  const char* name;
};

inline constexpr CounterInfo kCounterTable[] = {
#define COUNTER(group, name) {#group, #name},
#include "stack/base/counters.def"
#undef COUNTER
};

struct Counters {
  std::array<uint64_t, static_cast<size_t>(Counter::kCount)> values{};
  void Add(Counter c, uint64_t n = 1) { values[static_cast<size_t>(c)] += n; }
  void Subtract(Counter c, uint64_t n = 1) { values[static_cast<size_t>(c)] -= n; }
  uint64_t Get(Counter c) const { return values[static_cast<size_t>(c)]; }
};

}  // namespace ustcp
