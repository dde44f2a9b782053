// D15: IPv6 headers and chains of extension headers (RFC 8200 4).
#include "stack/wire/ipv6.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "stack/wire/tcp.h"
#include "tests/unit/wire/bytes_util.h"
#include "tests/unit/wire/kernel_frames.h"

namespace ustcp {
namespace {

// A packet whose fixed header names `next` and carries `rest`.
ByteVector Packet(uint8_t next, const ByteVector& rest) {
  ByteVector packet(kIpv6HeaderBytes + rest.size());
  WriteIpv6(packet.data(), {.source = kHostA6,
                            .destination = kHostB6,
                            .protocol = next,
                            .payload_bytes = static_cast<uint16_t>(rest.size())});
  std::copy(rest.begin(), rest.end(), packet.begin() + kIpv6HeaderBytes);
  return packet;
}

Ipv6Fault FaultOf(const ByteVector& packet) {
  Ipv6Fault fault;
  const bool ok = Ipv6View::Parse(packet, &fault).has_value();
  EXPECT_EQ(ok, fault.reason == DropReason::kNone);
  return fault;
}

TEST(Ipv6D15, ReadsAndRewritesAKernelPacket) {
  const ByteVector packet = PacketOf(kernel_frames::kPartialSyn6);
  const auto ip = Ipv6View::Parse(packet);
  ASSERT_TRUE(ip);
  EXPECT_EQ(ip->source(), kHostA6);
  EXPECT_EQ(ip->destination(), kHostB6);
  EXPECT_EQ(ip->protocol(), kProtocolTcp);
  EXPECT_EQ(ip->hop_limit(), 64);
  EXPECT_EQ(ip->payload().size(), 40u);
  std::byte out[kIpv6HeaderBytes];
  WriteIpv6(out, {.source = kHostA6,
                  .destination = kHostB6,
                  .protocol = kProtocolTcp,
                  .traffic_class = ip->traffic_class(),
                  .hop_limit = 64,
                  .flow_label = ip->flow_label(),
                  .payload_bytes = 40});
  EXPECT_EQ(ToVector(out), ToVector(ConstBytes(packet).first(kIpv6HeaderBytes)));
}

TEST(Ipv6D15, TrafficClassAndFlowLabelDoNotMix) {
  for (const auto& [traffic_class, label] : {std::pair{0xffu, 0u}, {0u, 0xfffffu}, {0xa5u, 0x5a5a5u}}) {
    ByteVector packet(kIpv6HeaderBytes);
    WriteIpv6(packet.data(), {.source = kHostA6,
                              .destination = kHostB6,
                              .protocol = kIpv6NoNextHeader,
                              .traffic_class = static_cast<uint8_t>(traffic_class),
                              .flow_label = label});
    const auto ip = Ipv6View::Parse(packet);
    ASSERT_TRUE(ip);
    EXPECT_EQ(ip->traffic_class(), traffic_class);
    EXPECT_EQ(ip->flow_label(), label);
    EXPECT_EQ(ip->protocol(), kIpv6NoNextHeader);
    EXPECT_TRUE(ip->payload().empty());
  }
}

TEST(Ipv6D15, MalformedFixedHeaders) {
  const ByteVector good = PacketOf(kernel_frames::kPartialSyn6);
  for (size_t size = 0; size < 40; ++size) {
    EXPECT_EQ(FaultOf(ByteVector(good.begin(), good.begin() + size)).reason, DropReason::kIpHeader);
  }
  EXPECT_EQ(FaultOf(ByteVector(good.begin(), good.end() - 1)).reason, DropReason::kIpTruncated);
  ByteVector version = good;
  version[0] = std::byte{0x40};
  EXPECT_EQ(FaultOf(version).reason, DropReason::kIpHeader);
  ByteVector padded = good;
  padded.resize(good.size() + 9);
  EXPECT_EQ(Ipv6View::Parse(padded)->payload().size(), 40u);
}

TEST(Ipv6D15, AddressesThatWouldMeanIpv4InsideAreRefused) {
  ByteVector packet = Packet(6, ByteVector(20));
  std::memcpy(&packet[8], kHostA4.bytes.data(), 16);
  EXPECT_EQ(FaultOf(packet).reason, DropReason::kIpBadSource);
  packet = Packet(6, ByteVector(20));
  std::memcpy(&packet[24], kHostA4.bytes.data(), 16);
  EXPECT_EQ(FaultOf(packet).reason, DropReason::kIpNotForUs);
  packet = Packet(6, ByteVector(20));
  packet[8] = std::byte{0xff};
  EXPECT_EQ(FaultOf(packet).reason, DropReason::kIpBadSource);
}

TEST(Ipv6D15, HopByHopOfAKernelPacketIsPassed) {
  const ByteVector packet = PacketOf(kernel_frames::kMldReport);
  const auto ip = Ipv6View::Parse(packet);
  ASSERT_TRUE(ip);
  EXPECT_EQ(ip->next_header(), kIpv6HopByHop);
  EXPECT_EQ(ip->protocol(), kProtocolIcmpv6);
  EXPECT_EQ(ip->header_bytes(), 48u);
  EXPECT_EQ(Load8(ip->payload().data()), 143);
}

TEST(Ipv6D15, AChainOfHeadersIsPassed) {
  // Hop-by-hop (PadN), routing without segments left, destination options of 16 bytes, then TCP.
  const ByteVector packet = Packet(kIpv6HopByHop, FromHex("2b00 010400000000"
                                                          "3c00 0000 00000000"
                                                          "0601 010c 000000000000000000000000"
                                                          "deadbeef"));
  const auto ip = Ipv6View::Parse(packet);
  ASSERT_TRUE(ip);
  EXPECT_EQ(ip->protocol(), kProtocolTcp);
  EXPECT_EQ(ToVector(ip->payload()), FromHex("deadbeef"));
  EXPECT_EQ(ip->chain().next_header_field, 40u + 16);
}

TEST(Ipv6D15, FragmentHeaderStopsTheWalk) {
  const ByteVector packet = Packet(kIpv6Fragment, FromHex("0600 05a9 12345678 00112233"));
  const auto ip = Ipv6View::Parse(packet);
  ASSERT_TRUE(ip);
  ASSERT_TRUE(ip->is_fragment());
  EXPECT_EQ(ip->protocol(), kIpv6Fragment);
  EXPECT_EQ(ip->fragment().next_header, kProtocolTcp);
  EXPECT_EQ(ip->fragment().offset, 0x05a8u);
  EXPECT_TRUE(ip->fragment().more);
  EXPECT_EQ(ip->fragment().id, 0x12345678u);
  EXPECT_EQ(ip->payload().size(), 4u);
  EXPECT_EQ(FaultOf(Packet(kIpv6Fragment, FromHex("0600 05a9 123456"))).reason, DropReason::kFragmentHeader);
}

TEST(Ipv6D15, TheWalkGoesOnBehindAReassembledFragment) {
  const ByteVector packet = Packet(kIpv6DestinationOptions, FromHex("0600 0104 00000000 aabb"));
  const auto chain = WalkIpv6Extensions(packet, kIpv6DestinationOptions, 40, 6);
  ASSERT_TRUE(chain);
  EXPECT_EQ(chain->protocol, kProtocolTcp);
  EXPECT_EQ(chain->offset, 48u);
}

TEST(Ipv6D15, HopByHopElsewhereIsAnUnknownHeader) {
  const Ipv6Fault fault = FaultOf(Packet(kIpv6DestinationOptions, FromHex("0000 010400000000 0600 010400000000")));
  EXPECT_EQ(fault.reason, DropReason::kIpv6Extension);
  EXPECT_TRUE(fault.answer);
  EXPECT_EQ(fault.code, 1);
  EXPECT_EQ(fault.pointer, 40u);
}

TEST(Ipv6D15, RoutingWithSegmentsLeftIsAnswered) {
  const Ipv6Fault fault = FaultOf(Packet(kIpv6Routing, FromHex("0600 0001 00000000")));
  EXPECT_EQ(fault.reason, DropReason::kIpv6Extension);
  EXPECT_TRUE(fault.answer);
  EXPECT_EQ(fault.code, 0);
  EXPECT_EQ(fault.pointer, 42u);
}

TEST(Ipv6D15, UnknownOptionsFollowTheirHighBits) {
  const struct {
    const char* type;
    DropReason reason;
    bool answer, answer_multicast;
  } cases[] = {{"1e", DropReason::kNone, false, false},
               {"5e", DropReason::kIpv6Option, false, false},
               {"9e", DropReason::kIpv6Option, true, true},
               {"de", DropReason::kIpv6Option, true, false}};
  for (const auto& c : cases) {
    const ByteVector packet = Packet(kIpv6DestinationOptions, FromHex(std::string("0600 0000 ") + c.type + "020000"));
    const Ipv6Fault fault = FaultOf(packet);
    EXPECT_EQ(fault.reason, c.reason) << c.type;
    EXPECT_EQ(fault.answer, c.answer) << c.type;
    EXPECT_EQ(fault.answer_multicast, c.answer_multicast) << c.type;
    if (c.answer) {
      EXPECT_EQ(fault.code, 2);
      EXPECT_EQ(fault.pointer, 44u);
    }
  }
}

TEST(Ipv6D15, OptionsAndHeadersBeyondTheEndAreRefused) {
  EXPECT_EQ(FaultOf(Packet(kIpv6DestinationOptions, FromHex("0600 0105 00000000"))).reason, DropReason::kIpv6Extension);
  EXPECT_EQ(FaultOf(Packet(kIpv6DestinationOptions, FromHex("0600 0000 00000001"))).reason, DropReason::kIpv6Extension);
  EXPECT_EQ(FaultOf(Packet(kIpv6DestinationOptions, FromHex("0601 0104 00000000"))).reason, DropReason::kIpv6Extension);
  EXPECT_EQ(FaultOf(Packet(kIpv6DestinationOptions, FromHex("0600 0103 000000"))).reason, DropReason::kIpv6Extension);
}

TEST(Ipv6D15, ChainsAreBounded) {
  for (const int count : {kMaxIpv6Extensions, kMaxIpv6Extensions + 1}) {
    ByteVector rest;
    for (int i = 0; i < count; ++i) {
      const ByteVector header = FromHex(i + 1 == count ? "0600 010400000000" : "3c00 010400000000");
      rest.insert(rest.end(), header.begin(), header.end());
    }
    const ByteVector packet = Packet(kIpv6DestinationOptions, rest);
    EXPECT_EQ(FaultOf(packet).reason, count <= kMaxIpv6Extensions ? DropReason::kNone : DropReason::kIpv6Extension);
  }
}

}  // namespace
}  // namespace ustcp
