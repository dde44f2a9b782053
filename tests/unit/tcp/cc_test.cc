// D11: slow start, congestion avoidance, Reno and CUBIC (RFC 9438) with HyStart, pacing rate.
#include "stack/tcp/cc/congestion.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "recovery_harness.h"
#include "stack/tcp/cc/cubic.h"

namespace ustcp::testing {
namespace {

TEST(CongestionD11, NamesAreThoseOfTheSocketOption) {
  CcKind kind = CcKind::kReno;
  EXPECT_TRUE(CcFromName("cubic", kind));
  EXPECT_EQ(kind, CcKind::kCubic);
  EXPECT_TRUE(CcFromName("reno", kind));
  EXPECT_EQ(kind, CcKind::kReno);
  EXPECT_FALSE(CcFromName("vegas", kind));
  EXPECT_STREQ(CcName(CcKind::kCubic), "cubic");
}

TEST(CongestionD11, InitialWindowIsTen) {
  SenderHarness h;
  EXPECT_EQ(h.s.cwnd, 10u);
  EXPECT_EQ(SendAllowance(h.s), 5u) << "two frames in flight";
  h.Send(1, 5);
  EXPECT_EQ(SendAllowance(h.s), 5u);
  h.Send(1, 5);
  EXPECT_EQ(SendAllowance(h.s), 0u);
}

TEST(CongestionD11, SlowStartDoublesPerRoundTripUpToTheThreshold) {
  for (CcKind kind : {CcKind::kReno, CcKind::kCubic}) {
    SenderHarness h(kind);
    uint32_t at = 0;
    for (uint32_t expect : {20u, 40u, 80u}) {
      const uint32_t flight = h.s.cwnd;
      h.Send(static_cast<int>(flight));
      h.Pass(100ms);
      h.Ack(at += flight * kMss);
      EXPECT_EQ(h.s.cwnd, expect) << CcName(kind);
    }
  }
}

TEST(CongestionD11, RenoGrowsByOnePerRoundTripAboveTheThreshold) {
  SenderHarness h;
  h.s.cwnd = h.s.ssthresh = 12;
  uint32_t at = 0;
  for (uint32_t expect = 13; expect < 20; ++expect) {
    const uint32_t flight = h.s.cwnd;
    h.Send(static_cast<int>(flight));
    h.Pass(100ms);
    for (uint32_t i = 0; i < flight; ++i) h.Ack(at += kMss);
    EXPECT_EQ(h.s.cwnd, expect);
  }
}

TEST(CongestionD11, SlowStartStopsExactlyAtTheThreshold) {
  SenderHarness h;
  h.s.ssthresh = 15;
  h.Send(10);
  h.Pass(100ms);
  h.Ack(10'000);
  // Five of ten reach the threshold, the other five are a third of a window.
  EXPECT_EQ(h.s.cwnd, 15u);
  EXPECT_EQ(h.s.cwnd_count, 5u);
}

TEST(CongestionD11, AWindowThatIsNotUsedDoesNotGrow) {
  SenderHarness h;
  for (int i = 0; i < 10; ++i) {
    h.Send(3);
    h.Pass(20ms);
    h.Ack(static_cast<uint32_t>(i + 1) * 3 * kMss);
  }
  EXPECT_EQ(h.s.cwnd, 10u);
}

TEST(CongestionD11, HalfUsedInSlowStartMayDouble) {
  SenderHarness h;
  h.Send(6);
  h.Pass(100ms);
  h.Ack(6000);
  EXPECT_EQ(h.s.cwnd, 16u);
}

TEST(CongestionD11, ReductionFactors) {
  SenderHarness reno;
  reno.s.cwnd = 101;
  EXPECT_EQ(CcSsthresh(reno.env(), reno.s), 50u);
  reno.s.cwnd = 1;
  EXPECT_EQ(CcSsthresh(reno.env(), reno.s), 2u);
  SenderHarness cubic(CcKind::kCubic);
  cubic.s.cwnd = 100;
  EXPECT_EQ(CcSsthresh(cubic.env(), cubic.s), 70u);  // 717/1024
  EXPECT_EQ(cubic.s.cc.vars.cubic.last_max_cwnd, 100u);
  // Fast convergence: lost again below the former maximum.
  cubic.s.cwnd = 80;
  EXPECT_EQ(CcSsthresh(cubic.env(), cubic.s), 56u);
  EXPECT_EQ(cubic.s.cc.vars.cubic.last_max_cwnd, 68u);  // 80 * (1 + 0.7) / 2
  cubic.s.cwnd = 2;
  EXPECT_EQ(CcSsthresh(cubic.env(), cubic.s), 2u);
}

TEST(CubicD11, CubeRootIsExact) {
  for (uint64_t i = 0; i < 3000; ++i) {
    EXPECT_EQ(CubeRoot(i * i * i), i);
    if (i > 1) {
      EXPECT_EQ(CubeRoot(i * i * i - 1), i - 1);
    }
  }
  EXPECT_EQ(CubeRoot(UINT64_MAX), 2'642'245u);
  std::mt19937_64 rng(1);
  for (int i = 0; i < 10'000; ++i) {
    const uint64_t v = rng() >> (rng() % 64);
    const auto r = static_cast<unsigned __int128>(CubeRoot(v));
    EXPECT_TRUE(r * r * r <= v && (r + 1) * (r + 1) * (r + 1) > v) << v;
  }
}

// One round trip of a full window, one ACK for two segments.
void RunRound(SenderHarness& h, Duration rtt) {
  const uint32_t window = h.s.cwnd;
  h.s.is_cwnd_limited = true;
  const Duration step = rtt / (window / 2 + 1);
  for (uint32_t acked = 0; acked < window; acked += 2) {
    h.Pass(step);
    CcOnSample(h.env(), h.s, ToMicros(rtt));
    CcOnAck(h.env(), h.s, std::min(2u, window - acked));
  }
  h.Pass(rtt - step * ((window + 1) / 2));
}

// W(t) = C (t - K)^3 + W_max with C = 0.4 and K = cbrt(W_max (1 - beta) / C), aimed at one round trip ahead.
TEST(CubicD11, WindowFollowsTheCurve) {
  for (uint32_t peak : {100u, 400u, 2000u}) {
    SCOPED_TRACE(peak);
    SenderHarness h(CcKind::kCubic);
    const Duration rtt = 100ms;
    h.s.cwnd = peak;
    h.s.ssthresh = CcSsthresh(h.env(), h.s);
    h.s.cwnd = h.s.ssthresh;
    const double c = 410.0 / 1024;
    const double k = std::cbrt((peak - h.s.cwnd) / c);
    const Instant start = h.now;
    for (int round = 1; round < 300; ++round) {
      RunRound(h, rtt);
      const double t = static_cast<double>(ToMicros(h.now - start)) / 1e6;
      if (t > k + 4) break;
      const double w = c * std::pow(t - k, 3) + peak;
      ASSERT_NEAR(h.s.cwnd, w, 2 + w * 0.02) << "at " << t << " s, K = " << k;
    }
    EXPECT_GT(h.s.cwnd, peak) << "beyond the plateau";
  }
}

// With a short round trip the cubic curve is slower than Reno: RFC 9438 4.3.
TEST(CubicD11, NeverSlowerThanRenoWouldBe) {
  SenderHarness h(CcKind::kCubic);
  h.s.cwnd = 100;
  h.s.ssthresh = CcSsthresh(h.env(), h.s);
  h.s.cwnd = h.s.ssthresh;
  const uint32_t start = h.s.cwnd;
  for (int round = 1; round <= 40; ++round) RunRound(h, 5ms);
  // 3 (1 - beta) / (1 + beta) = 0.53 segments per round trip; the curve alone would hardly move in 200 ms.
  EXPECT_NEAR(h.s.cwnd, start + 40 * 0.53, 4);
}

TEST(CubicD11, BeforeTheFirstLossAtLeastFivePercentPerRoundTrip) {
  SenderHarness h(CcKind::kCubic);
  h.s.cwnd = h.s.ssthresh = 200;
  RunRound(h, 20ms);
  EXPECT_GE(h.s.cwnd, 208u);
}

TEST(CubicD11, GrowsByHalfPerRoundTripAtMost) {
  SenderHarness h(CcKind::kCubic);
  h.s.cwnd = 10;
  h.s.ssthresh = CcSsthresh(h.env(), h.s);
  h.s.cwnd = h.s.ssthresh = 7;
  for (int round = 0; round < 30; ++round) {
    const uint32_t before = h.s.cwnd;
    RunRound(h, 2s);
    EXPECT_LE(h.s.cwnd, before + before / 2 + 1);
  }
}

TEST(CubicD11, TimeWithoutTrafficIsNotTimeOfTheCurve) {
  SenderHarness h(CcKind::kCubic);
  h.s.cwnd = 100;
  h.s.ssthresh = CcSsthresh(h.env(), h.s);
  h.s.cwnd = h.s.ssthresh;
  RunRound(h, 100ms);
  const int64_t epoch = h.s.cc.vars.cubic.epoch_start_ms;
  h.s.last_sent = h.now;
  h.Pass(7s);
  CcCwndEvent(h.env(), h.s, CcEvent::kTransmitStart);
  EXPECT_EQ(h.s.cc.vars.cubic.epoch_start_ms, epoch + 7000);
}

TEST(CubicD11, TimeoutForgetsTheCurve) {
  SenderHarness h(CcKind::kCubic);
  h.s.cwnd = 100;
  CcSsthresh(h.env(), h.s);
  CcOnRto(h.env(), h.s);
  EXPECT_EQ(h.s.cc.vars.cubic.last_max_cwnd, 0u);
}

TEST(HystartD11, RisingDelayEndsSlowStart) {
  SenderHarness h(CcKind::kCubic);
  uint32_t at = 0;
  // Every round trip 10 ms longer: the queue builds up. An eighth of 100 ms is 12.5 ms.
  Duration rtt = 100ms;
  int rounds = 0;
  while (h.s.ssthresh == kInfiniteSsthresh && ++rounds < 20) {
    const uint32_t flight = h.s.cwnd;
    h.Send(static_cast<int>(flight));
    h.Pass(rtt);
    for (uint32_t i = 0; i < flight; ++i) h.Ack(at += kMss);
    rtt += 10ms;
  }
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPHystartDelayDetect), 1u);
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPHystartTrainDetect), 0u);
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPHystartDelayCwnd), h.s.ssthresh);
  EXPECT_EQ(rounds, 3) << "120 ms are more than 112.5";
}

TEST(HystartD11, LongAckTrainEndsSlowStart) {
  SenderHarness h(CcKind::kCubic);
  h.s.cwnd = 80;
  h.s.pacing_rate = 0;
  h.Send(80);
  h.Pass(100ms);
  uint32_t at = 0;
  // 1.5 ms between ACKs: a train longer than half of 100 ms after 34 of them. The round began with the connection, so the
  // first ACK only starts the next one.
  h.s.cc.vars.cubic.round_end = h.At(0);
  int acks = 0;
  while (h.s.ssthresh == kInfiniteSsthresh && acks < 80) {
    h.Ack(at += kMss);
    ++acks;
    h.Pass(1500us);
  }
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPHystartTrainDetect), 1u);
  // Half of (delay + slack of at most 1 ms) lies between 50 and 50.5 ms: 34 steps after the first.
  EXPECT_GE(acks, 34);
  EXPECT_LE(acks, 36);
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPHystartTrainCwnd), h.s.ssthresh);
}

TEST(CongestionD11, PacingRateIsTwiceOrOneFifthMoreThanTheWindowPerRoundTrip) {
  SenderHarness h;
  h.Send(10);
  h.Pass(100ms);
  h.Ack(10'000);
  // Slow start far below the threshold: 20 segments of 1000 bytes per 100 ms, twice.
  EXPECT_EQ(h.s.pacing_rate, 400'000u);
  h.s.ssthresh = 20;
  h.Send(20);
  h.Pass(100ms);
  h.Ack(11'000);
  EXPECT_EQ(h.s.cwnd, 20u);
  EXPECT_EQ(h.s.pacing_rate, 240'000u);
  EXPECT_FALSE(h.s.paced);
}

TEST(CongestionD11, DeliveryRateOfABulkFlow) {
  SenderHarness h;
  h.s.cwnd = 20;
  uint32_t at = 0;
  for (int round = 0; round < 4; ++round) {
    h.Send(20);
    h.Pass(100ms);
    h.Ack(at += 20 * kMss);
    h.s.cwnd = 20;
  }
  EXPECT_EQ(h.s.rate_delivered, 20u);
  EXPECT_EQ(h.s.rate_interval_us, 100'000u);
  EXPECT_FALSE(h.s.rate_app_limited);
}

}  // namespace
}  // namespace ustcp::testing
