// ARP and the neighbour table (RFC 826; states and times as Linux's neighbour table has them). E12: EHOSTUNREACH.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "stack/net/frames.h"
#include "stack/net/ip_output.h"
#include "stack/net/neighbor.h"
#include "tests/unit/net/net_rig.h"

namespace ustcp::test {
namespace {

Packet ArpFrame(ArpOperation op, const IpAddress& sender, const IpAddress& target, const MacAddress& to,
                const MacAddress& sender_mac = kPeerMac, const MacAddress& target_mac = {}) {
  Packet body(kArpBytes);
  WriteArp(body.data(), {op, sender_mac, sender, target_mac, target});
  return Ethernet(kEthertypeArp, body, to, sender_mac);
}

// The ARP packet in a frame.
ArpView Arp(const Packet& frame) {
  const auto ethernet = EthernetView::Parse(frame);
  EXPECT_TRUE(ethernet && ethernet->ethertype() == kEthertypeArp);
  return *ArpView::Parse(ethernet->payload());
}

bool IsArp(const Packet& frame) { return EthernetView::Parse(frame)->ethertype() == kEthertypeArp; }

// Sends one small packet of a protocol nobody knows.
void SendSomething(NetRig& rig, const IpAddress& to = kPeer4) {
  const Packet data = Filled(16);
  SendPacket(rig.ctx, kOwn4, to, 253, {}, data);
}

TEST(Arp, AnswersRequestForOwnAddress) {
  NetRig rig;
  rig.Receive(ArpFrame(ArpOperation::kRequest, kPeer4, kOwn4, kBroadcastMac));
  const auto sent = rig.Sent();
  ASSERT_EQ(sent.size(), 1u);
  const auto ethernet = EthernetView::Parse(sent[0]);
  EXPECT_EQ(ethernet->destination(), kPeerMac);
  EXPECT_EQ(ethernet->source(), rig.mac());
  const ArpView reply = Arp(sent[0]);
  EXPECT_EQ(reply.operation(), ArpOperation::kReply);
  EXPECT_EQ(reply.sender(), kOwn4);
  EXPECT_EQ(reply.sender_mac(), rig.mac());
  EXPECT_EQ(reply.target(), kPeer4);
  EXPECT_EQ(reply.target_mac(), kPeerMac);
}

TEST(Arp, LearnsTheAskerFromItsRequest) {
  NetRig rig;
  rig.Receive(ArpFrame(ArpOperation::kRequest, kPeer4, kOwn4, kBroadcastMac));
  rig.Sent();
  SendSomething(rig);
  const auto sent = rig.Sent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_FALSE(IsArp(sent[0]));
  EXPECT_EQ(EthernetView::Parse(sent[0])->destination(), kPeerMac);
}

TEST(Arp, AnswersAddressProbeWithoutLearning) {
  // RFC 5227: the sender of a probe has no address yet.
  NetRig rig;
  rig.Receive(ArpFrame(ArpOperation::kRequest, IpAddress::AnyV4(), kOwn4, kBroadcastMac));
  const auto sent = rig.Sent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(Arp(sent[0]).sender(), kOwn4);
}

TEST(Arp, IgnoresRequestsForOthers) {
  NetRig rig;
  rig.Receive(ArpFrame(ArpOperation::kRequest, kPeer4, IpAddress::V4(192, 168, 0, 9), kBroadcastMac));
  EXPECT_TRUE(rig.Sent().empty());
  // Nor is anything learnt from it.
  SendSomething(rig);
  const auto sent = rig.Sent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_TRUE(IsArp(sent[0]));
}

TEST(Arp, PacketWaitsForTheAnswer) {
  NetRig rig;
  SendSomething(rig);
  auto sent = rig.Sent();
  ASSERT_EQ(sent.size(), 1u);
  const ArpView question = Arp(sent[0]);
  EXPECT_EQ(EthernetView::Parse(sent[0])->destination(), kBroadcastMac);
  EXPECT_EQ(question.operation(), ArpOperation::kRequest);
  EXPECT_EQ(question.sender(), kOwn4);
  EXPECT_EQ(question.target(), kPeer4);

  // A second packet asks no second question.
  SendSomething(rig);
  EXPECT_TRUE(rig.Sent().empty());

  rig.Receive(ArpFrame(ArpOperation::kReply, kPeer4, kOwn4, rig.mac(), kPeerMac, rig.mac()));
  sent = rig.Sent();
  ASSERT_EQ(sent.size(), 2u);
  for (const auto& frame : sent) {
    EXPECT_EQ(EthernetView::Parse(frame)->destination(), kPeerMac);
    EXPECT_EQ(Ipv4View::Parse(Payload(frame))->protocol(), 253);
  }
  rig.Advance(1s);
  EXPECT_TRUE(rig.Sent().empty());
  EXPECT_EQ(NetNextDeadline(rig.ctx), kNever);
}

TEST(Arp, GivesUpAfterThreeQuestionsOneSecondApart) {
  // E12: what the connection then hears is tested with TCP.
  NetRig rig;
  const size_t free_before = rig.shard.bufs.bytes_taken();
  SendSomething(rig);
  EXPECT_EQ(rig.Sent().size(), 1u);
  for (int i = 0; i < 2; ++i) {
    rig.Advance(999ms);
    EXPECT_TRUE(rig.Sent().empty());
    rig.Advance(1ms);
    const auto sent = rig.Sent();
    ASSERT_EQ(sent.size(), 1u);
    EXPECT_EQ(Arp(sent[0]).target(), kPeer4);
  }
  rig.Advance(1s);
  EXPECT_TRUE(rig.Sent().empty());
  EXPECT_EQ(NetNextDeadline(rig.ctx), kNever);
  EXPECT_EQ(rig.shard.bufs.bytes_taken(), free_before);

  // The next packet starts over.
  SendSomething(rig);
  EXPECT_EQ(rig.Sent().size(), 1u);
}

TEST(Arp, WaitingQueueKeepsTheNewest) {
  NetRig rig;
  for (int i = 0; i < 150; ++i) {
    const Packet data = Filled(32, static_cast<uint8_t>(i));
    SendPacket(rig.ctx, kOwn4, kPeer4, 253, {}, data);
  }
  rig.Sent();
  rig.Receive(ArpFrame(ArpOperation::kReply, kPeer4, kOwn4, rig.mac(), kPeerMac, rig.mac()));
  const auto sent = rig.Sent();
  ASSERT_EQ(sent.size(), kMaxWaitingFrames);
  const auto first = Ipv4View::Parse(Payload(sent.front()))->payload();
  EXPECT_EQ(first[0], Filled(1, static_cast<uint8_t>(150 - kMaxWaitingFrames))[0]);
  const auto last = Ipv4View::Parse(Payload(sent.back()))->payload();
  EXPECT_EQ(last[0], Filled(1, 149)[0]);
}

TEST(Arp, UnsolicitedReplyDoesNotReplaceAFreshAddress) {
  // Linux: for a second after an address was learnt only announcements replace it (locktime).
  NetRig rig;
  const MacAddress other = {0x02, 0, 0, 0, 0, 9};
  rig.Introduce(kPeer4);
  rig.Receive(ArpFrame(ArpOperation::kReply, kPeer4, kOwn4, rig.mac(), other, rig.mac()));
  SendSomething(rig);
  EXPECT_EQ(EthernetView::Parse(rig.Sent().at(0))->destination(), kPeerMac);
  rig.Advance(1001ms);
  rig.Receive(ArpFrame(ArpOperation::kReply, kPeer4, kOwn4, rig.mac(), other, rig.mac()));
  SendSomething(rig);
  EXPECT_EQ(EthernetView::Parse(rig.Sent().at(0))->destination(), other);
}

TEST(Arp, AnnouncementReplacesTheAddressAtOnce) {
  NetRig rig;
  const MacAddress other = {0x02, 0, 0, 0, 0, 9};
  rig.Introduce(kPeer4);
  rig.Receive(ArpFrame(ArpOperation::kRequest, kPeer4, kPeer4, kBroadcastMac, other));
  SendSomething(rig);
  EXPECT_EQ(EthernetView::Parse(rig.Sent().at(0))->destination(), other);
}

TEST(Arp, StaleEntryIsCheckedByUnicastAfterUse) {
  NetRig rig;
  rig.Introduce(kPeer4);
  // Reachable for 45 s at most.
  rig.Advance(46s);
  SendSomething(rig);
  EXPECT_EQ(rig.Sent().size(), 1u);
  rig.Advance(4999ms);
  EXPECT_TRUE(rig.Sent().empty());
  rig.Advance(1ms);
  auto sent = rig.Sent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(EthernetView::Parse(sent[0])->destination(), kPeerMac);
  EXPECT_EQ(Arp(sent[0]).operation(), ArpOperation::kRequest);
  // Unanswered three times: unknown again.
  for (int i = 0; i < 2; ++i) {
    rig.Advance(1s);
    EXPECT_EQ(rig.Sent().size(), 1u);
  }
  rig.Advance(1s);
  EXPECT_TRUE(rig.Sent().empty());
  SendSomething(rig);
  sent = rig.Sent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(EthernetView::Parse(sent[0])->destination(), kBroadcastMac);
}

TEST(Arp, ProgressAboveSparesTheCheck) {
  // RFC 4861 7.3.1: ConfirmPath stands for an ACK of new data.
  NetRig rig;
  rig.Introduce(kPeer4);
  Path path;
  ASSERT_TRUE(FindPath(rig.ctx, kOwn4, kPeer4, path));
  rig.Advance(46s);
  SendSomething(rig);
  rig.Sent();
  rig.Advance(3s);
  ConfirmPath(rig.ctx, path);
  rig.Advance(2s);
  EXPECT_TRUE(rig.Sent().empty());
  EXPECT_EQ(NetNextDeadline(rig.ctx), kNever);
}

TEST(Arp, AddressScanDoesNotPushOutTheKnownNeighbor) {
  NetRig rig;
  rig.Introduce(kPeer4);
  for (int i = 0; i < 5000; ++i) {
    SendSomething(rig, IpAddress::V4(192, 168, static_cast<uint8_t>(1 + i / 250), static_cast<uint8_t>(1 + i % 250)));
    rig.Sent();
  }
  SendSomething(rig);
  const auto sent = rig.Sent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(EthernetView::Parse(sent[0])->destination(), kPeerMac);
}

TEST(Arp, PathOutlivesItsEntry) {
  // An entry that was given to another address is found out by its generation, never by a frame to the wrong neighbour.
  NetRig rig;
  Path path;
  ASSERT_TRUE(FindPath(rig.ctx, kOwn4, kPeer4, path));
  for (int i = 0; i < 20000; ++i) {
    rig.Introduce(IpAddress::V4(192, 168, static_cast<uint8_t>(1 + i / 250), static_cast<uint8_t>(1 + i % 250)),
                  {0x02, 9, 9, 9, 9, 9});
    rig.ctx.now += 1us;
  }
  ASSERT_NE(path.neighbor->generation, path.neighbor_generation);
  EXPECT_FALSE(NeighborMac(rig.ctx, path).has_value());
}

TEST(Arp, AnnouncesItsAddresses) {
  NetRig rig;
  AnnounceAddresses(rig.ctx);
  const auto sent = rig.Sent();
  ASSERT_EQ(sent.size(), 2u);
  const ArpView announcement = Arp(sent[0]);
  EXPECT_TRUE(announcement.is_gratuitous());
  EXPECT_EQ(announcement.sender(), kOwn4);
  EXPECT_EQ(EthernetView::Parse(sent[1])->destination(), MulticastMac(kAllNodes));
}

}  // namespace
}  // namespace ustcp::test
