// Where an arriving segment goes: to a connection, a half-open one, a TIME_WAIT record, a listener, or nowhere
// (RFC 9293 3.10.7).
#include <algorithm>

#include "stack/host/host.h"
#include "stack/net/transport.h"
#include "stack/tcp/input.h"
#include "stack/tcp/listen.h"
#include "stack/tcp/reply.h"
#include "stack/tcp/tcb.h"
#include "stack/tcp/time_wait.h"

namespace ustcp {
namespace {

Segment MakeSegment(TcpPacket& packet, const TcpView& view) {
  Segment seg;
  seg.packet = &packet;
  seg.seq = view.seq();
  seg.end = view.seq() + view.sequence_length();
  if (view.has_ack()) seg.ack = view.ack();
  seg.flags = view.flags();
  seg.window = view.window();
  seg.urgent_pointer = view.urgent_pointer();
  seg.header_bytes = static_cast<uint16_t>(view.header_bytes());
  seg.payload = packet.segment.subspan(view.header_bytes());
  if (auto lone = ParseLoneTimestamps(view.options()); lone && !view.syn())
    seg.options.timestamps = lone;
  else
    seg.options = ParseTcpOptions(view.options(), view.syn());
  if (packet.gso_size != 0 && seg.length() > packet.gso_size) {
    seg.segment_bytes = packet.gso_size;
    seg.count = static_cast<uint16_t>((seg.length() + packet.gso_size - 1) / packet.gso_size);
  }
  return seg;
}

// Is what was found before this shard's lock was taken what would be found now? A slot of this shard changes under its lock
// only, and of one tuple there is one node in the table.
bool StillFound(const Context& ctx, const TupleNode* node, const Tuple& tuple) {
  return node != nullptr && node->shard == ctx.shard.index && node->kind != SlotKind::kFree && node->hashed &&
         node->tuple == tuple;
}

void OfferToListener(Context& ctx, TcpPacket& packet, Segment& seg, const Tuple& tuple, uint32_t hash, const Seq* iss) {
  Listener* listener = LookUpListener(ctx, tuple, hash);
  if (listener != nullptr)
    OnListenSegment(ctx, *listener, seg, tuple, iss);
  else
    SendResetFor(ctx, packet, seg);
}

}  // namespace

void TcpInput(Context& ctx, TcpPacket& packet) noexcept {
  auto view = TcpView::Parse(packet.segment);
  if (!view) {
    ctx.counters().Add(Counter::kTcpInSegs);
    ctx.counters().Add(Counter::kTcpInErrs);
    return;
  }
  Segment seg = MakeSegment(packet, *view);
  ctx.counters().Add(Counter::kTcpInSegs, seg.count);
  Tuple tuple = TupleOf(packet, view->destination_port(), view->source_port());
  TupleNode* node = packet.frame != nullptr ? packet.frame->node : nullptr;
  uint32_t hash;
  if (StillFound(ctx, node, tuple)) {
    hash = node->hash;
  } else {
    hash = ctx.host.tuples.Hash(tuple);
    node = ctx.host.tuples.Find(tuple, hash);
  }
  if (node == nullptr) {
    OfferToListener(ctx, packet, seg, tuple, hash, nullptr);
    return;
  }
  // It moved to another shard's record since it was dispatched here: the peer's retransmission will find it.
  if (node->shard != ctx.shard.index) return;
  switch (node->kind) {
    case SlotKind::kConnection: {
      auto& conn = static_cast<Connection&>(*node);
      ctx.shard.in_update = &conn;
      if (conn.state == TcpState::kSynSent)
        OnSynSentSegment(ctx, conn, seg);
      else
        OnConnectionSegment(ctx, conn, seg);
      ctx.shard.in_update = nullptr;
      break;
    }
    case SlotKind::kHalfOpen: OnHalfOpenSegment(ctx, static_cast<HalfOpen&>(*node), seg); break;
    case SlotKind::kTimeWait: {
      Seq iss;
      if (!OnTimeWaitSegment(ctx, static_cast<TimeWait&>(*node), seg, iss)) break;
      if (LookUpListener(ctx, tuple, hash) == nullptr) {
        SendResetFor(ctx, packet, seg);
        break;
      }
      RemoveTimeWait(ctx, static_cast<TimeWait&>(*node));
      if (ctx.may_redirect) {
        ctx.redirect = true;
        break;
      }
      OfferToListener(ctx, packet, seg, tuple, hash, &iss);
      break;
    }
    default: break;
  }
}

}  // namespace ustcp
