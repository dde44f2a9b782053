// The time of a shard, whoever drives it. A driver reads the clock before it has the lock, and one that delivers to another
// shard in passing brings the time at which its own turn began.
#include <gtest/gtest.h>

#include "stack/tcp/tcb.h"
#include "tests/support/tcp_pair.h"

namespace ustcp::test {
namespace {

class ShardClock : public TcpPair {};

TEST_F(ShardClock, DoesNotGoBackForALateHolder) {
  Host& host = net->side(0).box.host();
  Shard& shard = net->side(0).shard;
  const Instant later = net->now() + 10ms;
  { ShardLock lock(host, shard, later); }
  ShardLock lock(host, shard, net->now());
  EXPECT_EQ(lock.ctx.now, later);
}

TEST_F(ShardClock, DoesNotGoBackForAVisitor) {
  // D2, D4: a round trip of less than nothing would tell RACK that everything in flight was sent too late to be lost.
  Establish();
  Shard& visitor = net->side(0).box.NewShard();
  std::vector<std::byte> ack;
  net->lose = [&](int from, ConstBytes frame) {
    if (from == 1) ack.assign(frame.begin(), frame.end());
    return from == 1;
  };
  const Instant begun = net->now();
  net->Run(20ms);
  ASSERT_EQ(Send(0, client, 3000), 3000);
  net->Run(3ms);
  ASSERT_FALSE(ack.empty());
  ASSERT_EQ(client->conn->snd.packets_out, 3u);
  {
    ShardLock lock(net->side(0).box.host(), visitor, begun);
    RxFrame frame;
    frame.vnet.flags = VirtioNetHeader::kDataValid;
    frame.bytes = Bytes(ack.data(), ack.size());
    OnFrame(lock.ctx, frame);
  }
  EXPECT_LT(client->conn->snd.packets_out, 3u);
  EXPECT_LT(client->conn->snd.rack.rtt_us, 20'000u);
  EXPECT_LT(client->conn->snd.rtt.srtt_us(), 20'000u);
}

// Who sleeps on a shard learns of a deadline that others bring nearer, from whoever drops the lock.
class ShardDeadline : public TcpPair {
 protected:
  Shard& shard() { return net->side(0).shard; }
  // The shard's leader sleeps until then; what it would be woken for.
  WakeSet SendWhileLeaderSleeps(Instant until) {
    shard().leader_waiter.store(&leader);
    leader.state.store(Waiter::kAsleep);
    shard().leader_until_ns.store(NanosOf(until));
    ShardLock lock(net->side(0).box.host(), shard(), net->now());
    std::byte data[100] = {};
    EXPECT_TRUE(SendSocket(lock.ctx, *client, UserVector(data, sizeof data), 0).ok());
    static TxBatch batch;
    PollTransmit(lock.ctx, batch);
    ReleaseTransmitted(lock.ctx, batch);
    PublishDeadline(lock.ctx);
    return lock.ctx.wakes;
  }
  Waiter leader;
};

TEST_F(ShardDeadline, WakesALeaderThatWouldSleepPastIt) {
  // D2: the retransmission is due in 200 ms or more.
  Establish();
  EXPECT_FALSE(SendWhileLeaderSleeps(kNever).empty());
  EXPECT_EQ(leader.word.load(), 1u);
}

TEST_F(ShardDeadline, LeavesALeaderAsleepThatGetsUpBefore) {
  Establish();
  EXPECT_TRUE(SendWhileLeaderSleeps(net->now() + 4ms).empty());
  EXPECT_EQ(leader.word.load(), 0u);
}

TEST_F(ShardDeadline, TellsTheLeaderOfAShardThatWasVisited) {
  // D8: data that nobody waits for arrives by way of another shard: its ACK is due in 40 ms.
  Establish();
  Shard& visitor = net->side(0).box.NewShard();
  std::vector<std::byte> data;
  net->lose = [&](int from, ConstBytes frame) {
    if (from == 1) data.assign(frame.begin(), frame.end());
    return true;
  };
  net->On(0, [&](Context&) { client->conn->quick = 0; });
  ASSERT_EQ(Send(1, server, 100), 100);
  ASSERT_FALSE(data.empty());
  shard().leader_waiter.store(&leader);
  shard().leader_until_ns.store(NanosOf(kNever));
  ShardLock lock(net->side(0).box.host(), visitor, net->now());
  RxFrame frame;
  frame.vnet.flags = VirtioNetHeader::kDataValid;
  frame.bytes = Bytes(data.data(), data.size());
  OnFrame(lock.ctx, frame);
  EXPECT_EQ(leader.word.load(), 1u);
}

TEST_F(ShardDeadline, NudgesTheKeeperWhereNobodyLeads) {
  Establish();
  ASSERT_EQ(Send(0, client, 100), 100);
  ShardLock lock(net->side(0).box.host(), shard(), net->now());
  ASSERT_NE(NextDeadline(lock.ctx), kNever);
  PublishDeadline(lock.ctx);
  EXPECT_TRUE(lock.ctx.nudge_keeper);
  lock.ctx.nudge_keeper = false;
  PublishDeadline(lock.ctx);
  EXPECT_FALSE(lock.ctx.nudge_keeper) << "it knows by now";
}

}  // namespace
}  // namespace ustcp::test
