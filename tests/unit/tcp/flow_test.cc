// Acknowledging, flow control, keep-alive, urgent data. D6, D7, D8, D13, D14.
#include <gmock/gmock.h>

#include <sys/epoll.h>

#include "stack/tcp/tcb.h"
#include "tests/support/tcp_pair.h"

namespace ustcp::test {
namespace {

using ::testing::ElementsAre;
class Flow : public TcpPair {};

TEST_F(Flow, D8NagleWaitsForTheDelayedAck) {
  Establish();
  // Use up the quick ACKs of the start with a dialogue.
  for (int i = 0; i < 3; ++i) {
    Send(0, client, 10);
    net->Run(5ms);
    Receive(1, server);
    Send(1, server, 10);
    net->Run(100ms);
    Receive(0, client);
  }
  notes.clear();
  Send(0, client, 100);
  Send(0, client, 100);
  net->Run(300ms);
  ASSERT_EQ(notes.size(), 4u) << ::testing::PrintToString(Shown());
  EXPECT_EQ(notes[1].from, 1);
  EXPECT_GE(Ms(notes[1].at - notes[0].at), 39) << "the second write waits for the delayed ACK of the first";
  EXPECT_EQ(notes[2].length, 100u);
}

TEST_F(Flow, D7NodelaySendsAtOnce) {
  Establish();
  client->options.nodelay = true;
  Send(0, client, 100);
  Send(0, client, 100);
  EXPECT_EQ(notes.size(), 2u);
}

TEST_F(Flow, D7CorkHoldsPartialSegments) {
  Establish();
  client->options.cork = true;
  Send(0, client, 2000);
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_EQ(notes[0].length, 1448u);
  net->On(0, [&](Context& ctx) {
    client->options.cork = false;
    TcpOptionChanged(ctx, *client->conn, TcpOptionChange::kCork, 0);
  });
  EXPECT_EQ(notes.back().length, 552u);
}

TEST_F(Flow, D6ZeroWindowIsProbedAndOpensAgain) {
  Establish();
  ssize_t sent = 0;
  net->RunUntil(
      [&] {
        ssize_t n = Send(0, client, 100'000);
        if (n > 0) sent += n;
        return false;
      },
      2s);
  ASSERT_GT(sent, 65'536);
  EXPECT_EQ(notes.back().from == 1 ? notes.back().window : 0, 0);
  notes.clear();
  net->Run(30s);
  std::vector<int64_t> probes;
  for (const Note& n : notes)
    if (n.from == 0) probes.push_back(Ms(n.at.time_since_epoch()));
  ASSERT_GE(probes.size(), 4u);
  for (size_t i = 2; i < probes.size(); ++i)
    EXPECT_NEAR(static_cast<double>(probes[i] - probes[i - 1]) / static_cast<double>(probes[i - 1] - probes[i - 2]), 2,
                0.1);
  EXPECT_EQ(StateOf(client), TcpState::kEstablished);
  ssize_t got = 0;
  net->RunUntil(
      [&] {
        for (ssize_t n; (n = Receive(1, server)) > 0;) got += n;
        return got == sent;
      },
      10s);
  EXPECT_EQ(got, sent);
}

TEST_F(Flow, D13UrgentByte) {
  Establish();
  Send(0, client, 5);
  Send(0, client, 1, MSG_OOB);
  Send(0, client, 4);
  net->Run(300ms);
  EXPECT_NE(server->ready.load() & EPOLLPRI, 0u);
  EXPECT_EQ(Receive(1, server), 5) << "a read stops at the mark";
  EXPECT_TRUE(TcpAtMark(*server->conn));
  EXPECT_EQ(Receive(1, server, 1, MSG_OOB), 1);
  EXPECT_EQ(Receive(1, server), 4);
}

TEST_F(Flow, D14KeepaliveEndsAfterTwoHoursElevenMinutes) {
  Establish();
  client->options.keepalive = true;
  net->On(0, [&](Context& ctx) { TcpOptionChanged(ctx, *client->conn, TcpOptionChange::kKeepalive, 1); });
  net->Run(7205s);
  EXPECT_EQ(StateOf(client), TcpState::kEstablished) << "the peer answered";
  ASSERT_EQ(notes.size(), 2u);
  EXPECT_EQ(Show(notes[0]), "A . 0:0 ack 1");
  EXPECT_EQ(Show(notes[1]), "B . 1:1 ack 1");
  // ARP still works: a dead neighbour would show as EHOSTUNREACH, as on Linux.
  net->lose = [](int, ConstBytes f) { return LoadBe16(f.data() + 12) == 0x0800; };
  Instant start = net->now();
  ASSERT_TRUE(net->RunUntil([&] { return StateOf(client) == TcpState::kClosed; }, 10000s));
  EXPECT_NEAR(static_cast<double>(Ms(net->now() - start)), 7875e3, 10e3);
  EXPECT_EQ(client->error, ETIMEDOUT);
}

}  // namespace
}  // namespace ustcp::test
