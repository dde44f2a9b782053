#include "preload/keeper/cleanup.h"

#include <algorithm>

#include "preload/keeper/checked.h"
#include "stack/host/bufs.h"
#include "stack/socket/readiness.h"
#include "stack/socket/socket.h"
#include "stack/socket/socket_ops.h"
#include "stack/stack.h"
#include "stack/tcp/listener.h"

namespace ustcp::keeper {

namespace {

Socket* CheckedSocket(Host& host, uint64_t bits) {
  return FdEntry::KindOf(bits) == FdEntry::kSocket ? Checked<Socket>(host, FdEntry::ObjectOf(bits)) : nullptr;
}

EpollSet* CheckedEpoll(Host& host, uint64_t bits) {
  return FdEntry::KindOf(bits) == FdEntry::kEpoll ? Checked<EpollSet>(host, FdEntry::ObjectOf(bits)) : nullptr;
}

// A page is the host's and no shard's.
FdPage* CheckedPage(FdPage* page) {
  auto address = reinterpret_cast<uint64_t>(page);
  bool inside = address % 64 == 0 && address >= kArenaBase + sizeof(Host) &&
                address <= kArenaBase + ArenaBytes() - sizeof(FdPage);
  return inside && page->kind == FdPage::kSlotKind ? page : nullptr;
}

// Descriptors of all processes that stand for the object, and the other holders of a socket.
uint32_t CountReferences(Host& host, uint64_t bits) {
  uint32_t count = 0;
  for (ProcessSlot& process : host.processes) {
    if (NeverUsed(process)) break;
    if (process.state.load() == ProcessSlot::kFree) continue;
    for (auto& at : process.pages)
      if (FdPage* page = CheckedPage(at.load()))
        count += static_cast<uint32_t>(
            std::count_if(std::begin(page->entries), std::end(page->entries),
                          [bits](const std::atomic<uint64_t>& entry) { return entry.load() == bits; }));
  }
  const Socket* socket = CheckedSocket(host, bits);
  if (socket != nullptr && socket->parent != nullptr) ++count;  // waits to be accepted
  return count;
}

// Another live process is changing its references to the same object: its count cannot be told now.
bool ChangedByOthers(Host& host, uint64_t bits, uint16_t slot) {
  for (uint16_t i = 0; i < kMaxProcesses && !NeverUsed(host.processes[i]); ++i) {
    uint32_t state = host.processes[i].state.load();
    if (i != slot && (state == ProcessSlot::kLive || state == ProcessSlot::kForking) &&
        host.processes[i].intent.load() == bits)
      return true;
  }
  return false;
}

void FlushWakes(Context& ctx, Wakes& wakes) {
  ctx.wakes.Flush([&wakes](Waiter& waiter) { wakes.Wake(waiter); });
}

// What a closed connection has to say leaves with the next turn of whoever sleeps on its shard; without one, with ours.
void HaveItSent(Context& ctx) {
  Waiter* leader = Checked<Waiter>(ctx.host, ctx.shard.leader_waiter.load());
  if (HasOutput(ctx.shard) && leader != nullptr && leader->Signal()) ctx.wakes.Add(*leader);
}

// Gives back the buffers that an engine of the process held for reads to come. One walk over the spans of all shards, since
// buffers change pools; nobody else touches these, so they are told from others without their lock. False: a lock is held.
bool SweepBuffers(Host& host, uint16_t slot, Wakes& wakes, Instant now) {
  auto left_behind = [slot](const Buf& buf) {
    return buf.kind == SlotKind::kBuf && (buf.flags & kBufInEngine) != 0 && buf.tag == slot && buf.pool < kMaxShards;
  };
  bool all = true;
  ForEachBuf(host, [&](Buf& buf) {
    if (!left_behind(buf)) return;
    Shard& shard = host.shards[buf.pool];
    TryShardLock lock(host, shard, now);
    if (!lock) {
      all = false;
      return;
    }
    buf.flags = 0;
    buf.tag = 0;
    shard.bufs.Give(&buf);
    lock.Unlock();
    FlushWakes(lock.ctx, wakes);
  });
  return all;
}

// Frames that the process was handing to another shard, or taking from its mailbox. False: a lock is held.
bool SweepLostBuffers(Host& host, Wakes& wakes, Instant now) {
  bool all = true;
  ForEachBuf(host, [&](Buf& buf) {
    uint32_t to = buf.pool & ~kOnTheWay;
    if (buf.kind != SlotKind::kBuf || (buf.pool & kOnTheWay) == 0 || to >= kMaxShards) return;
    TryShardLock lock(host, host.shards[to], now);
    all &= lock && ReclaimLostBuf(lock.ctx, buf);
    lock.Unlock();
    FlushWakes(lock.ctx, wakes);
  });
  return all;
}

}  // namespace

TryShardLock::TryShardLock(Host& host, Shard& shard, Instant now) : ctx{host, shard, now, {}} {
  const LockResult locked = shard.lock.TryLock();
  if (locked == LockResult::kBusy) return;
  TakeOver(ctx, locked);
  held_ = true;
}

namespace {
uint64_t g_arena_bytes = 0;
}

void SetArenaBytes(uint64_t bytes) { g_arena_bytes = bytes; }
uint64_t ArenaBytes() { return g_arena_bytes; }

bool Burial::SettleIntent(Host& host, Wakes& wakes, Instant now) {
  ProcessSlot& process = host.processes[slot_];
  uint64_t bits = process.intent.load();
  if (bits == 0) return true;
  if (ChangedByOthers(host, bits, slot_)) return false;
  if (Socket* socket = CheckedSocket(host, bits)) {
    TryShardLock lock(host, host.shard(*socket), now);
    if (!lock) return false;
    if (socket->kind == SlotKind::kSocket) {
      uint32_t count = CountReferences(host, bits);
      // One more, dropped at once: so that the last one is dropped in one place.
      socket->refs.store(count + 1);
      if (DropReference(*socket)) FinishClose(lock.ctx, *socket);
      HaveItSent(lock.ctx);
    }
    process.intent.store(0);
    lock.Unlock();
    FlushWakes(lock.ctx, wakes);
    return true;
  }
  if (EpollSet* set = CheckedEpoll(host, bits)) {
    set->refs.store(CountReferences(host, bits) + 1);
    process.intent.store(0);
    ReleaseEpollSet(host, *set, now);
  }
  process.intent.store(0);
  return true;
}

bool Burial::DropDescriptors(Host& host, Wakes& wakes, Instant now) {
  ProcessSlot& process = host.processes[slot_];
  for (; next_page_ < kFdPagesPerProcess; ++next_page_) {
    FdPage* page = CheckedPage(process.pages[next_page_].load());
    if (page == nullptr) {
      process.pages[next_page_].store(nullptr);
      continue;
    }
    for (auto& entry : page->entries) {
      uint64_t bits = entry.load();
      if (bits == 0) continue;
      if (Socket* socket = CheckedSocket(host, bits)) {
        TryShardLock lock(host, host.shard(*socket), now);
        if (!lock) return false;
        // If this driver dies between the two, the next one finds the intent and counts anew.
        process.intent.store(bits);
        entry.store(0);
        if (DropReference(*socket)) FinishClose(lock.ctx, *socket);
        HaveItSent(lock.ctx);
        process.intent.store(0);
        lock.Unlock();
        FlushWakes(lock.ctx, wakes);
      } else {
        process.intent.store(bits);
        entry.store(0);
        if (EpollSet* set = CheckedEpoll(host, bits)) ReleaseEpollSet(host, *set, now);
        process.intent.store(0);
      }
    }
    TrySimpleLock guard(host.host_lock);
    if (!guard) return false;
    process.pages[next_page_].store(nullptr);
    host.fd_pages.Give(page);
  }
  return true;
}

bool Burial::SweepShard(Host& host, Shard& shard, Wakes& wakes, Instant now) {
  TryShardLock lock(host, shard, now);
  if (!lock) return false;
  shard.wait_entries.ForEachLive([&](WaitEntry& entry) {
    if (entry.process != slot_) return;
    Unwatch(host, entry);
    shard.wait_entries.Give(&entry);
  });
  shard.waiters.ForEachLive([&](Waiter& waiter) {
    if (waiter.process != slot_) return;
    // It may be noted in any set: sets are shared after fork.
    for (Shard& other : host.shards) {
      if (!LaidOut(other)) break;
      other.epoll_sets.ForEachLive([&](EpollSet& set) { EpollWake(set, waiter); });
      Waiter* leader = &waiter;
      if (other.leader_waiter.compare_exchange_strong(leader, nullptr)) other.leader.store(0);
    }
    shard.waiters.Give(&waiter);
  });
  const uint16_t home = host.processes[slot_].shard;
  const bool had_home = home < kMaxShards && host.shards[home].process == slot_;
  // Accepted, but not yet in its table, which has been emptied already.
  shard.sockets.ForEachLive([&](Socket& socket) {
    if (!had_home || socket.taker.load() != home + 1) return;
    socket.taker.store(0);
    if (DropReference(socket)) FinishClose(lock.ctx, socket);
  });
  HaveItSent(lock.ctx);
  shard.listeners.ForEachLive([&](Listener& listener) {
    if (had_home) listener.acceptors[home / 64].fetch_and(~(uint64_t{1} << (home % 64)));
    // It may have been the one that was told of a connection, or have died accepting it.
    { ListenerLock guard(listener); }
    if (listener.accept_count.load() != 0 && listener.socket != nullptr)
      Notify(lock.ctx, *SocketOf(listener.socket), EPOLLIN | EPOLLRDNORM);
  });
  // Made, but not yet in its table. One at a time: the next look finds the next.
  EpollSet* unnamed = nullptr;
  shard.epoll_sets.ForEachLive([&](EpollSet& set) {
    if (set.process != slot_) return;
    const uint64_t bits = FdEntry::Pack(FdEntry::kEpoll, &set);
    if (CountReferences(host, bits) == 0 && !ChangedByOthers(host, bits, slot_)) unnamed = &set;
  });
  lock.Unlock();
  FlushWakes(lock.ctx, wakes);
  if (unnamed == nullptr) return true;
  unnamed->refs.store(1);
  ReleaseEpollSet(host, *unnamed, now);
  return false;
}

// Threads that it had signalled and not woken yet, and those that a repair of what it left had to tell: which they were
// died with it.
bool Burial::WakeAll(Host& host, Wakes& wakes, Instant now) {
  if (next_woken_ == 0) repairs_ = host.repairs.load();
  if (host.processes[slot_].waking.load() == 0 && host.repairs_told.load() == repairs_) return true;
  for (; next_woken_ < kMaxShards && LaidOut(host.shards[next_woken_]); ++next_woken_) {
    TryShardLock lock(host, host.shards[next_woken_], now);
    if (!lock) return false;
    lock.ctx.shard.waiters.ForEachLive([&wakes](Waiter& waiter) {
      if (waiter.Signal()) wakes.Wake(waiter);
    });
    lock.Unlock();
    FlushWakes(lock.ctx, wakes);
  }
  host.repairs_told.store(repairs_);
  return true;
}

bool Burial::Advance(Host& host, Wakes& wakes, Instant now) {
  if (!intent_settled_) {
    if (!SettleIntent(host, wakes, now)) return false;
    intent_settled_ = true;
  }
  if (!DropDescriptors(host, wakes, now)) return false;
  for (; next_shard_ < kMaxShards && LaidOut(host.shards[next_shard_]); ++next_shard_)
    if (!SweepShard(host, host.shards[next_shard_], wakes, now)) return false;
  if (!SweepBuffers(host, slot_, wakes, now) || !SweepLostBuffers(host, wakes, now)) return false;
  if (!WakeAll(host, wakes, now)) return false;
  TrySimpleLock guard(host.host_lock);
  if (!guard) return false;
  wakes.Forget(slot_);
  ProcessSlot& process = host.processes[slot_];
  if (process.shard < kMaxShards) {
    Shard& shard = host.shards[process.shard];
    if (shard.process == slot_ && shard.state.load() == Shard::kInUse) shard.state.store(Shard::kOrphaned);
  }
  // pid stays: it tells that the slot was used (NeverUsed).
  process.start_time = 0;
  process.shard = kNoShard;
  process.state.store(ProcessSlot::kFree);
  return true;
}

}  // namespace ustcp::keeper
