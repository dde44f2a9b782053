// The time of a shard, whoever drives it. A driver reads the clock before it has the lock, and one that delivers to another
// shard in passing brings the time at which its own turn began.
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace ustcp::test
