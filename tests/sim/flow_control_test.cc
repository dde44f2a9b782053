// D5 D6 D7: a reader slower than its peer, down to a closed window, with and without loss.
#include "stack/wire/ipv4.h"
#include "stack/wire/tcp.h"
#include "stack/wire/tcp_options.h"
#include "tests/sim/sim_pair.h"

namespace ustcp::test {
namespace {

// Without window scaling a window is what it is: a scaled one is rounded up and hardly ever reaches zero.
Sysctls SlowReader(int32_t rmem, int32_t most) {
  Sysctls s;
  s.tcp_window_scaling = 0;
  s.tcp_rmem[1] = rmem;
  s.tcp_rmem[2] = most;
  return s;
}

// What the receiver's ACKs say about its window.
struct WindowWatch {
  uint8_t scale = 0;
  bool any = false;
  Seq right{};
  uint64_t shrunk = 0, zero = 0;

  void See(int from, ConstBytes frame) {
    if (from != 1 || frame.size() < 54 || LoadBe16(frame.data() + 12) != 0x0800) return;
    auto ip = Ipv4View::Parse(frame.subspan(14));
    if (!ip || ip->protocol() != kProtocolTcp) return;
    auto tcp = TcpView::Parse(ip->payload());
    if (!tcp || !tcp->has_ack() || tcp->rst()) return;
    if (tcp->syn()) {
      scale = ParseTcpOptions(tcp->options(), true).window_scale.value_or(0);
      return;
    }
    Seq edge = tcp->ack() + (uint32_t{tcp->window()} << scale);
    if (tcp->window() == 0) ++zero;
    if (any && edge.Before(right)) ++shrunk;
    right = any ? Seq::Latest(right, edge) : edge;
    any = true;
  }
};

// Reads `bytes_per_tick` every 20 ms; returns the time it took, zero when the transfer did not end.
Duration SlowRead(SimPair& pair, size_t bytes_per_tick) {
  Instant begin = pair.net.now();
  for (int i = 0; i < 100'000 && !pair.ends[1].eof && !pair.Failed(); ++i) {
    pair.Pump(0);
    pair.Pump(1, 4096, bytes_per_tick);
    pair.net.Run(20ms);
    if (i % 50 == 0) {
      EXPECT_EQ(pair.Invariants(), "");
    }
  }
  return pair.ends[1].eof ? pair.net.now() - begin : Duration{};
}

TEST(FlowControlTest, D6_SlowReaderClosesTheWindowAndLosesNothing) {
  SimPair pair(false, {}, SlowReader(16384, 65536));
  WindowWatch watch;
  pair.net.observe = [&](int from, ConstBytes frame, Instant) { watch.See(from, frame); };
  pair.ends[0].seed = 7;
  pair.ends[0].to_send = 300'000;
  ASSERT_TRUE(pair.Connect());
  EXPECT_GT(SlowRead(pair, 1000), Duration{});
  EXPECT_FALSE(pair.Failed());
  EXPECT_EQ(pair.ends[1].received, 300'000u);
  EXPECT_GT(watch.zero, 0u) << "the window never closed: the test shows nothing";
  EXPECT_EQ(watch.shrunk, 0u) << "the right edge moved left";
  pair.CloseAndDrain();
}

TEST(FlowControlTest, D6_LostWindowUpdatesDoNotDeadlock) {
  SimPair pair(false, {}, SlowReader(16384, 16384));
  pair.ends[0].to_send = 60'000;
  ASSERT_TRUE(pair.Connect());
  // Every pure ACK that opens the window is lost unless a probe asked for it.
  uint64_t lost = 0;
  bool probed = false;
  pair.net.lose = [&](int from, ConstBytes frame) {
    auto ip = Ipv4View::Parse(frame.subspan(14));
    if (!ip || ip->protocol() != kProtocolTcp) return false;
    auto tcp = TcpView::Parse(ip->payload());
    if (from == 0) {
      probed = true;
      return false;
    }
    bool update = tcp->payload().empty() && !probed;
    probed = false;
    if (update) ++lost;
    return update;
  };
  EXPECT_GT(SlowRead(pair, 2000), Duration{});
  EXPECT_FALSE(pair.Failed());
  EXPECT_EQ(pair.ends[1].received, 60'000u);
  EXPECT_GT(lost, 0u);
  pair.net.lose = nullptr;
  pair.CloseAndDrain();
}

TEST(FlowControlTest, D6_ReaderThatPausesForAnHourKeepsTheConnection) {
  SimPair pair(false, {}, SlowReader(16384, 16384));
  WindowWatch watch;
  pair.net.observe = [&](int from, ConstBytes frame, Instant) { watch.See(from, frame); };
  pair.ends[0].to_send = 100'000;
  ASSERT_TRUE(pair.Connect());
  pair.Pump(0);
  for (int i = 0; i < 60; ++i) {
    pair.Pump(0);
    pair.net.Run(60s);
  }
  EXPECT_GT(watch.zero, 20u) << "the window did not stay closed";
  EXPECT_TRUE(pair.net.RunUntil(
      [&] {
        pair.Pump(0);
        pair.Pump(1);
        return pair.ends[1].eof || pair.Failed();
      },
      600s));
  EXPECT_FALSE(pair.Failed());
  EXPECT_EQ(pair.ends[1].received, 100'000u);
  pair.CloseAndDrain();
}

TEST(FlowControlTest, D7_SmallReadsDoNotMakeSmallWindows) {
  SimPair pair(false, {}, SlowReader(32768, 32768));
  uint64_t small = 0, data = 0;
  pair.net.observe = [&](int from, ConstBytes frame, Instant) {
    if (from != 0 || frame.size() <= 54) return;
    auto ip = Ipv4View::Parse(frame.subspan(14));
    auto tcp = ip && ip->protocol() == kProtocolTcp ? TcpView::Parse(ip->payload()) : std::nullopt;
    if (!tcp || tcp->payload().empty()) return;
    ++data;
    if (tcp->payload().size() < 1000 && !tcp->fin()) ++small;
  };
  pair.ends[0].to_send = 200'000;
  ASSERT_TRUE(pair.Connect());
  EXPECT_GT(SlowRead(pair, 100), Duration{});
  EXPECT_FALSE(pair.Failed());
  EXPECT_EQ(pair.ends[1].received, 200'000u);
  EXPECT_GT(data, 100u);
  EXPECT_LE(small, data / 20) << "of " << data;
  pair.CloseAndDrain();
}

}  // namespace
}  // namespace ustcp::test
