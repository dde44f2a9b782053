// IPv6 neighbour discovery (RFC 4861) and the answer to duplicate address detection (RFC 4862 5.4.3).
#include <gtest/gtest.h>

#include "stack/net/ip_output.h"
#include "tests/unit/net/net_rig.h"

namespace ustcp::test {
namespace {

Packet Solicitation(const IpAddress& source, const IpAddress& destination, const IpAddress& target,
                    const MacAddress& to, bool with_mac, uint8_t hop_limit = kNeighborHopLimit) {
  Packet body(kMaxNeighborMessageBytes);
  body.resize(WriteNeighborSolicitation(body.data(), source, destination, target,
                                        with_mac ? std::optional(kPeerMac) : std::nullopt));
  return Ethernet(kEthertypeIpv6, Ip(kProtocolIcmpv6, body, source, destination, hop_limit), to);
}

Packet Advertisement(NetRig& rig, const MacAddress& mac, bool solicited, bool override_cache) {
  Packet body(kMaxNeighborMessageBytes);
  body.resize(WriteNeighborAdvertisement(body.data(), kPeer6, kOwn6, {kPeer6, mac, solicited, override_cache}));
  return Ethernet(kEthertypeIpv6, Ip(kProtocolIcmpv6, body, kPeer6, kOwn6, kNeighborHopLimit), rig.mac());
}

struct Message {
  MacAddress to;
  IpAddress source, destination;
  NeighborView view;
};

Message Discovery(const Packet& frame) {
  const auto ethernet = EthernetView::Parse(frame);
  const auto ip = Ipv6View::Parse(ethernet->payload());
  const auto icmp = Icmpv6View::Parse(ip->payload(), ip->source(), ip->destination());
  return {ethernet->destination(), ip->source(), ip->destination(),
          *NeighborView::Parse(*icmp, ip->hop_limit(), ip->source(), ip->destination())};
}

void SendSomething(NetRig& rig) {
  const Packet data = Filled(16);
  SendPacket(rig.ctx, kOwn6, kPeer6, 253, {}, data);
}

TEST(Ndisc, AnswersMulticastSolicitation) {
  NetRig rig;
  const IpAddress group = SolicitedNodeGroup(kOwn6);
  rig.Receive(Solicitation(kPeer6, group, kOwn6, MulticastMac(group), true));
  const auto sent = rig.Sent();
  ASSERT_EQ(sent.size(), 1u);
  const Message answer = Discovery(sent[0]);
  EXPECT_EQ(answer.to, kPeerMac);
  EXPECT_EQ(answer.source, kOwn6);
  EXPECT_EQ(answer.destination, kPeer6);
  EXPECT_EQ(answer.view.type(), kNeighborAdvertisement);
  EXPECT_EQ(answer.view.target(), kOwn6);
  EXPECT_TRUE(answer.view.solicited());
  EXPECT_TRUE(answer.view.override_cache());
  EXPECT_FALSE(answer.view.router());
  EXPECT_EQ(answer.view.options().target_mac, rig.mac());
}

TEST(Ndisc, AnswersForTheLinkLocalAddress) {
  NetRig rig;
  const IpAddress own = LinkLocalAddress(rig.mac());
  EXPECT_TRUE(IsLocalAddress(rig.host.host(), own));
  const IpAddress group = SolicitedNodeGroup(own);
  rig.Receive(Solicitation(LinkLocalAddress(kPeerMac), group, own, MulticastMac(group), true));
  const auto sent = rig.Sent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(Discovery(sent[0]).view.target(), own);
}

TEST(Ndisc, TellsEverybodyThatTheAddressIsTaken) {
  NetRig rig;
  const IpAddress group = SolicitedNodeGroup(kOwn6);
  rig.Receive(Solicitation(IpAddress::AnyV6(), group, kOwn6, MulticastMac(group), false));
  const auto sent = rig.Sent();
  ASSERT_EQ(sent.size(), 1u);
  const Message answer = Discovery(sent[0]);
  EXPECT_EQ(answer.to, MulticastMac(kAllNodes));
  EXPECT_EQ(answer.destination, kAllNodes);
  EXPECT_FALSE(answer.view.solicited());
  EXPECT_TRUE(answer.view.override_cache());
}

TEST(Ndisc, IgnoresForwardedAndForeignSolicitations) {
  NetRig rig;
  const IpAddress group = SolicitedNodeGroup(kOwn6);
  // RFC 4861 7.1.1: a hop limit below 255 proves a router in between.
  rig.Receive(Solicitation(kPeer6, group, kOwn6, MulticastMac(group), true, 254));
  IpAddress other = kOwn6;
  other.bytes[8] = 1;  // the same group, another address
  rig.Receive(Solicitation(kPeer6, group, other, MulticastMac(group), true));
  EXPECT_TRUE(rig.Sent().empty());
}

TEST(Ndisc, PacketWaitsForTheAdvertisement) {
  NetRig rig;
  SendSomething(rig);
  auto sent = rig.Sent();
  ASSERT_EQ(sent.size(), 1u);
  const Message question = Discovery(sent[0]);
  EXPECT_EQ(question.to, MulticastMac(SolicitedNodeGroup(kPeer6)));
  EXPECT_EQ(question.destination, SolicitedNodeGroup(kPeer6));
  EXPECT_EQ(question.source, kOwn6);
  EXPECT_EQ(question.view.target(), kPeer6);
  EXPECT_EQ(question.view.options().source_mac, rig.mac());
  rig.Receive(Advertisement(rig, kPeerMac, true, true));
  sent = rig.Sent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(EthernetView::Parse(sent[0])->destination(), kPeerMac);
  EXPECT_EQ(Ipv6View::Parse(Payload(sent[0]))->protocol(), 253);
}

TEST(Ndisc, GivesUpAfterThreeSolicitations) {
  NetRig rig;
  SendSomething(rig);
  EXPECT_EQ(rig.Sent().size(), 1u);
  rig.Advance(1s);
  EXPECT_EQ(rig.Sent().size(), 1u);
  rig.Advance(1s);
  EXPECT_EQ(rig.Sent().size(), 1u);
  rig.Advance(1s);
  EXPECT_TRUE(rig.Sent().empty());
  EXPECT_EQ(NetNextDeadline(rig.ctx), kNever);
}

TEST(Ndisc, AdvertisementWithoutOverrideKeepsTheAddressButDoubtsIt) {
  // RFC 4861 7.2.5: reachable becomes stale, the address stays.
  NetRig rig;
  const MacAddress other = {0x02, 0, 0, 0, 0, 9};
  rig.Introduce(kPeer6);
  rig.Advance(2s);
  rig.Receive(Advertisement(rig, other, true, false));
  SendSomething(rig);
  EXPECT_EQ(EthernetView::Parse(rig.Sent().at(0))->destination(), kPeerMac);
  rig.Advance(5s);
  const auto sent = rig.Sent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(Discovery(sent[0]).destination, kPeer6);
}

TEST(Ndisc, AdvertisementWithOverrideReplacesTheAddress) {
  NetRig rig;
  const MacAddress other = {0x02, 0, 0, 0, 0, 9};
  rig.Introduce(kPeer6);
  rig.Receive(Advertisement(rig, other, false, true));
  SendSomething(rig);
  EXPECT_EQ(EthernetView::Parse(rig.Sent().at(0))->destination(), other);
}

TEST(Ndisc, UnsolicitedAdvertisementCreatesNothing) {
  NetRig rig;
  rig.Receive(Advertisement(rig, kPeerMac, false, true));
  SendSomething(rig);
  const auto sent = rig.Sent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(Discovery(sent[0]).view.type(), kNeighborSolicitation);
}

}  // namespace
}  // namespace ustcp::test
