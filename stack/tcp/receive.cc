#include "stack/tcp/receive.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cstring>

#include "stack/base/fault.h"
#include "stack/host/host.h"
#include "stack/tcp/receive_window.h"
#include "stack/tcp/segment.h"
#include "stack/tcp/tcb.h"
#include "stack/tcp/user.h"

namespace ustcp {
namespace {

// Buf::flags of the out-of-order queue: the peer's FIN follows this Buf's last byte.
constexpr uint8_t kFinFollows = 1;

// What a Buf costs the receive buffer. A taken frame is charged by content: its slack is shared scratch space that
// returns as soon as the program reads.
uint32_t ChargeFor(const Buf& b) {
  constexpr uint32_t kFrameOverhead = 1024;
  if (b.buf_class == BufClass::kFrame) return b.length + kFrameOverhead;
  return static_cast<uint32_t>(kBufBytes[static_cast<size_t>(b.buf_class)]);
}

// Uncharged and unlinked Buf with the payload: the frame's own when that pays.
Buf* MakeBuf(Context& ctx, const Segment& seg, Bytes payload, Seq seq) {
  RxFrame* frame = seg.packet->frame;
  Buf* b;
  if (payload.size() >= kTakeFrameFrom && frame != nullptr && frame->buffer != nullptr) {
    b = frame->buffer;
    frame->buffer = nullptr;
    b->offset = static_cast<uint32_t>(payload.data() - b->data());
  } else {
    b = ctx.shard.bufs.Take(BufPool::ClassFor(payload.size()));
    if (b == nullptr) return nullptr;
    std::memcpy(b->data(), payload.data(), payload.size());
    b->offset = 0;
  }
  b->flags = 0;
  b->next = nullptr;
  b->length = static_cast<uint32_t>(payload.size());
  b->seq = seq.raw();
  b->tag = ChargeFor(*b);
  return b;
}

bool CanCoalesce(const Buf* tail, Seq seq, size_t bytes) {
  return tail != nullptr && tail->flags == 0 && bytes < kTakeFrameFrom && Seq(tail->seq) + tail->length == seq &&
         tail->tailroom() >= bytes;
}

void Coalesce(Context& ctx, Connection& conn, Buf& tail, Bytes payload) {
  std::memcpy(tail.end(), payload.data(), payload.size());
  tail.length += static_cast<uint32_t>(payload.size());
  uint32_t charge = ChargeFor(tail);
  conn.rcv_memory += charge - static_cast<uint32_t>(tail.tag);
  tail.tag = charge;
  ctx.counters().Add(Counter::kTcpExtTCPRcvCoalesce);
}

void FreeCharged(Context& ctx, Connection& conn, Buf* b) {
  conn.rcv_memory -= static_cast<uint32_t>(b->tag);
  ctx.shard.bufs.Give(b);
}

void AppendInOrder(Connection& conn, Buf* b) {
  b->next = nullptr;
  if (conn.rcv_tail != nullptr)
    conn.rcv_tail->next = b;
  else
    conn.rcv_head = b;
  USTCP_FAULT_POINT();
  conn.rcv_tail = b;
}

void TrimFront(Buf& b, uint32_t bytes) {
  b.offset += bytes;
  b.length -= bytes;
  b.seq += bytes;
}

// Notes a new out-of-order range, most recent first, joined with those it touches (Linux: tcp_sack_new_ofo_skb).
void AddSackBlock(Connection& conn, SeqRange range) {
  for (uint8_t i = 0; i < conn.sack_count;) {
    SeqRange& b = conn.sack_blocks[i];
    if (!b.Touches(range)) {
      ++i;
      continue;
    }
    range = {Seq::Earliest(range.begin, b.begin), Seq::Latest(range.end, b.end)};
    for (uint8_t j = i; j + 1 < conn.sack_count; ++j) conn.sack_blocks[j] = conn.sack_blocks[j + 1];
    --conn.sack_count;
  }
  constexpr uint8_t kMax = 4;
  if (conn.sack_count < kMax) ++conn.sack_count;
  for (uint8_t j = conn.sack_count; j-- > 1;) conn.sack_blocks[j] = conn.sack_blocks[j - 1];
  conn.sack_blocks[0] = range;
}

}  // namespace

bool QueueInOrder(Context& ctx, Connection& conn, const Segment& seg) noexcept {
  uint32_t length = seg.length();
  if (CanCoalesce(conn.rcv_tail, conn.rcv_nxt, length)) {
    Coalesce(ctx, conn, *conn.rcv_tail, seg.payload);
  } else {
    Buf* b = MakeBuf(ctx, seg, seg.payload, conn.rcv_nxt);
    if (b == nullptr) return false;
    conn.rcv_memory += static_cast<uint32_t>(b->tag);
    AppendInOrder(conn, b);
  }
  USTCP_FAULT_POINT();
  conn.rcv_nxt += length;
  conn.bytes_received += length;
  return true;
}

void SetDsack(Context& ctx, Connection& conn, SeqRange range) noexcept {
  if (!conn.snd.sack_ok || ctx.sysctls().tcp_dsack == 0) return;
  ctx.counters().Add(range.begin.Before(conn.rcv_nxt) ? Counter::kTcpExtTCPDSACKOldSent
                                                      : Counter::kTcpExtTCPDSACKOfoSent);
  conn.dsack = true;
  conn.duplicate_sack = range;
}

void ExtendDsack(Context& ctx, Connection& conn, SeqRange range) noexcept {
  if (!conn.dsack) {
    SetDsack(ctx, conn, range);
  } else if (conn.duplicate_sack.Touches(range)) {
    conn.duplicate_sack = {Seq::Earliest(conn.duplicate_sack.begin, range.begin),
                           Seq::Latest(conn.duplicate_sack.end, range.end)};
  }
}

void TrimSackBlocks(Connection& conn) noexcept {
  if (conn.ofo_head == nullptr) {
    conn.sack_count = 0;
    return;
  }
  uint8_t kept = 0;
  for (uint8_t i = 0; i < conn.sack_count; ++i)
    if (conn.rcv_nxt.Before(conn.sack_blocks[i].begin)) conn.sack_blocks[kept++] = conn.sack_blocks[i];
  conn.sack_count = kept;
}

bool QueueOutOfOrder(Context& ctx, Connection& conn, const Segment& seg) noexcept {
  // Out-of-order data is a favour: it may use as much again as the buffer, no more (Linux: tcp_try_rmem_schedule).
  if (conn.rcv_memory > conn.rcvbuf && conn.ofo_head != nullptr && Seq(conn.ofo_tail->seq).Before(seg.seq)) {
    ctx.counters().Add(Counter::kTcpExtTCPOFODrop);
    return false;
  }
  ctx.counters().Add(Counter::kTcpExtTCPOFOQueue);
  Seq begin = seg.seq;
  Bytes payload = seg.payload;
  Seq end = begin + static_cast<uint32_t>(payload.size());
  bool fin = seg.fin();
  SeqRange whole{begin, seg.end};

  Buf* before = nullptr;
  Buf* after = conn.ofo_head;
  if (conn.ofo_tail != nullptr && Seq(conn.ofo_tail->seq).AtOrBefore(begin)) {
    before = conn.ofo_tail;
    after = nullptr;
  } else {
    while (after != nullptr && Seq(after->seq).AtOrBefore(begin)) {
      before = after;
      after = after->next;
    }
  }
  // Overlap with what lies before.
  if (before != nullptr) {
    Seq before_end = Seq(before->seq) + before->length;
    bool known_fin = payload.empty() && (before->flags & kFinFollows) != 0;
    if (end.AtOrBefore(before_end) && (!payload.empty() || known_fin)) {
      ctx.counters().Add(Counter::kTcpExtTCPOFOMerge);
      SetDsack(ctx, conn, whole);
      if (conn.snd.sack_ok) AddSackBlock(conn, whole);
      return false;
    }
    if (begin.Before(before_end)) {
      SetDsack(ctx, conn, {begin, before_end});
      payload = payload.subspan(before_end.raw() - begin.raw());
      begin = before_end;
    }
  }
  // Overlap with what follows: the new segment wins where it covers, as in Linux.
  while (after != nullptr && Seq(after->seq).Before(end)) {
    Seq after_end = Seq(after->seq) + after->length;
    if (end.Before(after_end)) {
      ExtendDsack(ctx, conn, {Seq(after->seq), end});
      TrimFront(*after, end.raw() - after->seq);
      break;
    }
    ExtendDsack(ctx, conn, {Seq(after->seq), after_end});
    ctx.counters().Add(Counter::kTcpExtTCPOFOMerge);
    if ((after->flags & kFinFollows) != 0 && after_end == end) fin = true;
    Buf* next = after->next;
    FreeCharged(ctx, conn, after);
    if (before != nullptr)
      before->next = next;
    else
      conn.ofo_head = next;
    if (next == nullptr) conn.ofo_tail = before;
    after = next;
  }
  if (!fin && CanCoalesce(before, begin, payload.size())) {
    Coalesce(ctx, conn, *before, payload);
  } else {
    Buf* b = MakeBuf(ctx, seg, payload, begin);
    if (b == nullptr) return false;
    if (fin) b->flags |= kFinFollows;
    conn.rcv_memory += static_cast<uint32_t>(b->tag);
    b->next = after;
    if (before != nullptr)
      before->next = b;
    else
      conn.ofo_head = b;
    USTCP_FAULT_POINT();
    if (after == nullptr) conn.ofo_tail = b;
  }
  if (conn.snd.sack_ok) AddSackBlock(conn, whole);
  return true;
}

bool DrainOutOfOrder(Context& ctx, Connection& conn) noexcept {
  bool fin = false;
  while (Buf* b = conn.ofo_head) {
    if (Seq(b->seq).After(conn.rcv_nxt)) break;
    conn.ofo_head = b->next;
    USTCP_FAULT_POINT();
    if (conn.ofo_head == nullptr) conn.ofo_tail = nullptr;
    Seq end = Seq(b->seq) + b->length;
    bool fin_follows = (b->flags & kFinFollows) != 0;
    b->flags = 0;
    if (Seq(b->seq).Before(conn.rcv_nxt)) ExtendDsack(ctx, conn, {Seq(b->seq), Seq::Earliest(conn.rcv_nxt, end)});
    if (end.AtOrBefore(conn.rcv_nxt)) {
      if (fin_follows && end == conn.rcv_nxt) fin = true;
      FreeCharged(ctx, conn, b);
    } else {
      if (uint32_t overlap = conn.rcv_nxt.raw() - b->seq; overlap != 0) TrimFront(*b, overlap);
      conn.rcv_nxt += b->length;
      conn.bytes_received += b->length;
      if (CanCoalesce(conn.rcv_tail, Seq(b->seq), b->length)) {
        Coalesce(ctx, conn, *conn.rcv_tail, b->bytes());
        FreeCharged(ctx, conn, b);
      } else {
        AppendInOrder(conn, b);
      }
      fin |= fin_follows;
    }
    if (fin) {
      PurgeOutOfOrder(ctx, conn);
      break;
    }
  }
  return fin;
}

void PurgeOutOfOrder(Context& ctx, Connection& conn) noexcept {
  while (Buf* b = conn.ofo_head) {
    conn.ofo_head = b->next;
    FreeCharged(ctx, conn, b);
  }
  conn.ofo_tail = nullptr;
  conn.sack_count = 0;
}

void PurgeReceiveQueue(Context& ctx, Connection& conn) noexcept {
  while (Buf* b = conn.rcv_head) {
    conn.rcv_head = b->next;
    FreeCharged(ctx, conn, b);
  }
  conn.rcv_tail = nullptr;
}

namespace {

// Linux's tcp_check_urg: a pointer that says nothing new is ignored.
void NoteUrgentPointer(Context& ctx, Connection& conn, const Segment& seg) {
  // The pointer names the octet behind the urgent one (BSD), or the urgent one itself (RFC 6093, tcp_stdurg).
  uint32_t offset = seg.urgent_pointer;
  if (offset != 0 && ctx.sysctls().tcp_stdurg == 0) --offset;
  Seq urgent = seg.seq + offset;
  if (conn.copied_seq.After(urgent) || urgent.Before(conn.rcv_nxt)) return;
  if (conn.urgent_data != 0 && !urgent.After(conn.urgent_seq)) return;
  // An urgent byte that nobody took before the next one came is skipped in the stream.
  if (conn.urgent_data != 0 && conn.urgent_seq == conn.copied_seq && !UrgentInline(conn) &&
      conn.copied_seq != conn.rcv_nxt && conn.rcv_head != nullptr) {
    conn.copied_seq += 1;
    TrimFront(*conn.rcv_head, 1);
    if (conn.rcv_head->length == 0) {
      Buf* b = conn.rcv_head;
      conn.rcv_head = b->next;
      if (conn.rcv_head == nullptr) conn.rcv_tail = nullptr;
      FreeCharged(ctx, conn, b);
    }
  }
  conn.urgent_data = kUrgentNotYet;
  conn.urgent_seq = urgent;
}

}  // namespace

void TakeUrgent(Context& ctx, Connection& conn, const Segment& seg) noexcept {
  if (seg.flags.Has(kTcpUrg)) NoteUrgentPointer(ctx, conn, seg);
  if (conn.urgent_data != kUrgentNotYet) return;
  uint32_t at = conn.urgent_seq.raw() - seg.seq.raw();
  if (at >= seg.length()) return;
  conn.urgent_data = static_cast<uint16_t>(kUrgentValid | std::to_integer<uint8_t>(seg.payload[at]));
  SocketEvents(ctx, conn, EPOLLPRI | EPOLLIN | EPOLLRDNORM);
}

}  // namespace ustcp
