// Which shards the driver drives now, and the queues it reads for them.
#include <unistd.h>

#include <algorithm>

#include "io/base/clock.h"
#include "io/device/tap.h"
#include "preload/keeper/checked.h"
#include "preload/keeper/driver.h"
#include "preload/keeper/log.h"
#include "stack/stack.h"

namespace ustcp::keeper {

namespace {

constexpr int kQuietTicks = 5;               // without its program: then we sleep on the queue in its place
constexpr Duration kStuckLookIdle = 1000ms;  // at those that only listen
constexpr auto kConfirmLook = 10ms;     // between the look that finds something overdue and the one that believes it
constexpr auto kQueuePatience = 300ms;  // members offer the queues of an adopted arena

bool HasConnections(const Shard& shard) { return shard.connections.live() != 0 || shard.half_opens.live() != 0; }

bool Empty(const Shard& shard) {
  return !HasConnections(shard) && shard.time_waits.live() == 0 && shard.sockets.live() == 0 &&
         shard.listeners.live() == 0 && shard.epoll_sets.live() == 0 && !HasOutput(shard);
}

bool Readable(int fd) {
  pollfd p{fd, POLLIN, 0};
  return poll(&p, 1, 0) > 0 && (p.revents & POLLIN) != 0;
}

}  // namespace

// The queue that whoever drives the shard reads.
QueueRef Driver::ReadQueueOf(const Shard& shard) const {
  if (only_queue_.fd < 0) return shards_[shard.index].queue;
  return host_.queue_reader.load() == shard.index + 1u ? only_queue_ : QueueRef{};
}

QueueRef Driver::QueueOf(const Shard& shard) const {
  if (only_queue_.fd >= 0) return only_queue_;
  if (shards_[shard.index].queue.fd >= 0) return shards_[shard.index].queue;
  // To send, any queue of the interface will do.
  for (const ShardWatch& watch : shards_)
    if (watch.queue.fd >= 0) return watch.queue;
  return {};
}

bool Driver::QueueOfAnother(const Shard& shard) const {
  for (const Shard& other : host_.shards) {
    if (other.random_state == 0) break;
    const ShardWatch& watch = shards_[other.index];
    if (&other != &shard && watch.queue.fd >= 0 && !watch.letting_go && other.state.load() == Shard::kInUse)
      return true;
  }
  return false;
}

bool Driver::FreeWhenEmpty(Shard& shard) {
  if (!Empty(shard)) return false;
  TrySimpleLock guard(host_.host_lock);
  if (!guard) return false;
  TryShardLock lock(host_, shard, MonotonicNow());
  if (!lock || !Empty(shard) || !shard.mailbox.empty()) return false;
  shard.has_queue.store(false);
  shard.state.store(Shard::kFree);
  lock.Unlock();
  LetGoOfQueue(shard);
  return true;
}

// The broker closes its copy first: between the last look into a queue and its end no other process has to be waited for.
void Driver::LetGoOfQueue(Shard& shard) {
  ShardWatch& watch = shards_[shard.index];
  if (watch.queue.fd < 0 || watch.letting_go) return;
  watch.letting_go = true;
  Tell(InternalKind::kQueueFreed, shard.index);
}

// Ours is the last descriptor of a live process: what the queue holds is taken in, for frames of any connection of the host may be in it.
void Driver::CloseQueue(Shard& shard) {
  ShardWatch& watch = shards_[shard.index];
  QueueRef queue = watch.queue;
  TryShardLock lock(host_, shard, MonotonicNow());
  if (lock) {
    Context& ctx = lock.ctx;
    auto sink = [&ctx](RxFrame& frame) { OnFrame(ctx, frame); };
    while (engine_->Receive(queue, shard.bufs, sink, kFramesPerTurn).more) {
    }
    Send(ctx, queue);
    engine_->ReleaseQueue(queue, shard.bufs);
  }
  // A process that was killed has it, too, until its ring is torn down.
  DetachTapQueue(queue.fd);
  close(queue.fd);
  watch.queue = QueueRef{-1, true, queue.generation};
  watch.letting_go = false;
  watch.asked_queue = true;  // it does without
  lock.Unlock();
  lock.ctx.wakes.Flush([this](Waiter& waiter) { wakes_.Wake(waiter); });
  FlushTouched(lock.ctx);
}

// The only queue needs a reader that lives, or at least connections: a shard that is in use, or else an orphaned one.
void Driver::PassReadingOn() {
  if (only_queue_.fd < 0) return;
  uint32_t reader = host_.queue_reader.load();
  if (reader > kMaxShards) reader = 0;
  auto state = [this](uint32_t i) { return host_.shards[i].state.load(); };
  if (reader != 0 && state(reader - 1) == Shard::kInUse) return;
  Shard* next = nullptr;
  for (Shard& shard : host_.shards) {
    if (shard.random_state == 0) break;
    if (shard.state.load() == Shard::kInUse && shard.has_queue.load() &&
        (next == nullptr || next->leader_waiter.load() == nullptr))
      next = &shard;
    if (next == nullptr && shard.state.load() == Shard::kOrphaned && (reader == 0 || state(reader - 1) == Shard::kFree))
      host_.queue_reader.store(shard.index + 1u);
  }
  if (next == nullptr) return;
  host_.queue_reader.store(next->index + 1u);
  Log("shard %d reads the interface's only queue now", next->index);
  Waiter* leader = Checked<Waiter>(host_, next->leader_waiter.load());
  if (leader != nullptr && leader->Signal()) wakes_.Wake(*leader);
}

// Its leader was found not to turn (SIGSTOP, a debugger, no processor for it): everything is ours until it does.
void Driver::LookAtStuck(Shard& shard, ShardWatch& watch, Instant now, Plan* plan) {
  Instant deadline = InstantFromNanos(shard.next_deadline_ns.load(std::memory_order_relaxed));
  QueueRef queue = ReadQueueOf(shard);
  bool due = deadline <= now || HasMail(shard) || HasOutput(shard) || (queue.fd >= 0 && Readable(queue.fd));
  if (due && Drive(shard)) {
    watch.look_turns = watch.turns;
    deadline = InstantFromNanos(shard.next_deadline_ns.load(std::memory_order_relaxed));
  } else if (due) {
    deadline = now + kBusyRetry;
  }
  plan->next = std::min({plan->next, deadline, now + kStuckLook});
  if (queue.fd >= 0) plan->queues.push_back({queue.fd, POLLIN, 0});
}

// Somebody sleeps on it. Stopped, nobody would notice: what is overdue at two looks, without a turn in between, is ours.
void Driver::LookAtLed(Shard& shard, ShardWatch& watch, Instant now, Plan* plan) {
  watch.quiet_ticks = 0;
  QueueRef queue = ReadQueueOf(shard);
  if (!HasConnections(shard) && shard.listeners.live() == 0 && shard.time_waits.live() == 0 && queue.fd < 0) return;
  bool turned = shard.turns.load(std::memory_order_relaxed) != watch.look_turns;
  watch.stuck &= !turned;
  if (watch.stuck) return LookAtStuck(shard, watch, now, plan);
  if (now >= watch.next_look) {
    Duration interval = HasConnections(shard) ? kStuckLook : kStuckLookIdle;
    bool overdue = shard.next_deadline_ns.load(std::memory_order_relaxed) < NanosOf(now - kStuckLook) ||
                   (queue.fd >= 0 && Readable(queue.fd)) || HasMail(shard) || HasOutput(shard);
    watch.stuck = overdue && watch.overdue && !turned;
    watch.overdue = overdue;
    watch.look_turns = shard.turns.load(std::memory_order_relaxed);
    if (watch.stuck) return LookAtStuck(shard, watch, now, plan);
    watch.next_look = now + (overdue ? Duration{kConfirmLook} : interval);
  }
  plan->next = std::min(plan->next, watch.next_look);
}

void Driver::LookAtShard(Shard& shard, Instant now, Plan* plan) {
  ShardWatch& watch = shards_[shard.index];
  uint32_t state = shard.state.load();
  if (state == Shard::kOrphaned && FreeWhenEmpty(shard)) return;
  // TIME_WAIT needs no queue of its own: one that is there takes frames away from the processes that are awake.
  if (state == Shard::kOrphaned && !HasConnections(shard) && QueueOfAnother(shard)) LetGoOfQueue(shard);
  QueueRef queue = ReadQueueOf(shard);
  // A member's queue comes from the member, sooner or later; a second one beside it would be read by nobody.
  if (adopted_ && state == Shard::kOrphaned && watch.queue.fd < 0 && only_queue_.fd < 0 && !watch.asked_queue &&
      now - started_ > kQueuePatience) {
    watch.asked_queue = true;
    Tell(InternalKind::kNeedQueue, shard.index);
  }
  if (state == Shard::kInUse && shard.leader_waiter.load() != nullptr) {
    LookAtLed(shard, watch, now, plan);
    watch.turns = shard.turns.load(std::memory_order_relaxed);
    return;
  }

  uint64_t turns = shard.turns.load(std::memory_order_relaxed);
  const Duration tick = Tick();
  if (turns != watch.turns && state == Shard::kInUse) {
    // Its program comes by: nothing to do for this tick.
    watch.turns = turns;
    watch.quiet_ticks = 0;
    plan->ticking = true;
    return;
  }
  bool quiet = state == Shard::kOrphaned || watch.quiet_ticks >= kQuietTicks;
  Instant deadline = InstantFromNanos(shard.next_deadline_ns.load(std::memory_order_relaxed));
  bool due = deadline <= now || !shard.mailbox.empty() || shard.closing.load(std::memory_order_relaxed) != nullptr ||
             HasOutput(shard) || (queue.fd >= 0 && Readable(queue.fd));
  if (due &&
      now - InstantFromNanos(shard.last_turn_ns.load(std::memory_order_relaxed)) >= (quiet ? Duration{0} : tick)) {
    if (!Drive(shard)) {
      plan->next = std::min(plan->next, now + kBusyRetry);
    } else {
      deadline = InstantFromNanos(shard.next_deadline_ns.load(std::memory_order_relaxed));
    }
  }
  if (!quiet) {
    ++watch.quiet_ticks;
    plan->ticking = true;
    return;
  }
  plan->next = std::min(plan->next, deadline);
  if (queue.fd >= 0) plan->queues.push_back({queue.fd, POLLIN, 0});
}

}  // namespace ustcp::keeper
