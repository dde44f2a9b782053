// The buffers of a shard, wherever they lie: a Buf may change pools (BufPool::Part), so those that belong to one shard's
// pool are spread over the spans of all.
#pragma once

#include "stack/host/host.h"

namespace ustcp {

// Calls visit(Buf&) for every buffer, free or taken. Those of a pool whose lock the caller does not hold may change under
// its eyes.
template <typename Visit>
void ForEachBuf(Host& host, Visit&& visit) {
  for (auto& shard : host.shards) {
    if (shard.random_state == 0) continue;  // never laid out
    for (SpanHeader* span = shard.bufs.spans(); span != nullptr; span = OlderSpan(span)) {
      const size_t stride = span->slot_bytes;
      for (uint32_t i = 0, slots = SlotsIn(*span, stride); i < slots; ++i)
        visit(*reinterpret_cast<Buf*>(reinterpret_cast<uintptr_t>(span) + kSpanHeaderBytes + size_t{i} * stride));
    }
  }
}

// The same for those that belong to the pool of shard number `pool` now. Requires: that shard's lock.
template <typename Visit>
void ForEachBufOf(Host& host, uint32_t pool, Visit&& visit) {
  ForEachBuf(host, [&visit, pool](Buf& b) {
    if (b.pool == pool) visit(b);
  });
}

}  // namespace ustcp
