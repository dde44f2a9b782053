// Software segmentation and checksum completion (issue "io/": checksum offload, TSO4/TSO6; virtio 1.2, 5.1.6.2).
#include "io/device/segment.h"

#include <gtest/gtest.h>

#include "tests/unit/io/frame_build.h"

namespace ustcp {
namespace {

std::vector<FrameBytes> Cut(const VirtioNetHeader& vnet, const FrameBytes& f) {
  std::vector<FrameBytes> pieces;
  FrameSegmenter segmenter(vnet, f);
  FrameBytes scratch(70000);
  while (size_t n = segmenter.Next(scratch))
    pieces.emplace_back(scratch.begin(), scratch.begin() + static_cast<long>(n));
  return pieces;
}

struct CutCase {
  const char* name;
  bool ipv6, vlan;
  size_t options, payload;
  uint16_t gso;
};

class SegmentCut : public ::testing::TestWithParam<CutCase> {};
INSTANTIATE_TEST_SUITE_P(Shapes, SegmentCut,
                         ::testing::Values(CutCase{"v4", false, false, 12, 10000, 1448},
                                           CutCase{"v6", true, false, 12, 10000, 1428},
                                           CutCase{"v4_exact", false, false, 0, 4380, 1460},
                                           CutCase{"v4_odd_bytes", false, false, 8, 4001, 999},
                                           CutCase{"v4_vlan", false, true, 12, 5000, 1448},
                                           CutCase{"v6_full", true, false, 40, 65000, 1388},
                                           CutCase{"v4_one_piece", false, false, 12, 100, 1448},
                                           CutCase{"v4_no_payload", false, false, 0, 0, 1448}),
                         [](auto& shape) { return shape.param.name; });

TEST_P(SegmentCut, PiecesAreWhatAPeerWithoutOffloadWouldSend) {
  const CutCase& c = GetParam();
  TcpFields t{.ipv6 = c.ipv6,
              .vlan = c.vlan,
              .seq = 0xfffffc00,
              .flags = 0x80 | 0x10 | 0x08 | 0x01,
              .option_bytes = c.options,
              .payload_bytes = c.payload};
  FrameBytes whole = BuildTcp(t, true);
  std::vector<FrameBytes> pieces = Cut(PartialChecksum(t, c.gso), whole);
  ASSERT_EQ(pieces.size(), c.payload == 0 ? 1 : (c.payload + c.gso - 1) / c.gso);
  TcpOffsets at = OffsetsOf(t);
  FrameBytes payload;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const FrameBytes& p = pieces[i];
    EXPECT_TRUE(ChecksumsHold(p, t)) << "piece " << i;
    EXPECT_LE(p.size() - at.payload, c.gso);
    EXPECT_EQ(LoadBe32(&p[at.tcp + 4]), t.seq + static_cast<uint32_t>(payload.size())) << "piece " << i;
    bool first = i == 0, last = i + 1 == pieces.size();
    EXPECT_EQ(Load8(&p[at.tcp + 13]), 0x10 | (first ? 0x80 : 0) | (last ? 0x09 : 0)) << "piece " << i;
    size_t length = c.ipv6 ? LoadBe16(&p[at.ip + 4]) + 40u : LoadBe16(&p[at.ip + 2]);
    EXPECT_EQ(length, p.size() - at.ip);
    if (!c.ipv6) {
      EXPECT_EQ(LoadBe16(&p[at.ip + 4]), static_cast<uint16_t>(0xfffe + i));
    }
    payload.insert(payload.end(), p.begin() + static_cast<long>(at.payload), p.end());
  }
  EXPECT_EQ(payload, FrameBytes(whole.begin() + static_cast<long>(at.payload), whole.end()));
}

TEST(Segment, FrameWithoutSegmentationComesOutOnceWithItsChecksum) {
  TcpFields t{.payload_bytes = 501};
  std::vector<FrameBytes> pieces = Cut(PartialChecksum(t), BuildTcp(t, true));
  ASSERT_EQ(pieces.size(), 1u);
  EXPECT_EQ(pieces[0], BuildTcp(t, false));
  // Complete already: unchanged.
  pieces = Cut(VirtioNetHeader{}, BuildTcp(t, false));
  ASSERT_EQ(pieces.size(), 1u);
  EXPECT_EQ(pieces[0], BuildTcp(t, false));
}

TEST(Segment, HeadersThatDoNotFitTheFrameGiveNothing) {
  TcpFields t{.payload_bytes = 3000};
  FrameBytes good = BuildTcp(t, true);
  VirtioNetHeader vnet = PartialChecksum(t, 1000);
  ASSERT_EQ(Cut(vnet, good).size(), 3u);

  VirtioNetHeader v6 = vnet;
  v6.gso_type = VirtioNetHeader::kGsoTcpV6;
  EXPECT_TRUE(Cut(v6, good).empty());
  VirtioNetHeader none = vnet;
  none.gso_size = 0;
  EXPECT_TRUE(Cut(none, good).empty());
  VirtioNetHeader unknown = vnet;
  unknown.gso_type = 3;  // UDP fragmentation
  EXPECT_TRUE(Cut(unknown, good).empty());
  VirtioNetHeader outside = PartialChecksum(t);
  outside.checksum_start = 60000;
  EXPECT_TRUE(Cut(outside, good).empty());
  FrameBytes udp = good;
  udp[14 + 9] = std::byte{17};
  EXPECT_TRUE(Cut(vnet, udp).empty());
  FrameBytes short_ip = good;
  short_ip[14] = std::byte{0x44};
  EXPECT_TRUE(Cut(vnet, short_ip).empty());
  FrameBytes long_tcp = good;
  long_tcp[14 + 20 + 12] = std::byte{0x40};
  EXPECT_TRUE(Cut(vnet, long_tcp).empty());
}

// Whatever is cut off: no read outside, no piece with more than its share.
TEST(Segment, EveryTruncationIsHarmless) {
  for (bool ipv6 : {false, true}) {
    TcpFields t{.ipv6 = ipv6, .vlan = true, .option_bytes = 20, .payload_bytes = 300};
    FrameBytes whole = BuildTcp(t, true);
    for (size_t n = 0; n <= whole.size(); ++n) {
      auto cut = std::make_unique<std::byte[]>(n);  // exact size, for the address sanitizer
      std::memcpy(cut.get(), whole.data(), n);
      FrameSegmenter segmenter(PartialChecksum(t, 100), {cut.get(), n});
      std::byte scratch[400];
      size_t total = 0;
      while (size_t piece = segmenter.Next(scratch)) total += piece - OffsetsOf(t).payload;
      EXPECT_EQ(total, n >= OffsetsOf(t).payload ? n - OffsetsOf(t).payload : 0);
    }
  }
}

TEST(Segment, ScratchThatIsTooSmallEndsTheCut) {
  TcpFields t{.payload_bytes = 3000};
  FrameBytes f = BuildTcp(t, true);
  FrameSegmenter segmenter(PartialChecksum(t, 1000), f);
  std::byte scratch[500];
  EXPECT_EQ(segmenter.Next(scratch), 0u);
}

TEST(Segment, CompleteChecksumStaysInsideTheFrame) {
  TcpFields t{.payload_bytes = 77};
  FrameBytes f = BuildTcp(t, true);
  EXPECT_TRUE(CompleteChecksum(PartialChecksum(t), f));
  EXPECT_EQ(f, BuildTcp(t, false));
  FrameBytes before = f;
  VirtioNetHeader vnet = PartialChecksum(t);
  vnet.checksum_offset = static_cast<uint16_t>(f.size() - vnet.checksum_start - 1);
  EXPECT_FALSE(CompleteChecksum(vnet, f));
  vnet = PartialChecksum(t);
  vnet.checksum_start = static_cast<uint16_t>(f.size() + 1);
  EXPECT_FALSE(CompleteChecksum(vnet, f));
  EXPECT_EQ(f, before);
}

TEST(Segment, FlattenGathersAndRefusesWhatDoesNotFit) {
  TcpFields t{.payload_bytes = 1001};
  FrameBytes f = BuildTcp(t, false);
  TxFrame frame = AsTxFrame(f, t, VirtioNetHeader{}, 7);
  FrameBytes out(f.size());
  EXPECT_EQ(FlattenFrame(frame, out), f.size());
  EXPECT_EQ(out, f);
  EXPECT_EQ(FlattenFrame(frame, Bytes(out).first(f.size() - 1)), 0u);
}

}  // namespace
}  // namespace ustcp
