// What must hold of a shard whenever nobody is inside it. Called by tests after every step, so it walks every record; it
// changes nothing and may be slow.
#include <algorithm>
#include <cstring>
#include <iterator>

#include "stack/host/bufs.h"
#include "stack/host/host.h"
#include "stack/socket/socket.h"
#include "stack/stack.h"
#include "stack/tcp/listener.h"
#include "stack/tcp/send_queue.h"
#include "stack/tcp/tcb.h"

namespace ustcp {
namespace {

class Checker {
 public:
  Checker(Context& ctx, char* why, size_t why_bytes) : ctx_(ctx), shard_(ctx.shard), why_(why), why_bytes_(why_bytes) {}

  int Run() {
    shard_.connections.ForEachLive([this](Connection& c) { CheckConnection(c); });
    shard_.half_opens.ForEachLive([this](HalfOpen& h) { CheckHalfOpen(h); });
    shard_.time_waits.ForEachLive([this](TimeWait& t) { CheckTimeWait(t); });
    shard_.sockets.ForEachLive([this](Socket& s) { CheckSocket(s); });
    shard_.listeners.ForEachLive([this](Listener& l) { CheckListener(l); });
    shard_.tx_segments.ForEachLive([this](TxSegment& r) {
      ++records_;
      if (r.sender == nullptr) Fail("a segment record without a sender");
    });
    CheckTransmitList();
    CheckBufs();
    if (records_in_queues_ != records_) Fail("a segment record outside every queue");
    if (armed_ != shard_.timers.armed()) Fail("timers armed without an owner");
    if (shard_.in_update != nullptr) Fail("a connection is still marked as being changed");
    return broken_;
  }

 private:
  void Fail(const char* what) {
    if (broken_++ != 0 || why_bytes_ == 0) return;
    const size_t bytes = std::min(std::strlen(what), why_bytes_ - 1);
    std::memcpy(why_, what, bytes);
    why_[bytes] = 0;
  }
  // For the next step along a list. Lists end, but for an arena that somebody has written into.
  bool Goes() {
    constexpr size_t kMostSteps = size_t{1} << 26;
    if (++steps_ == kMostSteps) Fail("a list without an end");
    return steps_ < kMostSteps;
  }
  void Expect(bool holds, const char* what) {
    if (!holds) Fail(what);
  }
  size_t BytesOf(const Buf& b) {
    const auto index = static_cast<size_t>(b.buf_class);
    if (index < std::size(kBufBytes)) return kBufBytes[index];
    Fail("a buffer of no class");
    return 0;
  }
  void CheckTimer(const TimerNode& timer, const SlotHeader& owner) {
    if (!timer.armed()) return;
    ++armed_;
    Expect(timer.owner == &owner, "a timer of somebody else");
    Expect(timer.deadline != kNever, "a timer armed for never");
  }
  void CheckTuple(TupleNode& node, const char* what) {
    if (node.hashed) Expect(ctx_.host.tuples.Find(node.tuple, node.hash) == &node, what);
  }

  // --- connections ---

  void CheckConnection(Connection& c) {
    CheckTuple(c, "a connection that its tuple does not find");
    CheckTimer(c.timer, c);
    // A closed connection has given its records back; its numbers stay for whoever asks.
    if (const char* sender = CheckSender(c.snd); sender != nullptr && c.state != TcpState::kClosed) Fail(sender);
    for (const TxSegment* r = c.snd.queue.head(); r != nullptr && Goes(); r = r->next) ++records_in_queues_;
    CheckSendQueue(c);
    CheckReceiveQueue(c);
    CheckOutOfOrder(c);
    CheckDeadlines(c);
    const bool closed = c.state == TcpState::kClosed;
    Expect(closed != c.hashed, "a connection is registered exactly while it is not closed");
    Expect(c.socket == nullptr || !c.orphan, "an orphan with a socket");
    if (c.socket != nullptr)
      Expect(c.socket->conn == &c, "a socket that does not know its connection");
    else
      Expect(!closed, "a closed connection without a socket was not freed");
    Expect(c.state != TcpState::kListen && c.state != TcpState::kTimeWait, "a state that has records of its own");
    if (c.tx_listed) ++listed_;
  }

  void CheckSendQueue(const Connection& c) {
    const Sender& s = c.snd;
    if (c.state == TcpState::kClosed) {
      Expect(c.send_head == nullptr, "a closed connection with data to send");
      return;
    }
    // shutdown() during a simultaneous open leaves SYN_RECV with the SYN still unacknowledged.
    const bool syn_unacked = c.state == TcpState::kSynSent || c.state == TcpState::kSynRecv || s.snd_una == c.iss;
    if (!syn_unacked) Expect(SendEnd(c).AtOrAfter(s.snd_nxt), "snd_nxt beyond what was written");
    // The SYN has a number but no byte; a FIN that was acknowledged lies behind write_end.
    Seq expect = syn_unacked ? c.iss + 1 : Seq::Earliest(s.snd_una, s.write_end);
    uint32_t memory = 0;
    const Buf* last = nullptr;
    bool cursor_found = c.send_cursor == nullptr;
    for (const Buf* b = c.send_head; b != nullptr && Goes(); last = b, b = b->next) {
      Expect(b->kind == SlotKind::kBuf, "a free buffer in a send queue");
      Expect(b->length != 0, "an empty buffer in a send queue");
      Seq begin{b->seq};
      if (b == c.send_head) {
        Expect(begin.AtOrBefore(expect) && (begin + b->length).After(expect),
               "the send queue does not begin at snd_una");
      } else {
        Expect(begin == expect, "a gap in the send queue");
      }
      expect = begin + b->length;
      memory += static_cast<uint32_t>(BytesOf(*b));
      if (b == c.send_cursor) cursor_found = true;
    }
    Expect(last == c.send_tail, "wrong tail of a send queue");
    Expect(expect == s.write_end, "the send queue does not end at write_end");
    Expect(memory == c.send_memory, "send_memory does not match the queue");
    Expect(cursor_found, "send_cursor outside the queue");
  }

  void CheckReceiveQueue(const Connection& c) {
    uint32_t bytes = 0;
    const Buf* last = nullptr;
    Seq expect = c.copied_seq;
    for (const Buf* b = c.rcv_head; b != nullptr && Goes(); last = b, b = b->next) {
      Expect(b->kind == SlotKind::kBuf, "a free buffer in a receive queue");
      Expect(b->length != 0, "an empty buffer in a receive queue");
      bytes += b->length;
      expect = Seq(b->seq) + b->length;
    }
    Expect(last == c.rcv_tail, "wrong tail of a receive queue");
    if (c.rcv_head != nullptr)
      Expect(c.fin_received ? expect + 1 == c.rcv_nxt : expect == c.rcv_nxt,
             "the receive queue does not end at rcv_nxt");
    if (c.state == TcpState::kSynSent || c.state == TcpState::kClosed) return;
    Expect(c.copied_seq.AtOrBefore(c.rcv_nxt), "copied_seq beyond rcv_nxt");
    uint32_t unread = c.rcv_nxt.raw() - c.copied_seq.raw() - (c.fin_received ? 1 : 0);
    Expect(unread == bytes || c.shut_rd || c.fin_received, "the receive queue does not hold what is unread");
  }

  void CheckOutOfOrder(const Connection& c) {
    const Buf* last = nullptr;
    for (const Buf* b = c.ofo_head; b != nullptr && Goes(); last = b, b = b->next) {
      Expect(b->kind == SlotKind::kBuf, "a free buffer out of order");
      if (last == nullptr)
        Expect(Seq(b->seq).After(c.rcv_nxt), "data out of order that is due");
      else
        Expect(Seq(b->seq).AtOrAfter(Seq(last->seq) + last->length), "out-of-order data overlaps or is not sorted");
    }
    Expect(last == c.ofo_tail, "wrong tail of the out-of-order queue");
    Expect(c.sack_count <= 4, "too many SACK blocks");
    for (int i = 0; i < c.sack_count && i < 4; ++i) {
      Expect(!c.sack_blocks[i].empty(), "an empty SACK block");
      Expect(c.sack_blocks[i].begin.After(c.rcv_nxt), "a SACK block below rcv_nxt");
      for (int j = 0; j < i; ++j) Expect(!c.sack_blocks[i].Overlaps(c.sack_blocks[j]), "SACK blocks overlap");
    }
  }

  // The wheel must wake the connection no later than any of its deadlines.
  void CheckDeadlines(const Connection& c) {
    Instant earliest = std::min({c.snd.xmit_deadline, c.delack_deadline, c.slow_deadline});
    if (c.state == TcpState::kClosed) {
      Expect(!c.timer.armed(), "a timer of a closed connection");
      return;
    }
    if (earliest != kNever) Expect(c.timer.armed() && c.timer.deadline <= earliest, "a deadline that nobody waits for");
    Expect((c.slow_timer == SlowTimer::kNone) == (c.slow_deadline == kNever), "slow timer without deadline");
  }

  void CheckTransmitList() {
    size_t count = 0;
    const TransmitNode* last = nullptr;
    for (const TransmitNode* c = shard_.transmit.first(); c != nullptr; last = c, c = c->tx_next) {
      Expect(c->kind == SlotKind::kConnection && c->tx_listed, "a stranger on the transmit list");
      if (++count > listed_) break;
    }
    Expect(count == listed_, "the transmit list and its members disagree");
    Expect(last == shard_.transmit.last(), "wrong tail of the transmit list");
  }

  // --- buffers ---

  void Reach(const Buf* b) {
    for (; b != nullptr && Goes(); b = b->next) ReachOne(*b);
  }
  void ReachOne(const Buf& b) {
    Expect(b.kind == SlotKind::kBuf, "a free buffer in use");
    Expect(b.pool == shard_.index, "a buffer of another pool in use");
    ++bufs_reached_;
  }

  // Every buffer of this pool is free, an engine's, or in exactly one queue.
  void CheckBufs() {
    shard_.connections.ForEachLive([this](Connection& c) {
      Reach(c.send_head);
      Reach(c.rcv_head);
      Reach(c.ofo_head);
    });
    Reach(shard_.ready_frames_head);
    for (const Datagram& datagram : shard_.reassembly.datagrams)
      if (datagram.used && datagram.buffer != nullptr) ReachOne(*datagram.buffer);
    size_t taken = 0, bytes = 0, coming = 0, mail = 0;
    shard_.mailbox.ForEach([this, &mail](const Buf&) {
      ++mail;
      return Goes();
    });
    ForEachBuf(ctx_.host, [&](const Buf& b) {
      if (b.kind == SlotKind::kFree) return;
      if (b.pool == (shard_.index | kOnTheWay)) ++coming;
      if (b.pool != shard_.index) return;
      bytes += BytesOf(b);
      if ((b.flags & kBufInEngine) == 0) ++taken;
    });
    Expect(coming == mail, "a buffer on its way that is not in the mailbox");
    Expect(taken <= bufs_reached_, "a taken buffer that is in no queue");
    Expect(taken >= bufs_reached_, "a buffer in two queues");
    Expect(bytes == shard_.bufs.bytes_taken(), "bytes_taken does not match the buffers");
  }

  // --- the other records ---

  void CheckHalfOpen(HalfOpen& h) {
    CheckTuple(h, "a half-open connection that its tuple does not find");
    CheckTimer(h.timer, h);
    Expect(h.timer.armed(), "a half-open connection without a timer");
    Expect(h.listener != nullptr, "a half-open connection without a listener");
  }

  void CheckTimeWait(TimeWait& t) {
    CheckTuple(t, "a TIME_WAIT that its tuple does not find");
    CheckTimer(t.timer, t);
    Expect(t.timer.armed(), "a TIME_WAIT without a timer");
    Expect(t.substate == TcpState::kTimeWait || t.substate == TcpState::kFinWait2, "a TIME_WAIT in another state");
  }

  void CheckSocket(const Socket& s) {
    Expect(s.refs.load() != 0, "a socket without references");
    if (s.conn != nullptr) {
      Expect(s.conn->kind == SlotKind::kConnection, "a socket with a freed connection");
      Expect(s.conn->socket == &s, "a connection that does not know its socket");
    }
    Expect((s.state == SocketState::kListening) == (s.listener != nullptr), "a listener without its state");
    Expect(s.parent == nullptr || s.parent->kind == SlotKind::kListener, "queued at a freed listener");
  }

  void CheckListener(Listener& l) {
    Expect(l.socket != nullptr && l.socket->listener == &l, "a listener without a socket");
    // Half-open connections and queued sockets may be of other shards: only what is certainly wrong is reported.
    uint32_t here = 0, young = 0, queued = 0;
    shard_.half_opens.ForEachLive([&](HalfOpen& h) {
      if (!Goes() || h.listener != &l || h.listener_generation != l.generation) return;
      ++here;
      if (h.young) ++young;
    });
    Expect(here <= l.half_open_count.load(), "half_open_count too low");
    Expect(young <= l.half_open_young.load(), "half_open_young too low");
    for (auto& queue : l.queues) {
      const Socket* last = nullptr;
      for (const Socket* s = queue.head; s != nullptr && Goes(); last = s, s = s->accept_next) {
        ++queued;
        Expect(s->kind == SlotKind::kSocket && s->parent == &l, "a stranger in an accept queue");
      }
      Expect(last == queue.tail, "wrong tail of an accept queue");
    }
    Expect(queued == l.accept_count.load(), "accept_count does not match the queues");
    bool only = ctx_.host.shards[1].random_state == 0;  // no second shard was ever laid out
    if (!only) return;
    Expect(here == l.half_open_count.load(), "half_open_count too high");
    Expect(young == l.half_open_young.load(), "half_open_young too high");
  }

  Context& ctx_;
  Shard& shard_;
  char* why_;
  size_t why_bytes_;
  int broken_ = 0;
  size_t steps_ = 0;
  size_t armed_ = 0;
  size_t listed_ = 0;
  size_t records_ = 0;
  size_t records_in_queues_ = 0;
  size_t bufs_reached_ = 0;
};

}  // namespace

int CheckInvariants(Context& ctx, char* why, size_t why_bytes) noexcept { return Checker(ctx, why, why_bytes).Run(); }

}  // namespace ustcp
