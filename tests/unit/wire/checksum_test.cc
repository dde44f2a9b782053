// D15: checksums. RFC 1071 sums against a naive model, pieces at any offset, and the partial form of the kernel.
#include "stack/wire/checksum.h"

#include <gtest/gtest.h>

#include "stack/wire/ipv4.h"
#include "stack/wire/ipv6.h"
#include "stack/wire/tcp.h"
#include "tests/unit/wire/bytes_util.h"
#include "tests/unit/wire/kernel_frames.h"

namespace ustcp {
namespace {

// Word by word, as RFC 1071 1 defines it.
uint16_t NaiveSum(ConstBytes bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    sum += static_cast<uint32_t>(Load8(bytes.data() + i)) << (i % 2 == 0 ? 8 : 0);
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return static_cast<uint16_t>(sum);
}

TEST(ChecksumD15, MatchesTheNaiveSumForEveryLengthAndAlignment) {
  std::mt19937 rng(1);
  const ByteVector bytes = RandomBytes(rng, 700);
  for (size_t offset = 0; offset < 9; ++offset) {
    for (size_t length = 0; length + offset <= bytes.size(); ++length) {
      const ConstBytes piece(bytes.data() + offset, length);
      InternetSum sum;
      sum.Add(piece);
      ASSERT_EQ(sum.Fold(), NaiveSum(piece)) << "offset " << offset << " length " << length;
    }
  }
}

TEST(ChecksumD15, SumsOfLargeBuffersDoNotOverflow) {
  for (const size_t size : {65535u, 65536u, 1u << 20}) {
    const ByteVector ones(size, std::byte{0xff});
    InternetSum sum;
    for (int i = 0; i < 20; ++i) sum.Add(ones);
    uint16_t expected = 0xffff;
    if (size % 2 != 0) {
      ByteVector all(size * 20, std::byte{0xff});
      expected = NaiveSum(all);
    }
    EXPECT_EQ(sum.Fold(), expected) << size;
  }
}

TEST(ChecksumD15, PiecesOfAnyLengthSumLikeTheWhole) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    std::mt19937 rng(seed);
    const ByteVector bytes = RandomBytes(rng, rng() % 3000);
    InternetSum sum;
    for (size_t at = 0; at < bytes.size();) {
      const size_t length = std::min<size_t>(bytes.size() - at, rng() % 400);
      sum.Add(ConstBytes(bytes.data() + at, length));
      at += length;
    }
    ASSERT_EQ(sum.Fold(), NaiveSum(bytes)) << "seed " << seed;
  }
}

TEST(ChecksumD15, FilledChecksumsVerifyAndEveryFlippedBitIsSeen) {
  std::mt19937 rng(2);
  for (const size_t size : {20u, 21u, 47u, 1480u}) {
    for (const bool v4 : {true, false}) {
      const IpAddress source = v4 ? kHostA4 : kHostA6;
      const IpAddress destination = v4 ? kHostB4 : kHostB6;
      ByteVector segment = RandomBytes(rng, size);
      FillTransportChecksum(source, destination, kProtocolTcp, segment, kTcpChecksumOffset);
      ASSERT_TRUE(VerifyTransportChecksum(source, destination, kProtocolTcp, segment));
      ASSERT_FALSE(VerifyTransportChecksum(source, destination, 17, segment));
      for (size_t bit = 0; bit < size * 8; bit += 5) {
        segment[bit / 8] ^= std::byte{1} << (bit % 8);
        ASSERT_FALSE(VerifyTransportChecksum(source, destination, kProtocolTcp, segment)) << "bit " << bit;
        segment[bit / 8] ^= std::byte{1} << (bit % 8);
      }
    }
  }
}

TEST(ChecksumD15, LengthOfThePseudoHeaderCounts) {
  ByteVector segment(40);
  FillTransportChecksum(kHostA4, kHostB4, kProtocolTcp, segment, kTcpChecksumOffset);
  segment.resize(42);
  EXPECT_FALSE(VerifyTransportChecksum(kHostA4, kHostB4, kProtocolTcp, segment));
}

// RFC 1624 3: where the older equation gave -0.
TEST(ChecksumD15, IncrementalUpdateEqualsRecomputation) {
  EXPECT_EQ(UpdateChecksum(0xdd2f, 0x5555, 0x3285), 0x0000);
  std::mt19937 rng(3);
  for (int i = 0; i < 20000; ++i) {
    ByteVector bytes = RandomBytes(rng, 20);
    const uint16_t before = ComputeChecksum(bytes);
    const size_t at = rng() % 10 * 2;
    const uint16_t old_word = LoadBe16(&bytes[at]);
    const auto new_word = static_cast<uint16_t>(rng());
    StoreBe16(&bytes[at], new_word);
    ASSERT_EQ(UpdateChecksum(before, old_word, new_word), ComputeChecksum(bytes)) << i;
  }
}

TEST(ChecksumD15, KernelSegmentsVerify) {
  for (const auto hex : {kernel_frames::kSyn, kernel_frames::kSynAck, kernel_frames::kData}) {
    const ByteVector packet = PacketOf(hex);
    const auto ip = Ipv4View::Parse(packet);
    ASSERT_TRUE(ip);
    EXPECT_TRUE(VerifyTransportChecksum(ip->source(), ip->destination(), kProtocolTcp, ip->payload()));
  }
}

// The field of a frame with virtio NEEDS_CSUM, as the kernel's own sender leaves it to the device.
TEST(ChecksumD15, PartialFormIsTheKernels) {
  for (const auto hex : {kernel_frames::kPartialSynAck, kernel_frames::kPartialData, kernel_frames::kFastOpenSyn}) {
    const ByteVector packet = PacketOf(hex);
    const auto ip = Ipv4View::Parse(packet);
    ASSERT_TRUE(ip);
    const auto tcp = TcpView::Parse(ip->payload());
    ASSERT_TRUE(tcp);
    const auto size = static_cast<uint32_t>(ip->payload().size());
    EXPECT_EQ(PartialChecksum(ip->source(), ip->destination(), kProtocolTcp, size), tcp->checksum());
  }
  const ByteVector packet = PacketOf(kernel_frames::kPartialSyn6);
  const auto ip = Ipv6View::Parse(packet);
  ASSERT_TRUE(ip);
  EXPECT_EQ(PartialChecksum(ip->source(), ip->destination(), kProtocolTcp, static_cast<uint32_t>(ip->payload().size())),
            TcpView::Parse(ip->payload())->checksum());
}

// What the device does with the partial form: sum from checksum_start on, complement, store.
TEST(ChecksumD15, DeviceCompletesThePartialForm) {
  std::mt19937 rng(4);
  for (const size_t size : {20u, 33u, 1000u}) {
    ByteVector segment = RandomBytes(rng, size);
    StoreBe16(&segment[kTcpChecksumOffset],
              PartialChecksum(kHostA6, kHostB6, kProtocolTcp, static_cast<uint32_t>(size)));
    StoreBe16(&segment[kTcpChecksumOffset], ComputeChecksum(segment));
    EXPECT_TRUE(VerifyTransportChecksum(kHostA6, kHostB6, kProtocolTcp, segment));
  }
}

TEST(ChecksumD15, KeptPseudoHeaderSumCanBeAddedToTwice) {
  std::mt19937 rng(5);
  const ByteVector a = RandomBytes(rng, 33);
  const InternetSum kept = PseudoHeaderSum(kHostA4, kHostB4, kProtocolTcp, 33);
  InternetSum first = kept;
  first.Add(a);
  InternetSum second = kept;
  second.Add(a);
  EXPECT_EQ(first.Fold(), second.Fold());
  EXPECT_EQ(kept.Fold(), PartialChecksum(kHostA4, kHostB4, kProtocolTcp, 33));
}

}  // namespace
}  // namespace ustcp
