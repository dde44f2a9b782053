// What the link delivers and what becomes of it. D15: checksums verified unless the device vouches; malformed headers
// dropped and counted, never acted on.
#include <random>

#include <gtest/gtest.h>

#include "stack/net/peek.h"
#include "tests/unit/net/net_rig.h"

namespace ustcp::test {
namespace {

class InputTest : public testing::TestWithParam<bool> {
 protected:
  InputTest() {
    rig.Introduce(kPeer4);
    rig.Introduce(kPeer6);
  }
  bool v4() const { return GetParam(); }
  IpAddress own() const { return v4() ? kOwn4 : kOwn6; }
  IpAddress peer() const { return v4() ? kPeer4 : kPeer6; }
  uint16_t ethertype() const { return v4() ? kEthertypeIpv4 : kEthertypeIpv6; }
  uint16_t transport_offset() const {
    return static_cast<uint16_t>(kEthernetHeaderBytes + (v4() ? kIpv4HeaderBytes : kIpv6HeaderBytes));
  }
  // A RST to nobody: counted as a segment, answered by nothing.
  Packet Segment() { return TcpSegment(kTcpRst, peer(), own()); }
  Packet Frame(ConstBytes segment, const MacAddress& to) {
    return Ethernet(ethertype(), Ip(kProtocolTcp, segment, peer(), own()), to);
  }
  uint64_t Segments() { return rig.Count(Counter::kTcpInSegs); }
  uint64_t Good() { return Segments() - rig.Count(Counter::kTcpInErrs); }

  NetRig rig;
};

TEST_P(InputTest, GoodSegmentReachesTcp) {
  rig.Receive(Frame(Segment(), rig.mac()));
  rig.ReceiveInBuf(Frame(Segment(), rig.mac()));
  EXPECT_EQ(Good(), 2u);
}

TEST_P(InputTest, BadTcpChecksumIsDroppedAndCounted) {
  Packet segment = Segment();
  segment[4] ^= std::byte{0x40};
  rig.Receive(Frame(segment, rig.mac()));
  EXPECT_EQ(Segments(), 1u);
  EXPECT_EQ(Good(), 0u);
  EXPECT_EQ(rig.Count(Counter::kTcpInCsumErrors), 1u);
  EXPECT_EQ(rig.Count(Counter::kTcpInErrs), 1u);
}

TEST_P(InputTest, DeviceVouches) {
  Packet segment = Segment();
  segment[kTcpChecksumOffset] ^= std::byte{0x40};
  rig.Receive(Frame(segment, rig.mac()), {.flags = VirtioNetHeader::kDataValid});
  EXPECT_EQ(Good(), 1u);
  // A partial checksum of the local kernel, at the place where TCP's is.
  VirtioNetHeader partial{.flags = VirtioNetHeader::kNeedsChecksum};
  partial.checksum_start = transport_offset();
  partial.checksum_offset = kTcpChecksumOffset;
  rig.Receive(Frame(segment, rig.mac()), partial);
  EXPECT_EQ(Good(), 2u);
  // Of something else: that says nothing about TCP's.
  partial.checksum_start = static_cast<uint16_t>(transport_offset() + 8);
  rig.Receive(Frame(segment, rig.mac()), partial);
  EXPECT_EQ(Good(), 2u);
  EXPECT_EQ(rig.Count(Counter::kTcpInCsumErrors), 1u);
}

TEST_P(InputTest, OnlyFramesForUs) {
  const MacAddress other = {0x02, 0, 0, 0, 0, 7};
  rig.Receive(Frame(Segment(), other));
  rig.Receive(Frame(Segment(), MulticastMac(IpAddress::V4(224, 0, 0, 1))));
  EXPECT_EQ(rig.Count(v4() ? Counter::kIpInReceives : Counter::kIp6InReceives), 0u);
  // RFC 9293 MUST-57: TCP is between two.
  rig.Receive(Frame(Segment(), kBroadcastMac));
  EXPECT_EQ(Segments(), 0u);
}

TEST_P(InputTest, VlanTags) {
  // A tag for the priority alone is no other network; any other is.
  Packet frame = Frame(Segment(), rig.mac());
  Packet tagged(frame.begin(), frame.begin() + 12);
  for (uint8_t b : {uint8_t{0x81}, uint8_t{0x00}, uint8_t{0xe0}, uint8_t{0x00}}) tagged.push_back(std::byte{b});
  tagged.insert(tagged.end(), frame.begin() + 12, frame.end());
  rig.Receive(tagged);
  EXPECT_EQ(Good(), 1u);
  tagged[15] = std::byte{5};
  rig.Receive(tagged);
  EXPECT_EQ(Good(), 1u);
}

TEST_P(InputTest, PaddingIsNoPayload) {
  Packet frame = Frame(Segment(), rig.mac());
  frame.resize(frame.size() + 40);
  rig.Receive(frame);
  EXPECT_EQ(Good(), 1u);
}

TEST_P(InputTest, Martians) {
  const auto from = [&](const IpAddress& source) {
    rig.Receive(Ethernet(ethertype(), Ip(kProtocolTcp, TcpSegment(kTcpRst, source, own()), source, own()), rig.mac()));
  };
  if (v4()) {
    for (const IpAddress& a :
         {IpAddress::V4(127, 0, 0, 1), IpAddress::V4(0, 0, 0, 0), IpAddress::V4(0, 1, 2, 3),
          IpAddress::V4(224, 1, 1, 1), IpAddress::V4(255, 255, 255, 255), IpAddress::V4(192, 168, 255, 255), kOwn4}) {
      from(a);
    }
    EXPECT_EQ(rig.Count(Counter::kIpInAddrErrors), 7u);
  } else {
    IpAddress loopback;
    loopback.bytes[15] = 1;
    IpAddress group = kAllNodes;
    for (const IpAddress& a : {loopback, group, kOwn6}) from(a);
    EXPECT_EQ(rig.Count(Counter::kIp6InHdrErrors), 3u);
  }
  EXPECT_EQ(Segments(), 0u);
}

TEST_P(InputTest, OtherDestinationsAreNotForwarded) {
  IpAddress other = own();
  other.bytes[15] = 77;
  rig.Receive(Ethernet(ethertype(), Ip(kProtocolTcp, TcpSegment(kTcpRst, peer(), other), peer(), other), rig.mac()));
  EXPECT_EQ(rig.Count(v4() ? Counter::kIpInAddrErrors : Counter::kIp6InAddrErrors), 1u);
  EXPECT_EQ(Segments(), 0u);
}

TEST_P(InputTest, EveryTruncationIsSafe) {
  const Packet frame = Frame(Segment(), rig.mac());
  for (size_t n = 0; n < frame.size(); ++n) rig.Receive(Packet(frame.begin(), frame.begin() + static_cast<int>(n)));
  EXPECT_EQ(Segments(), 0u);
  EXPECT_TRUE(rig.Sent().empty());
}

TEST_P(InputTest, DamagedHeadersNeverReachTcpUnnoticed) {
  // Every single flipped bit behind the Ethernet header: IPv4's and TCP's checksums catch those they cover. IPv6 leaves
  // version, traffic class, flow label and hop limit to nobody.
  const Packet frame = Frame(Segment(), rig.mac());
  uint64_t good = 0;
  for (size_t bit = kEthernetHeaderBytes * 8; bit < frame.size() * 8; ++bit) {
    const size_t at = bit / 8 - kEthernetHeaderBytes;
    Packet damaged = frame;
    damaged[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    rig.Receive(damaged);
    const bool covered = v4() || (at >= 4 && at != 7);
    if (covered) {
      ASSERT_EQ(Good(), good) << "byte " << at << " bit " << bit % 8;
    }
    good = Good();
  }
}

INSTANTIATE_TEST_SUITE_P(Family, InputTest, testing::Bool(),
                         [](const auto& family) { return family.param ? "V4" : "V6"; });

TEST(Input4, BadHeaderChecksum) {
  NetRig rig;
  Packet packet = Ip(kProtocolTcp, TcpSegment(kTcpRst, kPeer4, kOwn4), kPeer4, kOwn4);
  packet[8] ^= std::byte{1};
  rig.ReceiveIp(packet);
  EXPECT_EQ(rig.Count(Counter::kIpInHdrErrors), 1u);
  EXPECT_EQ(rig.Count(Counter::kIpExtInCsumErrors), 1u);
}

TEST(Input6, MappedAddressesOnTheWireAreForgeries) {
  // ::ffff:192.168.0.1 must not reach the IPv4 side of the host.
  NetRig rig;
  const Packet segment = TcpSegment(kTcpRst, kPeer4, kOwn4);
  Packet packet(kIpv6HeaderBytes + segment.size());
  WriteIpv6(packet.data(), {.source = kPeer4,
                            .destination = kOwn4,
                            .protocol = kProtocolTcp,
                            .payload_bytes = static_cast<uint16_t>(segment.size())});
  std::copy(segment.begin(), segment.end(), packet.begin() + kIpv6HeaderBytes);
  const Packet frame = Ethernet(kEthertypeIpv6, packet, rig.mac());
  rig.Receive(frame);
  EXPECT_EQ(rig.Count(Counter::kTcpInSegs), 0u);
  EXPECT_EQ(rig.Count(Counter::kIp6InHdrErrors), 1u);
  Tuple tuple;
  bool syn = false;
  EXPECT_FALSE(PeekTuple(frame, tuple, syn));
}

TEST(Peek, FindsTuples) {
  Tuple tuple;
  bool syn = false;
  const Packet segment = TcpSegment(kTcpSyn, kPeer4, kOwn4, 5000, 80);
  const Packet frame = Ethernet(kEthertypeIpv4, Ip(kProtocolTcp, segment, kPeer4, kOwn4), kPeerMac);
  ASSERT_TRUE(PeekTuple(frame, tuple, syn));
  EXPECT_EQ(tuple, (Tuple{{kOwn4, 80}, {kPeer4, 5000}}));
  EXPECT_TRUE(syn);
  const Packet answer = TcpSegment(kTcpSyn | kTcpAck, kPeer6, kOwn6, 5000, 80);
  ASSERT_TRUE(PeekTuple(Ethernet(kEthertypeIpv6, Ip(kProtocolTcp, answer, kPeer6, kOwn6), kPeerMac), tuple, syn));
  EXPECT_EQ(tuple, (Tuple{{kOwn6, 80}, {kPeer6, 5000}}));
  EXPECT_FALSE(syn);
}

TEST(Peek, FindsTheConnectionAnErrorIsAbout) {
  const Packet quoted = Ip(kProtocolTcp, TcpSegment(kTcpSyn, kOwn4, kPeer4, 1234, 80), kOwn4, kPeer4);
  Packet error(kMaxIcmpErrorBytes);
  error.resize(WriteIcmpError(error.data(), error.size(), kIcmpUnreachable, kIcmpHostUnreachable, 0, quoted));
  Tuple tuple;
  bool syn = false;
  ASSERT_TRUE(PeekTuple(Ethernet(kEthertypeIpv4, Ip(kProtocolIcmp, error, kPeer4, kOwn4), kPeerMac), tuple, syn));
  EXPECT_EQ(tuple, (Tuple{{kOwn4, 1234}, {kPeer4, 80}}));
  EXPECT_FALSE(syn);
}

TEST(Input, GarbageIsHarmless) {
  // Random bytes behind plausible beginnings, and valid frames with random damage. The fuzzer goes further.
  NetRig rig;
  rig.Introduce(kPeer4);
  rig.Introduce(kPeer6);
  std::mt19937 rng(20240607);
  std::vector<Packet> valid = {
      Ethernet(kEthertypeIpv4, Ip(kProtocolTcp, TcpSegment(kTcpAck, kPeer4, kOwn4), kPeer4, kOwn4), rig.mac()),
      Ethernet(kEthertypeIpv6, Ip(kProtocolTcp, TcpSegment(kTcpAck, kPeer6, kOwn6), kPeer6, kOwn6), rig.mac()),
      Ethernet(kEthertypeIpv4, Ip(kProtocolIcmp, EchoRequest(Filled(64), kPeer4, kOwn4), kPeer4, kOwn4), rig.mac()),
      Ethernet(kEthertypeIpv6, Ip(kProtocolIcmpv6, EchoRequest(Filled(64), kPeer6, kOwn6), kPeer6, kOwn6), rig.mac()),
  };
  constexpr uint16_t kTypes[] = {kEthertypeIpv4, kEthertypeIpv6, kEthertypeArp, kEthertypeVlan};
  const size_t before = rig.shard.bufs.bytes_taken();
  for (int i = 0; i < 20000; ++i) {
    Packet frame;
    if (i % 2 == 0) {
      frame.resize(rng() % 200);
      for (auto& b : frame) b = static_cast<std::byte>(rng());
      if (frame.size() >= kEthernetHeaderBytes) {
        WriteEthernet(frame.data(), rig.mac(), kPeerMac, kTypes[rng() % 4]);
      }
    } else {
      frame = valid[rng() % valid.size()];
      for (size_t damage = rng() % 4; damage > 0; --damage) frame[rng() % frame.size()] = static_cast<std::byte>(rng());
      frame.resize(frame.size() - rng() % 20);
    }
    VirtioNetHeader vnet;
    if (rng() % 4 == 0) {
      vnet.flags = static_cast<uint8_t>(rng() % 4);
      vnet.gso_type = static_cast<uint8_t>(rng());
      vnet.gso_size = static_cast<uint16_t>(rng());
      vnet.checksum_start = static_cast<uint16_t>(rng());
    }
    if (i % 3 == 0) {
      rig.ReceiveInBuf(frame, vnet);
    } else {
      rig.Receive(frame, vnet);
    }
    if (i % 64 == 0) rig.Sent();
    if (i % 512 == 0) rig.Advance(100ms);
  }
  rig.Sent();
  rig.Advance(100s);
  rig.Sent();
  rig.Advance(100s);
  rig.Sent();
  EXPECT_EQ(rig.shard.bufs.bytes_taken(), before);
}

}  // namespace
}  // namespace ustcp::test
