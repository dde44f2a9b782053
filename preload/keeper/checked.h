// Pointers and numbers that the driver finds in the arena. A member that runs wild writes there what it likes: what is checked
// here costs the driver nothing and keeps most of it from being the end of the host. Behind a checked pointer may still
// stand anything; a driver that dies of it is replaced by its broker.
#pragma once

#include <cstdint>

#include "stack/host/host.h"

namespace ustcp::keeper {

// As mapped; what the arena itself says of its size counts for nothing.
void SetArenaBytes(uint64_t bytes);
uint64_t ArenaBytes();

inline bool LaidOut(const Shard& shard) { return shard.random_state != 0; }

// Whether a T may lie there: inside the arena, aligned, behind the host, of the right kind and of a shard that there is.
template <typename T>
T* Checked(Host& host, const void* at) {
  constexpr uint64_t kSlotAlignment = 64;
  auto address = reinterpret_cast<uint64_t>(at);
  if (address % kSlotAlignment != 0 || address < kArenaBase + sizeof(Host) ||
      address > kArenaBase + ArenaBytes() - sizeof(T))
    return nullptr;
  auto* object = reinterpret_cast<T*>(address);
  if (object->kind != T::kSlotKind || object->shard >= kMaxShards || !LaidOut(host.shards[object->shard]))
    return nullptr;
  return object;
}

}  // namespace ustcp::keeper
