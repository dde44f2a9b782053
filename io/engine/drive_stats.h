// Adds what an engine did since the last time to the statistics of the shard it did it for.
#pragma once

#include "io/engine/engine_types.h"
#include "stack/host/shard.h"

namespace ustcp {

// The caller holds the shard's lock. `last` is the engine's own: what was added up to now.
inline void AddEngineStats(Shard& shard, const EngineStats& now, EngineStats* last) noexcept {
  DriveStats& sum = shard.drive_stats;
  sum.frames_in += now.frames_in - last->frames_in;
  sum.frames_out += now.frames_out - last->frames_out;
  sum.bytes_in += now.bytes_in - last->bytes_in;
  sum.bytes_out += now.bytes_out - last->bytes_out;
  sum.ring_enters += now.ring_enters - last->ring_enters;
  sum.ring_frames_in += now.ring_frames_in - last->ring_frames_in;
  sum.ring_frames_out += now.ring_frames_out - last->ring_frames_out;
  sum.plain_reads += now.plain_reads - last->plain_reads;
  sum.plain_writes += now.plain_writes - last->plain_writes;
  sum.waits += now.waits - last->waits;
  *last = now;
}

}  // namespace ustcp
