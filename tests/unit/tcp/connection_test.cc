// Whole connections between two stacks: handshake, data, close. E1, D1, T1, T2, T3.
#include <gtest/gtest.h>
#include <netinet/in.h>

#include "stack/net/ip.h"
#include "stack/socket/socket.h"
#include "stack/tcp/send_queue.h"
#include "stack/tcp/tcb.h"
#include "stack/wire/tcp.h"
#include "stack/wire/tcp_options.h"
#include "tests/support/two_hosts.h"

namespace ustcp::test {
namespace {

class ConnectionTest : public ::testing::Test {
 protected:
  Socket* Listen(uint16_t port, int backlog = 8) {
    return net.On(1, [&](Context& ctx) {
      Socket* s = *OpenSocket(ctx, AF_INET, 0, 0, 1);
      EXPECT_EQ(BindSocket(ctx, *s, {IpAddress::AnyV4(), port}), kOk);
      EXPECT_EQ(ListenSocket(ctx, *s, backlog), kOk);
      return s;
    });
  }
  Socket* Connect(uint16_t port) {
    return net.On(0, [&](Context& ctx) {
      Socket* s = *OpenSocket(ctx, AF_INET, 0, 0, 1);
      EXPECT_EQ(ConnectSocket(ctx, *s, {net.side(1).address, port}), Error{EINPROGRESS});
      return s;
    });
  }
  Socket* Accept(Socket* listening) {
    auto r = AcceptSocket(net.side(1).box.host(), *listening, 0);
    return r.ok() ? *r : nullptr;
  }
  size_t Send(int i, Socket* s, const std::vector<std::byte>& data, size_t from) {
    return net.On(i, [&](Context& ctx) -> size_t {
      auto r = SendSocket(ctx, *s, UserVector(data.data() + from, data.size() - from), 0);
      return r.ok() ? *r : 0;
    });
  }
  // As Send(), from a source that has `had` bytes and then ends. Returns what the stack says.
  Result<size_t> SendFrom(int i, Socket* s, size_t had, size_t limit) {
    return net.On(i, [&](Context& ctx) {
      SendSource source;
      source.self = &had;
      source.read = [](void* self, std::byte* to, size_t n) {
        auto& left = *static_cast<size_t*>(self);
        n = std::min(n, left);
        std::fill_n(to, n, std::byte{'x'});
        left -= n;
        return n;
      };
      return SendSocketFrom(ctx, *s, source, limit, 0);
    });
  }
  // Bytes read, or minus errno.
  ssize_t Receive(int i, Socket* s, std::vector<std::byte>& into) {
    return net.On(i, [&](Context& ctx) -> ssize_t {
      std::byte buffer[65536];
      auto r = ReceiveSocket(ctx, *s, UserVector(buffer, sizeof buffer), 0);
      if (!r.ok()) return -r.error().code;
      into.insert(into.end(), buffer, buffer + *r);
      return static_cast<ssize_t>(*r);
    });
  }
  void Close(int i, Socket* s) {
    net.On(i, [&](Context& ctx) { ReleaseSocket(ctx, *s); });
  }
  static std::vector<std::byte> Pattern(size_t n) {
    std::vector<std::byte> v(n);
    uint32_t x = 12345;
    for (auto& b : v) b = static_cast<std::byte>((x = x * 1664525 + 1013904223) >> 24);
    return v;
  }
  void Transfer(size_t bytes) {
    Socket* listening = Listen(80);
    Socket* client = Connect(80);
    Socket* server = nullptr;
    net.RunUntil([&] { return (server = Accept(listening)) != nullptr || client->conn->state == TcpState::kClosed; },
                 100s);
    ASSERT_EQ(client->conn->state, TcpState::kEstablished);
    ASSERT_NE(server, nullptr);
    auto data = Pattern(bytes);
    std::vector<std::byte> got;
    size_t sent = 0;
    bool closed = false;
    ssize_t last = -EAGAIN;
    bool done = net.RunUntil(
        [&] {
          if (sent < data.size()) sent += Send(0, client, data, sent);
          if (sent == data.size() && !closed) {
            net.On(0, [&](Context& ctx) { EXPECT_EQ(ShutdownSocket(ctx, *client, 1), kOk); });
            closed = true;
          }
          do last = Receive(1, server, got);
          while (last > 0);
          return last == 0;
        },
        600s);
    EXPECT_TRUE(done) << "received " << got.size() << " sent " << sent << " last " << last;
    ASSERT_EQ(got.size(), data.size());
    EXPECT_TRUE(got == data);
    Close(1, server);
    // With loss the FINs and their ACKs may take several tries, and the last ACK may never get through (T9, T13).
    net.RunUntil([&] { return client->conn->state == TcpState::kClosed && net.side(1).shard.connections.live() == 0; },
                 300s);
    EXPECT_EQ(client->conn->state, TcpState::kClosed);
    EXPECT_EQ(net.side(0).box->time_wait_count.load(), 1);
    EXPECT_EQ(net.side(1).shard.connections.live(), 0u);
    Close(0, client);
    net.Run(61s);
    EXPECT_EQ(net.side(0).box->time_wait_count.load(), 0);
    EXPECT_EQ(net.side(0).shard.connections.live(), 0u);
    EXPECT_EQ(net.side(0).shard.tx_segments.live(), 0u);
    Close(1, listening);
    EXPECT_EQ(net.side(0).shard.bufs.bytes_taken(), 0u);
    EXPECT_EQ(net.side(1).shard.bufs.bytes_taken(), 0u);
  }
  // With USTCP_TRACE set, one line per frame on stderr.
  void SetUp() override {
    if (getenv("USTCP_TRACE") != nullptr)
      net.observe = [this](int from, ConstBytes f, Instant at) { Print(from, f, at); };
  }
  void Print(int from, ConstBytes f, Instant at) {
    double t = static_cast<double>(NanosOf(at) - NanosOf(TestHost::DefaultStart())) / 1e9;
    auto view = f.size() >= 54 && LoadBe16(f.data() + 12) == 0x0800 ? TcpView::Parse(f.subspan(34)) : std::nullopt;
    if (!view) {
      fprintf(stderr, "%9.6f %c other %zu bytes\n", t, 'A' + from, f.size());
      return;
    }
    auto o = ParseTcpOptions(view->options(), view->syn());
    fprintf(stderr, "%9.6f %c %s%s%s%s%s %u:%u ack %u win %u", t, 'A' + from, view->syn() ? "S" : "",
            view->fin() ? "F" : "", view->rst() ? "R" : "", view->psh() ? "P" : "", view->has_ack() ? "." : "",
            view->seq().raw() - isn[from],
            view->seq().raw() - isn[from] + static_cast<uint32_t>(view->payload().size()),
            view->ack().raw() - isn[1 - from], view->window());
    if (view->syn()) isn[from] = view->seq().raw();
    for (int i = 0; i < o.sack_count; ++i)
      fprintf(stderr, " sack %u:%u", o.sack[i].begin.raw() - isn[1 - from], o.sack[i].end.raw() - isn[1 - from]);
    fprintf(stderr, "\n");
  }
  uint32_t isn[2] = {};
  TwoHosts net;
};

TEST_F(ConnectionTest, E1SmallTransfer) { Transfer(5); }
TEST_F(ConnectionTest, D1LargeTransfer) { Transfer(3'000'000); }

// D1. What the driver's look at a frame found may serve another connection, or none, by the time it is acted on.
TEST_F(ConnectionTest, D1HintAtAnotherConnectionIsNotBelieved) {
  Socket* listening = Listen(80);
  Socket* clients[3];
  Socket* servers[3];
  for (int i = 0; i < 3; ++i) {
    clients[i] = Connect(80);
    servers[i] = nullptr;
    ASSERT_TRUE(net.RunUntil([&] { return (servers[i] = Accept(listening)) != nullptr; }, 10s));
  }
  TupleNode* gone = servers[2]->conn;
  net.On(1, [&](Context& ctx) {
    linger now{1, 0};
    ASSERT_EQ(SetOption(ctx, *servers[2], SOL_SOCKET, SO_LINGER, &now, sizeof now), kOk);
  });
  Close(1, servers[2]);
  net.Run(1s);
  ASSERT_EQ(gone->kind, SlotKind::kFree);
  TupleNode* hints[] = {servers[1]->conn, gone, servers[0]->conn, nullptr};
  for (TupleNode* hint : hints) {
    std::vector<std::byte> segment;
    net.lose = [&](int, ConstBytes f) {
      segment.assign(f.begin(), f.end());
      return true;
    };
    ASSERT_EQ(Send(0, clients[0], Pattern(5), 0), 5u);
    net.lose = nullptr;
    net.On(1, [&](Context& ctx) {
      RxFrame frame{.vnet = {.flags = VirtioNetHeader::kDataValid}, .bytes = segment, .node = hint};
      NetInput(ctx, frame);
    });
    std::vector<std::byte> got;
    EXPECT_EQ(Receive(1, servers[0], got), 5);
    EXPECT_EQ(Receive(1, servers[1], got), -EAGAIN);
    net.Run(1s);  // its acknowledgement
  }
}

// D1. What a source gives is sent; its end and a full queue are told apart, and only the latter announces room.
TEST_F(ConnectionTest, D1SourceThatEndsAndSourceThatFindsNoRoom) {
  Socket* listening = Listen(80);
  Socket* client = Connect(80);
  Socket* server = nullptr;
  ASSERT_TRUE(net.RunUntil([&] { return (server = Accept(listening)) != nullptr; }, 10s));
  Result<size_t> some = SendFrom(0, client, 3000, 10'000);
  ASSERT_TRUE(some.ok());
  EXPECT_EQ(*some, 3000u);
  EXPECT_FALSE(client->conn->wants_space);
  Result<size_t> nothing = SendFrom(0, client, 0, 10'000);
  ASSERT_TRUE(nothing.ok());
  EXPECT_EQ(*nothing, 0u);
  net.Run(1s);
  std::vector<std::byte> got;
  EXPECT_EQ(Receive(1, server, got), 3000);
  EXPECT_EQ(got, std::vector<std::byte>(3000, std::byte{'x'}));
  size_t room = SendQueueRoom(*client->conn);
  Result<size_t> part = SendFrom(0, client, room + 1, room + 1);
  ASSERT_TRUE(part.ok());
  EXPECT_EQ(*part, room);
  EXPECT_TRUE(client->conn->wants_space);
  EXPECT_EQ(SendFrom(0, client, 1, 1).error(), Error{EAGAIN});
  net.On(0, [&](Context& ctx) { EXPECT_EQ(ShutdownSocket(ctx, *client, 1), kOk); });
  EXPECT_EQ(SendFrom(0, client, 1, 1).error(), Error{EPIPE});
}

struct Variant {
  const char* name;
  bool sack, timestamps, scaling, tso;
};
class LossyTransfer : public ConnectionTest, public ::testing::WithParamInterface<Variant> {};

// Loss, duplication and reordering, with and without the options that help: every byte arrives, once, in order.
TEST_P(LossyTransfer, D1D3D4) {
  for (uint32_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(seed);
    Sysctls sysctls;
    sysctls.tcp_sack = GetParam().sack;
    sysctls.tcp_timestamps = GetParam().timestamps;
    sysctls.tcp_window_scaling = GetParam().scaling;
    HostConfig a = TwoHosts::ConfigOf(1), b = TwoHosts::ConfigOf(2);
    a.device.tso4 = a.device.tso6 = b.device.tso4 = b.device.tso6 = GetParam().tso;
    std::destroy_at(&net);
    std::construct_at(&net, a, b, sysctls, sysctls);
    SetUp();
    uint32_t x = seed;
    auto random = [&x] { return (x = x * 1664525 + 1013904223) >> 16; };
    net.lose = [&](int, ConstBytes) { return random() % 30 == 0; };
    net.duplicate = [&](int) { return random() % 50 == 0; };
    net.jitter = [&](int) { return Duration{random() % 10 == 0 ? random() * 100 : 0}; };
    Transfer(300'000);
    if (HasFatalFailure() || HasNonfatalFailure()) return;
  }
}
INSTANTIATE_TEST_SUITE_P(Options, LossyTransfer,
                         ::testing::Values(Variant{"All", true, true, true, true},
                                           Variant{"NoTso", true, true, true, false},
                                           Variant{"NoSack", false, true, true, false},
                                           Variant{"NoTimestamps", true, false, true, false},
                                           Variant{"Bare", false, false, false, false}),
                         [](const auto& i) { return std::string(i.param.name); });

}  // namespace
}  // namespace ustcp::test
