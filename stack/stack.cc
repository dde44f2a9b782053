#include "stack/stack.h"

#include <algorithm>
#include <cstring>

#include "stack/base/fault.h"
#include "stack/net/frames.h"
#include "stack/net/ip.h"
#include "stack/net/peek.h"
#include "stack/socket/socket.h"
#include "stack/socket/socket_ops.h"
#include "stack/tcp/listener.h"
#include "stack/tcp/tcb.h"
#include "stack/tcp/tcp.h"

namespace ustcp {
namespace {

void WakeLeader(Context& ctx, Shard& shard) {
  Waiter* leader = shard.leader_waiter.load();
  if (leader != nullptr && leader->Signal()) ctx.wakes.Add(*leader);
}

// The shard that should look at a SYN for a listener: one whose process accepts on it, this one if possible.
uint16_t ShardForSyn(Context& ctx, const Tuple& tuple, uint32_t hash) {
  SlotHeader* owner = ctx.host.ports.FindListener(tuple.local, hash);
  if (owner == nullptr || owner->kind != SlotKind::kSocket) return ctx.shard.index;
  Listener* listener = static_cast<Socket*>(owner)->listener;
  if (listener == nullptr) return ctx.shard.index;
  auto accepts = [listener](uint16_t i) { return (listener->acceptors[i / 64].load() >> (i % 64) & 1) != 0; };
  if (accepts(ctx.shard.index)) return ctx.shard.index;
  // Start at a place given by the connection, so that the acceptors share what arrives elsewhere.
  uint32_t start = hash % kMaxShards;
  for (uint32_t i = 0; i < kMaxShards; ++i) {
    auto candidate = static_cast<uint16_t>((start + i) % kMaxShards);
    if (accepts(candidate) && ctx.host.shards[candidate].state.load() == Shard::kInUse) return candidate;
  }
  return ctx.shard.index;
}

// Frames up to this size are copied for a mailbox: a whole frame buffer would stay with the other shard's pool.
constexpr size_t kCopyForMailbox = 2048;

// Puts the frame into a Buf that the mailbox may own. Null when memory is short: the frame is lost, as on a full queue.
Buf* FrameForMailbox(Context& ctx, RxFrame& frame) {
  Buf* b = frame.buffer;
  if (b != nullptr && frame.bytes.size() > kCopyForMailbox) {
    frame.buffer = nullptr;
    b->flags = 0;
    b->offset = static_cast<uint32_t>(frame.bytes.data() - b->data());
    b->length = static_cast<uint32_t>(frame.bytes.size());
    std::memcpy(b->begin() - sizeof(VirtioNetHeader), &frame.vnet, sizeof(VirtioNetHeader));
    return b;
  }
  size_t room = kFrameReadOffset + sizeof(VirtioNetHeader) + frame.bytes.size();
  b = ctx.shard.bufs.Take(BufPool::ClassFor(room));
  if (b == nullptr) return nullptr;
  b->offset = kFrameReadOffset + sizeof(VirtioNetHeader);
  b->length = static_cast<uint32_t>(frame.bytes.size());
  std::memcpy(b->begin() - sizeof(VirtioNetHeader), &frame.vnet, sizeof(VirtioNetHeader));
  std::memcpy(b->begin(), frame.bytes.data(), frame.bytes.size());
  return b;
}

void DeliverBuffered(Context& ctx, Buf* b) {
  RxFrame frame;
  std::memcpy(&frame.vnet, b->begin() - sizeof(VirtioNetHeader), sizeof(VirtioNetHeader));
  frame.bytes = b->bytes();
  frame.buffer = b;
  NetInput(ctx, frame);
  if (frame.buffer != nullptr) ctx.shard.bufs.Give(frame.buffer);
}

}  // namespace

namespace {

// As ShardForFrame; *node is what the frame's tuple has in the table.
Shard& FindShard(Context& ctx, ConstBytes frame, TupleNode** found) {
  Tuple tuple;
  bool syn = false;
  *found = nullptr;
  if (!PeekTuple(frame, tuple, syn)) return ctx.shard;
  uint32_t hash = ctx.host.tuples.Hash(tuple);
  TupleNode* node = *found = ctx.host.tuples.Find(tuple, hash);
  uint16_t target = ctx.shard.index;
  if (node != nullptr)
    target = node->shard;
  else if (syn)
    target = ShardForSyn(ctx, tuple, hash);
  return target < kMaxShards ? ctx.host.shards[target] : ctx.shard;
}

}  // namespace

Shard& ShardForFrame(Context& ctx, ConstBytes frame) noexcept {
  TupleNode* node;
  return FindShard(ctx, frame, &node);
}

namespace {

// Makes a visit to another shard if its lock is free: takes in its mail, calls visit(Context&) with that shard's context, and
// notes what its driver has to know. False when the lock is taken.
template <typename Visit>
bool VisitShard(Context& ctx, Shard& target, Visit&& visit) {
  LockResult locked = target.lock.TryLock();
  if (locked == LockResult::kBusy) return false;
  Context there{ctx.host, target, ctx.now, ctx.wakes, ctx.touched};
  TakeOver(there, locked);
  DrainMailbox(there);
  visit(there);
  PublishDeadline(there);
  ctx.wakes = there.wakes;
  ctx.touched = there.touched;
  ctx.nudge_keeper |= there.nudge_keeper;
  if (HasOutput(target)) ctx.touched[target.index / 64] |= uint64_t{1} << (target.index % 64);
  target.lock.Unlock();
  return true;
}

enum class Delivery { kDone, kBusy, kRedirect };

// Delivers a frame of another shard while both locks are held; its buffer comes back unless the stack kept it.
Delivery DeliverDirectly(Context& ctx, Shard& target, RxFrame& frame) {
  bool redirect = false;
  bool visited = VisitShard(ctx, target, [&](Context& there) {
    there.may_redirect = true;
    Buf* b = frame.buffer;
    if (b != nullptr) {
      ctx.shard.bufs.Part(b, target.index);
      target.bufs.Join(b);
    }
    NetInput(there, frame);
    if (frame.buffer != nullptr) {
      target.bufs.Part(b, ctx.shard.index);
      ctx.shard.bufs.Join(b);
    }
    redirect = there.redirect;
  });
  if (!visited) return Delivery::kBusy;
  return redirect ? Delivery::kRedirect : Delivery::kDone;
}

}  // namespace

// At once when its lock is free, otherwise through its mailbox. The holder looks into the mailbox before it lets go, and
// once more after (see Locked), so nothing stays there unseen.
void HandToShard(Context& ctx, Shard& target, Buf* frame) noexcept {
  ctx.shard.bufs.Part(frame, target.index);
  target.mailbox.Push(frame);
  if (&target == &ctx.shard) return;
  if (!VisitShard(ctx, target, [](Context&) {})) WakeLeader(ctx, target);
}

void OnFrame(Context& ctx, RxFrame& frame) noexcept {
  Shard* found = &FindShard(ctx, frame.bytes, &frame.node);
  if (found != &ctx.shard) {
    Delivery delivery = DeliverDirectly(ctx, *found, frame);
    if (delivery == Delivery::kDone) return;
    if (delivery == Delivery::kRedirect) found = &FindShard(ctx, frame.bytes, &frame.node);
  }
  Shard& target = *found;
  if (&target == &ctx.shard) {
    NetInput(ctx, frame);
    return;
  }
  Buf* b = FrameForMailbox(ctx, frame);
  if (b == nullptr) {
    ctx.counters().Add(Counter::kIpInDiscards);
    return;
  }
  HandToShard(ctx, target, b);
}

void DrainMailbox(Context& ctx) noexcept {
  for (Buf* b = ctx.shard.mailbox.TakeAll(); b != nullptr;) {
    Buf* next = b->next;
    b->next = nullptr;
    ctx.shard.bufs.Join(b);
    DeliverBuffered(ctx, b);
    b = next;
  }
  if (ctx.shard.closing.load(std::memory_order_relaxed) == nullptr) return;
  // One by one, and named while it is in nobody's hands: the others are still listed if this process dies. Only we take
  // from the list, so the head cannot have gone and come back between the two looks.
  while (Socket* s = ctx.shard.closing.load(std::memory_order_acquire)) {
    ctx.shard.in_close = s;
    USTCP_FAULT_POINT();
    if (!ctx.shard.closing.compare_exchange_strong(s, s->accept_next)) continue;
    s->accept_next = nullptr;
    FinishClose(ctx, *s);
    ctx.shard.in_close = nullptr;
  }
}

bool PollTransmit(Context& ctx, TxBatch& batch) noexcept {
  Shard& shard = ctx.shard;
  while (!batch.full() && shard.ready_frames_head != nullptr) {
    Buf* b = shard.ready_frames_head;
    shard.ready_frames_head = b->next;
    if (shard.ready_frames_head == nullptr) shard.ready_frames_tail = nullptr;
    TxFrame& frame = batch.frames[batch.count++];
    std::memcpy(&frame.vnet, b->begin() - sizeof(VirtioNetHeader), sizeof(VirtioNetHeader));
    frame.header_bytes = 0;
    frame.piece_count = 1;
    frame.payload_bytes = b->length;
    frame.pieces[0] = iovec{b->begin(), b->length};
    frame.owned = b;
  }
  while (!batch.full() && !shard.transmit.empty()) {
    auto& conn = static_cast<Connection&>(*shard.transmit.first());
    TxFrame& frame = batch.frames[batch.count];
    frame.owned = nullptr;
    frame.piece_count = 0;
    frame.payload_bytes = 0;
    frame.vnet = VirtioNetHeader{};
    shard.in_update = &conn;
    PollResult result = TcpPollSegment(ctx, conn, frame);
    USTCP_FAULT_POINT();
    shard.in_update = nullptr;
    if (result == PollResult::kFrame) ++batch.count;
    if (result != PollResult::kNothing) continue;
    // It has nothing more to say: off the list, unless it put itself there again or is gone.
    if (shard.transmit.first() == &conn) shard.transmit.RemoveFirst();
  }
  return HasOutput(shard);
}

void ReleaseTransmitted(Context& ctx, TxBatch& batch) noexcept {
  for (size_t i = 0; i < batch.count; ++i) {
    if (batch.frames[i].owned == nullptr) continue;
    ctx.shard.bufs.Give(batch.frames[i].owned);
    batch.frames[i].owned = nullptr;
  }
  batch.count = 0;
}

Instant NextDeadline(Context& ctx) noexcept { return std::min(ctx.shard.timers.NextDeadline(), NetNextDeadline(ctx)); }

void PublishDeadline(Context& ctx) noexcept {
  Shard& shard = ctx.shard;
  const int64_t next = NanosOf(NextDeadline(ctx));
  const bool earlier = next < shard.next_deadline_ns.exchange(next);
  Waiter* leader = shard.leader_waiter.load();
  if (leader == nullptr) {
    ctx.nudge_keeper |= earlier;
    return;
  }
  const int64_t until = shard.leader_until_ns.load();
  if (until == INT64_MIN) return;  // awake: it looks before it sleeps
  shard.others_at_ns.store(NanosOf(ctx.now), std::memory_order_relaxed);
  if (next < until && leader->Signal()) ctx.wakes.Add(*leader);
}

void OnDeadline(Context& ctx) noexcept {
  while (TimerNode* node = ctx.shard.timers.Expire(ctx.now)) {
    SlotHeader& owner = *node->owner;
    USTCP_FAULT_POINT();
    if (owner.kind == SlotKind::kConnection) ctx.shard.in_update = static_cast<Connection*>(&owner);
    TcpOnTimer(ctx, owner);
    ctx.shard.in_update = nullptr;
  }
  if (NetNextDeadline(ctx) <= ctx.now) NetOnDeadline(ctx);
}

}  // namespace ustcp
