// How a host and its shards come to be, in memory that all members map.
#pragma once

#include "stack/host/host.h"

namespace ustcp {

// A number that changes whenever the layout of anything in the arena does.
uint64_t LayoutHash() noexcept;

// Lays out a host in zeroed memory of `bytes`. `seed` is 32 random bytes. Returns null when the memory is too small.
Host* CreateHost(void* memory, size_t bytes, const HostConfig& config, const Sysctls& sysctls,
                 const std::array<uint8_t, 32>& seed, Instant now) noexcept;

// The least memory CreateHost accepts; most of it stays untouched in a sparse mapping.
size_t MinimumArenaBytes() noexcept;

// Takes a free shard (initialising it on first use), or null when all are taken. Caller holds host_lock.
Shard* TakeShard(Host& host, uint16_t process, Instant now) noexcept;

}  // namespace ustcp
