// An arena whose keeper died lives on in its members. A keeper that starts anew finds it by what the last one put on record.
#pragma once

#include <cstdint>

#include "io/member/arena_map.h"

namespace ustcp::keeper {

void RecordArena(const char* path, const ArenaIdentity& arena);

// The arena that a keeper of this host left behind: a descriptor, opened through a process that still has it; -1 when there
// is none. `path` is the file RecordArena wrote; the arena belongs to the driver's user, for nobody else can make such a file.
int FindAbandonedArena(const char* path, uint32_t driver_uid);

}  // namespace ustcp::keeper
