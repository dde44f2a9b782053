#include "stack/host/icmp_limiter.h"

#include <algorithm>

namespace ustcp {
namespace {

constexpr int64_t kAllCostNs = 1'000'000;  // 1000 a second
constexpr int64_t kAllBurst = 50;
constexpr int64_t kPeerBurst = 6;

}  // namespace

bool IcmpLimiter::Take(Bucket& bucket, int64_t cost_ns, int64_t burst, int64_t now_ns) noexcept {
  const int64_t full = cost_ns * burst;
  if (!bucket.used) bucket = {true, full, now_ns};
  bucket.tokens_ns = std::min(full, bucket.tokens_ns + std::max<int64_t>(0, now_ns - bucket.last_ns));
  bucket.last_ns = now_ns;
  if (bucket.tokens_ns < cost_ns) return false;
  bucket.tokens_ns -= cost_ns;
  return true;
}

bool IcmpLimiter::Allow(const IpAddress& peer, Duration interval, Instant now) noexcept {
  const int64_t now_ns = NanosOf(now);
  if (!Take(all_, kAllCostNs, kAllBurst, now_ns)) return false;
  if (interval <= Duration::zero()) return true;
  uint32_t hash = 0;
  for (uint8_t b : peer.bytes) hash = (hash ^ b) * 16777619u;
  Peer& entry = peers_[(hash >> 16) % kPeers];
  if (entry.address != peer) entry = Peer{peer, {}};
  return Take(entry.bucket, ToNanos(interval), kPeerBurst, now_ns);
}

}  // namespace ustcp
