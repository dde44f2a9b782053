// Two stacks over a link that loses, duplicates, reorders and corrupts: every byte arrives once and in order, both ways,
// and the connection ends in an orderly manner with nothing left behind. One thousand seeds (D1 D3 D4 D5 D15 T1 T3).
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/epoll.h>

#include <random>
#include <vector>

#include "stack/socket/socket.h"
#include "stack/tcp/tcb.h"
#include "tests/support/two_hosts.h"

namespace ustcp::test {
namespace {

constexpr int kSeedsPerCase = 50;

// The byte at a place of a stream: both ends can compute it.
std::byte ByteAt(uint32_t seed, int side, size_t position) {
  uint64_t x = (position + 1) * 0x9e3779b97f4a7c15u ^ (uint64_t{seed} << 32) ^ static_cast<uint64_t>(side) << 17;
  return static_cast<std::byte>((x ^ (x >> 29)) >> 13);
}

class Transfer {
 public:
  explicit Transfer(uint32_t seed)
      : seed_(seed), random_(seed), net_(Config(1, seed), Config(2, seed), SysctlsFor(seed), SysctlsFor(seed)) {
    loss_ = Chance(5);
    duplication_ = Chance(5);
    corruption_ = WithOffloads(seed) ? 0 : Chance(2);
    reordering_ = Chance(20);
    net_.lose = [this](int, ConstBytes) { return Happens(loss_); };
    net_.duplicate = [this](int) { return Happens(duplication_); };
    net_.jitter = [this](int) { return Happens(reordering_) ? Duration{random_() % 8'000'000} : Duration{0}; };
    net_.corrupt = [this](int, Bytes frame) {
      // One bit behind the Ethernet header of an IP packet: what checksums are there for.
      if (frame.size() < 34 || LoadBe16(frame.data() + 12) == 0x0806 || !Happens(corruption_)) return;
      size_t bit = 14 * 8 + random_() % ((frame.size() - 14) * 8);
      frame[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    };
    for (int i = 0; i < 2; ++i) to_send_[i] = 20'000 + random_() % 180'000;
  }

  void Run() {
    Connect();
    if (::testing::Test::HasFatalFailure()) return;
    bool done = false;
    for (int turn = 0; turn < 200'000 && !done; ++turn) {
      for (int i = 0; i < 2; ++i) Work(i);
      if (::testing::Test::HasFailure()) return;
      net_.Run(Duration{random_() % 10'000'000});
      if (turn % 64 == 0) Check();
      done = ended_[0] && ended_[1] && finished_[0] && finished_[1];
    }
    ASSERT_TRUE(done) << "received " << received_[0] << " of " << to_send_[1] << " and " << received_[1] << " of "
                      << to_send_[0];
    for (int i = 0; i < 2; ++i) Close(i, socket_[i]);
    Close(1, listening_);
    // Retransmitted FINs and TIME_WAIT, then nothing.
    net_.Run(400s);
    for (int i = 0; i < 2; ++i) {
      Shard& shard = net_.side(i).shard;
      EXPECT_EQ(shard.connections.live(), 0u);
      EXPECT_EQ(shard.half_opens.live(), 0u);
      EXPECT_EQ(shard.time_waits.live(), 0u);
      EXPECT_EQ(shard.sockets.live(), 0u);
      EXPECT_EQ(shard.tx_segments.live(), 0u);
      EXPECT_EQ(shard.bufs.bytes_taken(), 0u);
    }
    Check();
  }

 private:
  static bool WithOffloads(uint32_t seed) { return seed % 2 == 0; }
  static HostConfig Config(uint8_t n, uint32_t seed) {
    HostConfig config = TwoHosts::ConfigOf(n);
    if (!WithOffloads(seed)) config.device.checksum_offload = config.device.tso4 = config.device.tso6 = false;
    return config;
  }
  static Sysctls SysctlsFor(uint32_t seed) {
    Sysctls s;
    if (seed % 5 == 1) s.tcp_sack = 0;
    if (seed % 7 == 1) s.tcp_timestamps = 0;
    if (seed % 11 == 1) s.tcp_window_scaling = 0;
    s.tcp_congestion_control = seed % 3 == 0 ? 0 : 1;
    return s;
  }
  double Chance(int percent) { return static_cast<double>(random_() % 1000) / 1000.0 * percent / 100.0; }
  bool Happens(double p) { return static_cast<double>(random_() % 1'000'000) < p * 1'000'000; }

  void Connect() {
    listening_ = net_.On(1, [&](Context& ctx) {
      Socket* s = *OpenSocket(ctx, AF_INET, 0, 0, 1);
      EXPECT_EQ(BindSocket(ctx, *s, {IpAddress::AnyV4(), 80}), kOk);
      EXPECT_EQ(ListenSocket(ctx, *s, 8), kOk);
      return s;
    });
    Endpoint to{net_.side(1).address, 80};
    socket_[0] = net_.On(0, [&](Context& ctx) { return *OpenSocket(ctx, AF_INET, 0, 0, 1); });
    net_.On(0, [&](Context& ctx) { return ConnectSocket(ctx, *socket_[0], to).code; });
    ASSERT_TRUE(net_.RunUntil([&] { return (listening_->ready.load() & EPOLLIN) != 0; }, 300s));
    auto accepted = AcceptSocket(net_.side(1).box.host(), *listening_, 0);
    ASSERT_TRUE(accepted.ok());
    socket_[1] = *accepted;
    ASSERT_TRUE(net_.RunUntil([&] { return socket_[0]->state == SocketState::kConnected; }, 300s));
  }

  // A little of what a program does: write some, read some, shut down when all is written.
  void Work(int i) {
    if (sent_[i] < to_send_[i] && random_() % 4 != 0) {
      size_t n = std::min<size_t>(to_send_[i] - sent_[i], 1 + random_() % 20'000);
      std::vector<std::byte> data(n);
      for (size_t k = 0; k < n; ++k) data[k] = ByteAt(seed_, i, sent_[i] + k);
      auto r = net_.On(i, [&](Context& ctx) { return SendSocket(ctx, *socket_[i], UserVector(data.data(), n), 0); });
      if (r.ok())
        sent_[i] += *r;
      else
        EXPECT_EQ(r.error().code, EAGAIN);
    }
    if (sent_[i] == to_send_[i] && !finished_[i]) {
      net_.On(i, [&](Context& ctx) { EXPECT_EQ(ShutdownSocket(ctx, *socket_[i], SHUT_WR), kOk); });
      finished_[i] = true;
    }
    if (!ended_[i] && random_() % 4 != 0) {
      std::vector<std::byte> data(1 + random_() % 30'000);
      auto r = net_.On(
          i, [&](Context& ctx) { return ReceiveSocket(ctx, *socket_[i], UserVector(data.data(), data.size()), 0); });
      if (!r.ok()) {
        EXPECT_EQ(r.error().code, EAGAIN);
        return;
      }
      if (*r == 0) {
        ended_[i] = true;
        EXPECT_EQ(received_[i], to_send_[1 - i]);
        return;
      }
      for (size_t k = 0; k < *r; ++k) {
        if (data[k] == ByteAt(seed_, 1 - i, received_[i] + k)) continue;
        ADD_FAILURE() << "byte " << received_[i] + k << " towards side " << i << " is wrong";
        return;
      }
      received_[i] += *r;
    }
  }

  void Close(int i, Socket* s) {
    net_.On(i, [&](Context& ctx) { ReleaseSocket(ctx, *s); });
  }

  void Check() {
    for (int i = 0; i < 2; ++i)
      net_.On(i, [&](Context& ctx) {
        char why[256] = "";
        EXPECT_EQ(CheckInvariants(ctx, why, sizeof why), 0) << why;
      });
  }

  uint32_t seed_;
  std::mt19937_64 random_;
  TwoHosts net_;
  double loss_, duplication_, corruption_, reordering_;
  Socket* listening_ = nullptr;
  Socket* socket_[2] = {};
  size_t to_send_[2], sent_[2] = {}, received_[2] = {};
  bool ended_[2] = {}, finished_[2] = {};
};

class ByteExactTransfer : public ::testing::TestWithParam<int> {};

TEST_P(ByteExactTransfer, OverADamagingLink) {
  for (int i = 0; i < kSeedsPerCase; ++i) {
    auto seed = static_cast<uint32_t>(GetParam() * kSeedsPerCase + i + 1);
    SCOPED_TRACE("seed " + std::to_string(seed));
    Transfer(seed).Run();
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, ByteExactTransfer, ::testing::Range(0, 1000 / kSeedsPerCase));

}  // namespace
}  // namespace ustcp::test
