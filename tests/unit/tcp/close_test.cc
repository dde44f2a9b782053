// Ending connections. T1, T3, T7-T14, T16.
#include <gmock/gmock.h>

#include "stack/tcp/tcb.h"
#include "tests/support/tcp_pair.h"

namespace ustcp::test {
namespace {

using ::testing::ElementsAre;
class CloseTest : public TcpPair {
 protected:
  void TearDown() override {
    net->lose = nullptr;
    if (listening != nullptr) Close(1, listening);
    net->Run(2000s);
    for (int i = 0; i < 2; ++i) {
      EXPECT_EQ(net->side(i).box->time_wait_count.load(), 0);
      EXPECT_EQ(net->side(i).box->orphan_count.load(), 0);
      EXPECT_EQ(net->side(i).shard.tx_segments.live(), 0u);
      EXPECT_EQ(Count(i, Counter::kTcpCurrEstab), 0u);
    }
  }
};

TEST_F(CloseTest, T1FourWayCloseAndHalfClose) {
  Establish();
  Close(0, client);
  net->Run(300ms);
  EXPECT_EQ(StateOf(server), TcpState::kCloseWait);
  EXPECT_EQ(Receive(1, server), 0);
  net->Run(30s);
  EXPECT_EQ(StateOf(server), TcpState::kCloseWait);
  Close(1, server);
  net->Run(10ms);
  EXPECT_THAT(Shown(), ElementsAre("A F. 1:1 ack 1", "B . 1:1 ack 2", "B F. 1:1 ack 2", "A . 2:2 ack 2"));
  EXPECT_EQ(net->side(0).box->time_wait_count.load(), 1);
}

TEST_F(CloseTest, T3RetransmittedFinRestartsTimeWait) {
  Establish();
  bool lose_last = false;
  net->lose = [&](int from, ConstBytes) { return from == 0 && lose_last; };
  Shutdown(0, client, 1);
  net->Run(100ms);
  lose_last = true;
  Close(1, server);
  net->Run(150ms);
  lose_last = false;
  EXPECT_EQ(net->side(0).box->time_wait_count.load(), 1);
  net->Run(1s);
  EXPECT_EQ(net->side(1).shard.connections.live(), 0u) << "T13: the FIN came again and was acknowledged";
  Close(0, client);
}

TEST_F(CloseTest, T12SimultaneousClose) {
  Establish();
  net->delay = 10ms;
  Shutdown(0, client, 1);
  Shutdown(1, server, 1);
  net->Run(15ms);
  EXPECT_EQ(StateOf(client), TcpState::kClosing);
  EXPECT_EQ(StateOf(server), TcpState::kClosing);
  net->Run(20ms);
  EXPECT_EQ(net->side(0).box->time_wait_count.load(), 1);
  EXPECT_EQ(net->side(1).box->time_wait_count.load(), 1);
  Close(0, client);
  Close(1, server);
}

TEST_F(CloseTest, T14UnreadDataMeansReset) {
  Establish();
  Send(0, client, 100);
  net->Run(10ms);
  notes.clear();
  Close(1, server);
  net->Run(10ms);
  EXPECT_EQ(Show(notes[0]), "B R. 1:1 ack 101");
  EXPECT_EQ(Count(1, Counter::kTcpExtTCPAbortOnClose), 1u);
  EXPECT_EQ(client->error, ECONNRESET);
  Close(0, client);
}

TEST_F(CloseTest, T7LingerZeroMeansReset) {
  Establish();
  client->options.linger_on = true;
  Close(0, client);
  net->Run(10ms);
  EXPECT_THAT(Shown(), ElementsAre("A R. 1:1 ack 1"));
  EXPECT_EQ(net->side(0).box->time_wait_count.load(), 0);
  EXPECT_EQ(Receive(1, server), -ECONNRESET);
  Close(1, server);
}

TEST_F(CloseTest, T11OrphanLeavesFinWait2AfterSixtySeconds) {
  Establish();
  Close(0, client);
  net->Run(50s);
  EXPECT_EQ(net->side(0).box->time_wait_count.load(), 1) << "as a small record";
  net->Run(11s);
  EXPECT_EQ(net->side(0).box->time_wait_count.load(), 0);
  notes.clear();
  Send(1, server, 10);
  net->Run(100ms);
  EXPECT_EQ(Show(notes.back()), "A R 2:2");
  Close(1, server);
}

TEST_F(CloseTest, T9OrphanGivesUp) {
  Establish();
  net->lose = [](int, ConstBytes) { return true; };
  Send(0, client, 10);
  Close(0, client);
  EXPECT_EQ(net->side(0).box->orphan_count.load(), 1);
  net->Run(300s);
  EXPECT_EQ(net->side(0).shard.connections.live(), 0u);
  EXPECT_EQ(Count(0, Counter::kTcpExtTCPAbortOnTimeout), 1u);
  net->lose = nullptr;
  Close(1, server);
  net->Run(1s);
}

}  // namespace
}  // namespace ustcp::test
