#include "stack/tcp/send_queue.h"

#include <algorithm>
#include <cstring>

#include "stack/base/fault.h"
#include "stack/base/user_vector.h"
#include "stack/host/host.h"
#include "stack/tcp/recovery/env.h"
#include "stack/tcp/tcb.h"
#include "stack/tcp/tcp.h"

namespace ustcp {
namespace {

class UserReader {
 public:
  static constexpr size_t kWorthwhile = 1;
  explicit UserReader(UserVector& from) : from_(from) {}
  size_t Read(std::byte* to, size_t wanted) { return from_.CopyIn(to, wanted) ? wanted : 0; }

 private:
  UserVector& from_;
};

// A small write in front of an idle connection gets a small Buf; with data waiting already more is likely to come, and
// larger pieces make cheaper frames.
BufClass ClassForAppend(const Connection& conn, size_t bytes) {
  constexpr size_t kFrameBufFrom = 48 * 1024;
  if (bytes >= kFrameBufFrom) return BufClass::kFrame;
  size_t expected = std::max<size_t>(bytes, std::min<uint32_t>(QueuedBytes(conn), 8192));
  return std::min(BufPool::ClassFor(expected), BufClass::kLarge);
}

// `reader.Read(to, n)` puts at most n bytes at `to`; fewer end the appending.
template <typename Reader>
size_t Append(Context& ctx, Connection& conn, Reader& reader, size_t limit) {
  size_t done = 0;
  while (done < limit) {
    Buf* tail = conn.send_tail;
    Buf* fresh = nullptr;
    if (tail == nullptr || tail->tailroom() < std::min(limit - done, Reader::kWorthwhile)) {
      fresh = ctx.shard.bufs.Take(ClassForAppend(conn, limit - done));
      if (fresh == nullptr) break;
      fresh->seq = conn.snd.write_end.raw();
    }
    Buf* into = fresh != nullptr ? fresh : tail;
    size_t wanted = std::min(limit - done, into->tailroom());
    size_t n = reader.Read(into->end(), wanted);
    if (fresh != nullptr) {
      // An empty buffer would stay until the connection ends: nothing acknowledges it.
      if (n == 0) {
        ctx.shard.bufs.Give(fresh);
        break;
      }
      if (tail != nullptr)
        tail->next = fresh;
      else
        conn.send_head = fresh;
      USTCP_FAULT_POINT();
      conn.send_tail = fresh;
      USTCP_FAULT_POINT();
      conn.send_memory += static_cast<uint32_t>(kBufBytes[static_cast<size_t>(fresh->buf_class)]);
    }
    into->length += static_cast<uint32_t>(n);
    USTCP_FAULT_POINT();
    conn.snd.write_end += static_cast<uint32_t>(n);
    done += n;
    if (n < wanted) break;
  }
  return done;
}

class SourceReader {
 public:
  // Each piece may cost its source a system call: what is left of a buffer is used only if it is enough, or much.
  static constexpr size_t kWorthwhile = 4096;
  explicit SourceReader(SendSource& source) : source_(source) {}
  size_t Read(std::byte* to, size_t wanted) {
    size_t n = source_.read(source_.self, to, wanted);
    if (n < wanted) source_.ended = true;
    return n;
  }

 private:
  SendSource& source_;
};

}  // namespace

size_t SendQueueRoom(const Connection& conn) noexcept {
  uint32_t queued = QueuedBytes(conn);
  return queued < conn.sndbuf ? conn.sndbuf - queued : 0;
}

size_t AppendToSendQueue(Context& ctx, Connection& conn, UserVector& from, size_t limit) noexcept {
  UserReader reader(from);
  return Append(ctx, conn, reader, limit);
}

size_t AppendToSendQueue(Context& ctx, Connection& conn, SendSource& source, size_t limit) noexcept {
  SourceReader reader(source);
  return Append(ctx, conn, reader, limit);
}

uint32_t GatherFromSendQueue(Connection& conn, Seq seq, uint32_t length, TxFrame& frame) noexcept {
  frame.piece_count = 0;
  frame.payload_bytes = 0;
  Buf* b = conn.send_cursor;
  if (b == nullptr || Seq(b->seq).After(seq)) b = conn.send_head;
  while (b != nullptr && (Seq(b->seq) + b->length).AtOrBefore(seq)) b = b->next;
  while (b != nullptr && frame.payload_bytes < length && frame.piece_count < TxFrame::kMaxPieces) {
    uint32_t skip = seq.raw() + frame.payload_bytes - b->seq;
    uint32_t n = std::min(b->length - skip, length - frame.payload_bytes);
    frame.pieces[frame.piece_count++] = {b->begin() + skip, n};
    frame.payload_bytes += n;
    if (skip + n < b->length) break;
    conn.send_cursor = b;
    b = b->next;
  }
  return frame.payload_bytes;
}

void TrimSendQueue(Context& ctx, Connection& conn) noexcept {
  while (Buf* b = conn.send_head) {
    uint32_t acked = conn.snd.snd_una.raw() - b->seq;
    if (static_cast<int32_t>(acked) <= 0) break;
    if (acked < b->length) {
      b->offset += acked;
      b->length -= acked;
      b->seq += acked;
      break;
    }
    conn.send_head = b->next;
    USTCP_FAULT_POINT();
    if (conn.send_head == nullptr) conn.send_tail = nullptr;
    if (conn.send_cursor == b) conn.send_cursor = nullptr;
    conn.send_memory -= static_cast<uint32_t>(kBufBytes[static_cast<size_t>(b->buf_class)]);
    ctx.shard.bufs.Give(b);
  }
}

void ReleaseSendQueue(Context& ctx, Connection& conn) noexcept {
  ReleaseSender(EnvOf(ctx), conn.snd);
  USTCP_FAULT_POINT();
  ctx.shard.bufs.GiveChain(conn.send_head);
  USTCP_FAULT_POINT();
  conn.send_head = conn.send_tail = conn.send_cursor = nullptr;
  conn.send_memory = 0;
}

}  // namespace ustcp
