// The network layer's deadlines: the neighbours' are the host's, the datagrams' the shard's.
#include <algorithm>

#include "stack/host/host.h"
#include "stack/net/ip.h"
#include "stack/net/neighbor.h"
#include "stack/net/reassembly.h"

namespace ustcp {

Instant NetNextDeadline(Context& ctx) noexcept {
  const Instant neighbors = InstantFromNanos(ctx.host.neighbors.next_deadline_ns.load(std::memory_order_relaxed));
  return std::min(neighbors, ReassemblyDeadline(ctx.shard.reassembly));
}

void NetOnDeadline(Context& ctx) noexcept {
  NeighborTimers(ctx);
  ExpireDatagrams(ctx);
}

}  // namespace ustcp
