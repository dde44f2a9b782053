// The impairer on virtual time (issue "io/": loss, duplication, reordering, delay, rate, corruption, seeded).
#include "io/device/impair.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/io/frame_build.h"

namespace ustcp {
namespace {

struct Arrival {
  uint32_t number;
  Instant at;
  friend bool operator==(const Arrival&, const Arrival&) = default;
};

class ImpairTest : public ::testing::Test {
 protected:
  void Offer(uint32_t number, Instant now, size_t bytes = 100) {
    FrameBytes f(bytes, std::byte{0x11});
    std::memcpy(f.data() + 14, &number, sizeof number);
    RxFrame frame{{}, f, nullptr};
    impairer_.Offer(frame, now);
  }
  // Runs the clock from deadline to deadline.
  std::vector<Arrival> Drain() {
    std::vector<Arrival> arrivals;
    while (impairer_.NextDeadline() != kNever) {
      Instant now = impairer_.NextDeadline();
      EXPECT_EQ(impairer_.Release(now - 1ns, [](RxFrame&) { ADD_FAILURE() << "released early"; }), 0u);
      EXPECT_GE(impairer_.Release(now,
                                  [&](RxFrame& f) {
                                    uint32_t number;
                                    std::memcpy(&number, f.bytes.data() + 14, sizeof number);
                                    arrivals.push_back({number, now});
                                  }),
                1u);
    }
    return arrivals;
  }
  // 1,000 frames, one each microsecond.
  std::vector<Arrival> Run(const Impairment& impairment, uint64_t seed) {
    EXPECT_TRUE(impairer_.Open(impairment, seed, 4096));
    for (uint32_t i = 0; i < 1000; ++i) Offer(i, Instant{i * 1us});
    return Drain();
  }

  Impairer impairer_;
};

TEST_F(ImpairTest, WithoutImpairmentEverythingPassesAtOnceInOrder) {
  std::vector<Arrival> arrivals = Run({}, 1);
  ASSERT_EQ(arrivals.size(), 1000u);
  for (uint32_t i = 0; i < 1000; ++i) EXPECT_EQ(arrivals[i], (Arrival{i, Instant{i * 1us}}));
  EXPECT_FALSE(Impairment{}.any());
}

TEST_F(ImpairTest, SameSeedSameNetwork) {
  Impairment bad{.loss_ppm = 50'000,
                 .duplicate_ppm = 20'000,
                 .corrupt_ppm = 30'000,
                 .reorder_ppm = 40'000,
                 .delay = 10ms,
                 .jitter = 3ms,
                 .rate_bits_per_second = 100'000'000,
                 .burst_bytes = 3000};
  EXPECT_TRUE(bad.any());
  std::vector<Arrival> first = Run(bad, 42);
  EXPECT_EQ(Run(bad, 42), first);
  EXPECT_NE(Run(bad, 43), first);
}

TEST_F(ImpairTest, LossAndDuplicationAtTheirRates) {
  std::vector<Arrival> arrivals = Run({.loss_ppm = 100'000}, 7);
  EXPECT_EQ(arrivals.size(), 1000 - impairer_.stats().lost);
  EXPECT_GT(impairer_.stats().lost, 60u);
  EXPECT_LT(impairer_.stats().lost, 140u);
  EXPECT_TRUE(Run({.loss_ppm = 1'000'000}, 7).empty());

  arrivals = Run({.duplicate_ppm = 100'000}, 7);
  EXPECT_EQ(arrivals.size(), 1000 + impairer_.stats().duplicated);
  EXPECT_GT(impairer_.stats().duplicated, 60u);
  EXPECT_LT(impairer_.stats().duplicated, 140u);
  EXPECT_EQ(Run({.duplicate_ppm = 1'000'000}, 7).size(), 2000u);
}

TEST_F(ImpairTest, DelayAndJitterKeepTheOrder) {
  std::vector<Arrival> arrivals = Run({.delay = 20ms, .jitter = 5ms}, 3);
  ASSERT_EQ(arrivals.size(), 1000u);
  bool varied = false;
  for (uint32_t i = 0; i < 1000; ++i) {
    EXPECT_EQ(arrivals[i].number, i);
    Duration took = arrivals[i].at - Instant{i * 1us};
    EXPECT_GE(took, 20ms);
    EXPECT_LE(took, 25ms + 1ms);  // kept in order behind a slow one
    varied |= took != arrivals[0].at - Instant{};
  }
  EXPECT_TRUE(varied);
}

TEST_F(ImpairTest, ReorderedFramesComeLateAndOthersPassThem) {
  std::vector<Arrival> arrivals = Run({.reorder_ppm = 50'000, .reorder_delay = 20us}, 5);
  ASSERT_EQ(arrivals.size(), 1000u);
  size_t late = 0;
  for (const Arrival& a : arrivals) late += a.at == Instant{a.number * 1us} + 20us;
  EXPECT_EQ(late, impairer_.stats().reordered);
  EXPECT_GT(late, 20u);
  EXPECT_FALSE(std::is_sorted(arrivals.begin(), arrivals.end(), [](auto& a, auto& b) { return a.number < b.number; }));
}

TEST_F(ImpairTest, RateSpreadsFramesAfterTheBurst) {
  // 8 Mbit/s: 1,000 bytes take a millisecond; three of them may pass at once.
  ASSERT_TRUE(impairer_.Open({.rate_bits_per_second = 8'000'000, .burst_bytes = 3000}, 1));
  for (uint32_t i = 0; i < 10; ++i) Offer(i, Instant{1s}, 1000);
  std::vector<Arrival> arrivals = Drain();
  ASSERT_EQ(arrivals.size(), 10u);
  for (uint32_t i = 0; i < 10; ++i) EXPECT_EQ(arrivals[i].at, Instant{1s} + (i < 3 ? 0ms : (i - 2) * 1ms)) << i;
  // The bucket fills again.
  for (uint32_t i = 0; i < 4; ++i) Offer(i, Instant{2s}, 1000);
  arrivals = Drain();
  EXPECT_EQ(arrivals[2].at, Instant{2s});
  EXPECT_EQ(arrivals[3].at, Instant{2s} + 1ms);
}

TEST_F(ImpairTest, CorruptionFlipsOneBitThatNoChecksumHides) {
  TcpFields t{.payload_bytes = 500};
  ASSERT_TRUE(impairer_.Open({.corrupt_ppm = 1'000'000}, 9));
  FrameBytes original = BuildTcp(t, true), complete = BuildTcp(t, false);
  for (int i = 0; i < 200; ++i) {
    RxFrame frame{PartialChecksum(t), original, nullptr};
    impairer_.Offer(frame, Instant{});
    impairer_.Release(Instant{}, [&](RxFrame& f) {
      EXPECT_EQ(f.vnet.flags, 0) << "a device would complete or skip the checksum";
      ASSERT_EQ(f.bytes.size(), complete.size());
      int bits = 0;
      for (size_t b = 0; b < complete.size(); ++b) {
        int differing = __builtin_popcount(std::to_integer<unsigned>(f.bytes[b] ^ complete[b]));
        if (b < 14) {
          EXPECT_EQ(differing, 0) << "the Ethernet header is not for corruption: the frame would only get lost";
        }
        bits += differing;
      }
      EXPECT_EQ(bits, 1);
    });
  }
  EXPECT_EQ(original, BuildTcp(t, true));
}

TEST_F(ImpairTest, FullStoreDropsAndCounts) {
  ASSERT_TRUE(impairer_.Open({.delay = 1s}, 1, 8));
  for (uint32_t i = 0; i < 20; ++i) Offer(i, Instant{});
  EXPECT_EQ(impairer_.stats().overflowed, 12u);
  EXPECT_EQ(Drain().size(), 8u);
  for (uint32_t i = 0; i < 8; ++i) Offer(i, Instant{2s});
  EXPECT_EQ(Drain().size(), 8u) << "slots are used again";
}

TEST_F(ImpairTest, TransmitFramesComeBackWhole) {
  TcpFields t{.payload_bytes = 60000};
  FrameBytes f = BuildTcp(t, true);
  ASSERT_TRUE(impairer_.Open({.delay = 1ms}, 1));
  for (int i = 0; i < 3; ++i) impairer_.Offer(AsTxFrame(f, t, PartialChecksum(t, 1448), 9), Instant{});
  auto batch = std::make_unique<TxBatch>();
  impairer_.ReleaseInto(Instant{}, *batch);
  EXPECT_EQ(batch->count, 0u);
  impairer_.ReleaseInto(Instant{1ms}, *batch);
  ASSERT_EQ(batch->count, 3u);
  for (size_t i = 0; i < 3; ++i) {
    const TxFrame& out = batch->frames[i];
    EXPECT_EQ(out.vnet.gso_size, 1448);
    FrameBytes flat;
    auto* headers = reinterpret_cast<const std::byte*>(out.headers.data());
    flat.insert(flat.end(), headers, headers + out.header_bytes);
    for (size_t p = 0; p < out.piece_count; ++p) {
      auto* piece = static_cast<std::byte*>(out.pieces[p].iov_base);
      flat.insert(flat.end(), piece, piece + out.pieces[p].iov_len);
    }
    EXPECT_EQ(flat, f);
    EXPECT_EQ(out.payload_bytes + out.header_bytes, f.size());
  }
}

TEST_F(ImpairTest, ReleaseStopsAtItsLimitAndABatchAtItsCapacity) {
  ASSERT_TRUE(impairer_.Open({}, 1));
  for (uint32_t i = 0; i < 100; ++i) Offer(i, Instant{});
  EXPECT_EQ(impairer_.Release(
                Instant{}, [](RxFrame&) {}, 10),
            10u);
  auto batch = std::make_unique<TxBatch>();
  impairer_.ReleaseInto(Instant{}, *batch);
  EXPECT_TRUE(batch->full());
  EXPECT_EQ(Drain().size(), 100 - 10 - TxBatch::kCapacity);
}

}  // namespace
}  // namespace ustcp
