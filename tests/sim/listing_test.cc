// O1: what `ustcp ss` collects from a host whose sockets are in many states. The collector belongs to the tool, which is a
// program, not a library: it is compiled into this test.
#define FMT_HEADER_ONLY
#include "tools/ss_collect.cc"

#include <gtest/gtest.h>

#include <fcntl.h>

#include "stack/socket/readiness.h"
#include "tests/support/two_hosts.h"

namespace ustcp {
namespace {

using tool::SocketRow;

constexpr uint16_t kPort = 80;

class ListingTest : public testing::Test {
 protected:
  Socket* Open(int side) {
    return net_.On(side, [](Context& ctx) { return OpenSocket(ctx, AF_INET, O_NONBLOCK, 0, 1); }).value();
  }
  Socket* Listen(int backlog) {
    Socket* s = Open(1);
    net_.On(1, [&](Context& ctx) {
      EXPECT_FALSE(BindSocket(ctx, *s, {IpAddress::AnyV4(), kPort}));
      EXPECT_FALSE(ListenSocket(ctx, *s, backlog));
      NoteAcceptor(ctx.host, *s->listener, 0);
    });
    return s;
  }
  Socket* Connect() {
    Socket* s = Open(0);
    net_.On(0, [&](Context& ctx) { (void)ConnectSocket(ctx, *s, {net_.side(1).address, kPort}); });
    net_.Run(10ms);
    return s;
  }
  Socket* Accept(Socket* listener) {
    auto taken = net_.On(1, [&](Context& ctx) { return AcceptSocket(ctx.host, *listener, ctx.shard.index); });
    return taken.ok() ? *taken : nullptr;
  }
  void Write(int side, Socket* s, size_t bytes) {
    std::vector<char> data(bytes, 'x');
    net_.On(side,
            [&](Context& ctx) { EXPECT_EQ(SendSocket(ctx, *s, UserVector(data.data(), bytes), 0).value(), bytes); });
  }
  void Shutdown(int side, Socket* s) {
    net_.On(side, [&](Context& ctx) { EXPECT_FALSE(ShutdownSocket(ctx, *s, SHUT_WR)); });
    net_.Run(100ms);
  }
  std::vector<SocketRow> List(int side) {
    tool::View view{net_.side(side).box.host(), {}};
    return tool::CollectSockets(view, true, true);
  }
  // The states of a side, as ss writes them, in the order of the listing.
  std::vector<std::string> States(int side) {
    std::vector<std::string> out;
    for (const SocketRow& row : List(side)) out.push_back(tool::StateText(row.state));
    return out;
  }

  test::TwoHosts net_;
};

TEST_F(ListingTest, O1ListenerShowsItsQueueAndItsLimit) {
  Socket* listener = Listen(7);
  Connect();
  Connect();
  SocketRow row = List(1).front();
  EXPECT_STREQ(tool::StateText(row.state), "LISTEN");
  EXPECT_EQ(row.recv_queue, 2u);
  EXPECT_EQ(row.send_queue, 7u);
  EXPECT_TRUE(row.local.address.is_any());
  EXPECT_EQ(row.local.port, kPort);
  EXPECT_EQ(row.peer.port, 0);
  ASSERT_NE(Accept(listener), nullptr);
  EXPECT_EQ(List(1).front().recv_queue, 1u);
}

TEST_F(ListingTest, O1QueuesAndAddressesOfAConnection) {
  Socket* listener = Listen(7);
  Socket* client = Connect();
  ASSERT_NE(Accept(listener), nullptr);
  Write(0, client, 500);
  net_.Run(100ms);
  net_.lose = [](int, ConstBytes) { return true; };
  Write(0, client, 300);
  SocketRow mine = List(0).front(), theirs = List(1).back();
  EXPECT_STREQ(tool::StateText(mine.state), "ESTAB");
  EXPECT_EQ(mine.send_queue, 300u);
  EXPECT_EQ(mine.recv_queue, 0u);
  EXPECT_EQ(theirs.recv_queue, 500u);
  EXPECT_EQ(theirs.send_queue, 0u);
  EXPECT_EQ(mine.local, theirs.peer);
  EXPECT_EQ(mine.peer, theirs.local);
  EXPECT_EQ(mine.timer.substr(0, 3), "on,");
  EXPECT_NE(mine.information.find("bytes_acked:501"), std::string::npos) << mine.information;
  EXPECT_NE(theirs.information.find("bytes_received:500"), std::string::npos) << theirs.information;
  EXPECT_EQ(mine.memory.substr(0, 7), "skmem:(");
}

TEST_F(ListingTest, O1HandshakeStates) {
  Listen(7);
  net_.lose = [](int from, ConstBytes) { return from == 1; };
  Connect();
  // The neighbour's answer is lost too: nothing but the client's own state exists.
  EXPECT_EQ(States(0), std::vector<std::string>{"SYN-SENT"});
  net_.lose = nullptr;
  net_.Run(5s);
  EXPECT_EQ(States(0), std::vector<std::string>{"ESTAB"});
  net_.lose = [](int from, ConstBytes) { return from == 1; };
  Connect();
  auto states = States(1);
  EXPECT_EQ(std::count(states.begin(), states.end(), "SYN-RECV"), 1);
}

TEST_F(ListingTest, O1StatesOfAClose) {
  Socket* listener = Listen(7);
  Socket* client = Connect();
  Socket* server = Accept(listener);
  ASSERT_NE(server, nullptr);
  net_.lose = [](int from, ConstBytes) { return from == 0; };
  Shutdown(0, client);
  EXPECT_EQ(States(0), std::vector<std::string>{"FIN-WAIT-1"});
  net_.lose = nullptr;
  net_.Run(5s);
  EXPECT_EQ(States(0), std::vector<std::string>{"FIN-WAIT-2"});
  EXPECT_EQ(States(1), (std::vector<std::string>{"LISTEN", "CLOSE-WAIT"}));
  net_.lose = [](int from, ConstBytes) { return from == 1; };
  Shutdown(1, server);
  EXPECT_EQ(States(1), (std::vector<std::string>{"LISTEN", "LAST-ACK"}));
  net_.lose = nullptr;
  net_.Run(5s);
  EXPECT_EQ(States(0), std::vector<std::string>{"TIME-WAIT"});
  EXPECT_EQ(States(1), std::vector<std::string>{"LISTEN"});
  EXPECT_EQ(List(0).front().timer.substr(0, 9), "timewait,");
}

}  // namespace
}  // namespace ustcp
