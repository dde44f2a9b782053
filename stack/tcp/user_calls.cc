// The user calls of RFC 9293 3.9.1 on an open connection: SEND, RECEIVE, STATUS.
#include <sys/epoll.h>

#include <algorithm>
#include <cstring>

#include "stack/base/fault.h"
#include "stack/base/user_vector.h"
#include "stack/host/host.h"
#include "stack/tcp/connection_timers.h"
#include "stack/tcp/input.h"
#include "stack/tcp/output.h"
#include "stack/tcp/receive.h"
#include "stack/tcp/receive_window.h"
#include "stack/tcp/recovery/env.h"
#include "stack/tcp/send_queue.h"
#include "stack/tcp/state.h"
#include "stack/tcp/tcb.h"
#include "stack/tcp/user.h"

namespace ustcp {
namespace {

// Frees what lies before copied_seq.
void TrimReceiveQueue(Context& ctx, Connection& conn) {
  while (Buf* b = conn.rcv_head) {
    uint32_t read = conn.copied_seq.raw() - b->seq;
    if (static_cast<int32_t>(read) <= 0) break;
    if (read < b->length) {
      b->offset += read;
      b->length -= read;
      b->seq += read;
      break;
    }
    conn.rcv_head = b->next;
    USTCP_FAULT_POINT();
    if (conn.rcv_head == nullptr) conn.rcv_tail = nullptr;
    conn.rcv_memory -= static_cast<uint32_t>(b->tag);
    ctx.shard.bufs.Give(b);
  }
}

// The program made room: the peer may have to be told (Linux: tcp_cleanup_rbuf).
void OnRoomMade(Context& ctx, Connection& conn, size_t copied) {
  if (conn.state == TcpState::kClosed) return;
  bool due = false;
  if (conn.ack_scheduled) {
    bool interactive = conn.pingpong >= ctx.sysctls().tcp_pingpong_thresh;
    due = conn.rcv_nxt.raw() - conn.rcv_wup.raw() > conn.rcv_mss ||
          (copied > 0 && (conn.ack_pushed2 || (conn.ack_pushed && !interactive)) && conn.rcv_head == nullptr);
  }
  // RFC 9293 3.8.6.2.2: an update is worth a segment when it at least doubles the window.
  if (copied > 0 && !due && !conn.fin_received && !conn.shut_rd) {
    uint32_t now = ReceiveWindow(conn);
    if (2 * uint64_t{now} <= conn.window_clamp) {
      uint32_t fresh = ComputeWindow(conn);
      due = fresh != 0 && fresh >= 2 * uint64_t{now};
    }
  }
  if (due) AckNow(ctx, conn);
}

// Bytes were put into the send queue: they go out with the next poll.
void OnQueued(Context& ctx, Connection& conn, bool more, bool urgent) {
  conn.cork_more = more;
  // PSH marks where the program stopped, and every half window of a long stream.
  bool forced = conn.snd.write_end.After(conn.pushed_seq + conn.snd.max_window / 2);
  if (!more || forced) conn.pushed_seq = conn.snd.write_end;
  if (urgent) {
    conn.snd_up = conn.snd.write_end;
    conn.urgent_out = true;
  }
  ctx.shard.transmit.Add(conn);
}

bool StreamReadable(const Connection& conn, uint32_t target) {
  uint32_t available = conn.rcv_nxt.raw() - conn.copied_seq.raw();
  if (available == 0 || static_cast<int32_t>(available) < 0) return false;
  return available >= target || conn.rcv_memory >= conn.rcvbuf || ReceiveWindow(conn) <= conn.rcv_mss;
}

bool StreamWritable(const Connection& conn, const TcpUser& socket) {
  uint32_t queued = QueuedBytes(conn);
  if (queued >= conn.sndbuf || conn.sndbuf - queued < queued / 2) return false;
  int32_t lowat = socket.options.notsent_lowat;
  return lowat <= 0 || conn.snd.write_end.raw() - conn.snd.snd_nxt.raw() < static_cast<uint32_t>(lowat);
}

}  // namespace

size_t TcpSend(Context& ctx, Connection& conn, UserVector& from, bool more, bool urgent) noexcept {
  size_t total = from.left();
  size_t room = std::min(total, SendQueueRoom(conn));
  OnApplicationWrite(EnvOf(ctx), conn.snd);
  size_t taken = room != 0 ? AppendToSendQueue(ctx, conn, from, room) : 0;
  if (taken < total && !from.faulted()) conn.wants_space = true;
  if (taken != 0) OnQueued(ctx, conn, more, urgent && taken == total);
  return taken;
}

size_t TcpSendFrom(Context& ctx, Connection& conn, SendSource& source, size_t limit, bool more) noexcept {
  size_t room = std::min(limit, SendQueueRoom(conn));
  OnApplicationWrite(EnvOf(ctx), conn.snd);
  size_t taken = room != 0 ? AppendToSendQueue(ctx, conn, source, room) : 0;
  if (taken < limit && !source.ended) conn.wants_space = true;
  // A source that ends early has the rest elsewhere, and it follows at once.
  if (taken != 0) OnQueued(ctx, conn, more || taken < limit, false);
  return taken;
}

size_t TcpReceive(Context& ctx, Connection& conn, UserVector& to, bool peek, bool discard) noexcept {
  const size_t limit = to.left();
  Seq at = conn.copied_seq;
  size_t copied = 0;
  bool is_inline = UrgentInline(conn);
  for (Buf* b = conn.rcv_head; b != nullptr && copied < limit; b = b->next) {
    uint32_t offset = at.raw() - b->seq;
    if (static_cast<int32_t>(offset) < 0) break;
    if (offset >= b->length) continue;
    while (offset < b->length && copied < limit) {
      size_t n = std::min<size_t>(limit - copied, b->length - offset);
      if (conn.urgent_data != 0) {
        uint32_t mark = conn.urgent_seq.raw() - at.raw();
        if (mark == 0 && copied > 0) goto done;  // a read stops at the mark, the next one starts there
        if (mark == 0 && !is_inline) {
          at += 1;
          ++offset;
          continue;
        }
        if (mark != 0 && mark < n) n = mark;
      }
      if (discard)
        to.Skip(n);
      else if (!to.CopyOut(b->begin() + offset, n))
        goto done;
      at += static_cast<uint32_t>(n);
      offset += static_cast<uint32_t>(n);
      copied += n;
    }
  }
done:
  if (peek) return copied;
  conn.copied_seq = at;
  USTCP_FAULT_POINT();
  if (conn.urgent_data != 0 && conn.copied_seq.After(conn.urgent_seq)) conn.urgent_data = 0;
  TrimReceiveQueue(ctx, conn);
  if (copied != 0) AdjustReceiveSpace(ctx, conn);
  OnRoomMade(ctx, conn, copied);
  return copied;
}

Result<size_t> TcpReceiveUrgent(Context& ctx, Connection& conn, UserVector& to, bool peek, bool discard) noexcept {
  (void)ctx;
  if (UrgentInline(conn) || conn.urgent_data == 0 || conn.urgent_data == kUrgentRead) return Error{EINVAL};
  if ((conn.urgent_data & kUrgentValid) != 0) {
    auto byte = static_cast<std::byte>(conn.urgent_data & 0xff);
    if (!peek) conn.urgent_data = kUrgentRead;  // also when there is no place for it, as with Linux
    if (to.left() == 0) return size_t{0};
    if (!discard && !to.CopyOut(&byte, 1)) return Error{EFAULT};
    return size_t{1};
  }
  if (conn.state == TcpState::kClosed || conn.fin_received || conn.shut_rd) return size_t{0};
  return Error{EAGAIN};
}

bool TcpAtMark(const Connection& conn) noexcept { return conn.urgent_data != 0 && conn.urgent_seq == conn.copied_seq; }

size_t TcpReadable(const Connection& conn) noexcept {
  if (conn.state == TcpState::kSynSent || conn.state == TcpState::kSynRecv) return 0;
  if (!UrgentInline(conn) && conn.urgent_data != 0 && conn.urgent_seq.AtOrAfter(conn.copied_seq) &&
      conn.urgent_seq.Before(conn.rcv_nxt))
    return conn.urgent_seq.raw() - conn.copied_seq.raw();
  return UnreadBytes(conn);
}

bool TcpPeerFinished(const Connection& conn) noexcept { return conn.fin_received && UnreadBytes(conn) == 0; }

size_t TcpUnacked(const Connection& conn) noexcept {
  if (conn.state == TcpState::kSynSent || conn.state == TcpState::kSynRecv || conn.state == TcpState::kClosed) return 0;
  int32_t unacked = SendEnd(conn) - conn.snd.snd_una;
  return unacked > 0 ? static_cast<size_t>(unacked) : 0;
}

size_t TcpUnsent(const Connection& conn) noexcept {
  if (conn.state == TcpState::kSynSent || conn.state == TcpState::kSynRecv || conn.state == TcpState::kClosed) return 0;
  int32_t unsent = SendEnd(conn) - conn.snd.snd_nxt;
  return unsent > 0 ? static_cast<size_t>(unsent) : 0;
}

size_t TcpSendRoom(const Connection& conn) noexcept {
  return conn.state == TcpState::kEstablished || conn.state == TcpState::kCloseWait ? SendQueueRoom(conn) : 0;
}

uint32_t TcpPoll(const Connection& conn, const TcpUser& socket) noexcept {
  bool closed = conn.state == TcpState::kClosed;
  bool receive_done = conn.fin_received || conn.shut_rd || closed;
  bool send_done = conn.snd.fin_queued || closed;
  uint32_t mask = 0;
  if (closed || (receive_done && send_done)) mask |= EPOLLHUP;
  if (receive_done) mask |= EPOLLIN | EPOLLRDNORM | EPOLLRDHUP;
  if (conn.state != TcpState::kSynSent && conn.state != TcpState::kSynRecv) {
    auto target = static_cast<uint32_t>(std::max(socket.options.rcvlowat, 1));
    if (TcpAtMark(conn) && !socket.options.oob_inline) ++target;
    if (StreamReadable(conn, target)) mask |= EPOLLIN | EPOLLRDNORM;
    if (send_done || StreamWritable(conn, socket)) mask |= EPOLLOUT | EPOLLWRNORM;
    if ((conn.urgent_data & kUrgentValid) != 0) mask |= EPOLLPRI;
  }
  if (socket.error != 0) mask |= EPOLLERR;
  return mask;
}

}  // namespace ustcp
