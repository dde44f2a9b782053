// The send queue and the receive queues against naive models, with sequence numbers that wrap. D1, D4.
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>
#include <vector>

#include "stack/base/user_vector.h"
#include "stack/net/transport.h"
#include "stack/tcp/receive.h"
#include "stack/tcp/segment.h"
#include "stack/tcp/send_queue.h"
#include "stack/tcp/tcb.h"
#include "tests/support/test_host.h"

namespace ustcp::test {
namespace {

class QueueTest : public ::testing::Test {
 protected:
  QueueTest() : lock(box.host(), box.NewShard(), TestHost::DefaultStart()), ctx(lock.ctx) {
    conn = ctx.shard.connections.Take();
  }
  static std::byte At(uint32_t i) { return static_cast<std::byte>(i * 2654435761u >> 24); }

  TestHost box;
  ShardLock lock;
  Context& ctx;
  Connection* conn;
};

TEST_F(QueueTest, D1SendQueueKeepsWhatIsNotAcknowledged) {
  for (uint32_t seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    Seq start(0xffffff00u - seed);
    conn->snd.snd_una = conn->snd.snd_nxt = conn->snd.write_end = start;
    conn->sndbuf = 300'000;
    uint32_t written = 0, acked = 0;
    for (int step = 0; step < 400; ++step) {
      uint32_t queued = written - acked;
      ASSERT_EQ(QueuedBytes(*conn), queued);
      ASSERT_EQ(SendQueueRoom(*conn), queued < conn->sndbuf ? conn->sndbuf - queued : 0);
      switch (random() % 4) {
        case 0: {
          size_t want = std::min<size_t>(random() % (random() % 4 == 0 ? 100'000 : 2000), SendQueueRoom(*conn));
          std::vector<std::byte> data(want + 7);
          for (size_t i = 0; i < want; ++i) data[i + 7] = At(written + static_cast<uint32_t>(i));
          size_t half = random() % (want + 8);
          iovec iov[2] = {{data.data(), half}, {data.data() + half, data.size() - half}};
          UserVector from(iov, 2, data.size());
          std::byte before[7];
          ASSERT_TRUE(from.CopyIn(before, 7));
          ASSERT_EQ(AppendToSendQueue(ctx, *conn, from, want), want);
          ASSERT_EQ(from.left(), 0u);
          written += static_cast<uint32_t>(want);
          break;
        }
        case 1:
          if (queued != 0) {
            uint32_t offset = static_cast<uint32_t>(random()) % queued;
            uint32_t length = 1 + static_cast<uint32_t>(random()) % (queued - offset);
            TxFrame frame;
            uint32_t got = GatherFromSendQueue(*conn, conn->snd.snd_una + offset, length, frame);
            ASSERT_TRUE(got == length || frame.piece_count == TxFrame::kMaxPieces);
            uint32_t at = acked + offset;
            for (int p = 0; p < frame.piece_count; ++p)
              for (size_t i = 0; i < frame.pieces[p].iov_len; ++i)
                ASSERT_EQ(static_cast<std::byte*>(frame.pieces[p].iov_base)[i], At(at++));
            ASSERT_EQ(at, acked + offset + got);
          }
          break;
        case 2: {
          // A source that gives what it has, piece by piece, and sometimes ends before what was asked for.
          struct Stock {
            uint32_t next;
            size_t left;
          } stock{written, random() % (random() % 4 == 0 ? 100'000 : 2000)};
          SendSource source;
          source.self = &stock;
          source.read = [](void* self, std::byte* to, size_t n) {
            auto& from = *static_cast<Stock*>(self);
            n = std::min(n, from.left);
            for (size_t i = 0; i < n; ++i) to[i] = At(from.next++);
            from.left -= n;
            return n;
          };
          size_t want = std::min<size_t>(random() % 3 == 0 ? stock.left + 1 : stock.left, SendQueueRoom(*conn));
          size_t expected = std::min(want, stock.left);
          ASSERT_EQ(AppendToSendQueue(ctx, *conn, source, want), expected);
          ASSERT_EQ(source.ended, expected < want);
          for (const Buf* b = conn->send_head; b != nullptr; b = b->next) ASSERT_NE(b->length, 0u);
          written += static_cast<uint32_t>(expected);
          break;
        }
        case 3:
          acked += queued != 0 ? static_cast<uint32_t>(random()) % (queued + 1) : 0;
          conn->snd.snd_una = start + acked;
          TrimSendQueue(ctx, *conn);
          break;
      }
    }
    conn->snd.snd_una = conn->snd.write_end;
    TrimSendQueue(ctx, *conn);
    EXPECT_EQ(ctx.shard.bufs.bytes_taken(), 0u);
    EXPECT_EQ(conn->send_memory, 0u);
  }
}

TEST_F(QueueTest, D1ReassemblyAgainstANaiveModel) {
  for (uint32_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    constexpr uint32_t kBytes = 60'000;
    Seq start(0xffff8000u + seed);
    new (conn) Connection{};
    conn->kind = SlotKind::kConnection;
    conn->snd.sack_ok = true;
    conn->rcvbuf = 1 << 20;
    conn->rcv_nxt = conn->copied_seq = start;
    std::vector<bool> have(kBytes, false);
    uint32_t next = 0;
    while (next < kBytes) {
      uint32_t from = static_cast<uint32_t>(random()) % kBytes;
      if (random() % 3 == 0) from = next;
      if (from < next) from = next;
      uint32_t length =
          std::min(1 + static_cast<uint32_t>(random()) % (random() % 5 == 0 ? 9000 : 1500), kBytes - from);
      std::vector<std::byte> bytes(length);
      for (uint32_t i = 0; i < length; ++i) bytes[i] = At(from + i);
      RxFrame frame;
      TcpPacket packet;
      packet.frame = &frame;
      Segment seg;
      seg.packet = &packet;
      seg.seq = start + from;
      seg.end = seg.seq + length;
      seg.payload = bytes;
      if (from == next) {
        ASSERT_TRUE(QueueInOrder(ctx, *conn, seg));
        EXPECT_FALSE(DrainOutOfOrder(ctx, *conn));
        TrimSackBlocks(*conn);
      } else {
        QueueOutOfOrder(ctx, *conn, seg);
      }
      for (uint32_t i = from; i < from + length; ++i) have[i] = true;
      while (next < kBytes && have[next]) ++next;
      ASSERT_EQ(conn->rcv_nxt, start + next);
      // Every block reported lies in what arrived beyond the hole, blocks are disjoint, the newest comes first.
      for (uint8_t b = 0; b < conn->sack_count; ++b) {
        SeqRange block = conn->sack_blocks[b];
        ASSERT_TRUE(block.begin.After(conn->rcv_nxt));
        for (uint32_t i = block.begin.raw() - start.raw(); i < block.end.raw() - start.raw(); ++i) ASSERT_TRUE(have[i]);
        for (uint8_t c = 0; c < b; ++c) ASSERT_FALSE(block.Touches(conn->sack_blocks[c]));
      }
      if (from > next) {
        ASSERT_TRUE(conn->sack_blocks[0].Contains(SeqRange{seg.seq, seg.end}));
      }
      // The queue is sorted and disjoint.
      for (Buf* b = conn->ofo_head; b != nullptr && b->next != nullptr; b = b->next)
        ASSERT_TRUE((Seq(b->seq) + b->length).AtOrBefore(Seq(b->next->seq)));
    }
    ASSERT_EQ(conn->ofo_head, nullptr);
    EXPECT_EQ(conn->sack_count, 0);
    uint32_t at = 0;
    for (Buf* b = conn->rcv_head; b != nullptr; b = b->next)
      for (std::byte c : b->bytes()) ASSERT_EQ(c, At(at++));
    EXPECT_EQ(at, kBytes);
    EXPECT_EQ(conn->bytes_received, kBytes);
    PurgeReceiveQueue(ctx, *conn);
    EXPECT_EQ(conn->rcv_memory, 0u);
    EXPECT_EQ(ctx.shard.bufs.bytes_taken(), 0u);
  }
}

TEST_F(QueueTest, D4DuplicateIsReportedByDsack) {
  conn->snd.sack_ok = true;
  conn->rcvbuf = 1 << 20;
  conn->rcv_nxt = conn->copied_seq = Seq(1000);
  std::vector<std::byte> bytes(500);
  TcpPacket packet;
  Segment seg;
  seg.packet = &packet;
  seg.seq = Seq(2000);
  seg.end = Seq(2500);
  seg.payload = bytes;
  EXPECT_TRUE(QueueOutOfOrder(ctx, *conn, seg));
  EXPECT_FALSE(conn->dsack);
  EXPECT_FALSE(QueueOutOfOrder(ctx, *conn, seg));
  ASSERT_TRUE(conn->dsack);
  EXPECT_EQ(conn->duplicate_sack, (SeqRange{Seq(2000), Seq(2500)}));
  EXPECT_EQ(ctx.counters().Get(Counter::kTcpExtTCPDSACKOfoSent), 1u);
}

}  // namespace
}  // namespace ustcp::test
