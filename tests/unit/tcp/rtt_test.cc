// D2: the retransmission timeout of RFC 6298 as Linux computes it. Expected values are worked out by hand.
#include "stack/tcp/rtt.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>

namespace ustcp {
namespace {

constexpr Seq kUna{1000};
constexpr Seq kNxt{2000};

TEST(RttD2, StartsAtOneSecond) {
  Sysctls sysctls;
  RttEstimator rtt;
  EXPECT_EQ(ComputeRto(rtt, sysctls), 1s);
  EXPECT_FALSE(rtt.has_sample());
}

TEST(RttD2, FirstSampleGivesThreeTimesItself) {
  Sysctls sysctls;
  RttEstimator rtt;
  AddRttSample(rtt, sysctls, 500'000, kUna, kNxt);
  EXPECT_EQ(rtt.srtt_us(), 500'000u);
  EXPECT_EQ(rtt.rttvar4_us, 1'000'000u);
  EXPECT_EQ(rtt.rto, 1500ms);
}

TEST(RttD2, TheFloorAppliesToTheVariancePart) {
  Sysctls sysctls;
  RttEstimator rtt;
  AddRttSample(rtt, sysctls, 1'000, kUna, kNxt);
  EXPECT_EQ(rtt.rto, 201ms);
  sysctls.tcp_rto_min_us = 50'000;
  RttEstimator lower;
  AddRttSample(lower, sysctls, 1'000, kUna, kNxt);
  EXPECT_EQ(lower.rto, 51ms);
}

TEST(RttD2, LongerSampleRaisesByAnEighth) {
  Sysctls sysctls;
  RttEstimator rtt;
  AddRttSample(rtt, sysctls, 400'000, kUna, kNxt);
  AddRttSample(rtt, sysctls, 800'000, kUna, kNxt);
  EXPECT_EQ(rtt.srtt_us(), 450'000u);
  // deviation: 800 ms (times 4) + 400 - 200 = 1000 ms
  EXPECT_EQ(rtt.mdev4_us, 1'000'000u);
  EXPECT_EQ(rtt.rto, 1450ms);
}

TEST(RttD2, ShorterSampleHardlyRaisesTheDeviation) {
  Sysctls sysctls;
  RttEstimator rtt;
  AddRttSample(rtt, sysctls, 500'000, kUna, kNxt);
  AddRttSample(rtt, sysctls, 100'000, kUna, kNxt);
  EXPECT_EQ(rtt.srtt_us(), 450'000u);
  // |error| 400 - 250 = 150 ms more, of which an eighth
  EXPECT_EQ(rtt.mdev4_us, 1'018'750u);
  EXPECT_EQ(rtt.rto, std::chrono::microseconds(1'468'750));
}

TEST(RttD2, DeviationShrinksOncePerRoundTrip) {
  Sysctls sysctls;
  RttEstimator rtt;
  AddRttSample(rtt, sysctls, 500'000, Seq(0), Seq(100));
  EXPECT_EQ(rtt.rttvar4_us, 1'000'000u);
  // Within the round trip nothing shrinks, however steady the samples are.
  for (int i = 0; i < 20; ++i) AddRttSample(rtt, sysctls, 500'000, Seq(100), Seq(200));
  EXPECT_EQ(rtt.rttvar4_us, 1'000'000u);
  // The first round's maximum is the initial one, the second's is what its own samples show, at least the floor.
  AddRttSample(rtt, sysctls, 500'000, Seq(101), Seq(300));
  EXPECT_EQ(rtt.rttvar4_us, 1'000'000u);
  EXPECT_EQ(rtt.mdev_max4_us, 200'000u);
  AddRttSample(rtt, sysctls, 500'000, Seq(301), Seq(400));
  EXPECT_EQ(rtt.rttvar4_us, 800'000u);
  EXPECT_EQ(rtt.rto, 1300ms);
}

TEST(RttD2, DoublesUpToTheMaximumAndASampleEndsTheBackoff) {
  Sysctls sysctls;
  RttEstimator rtt;
  AddRttSample(rtt, sysctls, 100'000, kUna, kNxt);
  ASSERT_EQ(rtt.rto, 300ms);
  Duration expect = 300ms;
  for (int i = 1; i <= 12; ++i) {
    BackOffRto(rtt, sysctls);
    expect = std::min<Duration>(expect * 2, 120s);
    EXPECT_EQ(rtt.rto, expect) << i;
    EXPECT_EQ(rtt.backoff, i);
  }
  EXPECT_EQ(rtt.rto, 120s);
  AddRttSample(rtt, sysctls, 100'000, kUna, kNxt);
  EXPECT_EQ(rtt.backoff, 0);
  EXPECT_LT(rtt.rto, 301ms);
}

TEST(RttD2, MaximumIsASysctl) {
  Sysctls sysctls;
  sysctls.tcp_rto_max_ms = 2000;
  RttEstimator rtt;
  AddRttSample(rtt, sysctls, 900'000, kUna, kNxt);
  EXPECT_EQ(rtt.rto, 2s);
  BackOffRto(rtt, sysctls);
  EXPECT_EQ(rtt.rto, 2s);
}

TEST(RttD2, HandshakeWithoutSampleFallsBackToThreeSeconds) {
  Sysctls sysctls;
  RttEstimator rtt;
  UseFallbackRto(rtt);
  EXPECT_EQ(rtt.rto, 3s);
  EXPECT_FALSE(rtt.has_sample());
  AddRttSample(rtt, sysctls, 10'000, kUna, kNxt);
  EXPECT_EQ(rtt.rto, 210ms);
}

TEST(RttD2, FifteenRetriesLastNineHundredSeconds) {
  Sysctls sysctls;
  // 200 ms doubled nine times is the last below 120 s: 0.2 (2^10 - 1) = 204.6 s, then 6 times 120 s.
  EXPECT_EQ(ModelTimeout(sysctls, 15, 200ms), std::chrono::milliseconds(924'600));
  EXPECT_EQ(ModelTimeout(sysctls, 3, 200ms), 3s);
  EXPECT_EQ(ModelTimeout(sysctls, 0, 200ms), 200ms);
  // SYNs: 1 + 2 + ... + 64 = 127 s.
  EXPECT_EQ(ModelTimeout(sysctls, 6, 1s), 127s);
  sysctls.tcp_rto_max_ms = 1000;
  // 0.2 + 0.4 + 0.8, then 13 times 1 s.
  EXPECT_EQ(ModelTimeout(sysctls, 15, 200ms), std::chrono::milliseconds(14'400));
}

TEST(RttD4, WindowedMinimumFollowsTheWindow) {
  WindowedMin min;
  EXPECT_EQ(min.value(), kNoRtt);
  Instant t = InstantFromNanos(0);
  EXPECT_EQ(min.Update(t, 300s, 50), 50u);
  EXPECT_EQ(min.Update(t + 100s, 300s, 80), 50u);
  EXPECT_EQ(min.Update(t + 200s, 300s, 70), 50u);
  // The 50 is out of the window: the best of the rest.
  EXPECT_EQ(min.Update(t + 301s, 300s, 90), 70u);
  EXPECT_EQ(min.Update(t + 302s, 300s, 20), 20u);
}

// The three samples approximate the true minimum of the window: never below it, and never older than the window.
TEST(RttD4, WindowedMinimumAgainstAFullHistory) {
  for (uint32_t seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 rng(seed);
    WindowedMin min;
    std::deque<std::pair<Instant, uint32_t>> history;
    Instant t = InstantFromNanos(0);
    for (int i = 0; i < 500; ++i) {
      t += std::chrono::milliseconds(rng() % 200);
      const auto value = static_cast<uint32_t>(100 + rng() % 1000);
      history.emplace_back(t, value);
      while (t - history.front().first > 10s) history.pop_front();
      uint32_t exact = kNoRtt;
      bool present = false;
      const uint32_t got = min.Update(t, 10s, value);
      for (auto& [at, v] : history) {
        exact = std::min(exact, v);
        present |= v == got;
      }
      ASSERT_GE(got, exact);
      ASSERT_TRUE(present) << "a value that has left the window";
      ASSERT_LE(got, value);
    }
  }
}

}  // namespace
}  // namespace ustcp
