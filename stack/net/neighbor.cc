#include "stack/net/neighbor.h"

#include <cstring>
#include <limits>

#include "stack/host/host.h"
#include "stack/net/arp.h"
#include "stack/net/frames.h"
#include "stack/net/icmp_output.h"
#include "stack/net/ip.h"
#include "stack/net/ndisc.h"
#include "stack/wire/ethernet.h"
#include "stack/wire/ipv4.h"
#include "stack/wire/ipv6.h"

namespace ustcp {
namespace {

// Linux's defaults (net/ipv4/neigh/default/*), which are RFC 4861's section 10.
constexpr Duration kRetransTime = 1s;
constexpr Duration kDelayTime = 5s;
constexpr Duration kBaseReachableTime = 30s;
constexpr Duration kLockTime = 1s;
constexpr uint8_t kMaxProbes = 3;
constexpr int64_t kNeverNs = std::numeric_limits<int64_t>::max();
// How finely confirmations are kept: a store per second instead of one per ACK keeps the line shared among shards.
constexpr Duration kConfirmGrain = 1s;

uint64_t MacWord(const MacAddress& mac) {
  uint64_t word = 0;
  std::memcpy(&word, mac.data(), mac.size());
  return word | Neighbor::kMacValid;
}

MacAddress MacOf(uint64_t word) {
  MacAddress mac;
  std::memcpy(mac.data(), &word, mac.size());
  return mac;
}

uint32_t LoadGeneration(const Neighbor& n) { return __atomic_load_n(&n.generation, __ATOMIC_ACQUIRE); }

void Repair(NeighborTable& table) {
  for (Neighbor& n : table.entries) {
    if (n.kind != SlotKind::kNeighbor) continue;
    n.waiting_tail = nullptr;
    n.waiting_count = 0;
    for (Buf* b = n.waiting_head; b != nullptr; b = b->next) {
      n.waiting_tail = b;
      ++n.waiting_count;
    }
  }
  // Everybody's next look finds what is due.
  table.next_deadline_ns.store(0);
}

size_t HomeOf(const Host& host, const IpAddress& address) {
  uint64_t low, high;
  std::memcpy(&high, address.bytes.data(), 8);
  std::memcpy(&low, address.bytes.data() + 8, 8);
  // Keyed, so that nobody can aim many addresses at one window.
  const unsigned __int128 product =
      static_cast<unsigned __int128>(high ^ host.secrets.tuple_hash) * 0x9e3779b97f4a7c15u +
      static_cast<unsigned __int128>(low ^ ~host.secrets.tuple_hash) * 0xd6e8feb86659fd93u;
  return static_cast<size_t>(static_cast<uint64_t>(product >> 64) ^ static_cast<uint64_t>(product)) %
         NeighborTable::kEntries;
}

Neighbor* FindLocked(Host& host, const IpAddress& address) {
  const size_t home = HomeOf(host, address);
  for (size_t i = 0; i < NeighborTable::kWindow; ++i) {
    Neighbor& n = host.neighbors.entries[(home + i) % NeighborTable::kEntries];
    if (n.kind == SlotKind::kNeighbor && n.address == address) return &n;
  }
  return nullptr;
}

void SetDeadline(NeighborTable& table, Neighbor& n, Instant deadline) {
  n.deadline = deadline;
  if (NanosOf(deadline) < table.next_deadline_ns.load(std::memory_order_relaxed)) {
    table.next_deadline_ns.store(NanosOf(deadline), std::memory_order_relaxed);
  }
}

Buf* TakeWaiting(Neighbor& n) {
  Buf* head = n.waiting_head;
  n.waiting_head = n.waiting_tail = nullptr;
  n.waiting_count = 0;
  return head;
}

// Waiting frames are in no shard's pool: whoever takes them off the queue makes them its own.
void Drop(Context& ctx, Buf* frames) {
  while (frames != nullptr) {
    Buf* next = frames->next;
    ctx.shard.bufs.Join(frames);
    ctx.shard.bufs.Give(frames);
    frames = next;
  }
}

void Become(Context& ctx, Neighbor& n, Neighbor::State state) {
  n.state = state;
  n.probes = 0;
  switch (state) {
    case Neighbor::kReachable: {
      // RFC 4861 6.3.2: 0.5 to 1.5 times the base value.
      const int64_t base = ToNanos(kBaseReachableTime);
      n.reachable_time_ns = base / 2 + static_cast<int64_t>(ctx.Random() % 1024) * base / 1024;
      n.look_again_ns.store(n.confirmed_ns.load(std::memory_order_relaxed) + n.reachable_time_ns,
                            std::memory_order_relaxed);
      n.deadline = kNever;
      break;
    }
    case Neighbor::kDelay:
      n.look_again_ns.store(kNeverNs, std::memory_order_relaxed);
      SetDeadline(ctx.host.neighbors, n, ctx.now + kDelayTime);
      break;
    case Neighbor::kProbe:
    case Neighbor::kIncomplete: n.look_again_ns.store(kNeverNs, std::memory_order_relaxed); break;
    case Neighbor::kFailed:
      n.mac.store(0, std::memory_order_release);
      n.deadline = kNever;
      break;
    case Neighbor::kNone:
    case Neighbor::kStale:
      n.look_again_ns.store(0, std::memory_order_relaxed);
      n.deadline = kNever;
      break;
  }
}

// How willingly an entry is given up for another address; lower goes first. Addresses that nobody has confirmed go
// before those in use, so that a scan of the subnet cannot push the gateway out.
int Worth(const Neighbor& n) {
  switch (n.state) {
    case Neighbor::kNone:
    case Neighbor::kFailed: return 0;
    case Neighbor::kIncomplete: return 1;
    case Neighbor::kStale: return 2;
    default: return 3;
  }
}

Neighbor* AddLocked(Context& ctx, const IpAddress& address) {
  NeighborTable& table = ctx.host.neighbors;
  const size_t home = HomeOf(ctx.host, address);
  Neighbor* victim = nullptr;
  for (size_t i = 0; i < NeighborTable::kWindow; ++i) {
    Neighbor& n = table.entries[(home + i) % NeighborTable::kEntries];
    if (n.kind != SlotKind::kNeighbor) {
      victim = &n;
      break;
    }
    if (victim == nullptr || Worth(n) < Worth(*victim) || (Worth(n) == Worth(*victim) && n.used < victim->used)) {
      victim = &n;
    }
  }
  // Readers compare the generation after they read the MAC address: it changes first.
  __atomic_store_n(&victim->generation, victim->generation + 1, __ATOMIC_RELEASE);
  victim->mac.store(0, std::memory_order_release);
  if (victim->kind == SlotKind::kNeighbor) Drop(ctx, TakeWaiting(*victim));
  victim->address = address;
  victim->confirmed_ns.store(0, std::memory_order_relaxed);
  victim->updated = victim->used = ctx.now;
  victim->waiting_head = victim->waiting_tail = nullptr;
  victim->waiting_count = 0;
  Become(ctx, *victim, Neighbor::kNone);
  victim->kind = SlotKind::kNeighbor;
  return victim;
}

void SendProbe(Context& ctx, Neighbor& n) {
  ++n.probes;
  SetDeadline(ctx.host.neighbors, n, ctx.now + kRetransTime);
  IpAddress hint = n.address.is_v4() ? IpAddress::AnyV4() : IpAddress::AnyV6();
  if (n.waiting_head != nullptr) {
    const std::byte* ip = n.waiting_head->begin() + kEthernetHeaderBytes;
    if (n.waiting_head->length >= kEthernetHeaderBytes + kIpv6HeaderBytes) {
      hint = n.address.is_v4() ? IpAddress::FromV4Bytes(ip + 12) : IpAddress::FromV6Bytes(ip + 8);
    }
  }
  std::optional<MacAddress> unicast;
  if (n.state == Neighbor::kProbe) unicast = MacOf(n.mac.load(std::memory_order_relaxed));
  if (n.address.is_v4()) {
    SendArpRequest(ctx, n.address, hint, unicast);
  } else {
    SendNeighborSolicitation(ctx, n.address, hint, unicast);
  }
}

// What sending through an entry whose address is known does to its state.
void NoteUse(Context& ctx, Neighbor& n) {
  const int64_t now = NanosOf(ctx.now);
  if (n.state == Neighbor::kReachable) {
    const int64_t good_until = n.confirmed_ns.load(std::memory_order_relaxed) + n.reachable_time_ns;
    if (now <= good_until) {
      n.look_again_ns.store(good_until, std::memory_order_relaxed);
      return;
    }
    Become(ctx, n, Neighbor::kDelay);
  } else if (n.state == Neighbor::kStale) {
    Become(ctx, n, Neighbor::kDelay);
  }
}

void Release(Context& ctx, Buf* frames, const MacAddress& mac) {
  while (frames != nullptr) {
    Buf* next = frames->next;
    ctx.shard.bufs.Join(frames);
    SetDestination(frames, mac);
    QueueFrame(ctx, frames);
    frames = next;
  }
}

}  // namespace

NeighborLock::NeighborLock(NeighborTable& table) noexcept : table_(table) {
  if (table.lock.Lock() != LockResult::kOwnerDied) return;
  Repair(table);
  table.lock.MarkConsistent();
}

bool AttachNeighbor(Context& ctx, const IpAddress& address, Path& path) noexcept {
  NeighborLock guard(ctx.host.neighbors);
  Neighbor* n = FindLocked(ctx.host, address);
  if (n == nullptr) n = AddLocked(ctx, address);
  n->used = ctx.now;
  path.neighbor = n;
  path.neighbor_generation = n->generation;
  return true;
}

std::optional<MacAddress> NeighborMac(Context& ctx, const Path& path) noexcept {
  Neighbor& n = *path.neighbor;
  const uint64_t word = n.mac.load(std::memory_order_acquire);
  if ((word & Neighbor::kMacValid) == 0) return std::nullopt;
  if (LoadGeneration(n) != path.neighbor_generation) return std::nullopt;
  if (NanosOf(ctx.now) > n.look_again_ns.load(std::memory_order_relaxed)) {
    NeighborLock guard(ctx.host.neighbors);
    if (LoadGeneration(n) == path.neighbor_generation) NoteUse(ctx, n);
  }
  return MacOf(word);
}

bool WaitForNeighbor(Context& ctx, const Path& path, Buf* frame) noexcept {
  Neighbor& n = *path.neighbor;
  NeighborLock guard(ctx.host.neighbors);
  if (n.generation != path.neighbor_generation) {
    ctx.shard.bufs.Give(frame);
    return false;
  }
  frame->next = nullptr;
  ctx.shard.bufs.Part(frame, kHostOwner);
  const uint64_t word = n.mac.load(std::memory_order_relaxed);
  if ((word & Neighbor::kMacValid) != 0) {
    NoteUse(ctx, n);
    Release(ctx, frame, MacOf(word));
    return true;
  }
  if (n.waiting_count >= kMaxWaitingFrames) {
    Buf* oldest = n.waiting_head;
    n.waiting_head = oldest->next;
    --n.waiting_count;
    oldest->next = nullptr;
    Drop(ctx, oldest);
  }
  // In this order the list is whole from its head on at every moment (see Repair).
  if (n.waiting_head == nullptr) {
    n.waiting_head = frame;
  } else {
    n.waiting_tail->next = frame;
  }
  n.waiting_tail = frame;
  ++n.waiting_count;
  if (n.state != Neighbor::kIncomplete) {
    Become(ctx, n, Neighbor::kIncomplete);
    SendProbe(ctx, n);
  }
  return true;
}

void OnNeighborNews(Context& ctx, const NeighborNews& news) noexcept {
  NeighborLock guard(ctx.host.neighbors);
  Neighbor* n = FindLocked(ctx.host, news.address);
  if (n == nullptr) {
    if (!news.create || !news.mac) return;
    n = AddLocked(ctx, news.address);
  }
  const uint64_t known = n->mac.load(std::memory_order_relaxed);
  const bool valid = (known & Neighbor::kMacValid) != 0;
  if (!news.mac && !valid) return;
  const uint64_t word = news.mac ? MacWord(*news.mac) : known;
  if (valid && word != known) {
    const bool may_override = news.override_mac || (news.override_when_old && ctx.now > n->updated + kLockTime);
    if (!may_override) {
      if (news.weaken_on_conflict && n->state == Neighbor::kReachable) Become(ctx, *n, Neighbor::kStale);
      return;
    }
  } else if (valid && !news.reachable) {
    // Nothing new: hearsay does not change the state.
    return;
  }
  if (news.reachable) n->confirmed_ns.store(NanosOf(ctx.now), std::memory_order_relaxed);
  n->updated = ctx.now;
  n->mac.store(word, std::memory_order_release);
  Become(ctx, *n, news.reachable ? Neighbor::kReachable : Neighbor::kStale);
  if (n->waiting_head == nullptr) return;
  NoteUse(ctx, *n);
  Release(ctx, TakeWaiting(*n), MacOf(word));
}

void ConfirmPath(Context& ctx, const Path& path) noexcept {
  if (path.neighbor == nullptr) return;
  Neighbor& n = *path.neighbor;
  const int64_t now = NanosOf(ctx.now);
  if (now - n.confirmed_ns.load(std::memory_order_relaxed) < ToNanos(kConfirmGrain)) return;
  if (LoadGeneration(n) != path.neighbor_generation) return;
  n.confirmed_ns.store(now, std::memory_order_relaxed);
}

void NeighborTimers(Context& ctx) noexcept {
  NeighborTable& table = ctx.host.neighbors;
  const int64_t now = NanosOf(ctx.now);
  if (now < table.next_deadline_ns.load(std::memory_order_relaxed)) return;

  Buf* failed = nullptr;
  Buf** failed_end = &failed;
  {
    NeighborLock guard(table);
    table.next_deadline_ns.store(kNeverNs, std::memory_order_relaxed);
    for (Neighbor& n : table.entries) {
      if (n.kind != SlotKind::kNeighbor || n.deadline == kNever) continue;
      if (n.deadline > ctx.now) {
        SetDeadline(table, n, n.deadline);
        continue;
      }
      const int64_t since_confirmed = now - n.confirmed_ns.load(std::memory_order_relaxed);
      if (n.state == Neighbor::kDelay || n.state == Neighbor::kProbe) {
        // RFC 4861 7.3.3: progress above (an ACK for something new) spares the question.
        const Duration recent = n.state == Neighbor::kDelay ? kDelayTime : kRetransTime + kConfirmGrain;
        if (since_confirmed <= ToNanos(recent)) {
          Become(ctx, n, Neighbor::kReachable);
          continue;
        }
        if (n.state == Neighbor::kDelay) Become(ctx, n, Neighbor::kProbe);
      }
      if (n.probes < kMaxProbes) {
        SendProbe(ctx, n);
        continue;
      }
      Become(ctx, n, Neighbor::kFailed);
      *failed_end = TakeWaiting(n);
      while (*failed_end != nullptr) failed_end = &(*failed_end)->next;
    }
  }
  // Without the table's lock: TCP may want to send.
  while (failed != nullptr) {
    Buf* next = failed->next;
    ctx.shard.bufs.Join(failed);
    ReportUnreachable(ctx, failed);
    failed = next;
  }
}

void AnnounceAddresses(Context& ctx) noexcept {
  AnnounceIpv4(ctx);
  AnnounceIpv6(ctx);
}

}  // namespace ustcp
