// E10 T12: both sides do the same thing at the same moment.
#include "stack/socket/socket.h"
#include "stack/tcp/tcb.h"
#include "tests/sim/sim_pair.h"

namespace ustcp::test {
namespace {

class SimultaneousTest : public testing::TestWithParam<bool> {
 protected:
  // Both bind and connect to each other within the same instant: the SYNs cross.
  void OpenBoth(SimPair& pair) {
    for (int i = 0; i < 2; ++i) {
      Socket* s = pair.Open(i);
      pair.ends[i].socket = s;
      pair.net.On(i, [&](Context& ctx) { ASSERT_FALSE(BindSocket(ctx, *s, pair.AddressOf(i, kSimPort))); });
    }
    // Neighbours first, so that the SYNs leave at once on both sides.
    for (int i = 0; i < 2; ++i)
      pair.net.On(i, [&](Context& ctx) {
        ASSERT_EQ(ConnectSocket(ctx, *pair.ends[i].socket, pair.AddressOf(1 - i, kSimPort)).code, EINPROGRESS);
      });
  }
  TcpState StateOf(SimPair& pair, int side) {
    Socket* s = pair.ends[side].socket;
    return s->conn == nullptr ? TcpState::kClosed : s->conn->state;
  }
};

TEST_P(SimultaneousTest, E10_CrossingSynsMakeOneConnection) {
  SimPair pair(GetParam());
  OpenBoth(pair);
  ASSERT_TRUE(pair.net.RunUntil(
      [&] { return StateOf(pair, 0) == TcpState::kEstablished && StateOf(pair, 1) == TcpState::kEstablished; }, 10s));
  EXPECT_EQ(pair.Invariants(), "");
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(pair.ends[i].socket->conn->simultaneous) << "the SYNs did not cross";
    EXPECT_EQ(pair.ends[i].socket->state, SocketState::kConnected);
    EXPECT_NE(pair.ends[i].socket->ready.load() & EPOLLOUT, 0u) << "whoever waits for the connection is not told";
    pair.ends[i].seed = static_cast<uint64_t>(i);
    pair.ends[i].to_send = 50'000;
  }
  EXPECT_TRUE(pair.net.RunUntil(
      [&] {
        pair.Pump(0);
        pair.Pump(1);
        return pair.Finished() || pair.Failed();
      },
      60s));
  EXPECT_FALSE(pair.Failed());
  EXPECT_EQ(pair.ends[0].received, 50'000u);
  EXPECT_EQ(pair.ends[1].received, 50'000u);
  pair.CloseAndDrain();
}

TEST_P(SimultaneousTest, E10_SurvivesLossOfAnyOneFrame) {
  for (int lost = 0; lost < 8; ++lost) {
    SCOPED_TRACE("frame " + std::to_string(lost));
    SimPair pair(GetParam());
    int frame = 0;
    pair.net.lose = [&](int, ConstBytes) { return frame++ == lost; };
    OpenBoth(pair);
    EXPECT_TRUE(pair.net.RunUntil(
        [&] { return StateOf(pair, 0) == TcpState::kEstablished && StateOf(pair, 1) == TcpState::kEstablished; }, 60s));
    EXPECT_EQ(pair.Invariants(), "");
    pair.CloseAndDrain();
  }
}

TEST_P(SimultaneousTest, T12_CrossingFinsLeadThroughClosingToTimeWaitOnBothSides) {
  SimPair pair(GetParam());
  pair.ends[0].shut = true;  // nothing ends before the two calls below
  ASSERT_TRUE(pair.Connect());
  // Until the client has its first ACK in: nothing is on the way any more.
  pair.net.Run(1s);
  for (int i = 0; i < 2; ++i) pair.net.On(i, [&](Context& ctx) { ReleaseSocket(ctx, *pair.ends[i].socket); });
  pair.ends[0].socket = pair.ends[1].socket = nullptr;
  bool closing[2] = {};
  bool time_wait[2] = {};
  pair.net.RunUntil(
      [&] {
        for (int i = 0; i < 2; ++i) {
          Shard& shard = pair.net.side(i).shard;
          shard.connections.ForEachLive([&](Connection& c) { closing[i] |= c.state == TcpState::kClosing; });
          time_wait[i] |= shard.time_waits.live() == 1;
        }
        return time_wait[0] && time_wait[1];
      },
      1s);
  EXPECT_TRUE(closing[0] && closing[1]);
  EXPECT_TRUE(time_wait[0] && time_wait[1]);
  EXPECT_EQ(pair.Invariants(), "");
  pair.CloseAndDrain();
}

INSTANTIATE_TEST_SUITE_P(Families, SimultaneousTest, testing::Bool(),
                         [](const auto& test) { return test.param ? "IPv6" : "IPv4"; });

}  // namespace
}  // namespace ustcp::test
