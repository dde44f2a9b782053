// How many ICMP errors may leave, per shard: Linux's limits, a bucket for everything (icmp_msgs_per_sec 1000, burst 50)
// and one per peer (one per icmp_ratelimit, burst 6).
#pragma once

#include <cstdint>

#include "stack/base/address.h"
#include "stack/time/time.h"

namespace ustcp {

// All-zero memory is a full set of buckets.
class IcmpLimiter {
 public:
  // Takes what one error to `peer` costs. `interval`: icmp_ratelimit; zero means no limit per peer.
  bool Allow(const IpAddress& peer, Duration interval, Instant now) noexcept;

 private:
  // Peers share a bucket by hash: the loser's history is forgotten, the total stays bounded by the other bucket.
  static constexpr int kPeers = 64;
  struct Bucket {
    bool used;
    int64_t tokens_ns;
    int64_t last_ns;
  };
  static bool Take(Bucket& bucket, int64_t cost_ns, int64_t burst, int64_t now_ns) noexcept;

  struct Peer {
    IpAddress address;
    Bucket bucket;
  } peers_[kPeers];
  Bucket all_;
};

}  // namespace ustcp
