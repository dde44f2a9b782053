// Repair of a shard whose lock holder died (docs/architecture.md, "kill -9"). The slots are the truth: free lists, the
// timing wheel, the transmit list and the buffer pools are made anew from them. The one connection that was being changed
// when its process died cannot be trusted: it is reset towards its peer and its socket gets ECONNRESET.
#include <cerrno>

#include "stack/stack.h"
#include "stack/tcp/tcp.h"

namespace ustcp {
namespace {

// Calls visit(Buf&) for every buffer that belongs to the shard's pool now, whichever shard's span it came from.
template <typename Visit>
void ForEachBufOf(Host& host, uint32_t pool, Visit&& visit) {
  for (auto& shard : host.shards) {
    if (shard.random_state == 0) continue;   // never laid out
    for (SpanHeader* span = shard.bufs.spans(); span != nullptr; span = span->next)
      for (uint32_t i = 0; i < span->slot_count; ++i) {
        auto* b = reinterpret_cast<Buf*>(reinterpret_cast<uintptr_t>(span) + kSpanHeaderBytes +
                                         size_t{i} * span->slot_bytes);
        if (b->pool == pool) visit(*b);
      }
  }
}

void ClearSuspicion(Buf* b) {
  for (; b != nullptr && b->kind == SlotKind::kBufSuspect; b = b->next) b->kind = SlotKind::kBuf;
}

// Finds every buffer that somebody still refers to; the others go back to the pool.
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
  // The mailbox is filled without our lock: what is in it is taken out, cleared and put back.
  Buf* mail = shard.mailbox.TakeAll();
  ClearSuspicion(mail);
  shard.bufs.ForgetAll();
  ForEachBufOf(ctx.host, shard.index, [&shard](Buf& b) {
    if (b.kind == SlotKind::kBufSuspect) b.kind = SlotKind::kFree;
    shard.bufs.Adopt(&b);
  });
  while (mail != nullptr) {
    Buf* next = mail->next;
    shard.bufs.Part(mail, shard.index);
    shard.mailbox.Push(mail);
    mail = next;
  }
}

void RearmTimers(Context& ctx) {
  Shard& shard = ctx.shard;
  TimerWheel& wheel = shard.timers;
  wheel.Init(ctx.now);
  auto rearm = [&wheel](auto& slot) {
    bool was_armed = slot.timer.armed();
    Instant deadline = slot.timer.deadline;
    slot.timer.prev = slot.timer.next = nullptr;
    slot.timer.owner = &slot;
    if (was_armed) wheel.Arm(slot.timer, deadline);
  };
  shard.connections.ForEachLive(rearm);
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
  shard.tx_head = shard.tx_tail = nullptr;
  shard.connections.ForEachLive([&](Connection& conn) {
    conn.tx_listed = false;
    TcpScheduleOutput(ctx, conn);
  });

  // A connection made but not yet registered anywhere is nobody's.
  shard.connections.ForEachLive([&](Connection& conn) {
    if (&conn == victim || conn.hashed || conn.socket != nullptr) return;
    UnscheduleOutput(ctx, conn);
    shard.timers.Cancel(conn.timer);
    ctx.host.ports.Remove(conn.bind);
    shard.connections.Give(&conn);
  });
  if (victim != nullptr) {
    ctx.counters().Add(Counter::kUstcpRepairResets);
    TcpAbort(ctx, *victim, ECONNRESET);
  }
  shard.turns.fetch_add(1);
}

}  // namespace ustcp
