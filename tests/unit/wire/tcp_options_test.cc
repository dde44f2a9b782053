// E1: options on SYN in the kernel's order. D15: malformed options end the walk and are never acted on. E11, D4, D9.
#include "stack/wire/tcp_options.h"

#include <gtest/gtest.h>

#include "stack/wire/ipv4.h"
#include "stack/wire/ipv6.h"
#include "tests/unit/wire/bytes_util.h"
#include "tests/unit/wire/kernel_frames.h"

namespace ustcp {
namespace {

ByteVector OptionsOf(std::string_view frame_hex) {
  const ByteVector packet = PacketOf(frame_hex);
  if (packet[0] == std::byte{0x45}) return ToVector(TcpView::Parse(Ipv4View::Parse(packet)->payload())->options());
  return ToVector(TcpView::Parse(Ipv6View::Parse(packet)->payload())->options());
}

ByteVector Write(const TcpOptions& o) {
  ByteVector out(64, std::byte{0xee});
  const size_t size = WriteTcpOptions(out.data(), o);
  EXPECT_LE(size, kMaxTcpOptionBytes);
  EXPECT_EQ(size % 4, 0u);
  EXPECT_EQ(out[size], std::byte{0xee});
  out.resize(size);
  return out;
}

TcpOptions Parse(std::string_view hex, bool syn) { return ParseTcpOptions(FromHex(hex), syn); }

// What the kernel sent, read and written again, is the same bytes: order and padding are the kernel's.
TEST(TcpOptionsE1, KernelOptionsRoundTrip) {
  for (const auto hex :
       {kernel_frames::kSyn, kernel_frames::kSynAck, kernel_frames::kPartialSyn6, kernel_frames::kFastOpenRequestSyn,
        kernel_frames::kFastOpenGrantSynAck, kernel_frames::kFastOpenSyn}) {
    const ByteVector options = OptionsOf(hex);
    EXPECT_EQ(Write(ParseTcpOptions(options, true)), options);
  }
  for (const auto hex : {kernel_frames::kData, kernel_frames::kThreeSacks}) {
    const ByteVector options = OptionsOf(hex);
    EXPECT_EQ(Write(ParseTcpOptions(options, false)), options);
  }
}

TEST(TcpOptionsE1, KernelSynIsReadRight) {
  const TcpOptions o = ParseTcpOptions(OptionsOf(kernel_frames::kSyn), true);
  EXPECT_EQ(o.mss, 1460);
  EXPECT_EQ(o.window_scale, 10);
  EXPECT_TRUE(o.sack_permitted);
  ASSERT_TRUE(o.timestamps);
  EXPECT_EQ(*o.timestamps, (TcpTimestamps{470548223, 0}));
  EXPECT_FALSE(o.fast_open);
  EXPECT_FALSE(o.md5);
  EXPECT_FALSE(o.ao);
}

TEST(TcpOptionsE1, EveryCombinationOnASynHasTheKernelsLayout) {
  TcpOptions o;
  o.mss = 1460;
  EXPECT_EQ(Write(o), FromHex("020405b4"));
  o.window_scale = 7;
  EXPECT_EQ(Write(o), FromHex("020405b4 01030307"));
  o.sack_permitted = true;
  EXPECT_EQ(Write(o), FromHex("020405b4 01010402 01030307"));
  o.timestamps = {1, 2};
  EXPECT_EQ(Write(o), FromHex("020405b4 0402080a 00000001 00000002 01030307"));
  o.sack_permitted = false;
  EXPECT_EQ(Write(o), FromHex("020405b4 0101080a 00000001 00000002 01030307"));
}

TEST(TcpOptionsE11, CookieRequestGrantAndUse) {
  TcpOptions o = ParseTcpOptions(OptionsOf(kernel_frames::kFastOpenRequestSyn), true);
  ASSERT_TRUE(o.fast_open);
  EXPECT_TRUE(o.fast_open->is_request());
  EXPECT_FALSE(o.fast_open->experimental);
  const TcpOptions grant = ParseTcpOptions(OptionsOf(kernel_frames::kFastOpenGrantSynAck), true);
  const TcpOptions use = ParseTcpOptions(OptionsOf(kernel_frames::kFastOpenSyn), true);
  ASSERT_TRUE(grant.fast_open);
  ASSERT_TRUE(use.fast_open);
  EXPECT_EQ(grant.fast_open->length, 8);
  EXPECT_EQ(ToVector(grant.fast_open->bytes()), ToVector(use.fast_open->bytes()));
}

TEST(TcpOptionsE11, ExperimentalFormRoundTrips) {
  const ByteVector wire = FromHex("fe08f989 01020304");
  const TcpOptions o = ParseTcpOptions(wire, true);
  ASSERT_TRUE(o.fast_open);
  EXPECT_TRUE(o.fast_open->experimental);
  EXPECT_EQ(o.fast_open->length, 4);
  EXPECT_EQ(Write(o), wire);
  EXPECT_EQ(Write(ParseTcpOptions(FromHex("fe04f989"), true)), FromHex("fe04f989"));
  EXPECT_FALSE(Parse("fe08f98a01020304", true).fast_open) << "another experiment";
  EXPECT_FALSE(Parse("fe030000", true).fast_open);
}

TEST(TcpOptionsE11, CookieLengthsOutsideTheRulesAreIgnored) {
  EXPECT_FALSE(Parse("2203aa", true).fast_open) << "odd";
  EXPECT_FALSE(Parse("2204aaaa", true).fast_open) << "two bytes";
  EXPECT_TRUE(Parse("2206aaaaaaaa", true).fast_open);
  EXPECT_TRUE(Parse("221200112233445566778899aabbccddeeff", true).fast_open);
  EXPECT_FALSE(Parse("221400112233445566778899aabbccddeeff0011", true).fast_open) << "eighteen bytes";
  EXPECT_FALSE(Parse("2206aaaaaaaa", false).fast_open) << "not on a SYN";
}

TEST(TcpOptionsE11, ACookieThatDoesNotFitIsLeftOut) {
  TcpOptions o;
  o.mss = 1460;
  o.timestamps = {1, 2};
  o.sack_permitted = true;
  o.window_scale = 7;
  o.fast_open.emplace();
  o.fast_open->length = 16;
  EXPECT_EQ(Write(o).size(), 40u);
  o.fast_open->experimental = true;
  EXPECT_EQ(Write(o).size(), 40u);
  o.sack_count = 1;
  EXPECT_EQ(Write(o).size(), 32u);
}

TEST(TcpOptionsD4, KernelSackBlocks) {
  const TcpOptions o = ParseTcpOptions(OptionsOf(kernel_frames::kThreeSacks), false);
  const Seq iss(1526140341);
  ASSERT_EQ(o.sack_count, 3);
  EXPECT_EQ(o.sack[0], (SeqRange{iss + 46337, iss + 47785}));
  EXPECT_EQ(o.sack[1], (SeqRange{iss + 41993, iss + 44889}));
  EXPECT_EQ(o.sack[2], (SeqRange{iss + 21721, iss + 40545}));
}

TEST(TcpOptionsD4, BlocksThatDoNotFitAreLeftOut) {
  TcpOptions o;
  o.sack_count = 4;
  for (uint32_t i = 0; i < 4; ++i) o.sack[i] = {Seq(i * 10), Seq(i * 10 + 5)};
  EXPECT_EQ(Write(o).size(), 36u);
  EXPECT_EQ(Write(o).size(), DataOptionBytes(false, 4));
  o.timestamps = {1, 2};
  EXPECT_EQ(Write(o).size(), 40u);
  EXPECT_EQ(ParseTcpOptions(Write(o), false).sack_count, 3);
  for (const bool timestamps : {false, true}) {
    for (uint8_t count = 0; count <= 4; ++count) {
      TcpOptions data = o;
      data.sack_count = count;
      if (!timestamps) data.timestamps.reset();
      EXPECT_EQ(Write(data).size(), DataOptionBytes(timestamps, count));
    }
  }
}

TEST(TcpOptionsD4, OddSackLengthsAreIgnored) {
  EXPECT_EQ(Parse("0502", false).sack_count, 0);
  EXPECT_EQ(Parse("05060000000a", false).sack_count, 0);
  EXPECT_EQ(Parse("050a0000000a00000014", false).sack_count, 1);
  EXPECT_EQ(Parse("050a0000000a00000014", true).sack_count, 0) << "SYN";
}

TEST(TcpOptionsD9, LoneTimestampsFastPathAgreesWithTheWalk) {
  const ByteVector options = OptionsOf(kernel_frames::kData);
  const auto fast = ParseLoneTimestamps(options);
  ASSERT_TRUE(fast);
  EXPECT_EQ(*fast, *ParseTcpOptions(options, false).timestamps);
  std::byte out[kTimestampOptionBytes];
  EXPECT_EQ(WriteLoneTimestamps(out, *fast), options.size());
  EXPECT_EQ(ToVector(out), options);
  EXPECT_FALSE(ParseLoneTimestamps(OptionsOf(kernel_frames::kSyn)));
  EXPECT_FALSE(ParseLoneTimestamps({}));
  EXPECT_FALSE(ParseLoneTimestamps(FromHex("080a 00000001 00000002 0101"))) << "other padding takes the walk";
}

TEST(TcpOptionsD9, WindowScaleIsClampedToFourteen) {
  EXPECT_EQ(Parse("03030e", true).window_scale, 14);
  EXPECT_EQ(Parse("03030f", true).window_scale, 14);
  EXPECT_EQ(Parse("0303ff", true).window_scale, 14);
  EXPECT_EQ(Parse("030300", true).window_scale, 0);
}

TEST(TcpOptionsD15, SynOptionsOnOtherSegmentsAreIgnored) {
  const TcpOptions o = Parse("020405b4 01010402 01030307 0101080a 00000001 00000002", false);
  EXPECT_FALSE(o.mss);
  EXPECT_FALSE(o.window_scale);
  EXPECT_FALSE(o.sack_permitted);
  EXPECT_TRUE(o.timestamps);
}

TEST(TcpOptionsD15, WrongSizesAreSkippedAndTheWalkGoesOn) {
  for (const auto bad : {"0203ff", "020500ffff", "0302", "03040101", "040300", "080b000000010000000200", "0802"}) {
    const TcpOptions o = Parse(std::string(bad) + "080a0000000700000008", true);
    EXPECT_FALSE(o.mss) << bad;
    EXPECT_FALSE(o.window_scale) << bad;
    EXPECT_FALSE(o.sack_permitted) << bad;
    ASSERT_TRUE(o.timestamps) << bad;
    EXPECT_EQ(o.timestamps->value, 7u) << bad;
  }
}

TEST(TcpOptionsD15, ImpossibleLengthsEndTheWalkAndKeepWhatWasFound) {
  for (const auto end : {"0300", "0301", "0304", "03", "ff00", "00030307"}) {
    const TcpOptions o = Parse(std::string("020405b4") + end, true);
    EXPECT_EQ(o.mss, 1460) << end;
    EXPECT_FALSE(o.window_scale) << end;
  }
}

// What lies behind the options is payload, however well it would complete the last option.
TEST(TcpOptionsD15, AnOptionCutShortIsNotCompletedFromThePayload) {
  const ByteVector bytes = FromHex("020405b4 0402 030307 080a 00000001 00000002 01");
  for (size_t size = 0; size <= bytes.size(); ++size) {
    const TcpOptions o = ParseTcpOptions(ConstBytes(bytes).first(size), true);
    ASSERT_EQ(o.mss.has_value(), size >= 4) << size;
    ASSERT_EQ(o.sack_permitted, size >= 6) << size;
    ASSERT_EQ(o.window_scale.has_value(), size >= 9) << size;
    ASSERT_EQ(o.timestamps.has_value(), size >= 19) << size;
  }
}

TEST(TcpOptionsD15, UnknownOptionsAreSkipped) {
  const TcpOptions o = Parse("4d06aabbccdd 020405b4", true);
  EXPECT_EQ(o.mss, 1460);
}

TEST(TcpOptionsD15, AnMssOfZeroIsNone) { EXPECT_FALSE(Parse("02040000", true).mss); }

TEST(TcpOptionsD15, TheLastOfDuplicatesCounts) {
  EXPECT_EQ(Parse("020405b4 02040200", true).mss, 512);
  EXPECT_EQ(Parse("030301 030302", true).window_scale, 2);
}

TEST(TcpOptionsD15, SignaturesAreNoticed) {
  EXPECT_TRUE(Parse("131200112233445566778899aabbccddeeff", false).md5);
  EXPECT_FALSE(Parse("1304ffff", false).md5);
  EXPECT_TRUE(Parse("1d040102", false).ao);
}

// Whatever is written is read back the same, and reading arbitrary bytes gives values within their limits.
TEST(TcpOptionsD15, RandomRoundTrips) {
  std::mt19937 rng(6);
  for (int i = 0; i < 20000; ++i) {
    const bool syn = rng() % 2 == 0;
    TcpOptions o;
    if (rng() % 2 == 0) o.timestamps = {static_cast<uint32_t>(rng()), static_cast<uint32_t>(rng())};
    if (syn) {
      if (rng() % 2 == 0) o.mss = static_cast<uint16_t>(1 + rng() % 65535);
      if (rng() % 2 == 0) o.window_scale = static_cast<uint8_t>(rng() % 15);
      o.sack_permitted = rng() % 2 == 0;
      if (rng() % 2 == 0) {
        o.fast_open.emplace();
        o.fast_open->length = static_cast<uint8_t>(rng() % 3 * 4);
        o.fast_open->experimental = rng() % 2 == 0;
        for (size_t k = 0; k < o.fast_open->length; ++k) o.fast_open->cookie[k] = static_cast<std::byte>(rng());
      }
    } else {
      o.sack_count = static_cast<uint8_t>(rng() % 4);
      for (size_t k = 0; k < o.sack_count; ++k) {
        o.sack[k] = {Seq(static_cast<uint32_t>(rng())), Seq(static_cast<uint32_t>(rng()))};
      }
    }
    const TcpOptions back = ParseTcpOptions(Write(o), syn);
    ASSERT_EQ(back.mss, o.mss) << i;
    ASSERT_EQ(back.window_scale, o.window_scale) << i;
    ASSERT_EQ(back.sack_permitted, o.sack_permitted) << i;
    ASSERT_EQ(back.timestamps, o.timestamps) << i;
    ASSERT_EQ(back.sack_count, o.sack_count) << i;
    for (size_t k = 0; k < o.sack_count; ++k) ASSERT_EQ(back.sack[k], o.sack[k]) << i;
    ASSERT_EQ(back.fast_open.has_value(), o.fast_open.has_value()) << i;
    if (o.fast_open) {
      ASSERT_EQ(back.fast_open->experimental, o.fast_open->experimental);
      ASSERT_EQ(ToVector(back.fast_open->bytes()), ToVector(o.fast_open->bytes()));
    }
  }
}

}  // namespace
}  // namespace ustcp
