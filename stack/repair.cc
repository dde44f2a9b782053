// Repair of a shard whose lock holder died (docs/architecture.md, "kill -9"). The slots are the truth: free lists, the
// timing wheel, the transmit list and the buffer pools are made anew from them. The one connection that was being changed
// when its process died cannot be trusted: it is reset towards its peer and its socket gets ECONNRESET.
#include <algorithm>
#include <cerrno>

#include "stack/host/bufs.h"
#include "stack/net/neighbor.h"
#include "stack/socket/readiness.h"
#include "stack/socket/socket.h"
#include "stack/socket/socket_internal.h"
#include "stack/stack.h"
#include "stack/tcp/listener.h"
#include "stack/tcp/tcb.h"
#include "stack/tcp/tcp.h"

namespace ustcp {
namespace {

void ClearSuspicion(Buf* b) {
  for (; b != nullptr && b->kind == SlotKind::kBufSuspect; b = b->next) b->kind = SlotKind::kBuf;
}

// Finds every buffer that somebody still refers to; the others go back to the pool. What is in the mailbox or on its way
// there is no pool's.
void SweepBufs(Context& ctx) {
  Shard& shard = ctx.shard;
  ForEachBufOf(ctx.host, shard.index, [](Buf& b) {
    if (b.kind == SlotKind::kBuf && (b.flags & kBufInEngine) == 0) b.kind = SlotKind::kBufSuspect;
  });
  shard.connections.ForEachLive([](Connection& c) {
    ClearSuspicion(c.send_head);
    ClearSuspicion(c.rcv_head);
    ClearSuspicion(c.ofo_head);
  });
  ClearSuspicion(shard.ready_frames_head);
  shard.ready_frames_tail = nullptr;
  for (Buf* b = shard.ready_frames_head; b != nullptr; b = b->next) shard.ready_frames_tail = b;
  {
    NeighborLock guard(ctx.host.neighbors);
    for (auto& neighbor : ctx.host.neighbors.entries) ClearSuspicion(neighbor.waiting_head);
  }
  // Datagrams in the making are given up: their buffers are swept.
  shard.reassembly = Reassembly{};
  shard.bufs.ForgetAll();
  ForEachBufOf(ctx.host, shard.index, [&shard](Buf& b) {
    if (b.kind == SlotKind::kBufSuspect) b.kind = SlotKind::kFree;
    shard.bufs.Adopt(&b);
  });
}

// Every deadline that some record stands for, from the record: the wheel's own links are not looked at.
void RearmTimers(Context& ctx) {
  Shard& shard = ctx.shard;
  TimerWheel& wheel = shard.timers;
  wheel.Init(ctx.now);
  shard.connections.ForEachLive([&wheel](Connection& conn) {
    conn.timer = TimerNode{};
    conn.timer.owner = &conn;
    if (conn.state == TcpState::kClosed) return;
    wheel.Arm(conn.timer, std::min({conn.snd.xmit_deadline, conn.delack_deadline, conn.slow_deadline}));
  });
  // These live by their timer. One that had none was just being armed, or taken away: it fires now.
  auto rearm = [&](auto& record) {
    const Instant deadline = record.timer.armed() ? record.timer.deadline : ctx.now;
    record.timer = TimerNode{};
    record.timer.owner = &record;
    wheel.Arm(record.timer, std::min(deadline, Instant{kNever - Duration{1}}));
  };
  shard.half_opens.ForEachLive(rearm);
  shard.time_waits.ForEachLive(rearm);
}

// Takes the queues away from a connection that may have been caught between two stores.
void StripConnection(Connection& conn) {
  conn.send_head = conn.send_tail = conn.send_cursor = nullptr;
  conn.rcv_head = conn.rcv_tail = nullptr;
  conn.ofo_head = conn.ofo_tail = nullptr;
  conn.send_memory = conn.rcv_memory = 0;
  conn.snd.queue.Clear();
  conn.snd.by_time.Clear();
  conn.snd.tlp_record = conn.snd.retransmit_hint = conn.snd.sack_hint = nullptr;
  conn.snd.packets_out = conn.snd.sacked_out = conn.snd.lost_out = conn.snd.retrans_out = 0;
}

bool Findable(Context& ctx, TupleNode& node) {
  return node.hashed && ctx.host.tuples.Find(node.tuple, node.hash) == &node;
}

// Half-open connections and TIME_WAIT records that no segment finds: half made, or half gone.
void DropUnreachable(Context& ctx) {
  Shard& shard = ctx.shard;
  shard.half_opens.ForEachLive([&](HalfOpen& half) {
    if (Findable(ctx, half)) return;
    shard.timers.Cancel(half.timer);
    ctx.host.tuples.Remove(half);
    shard.half_opens.Give(&half);
  });
  shard.time_waits.ForEachLive([&](TimeWait& tw) {
    if (Findable(ctx, tw)) return;
    shard.timers.Cancel(tw.timer);
    ctx.host.tuples.Remove(tw);
    ctx.host.ports.Remove(tw.bind);
    shard.time_waits.Give(&tw);
  });
}

// Connections that belong to no socket and are no orphans were just being made, or let go.
void AbortUnowned(Context& ctx) {
  ctx.shard.connections.ForEachLive([&ctx](Connection& conn) {
    if (conn.socket != nullptr && (conn.socket->kind != SlotKind::kSocket || conn.socket->conn != &conn))
      conn.socket = nullptr;
    if (conn.socket == nullptr && !conn.orphan) TcpAbort(ctx, conn, 0);
  });
}

// Counts of the host that the dead holder may have changed without the record, or the other way round. Other shards'
// records are read without their locks: a limit that is off by one for a moment does no harm, one that stays off would.
void CountAnew(Context& ctx) {
  int32_t orphans = 0, time_waits = 0;
  for (Shard& shard : ctx.host.shards) {
    if (shard.random_state == 0) break;  // never laid out, nor any behind it
    shard.connections.ForEachLive([&orphans](Connection& conn) { orphans += conn.orphan; });
    shard.time_waits.ForEachLive([&time_waits](TimeWait&) { ++time_waits; });
    shard.listeners.ForEachLive([&ctx](Listener& listener) {
      uint32_t half_open = 0, young = 0;
      for (Shard& other : ctx.host.shards) {
        if (other.random_state == 0) break;
        other.half_opens.ForEachLive([&](HalfOpen& half) {
          if (half.listener != &listener || half.listener_generation != listener.generation) return;
          ++half_open;
          young += half.young;
        });
      }
      listener.half_open_count.store(half_open);
      listener.half_open_young.store(young);
    });
  }
  ctx.host.orphan_count.store(orphans);
  ctx.host.time_wait_count.store(time_waits);
}

// The holder may have died between what happened to a socket and telling those who wait for it. An event too many does no
// harm: everybody looks at the level.
void NotifyAll(Context& ctx) {
  ctx.shard.sockets.ForEachLive([&ctx](Socket& s) { Notify(ctx, s, s.ready.load()); });
}

}  // namespace

void RepairShard(Context& ctx) noexcept {
  Shard& shard = ctx.shard;
  ctx.counters().Add(Counter::kUstcpShardRepairs);
  Connection* victim = shard.in_update;
  shard.in_update = nullptr;
  if (victim != nullptr && victim->kind != SlotKind::kConnection) victim = nullptr;
  if (victim != nullptr) StripConnection(*victim);

  shard.connections.Rebuild();
  shard.half_opens.Rebuild();
  shard.time_waits.Rebuild();
  shard.sockets.Rebuild();
  shard.listeners.Rebuild();
  shard.epoll_sets.Rebuild();
  shard.epoll_items.Rebuild();
  shard.wait_entries.Rebuild();
  shard.waiters.Rebuild();
  shard.tx_segments.Rebuild();

  // Records of the connection in question, or of none, go back.
  shard.tx_segments.ForEachLive([&](TxSegment& r) {
    bool orphan = r.sender == nullptr || (victim != nullptr && r.sender == &victim->snd);
    if (orphan) shard.tx_segments.Give(&r);
  });
  SweepBufs(ctx);
  RearmTimers(ctx);
  shard.transmit.Forget();
  shard.connections.ForEachLive([&](Connection& conn) {
    conn.tx_listed = false;
    conn.tx_next = nullptr;
    if (conn.state != TcpState::kClosed) ctx.shard.transmit.Add(conn);
  });

  if (victim != nullptr) {
    ctx.counters().Add(Counter::kUstcpRepairResets);
    TcpAbort(ctx, *victim, ECONNRESET);
  }
  AbortUnowned(ctx);
  DropUnreachable(ctx);
  RepairEpollItems(ctx);
  RepairSockets(ctx);
  CountAnew(ctx);
  NotifyAll(ctx);
  ctx.host.repairs.fetch_add(1);
  shard.turns.fetch_add(1);
}

bool ReclaimLostBuf(Context& ctx, Buf& b) noexcept {
  Shard& shard = ctx.shard;
  auto lost = [&] {
    bool in_mail = false;
    shard.mailbox.ForEach([&](const Buf& mail) {
      in_mail = &mail == &b;
      return !in_mail;
    });
    return !in_mail && b.kind == SlotKind::kBuf && b.pool == (shard.index | kOnTheWay);
  };
  auto reclaim = [&] {
    if (!lost()) return;
    shard.bufs.Join(&b);
    shard.bufs.Give(&b);
  };
  if (!lost()) return true;
  Shard& sender = ctx.host.shards[b.parted_by % kMaxShards];
  if (&sender == &shard) {
    reclaim();
    return true;
  }
  // Buffers part and arrive under the sender's lock: who holds it knows that nobody is in between.
  LockResult locked = sender.lock.TryLock();
  if (locked == LockResult::kBusy) return false;
  if (locked == LockResult::kOwnerDied) {
    Context there{ctx.host, sender, ctx.now, ctx.wakes, ctx.touched};
    RepairShard(there);
    sender.lock.MarkConsistent();
    ctx.wakes = there.wakes;
    ctx.touched = there.touched;
  }
  reclaim();
  sender.lock.Unlock();
  return true;
}

}  // namespace ustcp
