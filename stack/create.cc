#include "stack/create.h"

#include <sodium/crypto_generichash.h>
#include <cstddef>
#include <cstring>

#include "stack/base/check.h"
#include "stack/socket/readiness.h"
#include "stack/socket/socket.h"
#include "stack/tcp/listener.h"
#include "stack/tcp/tcb.h"

namespace ustcp {
namespace {

constexpr uint64_t Mix(uint64_t h, uint64_t v) {
  h ^= v + 0x9e3779b97f4a7c15u + (h << 6) + (h >> 2);
  return h * 0xff51afd7ed558ccdu;
}

// Keys for every purpose from one seed: BLAKE2b keyed with the purpose's number.
void DeriveKey(const std::array<uint8_t, 32>& seed, uint8_t purpose, void* out, size_t bytes) {
  uint8_t digest[32];
  crypto_generichash(digest, sizeof digest, seed.data(), seed.size(), &purpose, 1);
  std::memcpy(out, digest, bytes);
}

void InitShard(Host& host, Shard& shard, uint16_t index, Instant now) {
  shard.index = index;
  shard.connections.Init(&host.spans, index);
  shard.half_opens.Init(&host.spans, index);
  shard.time_waits.Init(&host.spans, index);
  shard.tx_segments.Init(&host.spans, index);
  shard.sockets.Init(&host.spans, index);
  shard.listeners.Init(&host.spans, index);
  shard.epoll_sets.Init(&host.spans, index);
  shard.epoll_items.Init(&host.spans, index);
  shard.wait_entries.Init(&host.spans, index);
  shard.waiters.Init(&host.spans, index);
  shard.bufs.Init(&host.spans, index, &host.spare_bufs);
  shard.timers.Init(now);
  shard.transmit.Forget();
  shard.ready_frames_head = shard.ready_frames_tail = nullptr;
  shard.in_update = nullptr;
  shard.item_in_update = nullptr;
  shard.in_close = nullptr;
  shard.random_state = host.secrets.tuple_hash ^ (uint64_t{index} << 32) ^ static_cast<uint64_t>(NanosOf(now));
  if (shard.random_state == 0) shard.random_state = 1;
  shard.lock.Init();
}

}  // namespace

// Inheritance makes our records non-standard-layout; both supported compilers define offsetof for them all the same.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winvalid-offsetof"
uint64_t LayoutHash() noexcept {
  uint64_t h = kArenaMagic;
  for (uint64_t v : {sizeof(Host),
                     sizeof(Shard),
                     sizeof(Connection),
                     sizeof(HalfOpen),
                     sizeof(TimeWait),
                     sizeof(Socket),
                     sizeof(Listener),
                     sizeof(EpollSet),
                     sizeof(EpollItem),
                     sizeof(Waiter),
                     sizeof(TxSegment),
                     sizeof(Buf),
                     sizeof(BufPool),
                     sizeof(FdPage),
                     sizeof(ProcessSlot),
                     sizeof(HostConfig),
                     sizeof(Sysctls),
                     sizeof(Counters),
                     sizeof(Neighbor),
                     offsetof(Host, shards),
                     offsetof(Host, processes),
                     offsetof(Host, tuples),
                     offsetof(Shard, counters),
                     offsetof(Shard, timers),
                     offsetof(Connection, path),
                     offsetof(Socket, options),
                     kSpanBytes,
                     static_cast<size_t>(kMaxShards)})
    h = Mix(h, v);
  // Counter and sysctl names: a table that was reordered without changing its size must not pass either.
  for (const auto& c : kCounterTable)
    for (const char* p = c.name; *p != 0; ++p) h = Mix(h, static_cast<uint8_t>(*p));
  for (const auto& s : kSysctlTable)
    for (const char* p = s.name; *p != 0; ++p) h = Mix(h, static_cast<uint8_t>(*p));
  return h;
}
#pragma GCC diagnostic pop

size_t MinimumArenaBytes() noexcept { return sizeof(Host) + 64 * kSpanBytes; }

Host* CreateHost(void* memory, size_t bytes, const HostConfig& config, const Sysctls& sysctls,
                 const std::array<uint8_t, 32>& seed, Instant now) noexcept {
  if (bytes < MinimumArenaBytes()) return nullptr;
  // The memory is zeroed and mostly untouched: every member is set where zero is not its initial value.
  auto* host = static_cast<Host*>(memory);
  host->config = config;
  host->sysctls = sysctls;
  host->arena_bytes = bytes;
  host->created_ns = NanosOf(now);
  host->layout_hash = LayoutHash();
  DeriveKey(seed, 1, host->secrets.isn.data(), 16);
  DeriveKey(seed, 2, host->secrets.timestamp.data(), 16);
  DeriveKey(seed, 3, host->secrets.port.data(), 16);
  DeriveKey(seed, 4, host->secrets.cookie[0].data(), 16);
  DeriveKey(seed, 5, host->secrets.cookie[1].data(), 16);
  DeriveKey(seed, 6, &host->secrets.tuple_hash, sizeof host->secrets.tuple_hash);
  auto* base = static_cast<std::byte*>(memory);
  host->spans.Init(base + sizeof(Host), base + bytes);
  host->host_lock.Init();
  host->next_inode.store(1);
  host->fd_pages.Init(&host->spans, kHostOwner);
  for (auto& stripe : host->watch_stripes) stripe.Init();
  host->neighbors.lock.Init();
  host->neighbors.next_deadline_ns.store(NanosOf(kNever));
  host->ports.Init();
  host->tuples.Init(host->secrets.tuple_hash);
  std::atomic_ref(host->magic).store(kArenaMagic, std::memory_order_release);
  return host;
}

Shard* TakeShard(Host& host, uint16_t process, Instant now) noexcept {
  for (uint16_t i = 0; i < kMaxShards; ++i) {
    Shard& shard = host.shards[i];
    if (shard.state.load() != Shard::kFree) continue;
    // random_state tells whether the slot was ever laid out; a used one keeps its pools' memory. The lowest free one is
    // taken, so one that never was laid out is followed by none that was: scans end there and leave its pages untouched.
    if (shard.random_state == 0) InitShard(host, shard, i, now);
    shard.process = process;
    shard.leader.store(0);
    shard.leader_waiter.store(nullptr);
    shard.leader_until_ns.store(INT64_MIN);
    shard.others_at_ns.store(0);
    shard.has_queue.store(false);
    shard.next_deadline_ns.store(NanosOf(kNever));
    shard.last_turn_ns.store(NanosOf(now));
    shard.state.store(Shard::kInUse);
    return &shard;
  }
  return nullptr;
}

}  // namespace ustcp
