// Echo and ICMP errors, both families (RFC 792, RFC 1122 3.2.2, RFC 4443).
#include <gtest/gtest.h>

#include "tests/unit/net/net_rig.h"

namespace ustcp::test {
namespace {

constexpr uint8_t kUnknownProtocol = 253;

struct Answer {
  IpAddress source, destination;
  uint8_t protocol, tos, ttl, type, code;
  uint32_t rest;
  Packet body;
};

// An ICMP or ICMPv6 message; the views check its checksum.
Answer Read(const Packet& frame) {
  if (EthernetView::Parse(frame)->ethertype() == kEthertypeIpv4) {
    const auto ip = Ipv4View::Parse(Payload(frame));
    const auto m = IcmpView::Parse(ip->payload());
    return {ip->source(),
            ip->destination(),
            ip->protocol(),
            ip->tos(),
            ip->ttl(),
            m->type(),
            m->code(),
            LoadBe32(m->bytes().data() + 4),
            Packet(m->body().begin(), m->body().end())};
  }
  const auto ip = Ipv6View::Parse(Payload(frame));
  const auto m = Icmpv6View::Parse(ip->payload(), ip->source(), ip->destination());
  return {ip->source(),        ip->destination(), ip->protocol(),
          ip->traffic_class(), ip->hop_limit(),   m->type(),
          m->code(),           m->mtu(),          Packet(m->body().begin(), m->body().end())};
}

Packet Udp(const IpAddress& from, const IpAddress& to) {
  Packet p(16);
  StoreBe16(p.data(), 4000);
  StoreBe16(p.data() + 2, 53);
  StoreBe16(p.data() + 4, 16);
  FillTransportChecksum(from, to, 17, p, 6);
  return p;
}

class IcmpTest : public testing::TestWithParam<bool> {
 protected:
  IcmpTest() {
    rig.Introduce(kPeer4);
    rig.Introduce(kPeer6);
  }
  bool v4() const { return GetParam(); }
  IpAddress own() const { return v4() ? kOwn4 : kOwn6; }
  IpAddress peer() const { return v4() ? kPeer4 : kPeer6; }
  uint16_t ethertype() const { return v4() ? kEthertypeIpv4 : kEthertypeIpv6; }
  NetRig rig;
};

TEST_P(IcmpTest, EchoReply) {
  const Packet data = Filled(56);
  Packet packet = Ip(v4() ? kProtocolIcmp : kProtocolIcmpv6, EchoRequest(data, peer(), own()), peer(), own(), 3);
  rig.ReceiveIp(packet);
  const auto sent = rig.Sent();
  ASSERT_EQ(sent.size(), 1u);
  const Answer a = Read(sent[0]);
  EXPECT_EQ(a.source, own());
  EXPECT_EQ(a.destination, peer());
  EXPECT_EQ(a.type, v4() ? kIcmpEchoReply : kIcmpv6EchoReply);
  EXPECT_EQ(a.rest, 0x12340007u);
  EXPECT_EQ(a.ttl, 64);
  EXPECT_EQ(a.body, data);
}

TEST_P(IcmpTest, LargeEchoReplyLeavesInFragments) {
  // The request arrives in one piece, as a peer with a larger MTU may send it.
  const Packet data = Filled(8000);
  rig.ReceiveIp(Ip(v4() ? kProtocolIcmp : kProtocolIcmpv6, EchoRequest(data, peer(), own()), peer(), own()));
  const auto sent = rig.Sent();
  ASSERT_EQ(sent.size(), 6u);
  size_t bytes = 0;
  for (size_t i = 0; i < sent.size(); ++i) {
    EXPECT_LE(Payload(sent[i]).size(), 1500u);
    const bool last = i + 1 == sent.size();
    if (v4()) {
      const auto ip = Ipv4View::Parse(Payload(sent[i]));
      EXPECT_EQ(ip->fragment_offset(), bytes);
      EXPECT_EQ(ip->more_fragments(), !last);
      bytes += ip->payload().size();
    } else {
      const auto ip = Ipv6View::Parse(Payload(sent[i]));
      EXPECT_EQ(ip->fragment().offset, bytes);
      EXPECT_EQ(ip->fragment().more, !last);
      bytes += ip->payload().size();
    }
  }
  EXPECT_EQ(bytes, data.size() + kIcmpHeaderBytes);
}

TEST_P(IcmpTest, BadChecksumIsDroppedAndCounted) {
  // D15.
  Packet request = EchoRequest(Filled(56), peer(), own());
  request[20] ^= std::byte{1};
  rig.ReceiveIp(Ip(v4() ? kProtocolIcmp : kProtocolIcmpv6, request, peer(), own()));
  EXPECT_TRUE(rig.Sent().empty());
  EXPECT_EQ(rig.Count(v4() ? Counter::kIcmpInCsumErrors : Counter::kIcmp6InCsumErrors), 1u);
  EXPECT_EQ(rig.Count(v4() ? Counter::kIcmpInErrors : Counter::kIcmp6InErrors), 1u);
}

TEST_P(IcmpTest, UnknownProtocolIsReported) {
  const Packet packet = Ip(kUnknownProtocol, Filled(40), peer(), own());
  rig.ReceiveIp(packet);
  const auto sent = rig.Sent();
  ASSERT_EQ(sent.size(), 1u);
  const Answer a = Read(sent[0]);
  EXPECT_EQ(a.type, v4() ? kIcmpUnreachable : kIcmpv6ParameterProblem);
  EXPECT_EQ(a.code, v4() ? kIcmpProtocolUnreachable : 1);
  EXPECT_EQ(a.rest, v4() ? 0u : 6u);
  EXPECT_EQ(a.body, packet);
  EXPECT_EQ(rig.Count(v4() ? Counter::kIpInUnknownProtos : Counter::kIp6InUnknownProtos), 1u);
}

TEST_P(IcmpTest, UdpMeetsAClosedPort) {
  rig.ReceiveIp(Ip(17, Udp(peer(), own()), peer(), own()));
  const auto sent = rig.Sent();
  ASSERT_EQ(sent.size(), 1u);
  const Answer a = Read(sent[0]);
  EXPECT_EQ(a.type, v4() ? kIcmpUnreachable : kIcmpv6Unreachable);
  EXPECT_EQ(a.code, v4() ? kIcmpPortUnreachable : kIcmpv6PortUnreachable);
  EXPECT_EQ(rig.Count(Counter::kUdpNoPorts), 1u);
}

TEST_P(IcmpTest, LongPacketsAreQuotedInPart) {
  rig.ReceiveIp(Ip(kUnknownProtocol, Filled(1400), peer(), own()));
  const auto sent = rig.Sent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(Payload(sent[0]).size(), v4() ? 576u : 1280u);
}

TEST_P(IcmpTest, ErrorsAreRateLimitedPerPeer) {
  // icmp_ratelimit 1000 ms with Linux's burst of six.
  for (int i = 0; i < 20; ++i) rig.ReceiveIp(Ip(17, Udp(peer(), own()), peer(), own()));
  EXPECT_EQ(rig.Sent().size(), 6u);
  rig.Advance(999ms);
  rig.ReceiveIp(Ip(17, Udp(peer(), own()), peer(), own()));
  EXPECT_TRUE(rig.Sent().empty());
  rig.Advance(1ms);
  rig.ReceiveIp(Ip(17, Udp(peer(), own()), peer(), own()));
  EXPECT_EQ(rig.Sent().size(), 1u);
}

TEST_P(IcmpTest, ErrorsAreNeverAnswered) {
  // RFC 1122 3.2.2, RFC 4443 2.4 e: neither errors, nor what came by broadcast.
  Packet error(kIcmpHeaderBytes + 64);
  const Packet quoted = Ip(kUnknownProtocol, Filled(16), own(), peer());
  error.resize(
      v4() ? WriteIcmpError(error.data(), error.size(), kIcmpUnreachable, 2, 0, quoted)
           : WriteIcmpv6Error(error.data(), error.size(), kIcmpv6ParameterProblem, 1, 6, quoted, peer(), own()));
  rig.ReceiveIp(Ip(v4() ? kProtocolIcmp : kProtocolIcmpv6, error, peer(), own()));
  rig.Receive(Ethernet(ethertype(), Ip(kUnknownProtocol, Filled(16), peer(), own()), kBroadcastMac));
  EXPECT_TRUE(rig.Sent().empty());
}

INSTANTIATE_TEST_SUITE_P(Family, IcmpTest, testing::Bool(),
                         [](const auto& family) { return family.param ? "V4" : "V6"; });

TEST(Icmp, EchoCanBeSwitchedOff) {
  Sysctls sysctls;
  sysctls.icmp_echo_ignore_all = 1;
  NetRig rig(TestHost::DefaultConfig(), sysctls);
  rig.Introduce(kPeer4);
  rig.ReceiveIp(Ip(kProtocolIcmp, EchoRequest(Filled(8), kPeer4, kOwn4), kPeer4, kOwn4));
  EXPECT_TRUE(rig.Sent().empty());
}

TEST(Icmp, ReplyFollowsTheRouteWhenTheNeighborIsUnknown) {
  NetRig rig;
  rig.ReceiveIp(Ip(kProtocolIcmp, EchoRequest(Filled(8), kPeer4, kOwn4), kPeer4, kOwn4));
  auto sent = rig.Sent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(EthernetView::Parse(sent[0])->ethertype(), kEthertypeArp);
  rig.Introduce(kPeer4);
  sent = rig.Sent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(Read(sent[0]).type, kIcmpEchoReply);
}

TEST(Icmp6, PingToAllNodesIsAnsweredFromAnOwnAddress) {
  NetRig rig;
  rig.Introduce(LinkLocalAddress(kPeerMac));
  const IpAddress peer = LinkLocalAddress(kPeerMac);
  const Packet packet = Ip(kProtocolIcmpv6, EchoRequest(Filled(8), peer, kAllNodes), peer, kAllNodes);
  rig.Receive(Ethernet(kEthertypeIpv6, packet, MulticastMac(kAllNodes)));
  const auto sent = rig.Sent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(Read(sent[0]).source, LinkLocalAddress(rig.mac()));
}

}  // namespace
}  // namespace ustcp::test
