#include "stack/host/tuple_table.h"

#include <cstring>

#include "stack/base/fault.h"

namespace ustcp {

// A holder that died between two stores leaves at worst a node that is linked but marked otherwise, which the repair of
// its shard removes; the chain itself is always walkable, so the stripe needs no repair of its own.
class TupleTable::StripeGuard {
 public:
  StripeGuard(TupleTable& table, uint32_t hash) noexcept : stripe_(table.stripes_[hash % kStripes]) {
    if (stripe_.lock.Lock() == LockResult::kOwnerDied) {
      // Odd only while it is held: readers would look again for ever.
      if ((stripe_.version.load() & 1) != 0) stripe_.version.fetch_add(1);
      stripe_.lock.MarkConsistent();
    }
    stripe_.version.fetch_add(1);
    USTCP_FAULT_POINT();
  }
  ~StripeGuard() {
    USTCP_FAULT_POINT();
    stripe_.version.fetch_add(1);
    stripe_.lock.Unlock();
  }

 private:
  Stripe& stripe_;
};

void TupleTable::Init(uint64_t secret) noexcept {
  secret_ = secret | 1;
  for (auto& s : stripes_) {
    s.lock.Init();
    s.version.store(0, std::memory_order_relaxed);
  }
}

uint32_t TupleTable::Hash(const Tuple& t) const noexcept {
  // Multiply-and-fold over 64-bit words with a secret start: enough against chosen tuples, cheap per segment.
  auto mix = [](uint64_t a, uint64_t b) {
    unsigned __int128 m = static_cast<unsigned __int128>(a) * b;
    return static_cast<uint64_t>(m) ^ static_cast<uint64_t>(m >> 64);
  };
  uint64_t l[2], p[2];
  std::memcpy(l, t.local.address.bytes.data(), 16);
  std::memcpy(p, t.peer.address.bytes.data(), 16);
  uint64_t ports = (uint64_t{t.local.port} << 16) | t.peer.port;
  uint64_t h = mix(l[0] ^ secret_, l[1] ^ 0x9e3779b97f4a7c15u);
  h = mix(h ^ p[0], p[1] ^ secret_);
  h = mix(h ^ ports, 0xd6e8feb86659fd93u ^ secret_);
  return static_cast<uint32_t>(h ^ (h >> 32));
}

TupleNode* TupleTable::FindOnce(const Tuple& t, uint32_t hash) noexcept {
  TupleNode* node = buckets_[hash % kBuckets].load(std::memory_order_acquire);
  // The bound stops a walk that a re-used slot led astray; the caller's version check makes it look again.
  for (int steps = 0; node != nullptr && steps < 100000; ++steps) {
    if (node->hash == hash && node->kind != SlotKind::kFree && node->tuple == t) return node;
    node = node->hash_next.load(std::memory_order_acquire);
  }
  return nullptr;
}

TupleNode* TupleTable::Find(const Tuple& t, uint32_t hash) noexcept {
  Stripe& stripe = stripes_[hash % kStripes];
  for (int attempt = 0; attempt < 3; ++attempt) {
    uint32_t before = stripe.version.load();
    TupleNode* found = FindOnce(t, hash);
    if (found != nullptr) return found;
    if ((before & 1) == 0 && stripe.version.load() == before) return nullptr;
  }
  StripeGuard guard(*this, hash);
  return FindOnce(t, hash);
}

bool TupleTable::Insert(TupleNode& node) noexcept {
  StripeGuard guard(*this, node.hash);
  if (FindOnce(node.tuple, node.hash) != nullptr) return false;
  auto& bucket = buckets_[node.hash % kBuckets];
  node.hash_next.store(bucket.load(std::memory_order_relaxed), std::memory_order_relaxed);
  node.hashed = true;  // first: what is in a chain is marked so, and its slot is not given back before it is taken out
  USTCP_FAULT_POINT();
  bucket.store(&node, std::memory_order_release);
  return true;
}

void TupleTable::Unlink(TupleNode& node) noexcept {
  std::atomic<TupleNode*>* link = &buckets_[node.hash % kBuckets];
  for (TupleNode* n = link->load(); n != nullptr; n = link->load()) {
    if (n == &node) {
      link->store(node.hash_next.load(), std::memory_order_release);
      USTCP_FAULT_POINT();
      break;
    }
    link = &n->hash_next;
  }
  node.hashed = false;
}

void TupleTable::Remove(TupleNode& node) noexcept {
  if (!node.hashed) return;
  StripeGuard guard(*this, node.hash);
  Unlink(node);
}

void TupleTable::Replace(TupleNode& old, TupleNode& node) noexcept {
  StripeGuard guard(*this, old.hash);
  auto& bucket = buckets_[old.hash % kBuckets];
  node.hash = old.hash;
  node.hash_next.store(bucket.load(std::memory_order_relaxed), std::memory_order_relaxed);
  node.hashed = true;
  USTCP_FAULT_POINT();
  bucket.store(&node, std::memory_order_release);
  USTCP_FAULT_POINT();
  Unlink(old);
}

}  // namespace ustcp
