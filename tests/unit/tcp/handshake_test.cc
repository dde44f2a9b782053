// Opening connections when something goes wrong on the way. E1-E5, E9, E10, E12.
#include <gmock/gmock.h>

#include "stack/tcp/listener.h"
#include "stack/tcp/tcb.h"
#include "tests/support/tcp_pair.h"

namespace ustcp::test {
namespace {

using ::testing::ElementsAre;
class Handshake : public TcpPair {
 protected:
  std::vector<int64_t> SecondsOfSyns() {
    std::vector<int64_t> at;
    for (const Note& n : notes)
      if (n.flags.Has(kTcpSyn)) at.push_back((Ms(n.at - notes[0].at) + 500) / 1000);
    return at;
  }
};

TEST_F(Handshake, E1ThreeSegments) {
  Establish();
  EXPECT_EQ(StateOf(client), TcpState::kEstablished);
  EXPECT_EQ(StateOf(server), TcpState::kEstablished);
  EXPECT_EQ(Count(0, Counter::kTcpActiveOpens), 1u);
  EXPECT_EQ(Count(1, Counter::kTcpPassiveOpens), 1u);
  EXPECT_EQ(Count(1, Counter::kTcpCurrEstab), 1u);
}

TEST_F(Handshake, E2LostSynsDoubleFromOneSecond) {
  Sysctls sysctls;
  sysctls.tcp_syn_linear_timeouts = 0;
  sysctls.tcp_syn_retries = 5;
  Restart(sysctls, {});
  net->Run(1ms);
  client = Open(0);
  bool lose = false;
  net->lose = [&](int, ConstBytes f) { return lose && LoadBe16(f.data() + 12) == 0x0800; };
  lose = true;
  ASSERT_EQ(Connect(0, client), EINPROGRESS);
  Instant start = net->now();
  ASSERT_TRUE(net->RunUntil([&] { return StateOf(client) == TcpState::kClosed; }, 200s));
  EXPECT_THAT(SecondsOfSyns(), ElementsAre(0, 1, 3, 7, 15, 31));
  EXPECT_EQ(Ms(net->now() - start) / 100, 630);
  EXPECT_EQ(client->error, ETIMEDOUT);
}

TEST_F(Handshake, E2LinearTimeouts) {
  client = Open(0);
  net->lose = [&](int, ConstBytes f) { return LoadBe16(f.data() + 12) == 0x0800; };
  ASSERT_EQ(Connect(0, client), EINPROGRESS);
  ASSERT_TRUE(net->RunUntil([&] { return StateOf(client) == TcpState::kClosed; }, 400s));
  EXPECT_THAT(SecondsOfSyns(), ElementsAre(0, 1, 2, 3, 4, 5, 7, 11, 19, 35, 67));
}

TEST_F(Handshake, E3LostSynAck) {
  listening = Listen();
  client = Open(0);
  int lost = 0;
  net->lose = [&](int from, ConstBytes f) { return from == 1 && LoadBe16(f.data() + 12) == 0x0800 && lost++ < 1; };
  ASSERT_EQ(Connect(0, client), EINPROGRESS);
  net->Run(3s);
  EXPECT_EQ(StateOf(client), TcpState::kEstablished);
  EXPECT_NE(Accept(listening), nullptr);
}

TEST_F(Handshake, E3ServerGivesUpAfter63Seconds) {
  listening = Listen();
  client = Open(0);
  net->lose = [&](int from, ConstBytes f) {
    return from == 0 && LoadBe16(f.data() + 12) == 0x0800 && notes.size() > 1;
  };
  ASSERT_EQ(Connect(0, client), EINPROGRESS);
  net->Run(10ms);
  Close(0, client);
  net->Run(62'900ms);
  EXPECT_EQ(net->side(1).shard.half_opens.live(), 1u);
  net->Run(200ms);
  EXPECT_EQ(net->side(1).shard.half_opens.live(), 0u);
  std::vector<int64_t> at;
  for (const Note& n : notes)
    if (n.from == 1) at.push_back((Ms(n.at - notes[0].at) + 500) / 1000);
  EXPECT_THAT(at, ElementsAre(0, 1, 3, 7, 15, 31));
}

TEST_F(Handshake, E4DataCompletesAHandshakeWhoseAckWasLost) {
  listening = Listen();
  client = Open(0);
  net->lose = [&](int from, ConstBytes f) {
    return from == 0 && LoadBe16(f.data() + 12) == 0x0800 && notes.size() == 3;
  };
  ASSERT_EQ(Connect(0, client), EINPROGRESS);
  net->Run(100ms);
  EXPECT_EQ(StateOf(client), TcpState::kEstablished);
  EXPECT_EQ(Accept(listening), nullptr);
  EXPECT_EQ(Send(0, client, 10), 10);
  net->Run(100ms);
  server = Accept(listening);
  ASSERT_NE(server, nullptr);
  EXPECT_EQ(Receive(1, server), 10);
}

TEST_F(Handshake, E5OverflowDropsTheThirdAckAndLaterSyns) {
  listening = Listen(80, 1);
  std::vector<Socket*> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(Open(0));
    Connect(0, clients.back());
    net->Run(20ms);
  }
  // backlog + 1 are queued; the third SYN is dropped because the queue is over its limit.
  EXPECT_EQ(listening->listener->accept_count.load(), 2u);
  EXPECT_EQ(StateOf(clients[2]), TcpState::kSynSent);
  EXPECT_EQ(Count(1, Counter::kTcpExtListenOverflows), 2u);
  EXPECT_EQ(Count(1, Counter::kTcpExtListenDrops), 2u);
  ASSERT_NE(Accept(listening), nullptr);
  ASSERT_NE(Accept(listening), nullptr);
  net->Run(3s);
  EXPECT_EQ(StateOf(clients[2]), TcpState::kEstablished);
}

TEST_F(Handshake, E9ResetReturnsTheListenerToRest) {
  listening = Listen();
  client = Open(0);
  bool cut = false;
  net->lose = [&](int from, ConstBytes) { return cut && from == 1; };
  ASSERT_EQ(Connect(0, client), EINPROGRESS);
  net->RunUntil([&] { return net->side(1).shard.half_opens.live() == 1; }, 1s);
  Close(0, client);  // the SYN-ACK finds nobody: RST
  net->Run(100ms);
  EXPECT_EQ(Shown().back(), "A R 1:1");
  EXPECT_EQ(net->side(1).shard.half_opens.live(), 0u);
  EXPECT_EQ(Count(1, Counter::kTcpAttemptFails), 1u);
  EXPECT_EQ(Count(1, Counter::kTcpExtEmbryonicRsts), 1u);
}

TEST_F(Handshake, E10SimultaneousOpen) {
  net->delay = 10ms;
  Socket* a = Open(0, 5000);
  Socket* b = Open(1, 6000);
  // Both know each other's link address before they start.
  ASSERT_EQ(Connect(0, a, 1), EINPROGRESS);
  net->Run(500ms);
  net->On(0, [&](Context& ctx) { EXPECT_EQ(DisconnectSocket(ctx, *a), kOk); });
  notes.clear();
  ASSERT_EQ(Connect(0, a, 6000), EINPROGRESS);
  ASSERT_EQ(Connect(1, b, 5000), EINPROGRESS);
  net->Run(500ms);
  EXPECT_EQ(StateOf(a), TcpState::kEstablished);
  EXPECT_EQ(StateOf(b), TcpState::kEstablished);
  EXPECT_THAT(Shown().size(), ::testing::Le(6u));
  EXPECT_EQ(Show(notes[2]).substr(1, 4), " S. ");
  EXPECT_EQ(Show(notes[3]).substr(1, 4), " S. ");
  EXPECT_EQ(Send(0, a, 100), 100);
  net->Run(100ms);
  EXPECT_EQ(Receive(1, b), 100);
}

TEST_F(Handshake, E12RefusedByReset) {
  client = Open(0);
  ASSERT_EQ(Connect(0, client, 81), EINPROGRESS);
  net->Run(100ms);
  EXPECT_EQ(StateOf(client), TcpState::kClosed);
  EXPECT_EQ(client->error, ECONNREFUSED);
  EXPECT_THAT(Shown(), ElementsAre("A S 0:0", ::testing::StartsWith("B R.")));
}

}  // namespace
}  // namespace ustcp::test
