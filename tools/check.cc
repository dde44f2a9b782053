#include "tools/check.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <set>

#include "io/base/clock.h"
#include "stack/socket/readiness.h"
#include "stack/socket/socket.h"
#include "stack/stack.h"
#include "stack/sync/futex.h"
#include "stack/tcp/listener.h"
#include "stack/tcp/tcb.h"

namespace ustcp::tool {

namespace {

constexpr int kLooks = 5;
constexpr useconds_t kBetweenLooks = 60'000;
constexpr auto kLockPatience = 1s;

bool LaidOut(const Shard& shard) { return shard.random_state != 0; }

LockResult LockPatiently(Shard& shard) {
  Instant give_up = MonotonicNow() + kLockPatience;
  for (;;) {
    LockResult result = shard.lock.TryLock();
    if (result != LockResult::kBusy || MonotonicNow() > give_up) return result;
    usleep(500);
  }
}

class Look {
 public:
  explicit Look(Host& host) : host_(host) {
    CountReferences();
    for (Shard& shard : host_.shards) {
      if (!LaidOut(shard)) break;
      CheckShard(shard);
    }
  }
  std::set<std::string> faults;

 private:
  void Fault(const Shard& shard, const std::string& what) {
    faults.insert(fmt::format("shard {}: {}", shard.index, what));
  }

  void CountReferences() {
    for (int i = 0; i < kMaxProcesses && !NeverUsed(host_.processes[i]); ++i) {
      ProcessSlot& process = host_.processes[i];
      if (process.state.load() == ProcessSlot::kFree) continue;
      for (auto& at : process.pages) {
        FdPage* page = at.load();
        if (page == nullptr) continue;
        for (auto& entry : page->entries)
          if (uint64_t bits = entry.load(); bits != 0) ++references_[FdEntry::ObjectOf(bits)];
      }
    }
  }

  bool Lives(uint16_t process) const {
    return process < kMaxProcesses && host_.processes[process].state.load() != ProcessSlot::kFree;
  }

  void CheckReferences(const Shard& shard, const char* what, const void* object, uint32_t counted, uint32_t others) {
    auto at = references_.find(object);
    uint32_t held = others + (at != references_.end() ? at->second : 0);
    if (held != counted) Fault(shard, fmt::format("a {} that counts {} references where {} are", what, counted, held));
  }

  void CheckShard(Shard& shard) {
    LockResult locked = LockPatiently(shard);
    if (locked == LockResult::kBusy) return Fault(shard, "its lock is held for long");
    Context ctx{host_, shard, MonotonicNow(), {}};
    if (locked == LockResult::kOwnerDied) {
      RepairShard(ctx);
      shard.lock.MarkConsistent();
    }
    char why[160] = "";
    if (int count = CheckInvariants(ctx, why, sizeof(why)); count != 0)
      Fault(shard, fmt::format("{} ({} faults)", why, count));
    shard.sockets.ForEachLive([&](Socket& s) {
      bool being_accepted = s.taker.load() != 0 && !references_.contains(&s);
      CheckReferences(shard, "socket", &s, s.refs.load(), (s.parent != nullptr) + being_accepted);
    });
    shard.epoll_sets.ForEachLive([&](EpollSet& set) { CheckReferences(shard, "epoll set", &set, set.refs.load(), 0); });
    shard.epoll_items.ForEachLive([&](EpollItem& item) {
      if (item.set == nullptr || item.set->kind != SlotKind::kEpollSet) Fault(shard, "an epoll item without its set");
      if (item.socket == nullptr || item.socket->kind != SlotKind::kSocket)
        Fault(shard, "an epoll item without its socket");
    });
    shard.waiters.ForEachLive([&](Waiter& waiter) {
      if (!Lives(waiter.process)) Fault(shard, "a waiter of a process that is gone");
    });
    shard.wait_entries.ForEachLive([&](WaitEntry& entry) {
      if (!Lives(entry.process)) Fault(shard, "a wait entry of a process that is gone");
    });
    if (shard.state.load() == Shard::kInUse && !Lives(shard.process)) Fault(shard, "in use by a process that is gone");
    shard.lock.Unlock();
    // What a repair had to say to sleepers: a wake-up too many does no harm.
    ctx.wakes.Flush([](Waiter& waiter) { FutexWake(waiter.word); });
  }

  Host& host_;
  std::map<const void*, uint32_t> references_;
};

}  // namespace

std::vector<std::string> CheckHost(Host& host) {
  std::set<std::string> lasting = Look(host).faults;
  for (int i = 1; i < kLooks && !lasting.empty(); ++i) {
    usleep(kBetweenLooks);
    std::set<std::string> now = Look(host).faults;
    std::erase_if(lasting, [&now](const std::string& fault) { return !now.contains(fault); });
  }
  return {lasting.begin(), lasting.end()};
}

}  // namespace ustcp::tool
