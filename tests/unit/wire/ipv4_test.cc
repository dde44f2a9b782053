// D15: IPv4 headers. Malformed ones are refused with the right reason.
#include "stack/wire/ipv4.h"

#include <gtest/gtest.h>

#include "stack/wire/tcp.h"
#include "tests/unit/wire/bytes_util.h"
#include "tests/unit/wire/kernel_frames.h"

namespace ustcp {
namespace {

DropReason ReasonFor(ConstBytes packet, ChecksumTrust trust = ChecksumTrust::kVerify) {
  DropReason why = DropReason::kNone;
  const bool ok = Ipv4View::Parse(packet, trust, &why).has_value();
  EXPECT_EQ(ok, why == DropReason::kNone);
  return why;
}

void FixChecksum(ByteVector& packet) {
  const size_t header = (std::to_integer<size_t>(packet[0]) & 15) * 4;
  StoreBe16(&packet[10], 0);
  StoreBe16(&packet[10], ComputeChecksum({packet.data(), header}));
}

// `options` is padded with zeros to a multiple of four.
ByteVector PacketWithOptions(ByteVector options) {
  options.resize((options.size() + 3) / 4 * 4);
  ByteVector packet(kIpv4HeaderBytes);
  WriteIpv4(packet.data(), {.source = kHostA4, .destination = kHostB4, .protocol = 6, .payload_bytes = 4});
  packet[0] = static_cast<std::byte>(0x40 | (20 + options.size()) / 4);
  StoreBe16(&packet[2], static_cast<uint16_t>(24 + options.size()));
  packet.insert(packet.end(), options.begin(), options.end());
  packet.resize(packet.size() + 4);
  FixChecksum(packet);
  return packet;
}

TEST(Ipv4D15, ReadsAndRewritesAKernelPacket) {
  const ByteVector packet = PacketOf(kernel_frames::kData);
  const auto ip = Ipv4View::Parse(packet);
  ASSERT_TRUE(ip);
  EXPECT_EQ(ip->source(), kHostA4);
  EXPECT_EQ(ip->destination(), kHostB4);
  EXPECT_EQ(ip->protocol(), kProtocolTcp);
  EXPECT_EQ(ip->ttl(), 64);
  EXPECT_TRUE(ip->dont_fragment());
  EXPECT_FALSE(ip->is_fragment());
  EXPECT_EQ(ip->payload().size(), 20u + 12 + 101);
  std::byte out[kIpv4HeaderBytes];
  WriteIpv4(out, {.source = kHostA4,
                  .destination = kHostB4,
                  .protocol = kProtocolTcp,
                  .tos = ip->tos(),
                  .ttl = 64,
                  .id = ip->id(),
                  .dont_fragment = true,
                  .payload_bytes = static_cast<uint16_t>(ip->payload().size())});
  EXPECT_EQ(ToVector(out), ToVector(ip->header()));
}

TEST(Ipv4D15, BuilderAndViewAgreeForRandomFields) {
  std::mt19937 rng(1);
  for (int i = 0; i < 2000; ++i) {
    Ipv4Header h;
    h.source = IpAddress::V4(1, 2, 3, static_cast<uint8_t>(rng()));
    h.destination = IpAddress::V4(5, static_cast<uint8_t>(rng()), 7, 8);
    h.protocol = static_cast<uint8_t>(rng());
    h.tos = static_cast<uint8_t>(rng());
    h.ttl = static_cast<uint8_t>(rng());
    h.id = static_cast<uint16_t>(rng());
    h.dont_fragment = rng() % 2 == 0;
    h.payload_bytes = static_cast<uint16_t>(rng() % 65516);
    ByteVector packet(kIpv4HeaderBytes + h.payload_bytes);
    ASSERT_EQ(WriteIpv4(packet.data(), h), kIpv4HeaderBytes);
    const auto ip = Ipv4View::Parse(packet);
    ASSERT_TRUE(ip) << i;
    ASSERT_EQ(ip->source(), h.source);
    ASSERT_EQ(ip->destination(), h.destination);
    ASSERT_EQ(ip->protocol(), h.protocol);
    ASSERT_EQ(ip->tos(), h.tos);
    ASSERT_EQ(ip->ttl(), h.ttl);
    ASSERT_EQ(ip->id(), h.id);
    ASSERT_EQ(ip->dont_fragment(), h.dont_fragment);
    ASSERT_EQ(ip->payload().size(), h.payload_bytes);
  }
}

TEST(Ipv4D15, EachMalformedHeaderHasItsReason) {
  const ByteVector good = PacketOf(kernel_frames::kData);
  for (size_t size = 0; size < 20; ++size) EXPECT_EQ(ReasonFor(ConstBytes(good).first(size)), DropReason::kIpHeader);

  ByteVector version = good;
  version[0] = std::byte{0x55};
  EXPECT_EQ(ReasonFor(version), DropReason::kIpHeader);

  ByteVector short_header = good;
  short_header[0] = std::byte{0x44};
  FixChecksum(short_header);
  EXPECT_EQ(ReasonFor(short_header), DropReason::kIpHeader);

  ByteVector long_header(good.begin(), good.begin() + 24);
  long_header[0] = std::byte{0x4f};
  EXPECT_EQ(ReasonFor(long_header), DropReason::kIpHeader);

  ByteVector total_below_header = good;
  StoreBe16(&total_below_header[2], 19);
  FixChecksum(total_below_header);
  EXPECT_EQ(ReasonFor(total_below_header), DropReason::kIpHeader);

  EXPECT_EQ(ReasonFor(ConstBytes(good).first(good.size() - 1)), DropReason::kIpTruncated);
}

TEST(Ipv4D15, ChecksumIsVerifiedUnlessTheDeviceVouches) {
  ByteVector packet = PacketOf(kernel_frames::kData);
  packet[8] ^= std::byte{1};
  EXPECT_EQ(ReasonFor(packet), DropReason::kIpChecksum);
  EXPECT_EQ(ReasonFor(packet, ChecksumTrust::kVouched), DropReason::kNone);
}

TEST(Ipv4D15, PaddingOfTheFrameIsCutOff) {
  ByteVector packet(kIpv4HeaderBytes);
  WriteIpv4(packet.data(), {.source = kHostA4, .destination = kHostB4, .protocol = 6, .payload_bytes = 3});
  packet.resize(46, std::byte{0xaa});
  const auto ip = Ipv4View::Parse(packet);
  ASSERT_TRUE(ip);
  EXPECT_EQ(ip->payload().size(), 3u);
}

TEST(Ipv4D15, OptionsAreSkippedWhenSoundAndRefusedWhenBroken) {
  const ByteVector router_alert = PacketWithOptions(FromHex("01 9404 0000 01"));
  EXPECT_EQ(ReasonFor(router_alert), DropReason::kNone);
  const ByteVector record_route = PacketWithOptions(FromHex("07070400000000"));
  const auto view = Ipv4View::Parse(record_route);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->header_bytes(), 28u);
  EXPECT_EQ(view->payload().size(), 4u);
  EXPECT_FALSE(view->has_source_route());

  EXPECT_EQ(ReasonFor(PacketWithOptions(FromHex("9401 0000"))), DropReason::kIpOptions);
  EXPECT_EQ(ReasonFor(PacketWithOptions(FromHex("9405 0000"))), DropReason::kIpOptions);
  EXPECT_EQ(ReasonFor(PacketWithOptions(FromHex("010101 94"))), DropReason::kIpOptions);
  // Behind the end of the list nothing is read.
  EXPECT_EQ(ReasonFor(PacketWithOptions(FromHex("00 9401 94"))), DropReason::kNone);
}

TEST(Ipv4D15, SourceRoutesAreSeen) {
  for (const auto hex : {"8307040a000001", "01 8907040a000001", "8307040a000001 01 940400"}) {
    const ByteVector packet = PacketWithOptions(FromHex(hex));
    const auto ip = Ipv4View::Parse(packet);
    ASSERT_TRUE(ip) << hex;
    EXPECT_TRUE(ip->has_source_route()) << hex;
  }
}

TEST(Ipv4D15, FragmentsCoverThePayload) {
  std::byte header[kIpv4HeaderBytes];
  const Ipv4Header h{.source = kHostA4, .destination = kHostB4, .protocol = 1, .id = 77, .payload_bytes = 3000};
  for (uint32_t at = 0; at < 3000; at += 1480) {
    const auto size = static_cast<uint16_t>(std::min(1480u, 3000 - at));
    WriteIpv4(header, h);
    MakeIpv4Fragment(header, at, size, at + size < 3000);
    ByteVector packet(header, header + kIpv4HeaderBytes);
    packet.resize(kIpv4HeaderBytes + size);
    const auto ip = Ipv4View::Parse(packet);
    ASSERT_TRUE(ip);
    EXPECT_TRUE(ip->is_fragment());
    EXPECT_FALSE(ip->dont_fragment());
    EXPECT_EQ(ip->fragment_offset(), at);
    EXPECT_EQ(ip->more_fragments(), at + size < 3000);
    EXPECT_EQ(ip->id(), 77);
    EXPECT_EQ(ip->payload().size(), size);
  }
}

}  // namespace
}  // namespace ustcp
