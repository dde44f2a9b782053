// The sender's surroundings inside a shard.
#pragma once

#include "stack/host/host.h"
#include "stack/tcp/recovery/sender.h"

namespace ustcp {

inline SenderEnv EnvOf(Context& ctx) noexcept {
  return {ctx.shard.tx_segments, ctx.shard.counters, ctx.host.sysctls, ctx.now};
}

}  // namespace ustcp
