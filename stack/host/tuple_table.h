// The host-wide table of connections, half-open ones and TIME_WAIT entries by four-tuple. Lookups take no lock: nodes are
// slots of type-stable memory, a stripe's version tells a reader that missed whether it must look again, and what was
// found is only a hint until the caller holds the lock of the node's shard and has compared the tuple again.
#pragma once

#include <atomic>
#include <cstdint>

#include "stack/base/address.h"
#include "stack/mem/slot_pool.h"
#include "stack/sync/robust_mutex.h"

namespace ustcp {

// The common head of Connection, HalfOpen and TimeWait.
struct TupleNode : SlotHeader {
  Tuple tuple;
  uint32_t hash = 0;
  bool hashed = false;
  std::atomic<TupleNode*> hash_next{nullptr};
};

class TupleTable {
 public:
  static constexpr uint32_t kBuckets = 1u << 18;
  static constexpr uint32_t kStripes = 256;

  void Init(uint64_t secret) noexcept;
  uint32_t Hash(const Tuple& t) const noexcept;
  // Null when absent.
  TupleNode* Find(const Tuple& t, uint32_t hash) noexcept;
  // False when the tuple is taken already (by another live node).
  bool Insert(TupleNode& node) noexcept;
  void Remove(TupleNode& node) noexcept;
  // Puts `node` in the place of `old`, which has the same tuple, without a moment where neither is found.
  void Replace(TupleNode& old, TupleNode& node) noexcept;

 private:
  struct Stripe {
    RobustMutex lock;
    std::atomic<uint32_t> version;
  };
  class StripeGuard;
  TupleNode* FindOnce(const Tuple& t, uint32_t hash) noexcept;
  void Unlink(TupleNode& node) noexcept;

  uint64_t secret_;
  Stripe stripes_[kStripes];
  std::atomic<TupleNode*> buckets_[kBuckets];
};

}  // namespace ustcp
