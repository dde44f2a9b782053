// D15: neighbour discovery messages (RFC 4861 6.1, 7.1), read and written as the kernel does.
#include "stack/wire/ndisc.h"

#include <gtest/gtest.h>

#include "stack/wire/ipv6.h"
#include "tests/unit/wire/bytes_util.h"
#include "tests/unit/wire/kernel_frames.h"

namespace ustcp {
namespace {

struct Message {
  IpAddress source;
  IpAddress destination;
  uint8_t hop_limit = kNeighborHopLimit;
  ByteVector bytes;

  static Message Of(std::string_view hex) {
    const ByteVector packet = PacketOf(hex);
    const auto ip = Ipv6View::Parse(packet);
    return {ip->source(), ip->destination(), ip->hop_limit(), ToVector(ip->payload())};
  }
  // Parses after putting the checksum right, so that only the rule under test decides.
  std::optional<NeighborView> Parse() {
    FillTransportChecksum(source, destination, kProtocolIcmpv6, bytes, 2);
    const auto icmp = Icmpv6View::Parse(bytes, source, destination);
    EXPECT_TRUE(icmp);
    return NeighborView::Parse(*icmp, hop_limit, source, destination);
  }
};

TEST(NeighborD15, SolicitationIsTheKernels) {
  Message m = Message::Of(kernel_frames::kSolicitationFrame);
  const ByteVector wire = m.bytes;
  const auto view = m.Parse();
  ASSERT_TRUE(view);
  EXPECT_EQ(view->type(), kNeighborSolicitation);
  EXPECT_EQ(view->target(), kHostB6);
  EXPECT_EQ(view->options().source_mac, kMacA);
  EXPECT_EQ(m.destination, SolicitedNodeGroup(kHostB6));
  std::byte out[kMaxNeighborMessageBytes];
  const size_t size = WriteNeighborSolicitation(out, kHostA6, SolicitedNodeGroup(kHostB6), kHostB6, kMacA);
  EXPECT_EQ(ToVector({out, size}), wire);
}

TEST(NeighborD15, AdvertisementIsTheKernels) {
  Message m = Message::Of(kernel_frames::kAdvertisementFrame);
  const ByteVector wire = m.bytes;
  const auto view = m.Parse();
  ASSERT_TRUE(view);
  EXPECT_EQ(view->target(), kHostB6);
  EXPECT_TRUE(view->solicited());
  EXPECT_TRUE(view->override_cache());
  EXPECT_FALSE(view->router());
  EXPECT_EQ(view->options().target_mac, kMacB);
  std::byte out[kMaxNeighborMessageBytes];
  const size_t size = WriteNeighborAdvertisement(
      out, kHostB6, kHostA6, {.target = kHostB6, .mac = kMacB, .solicited = true, .override_cache = true});
  EXPECT_EQ(ToVector({out, size}), wire);
}

TEST(NeighborD15, RouterSolicitationIsTheKernels) {
  Message m = Message::Of(kernel_frames::kRouterSolicitation6);
  const ByteVector wire = m.bytes;
  ASSERT_TRUE(m.Parse());
  EXPECT_EQ(m.destination, kAllRouters);
  std::byte out[kMaxNeighborMessageBytes];
  const size_t size = WriteRouterSolicitation(out, kLinkLocalA, kAllRouters, kMacA);
  EXPECT_EQ(ToVector({out, size}), wire);
}

TEST(NeighborD15, DuplicateAddressDetectionComesFromNowhere) {
  Message m = Message::Of(kernel_frames::kDadSolicitation);
  const auto view = m.Parse();
  ASSERT_TRUE(view);
  EXPECT_EQ(m.source, IpAddress::AnyV6());
  EXPECT_EQ(view->target(), kLinkLocalA);
  EXPECT_FALSE(view->options().source_mac);
  // RFC 4861 7.1.1: then only to the solicited-node group, and without the sender's link-layer address.
  Message unicast = m;
  unicast.destination = kLinkLocalA;
  EXPECT_FALSE(unicast.Parse());
  Message with_mac = m;
  with_mac.bytes.resize(24);
  for (const std::byte b : FromHex("0101 02000000000a")) with_mac.bytes.push_back(b);
  EXPECT_FALSE(with_mac.Parse());
}

TEST(NeighborD15, RulesOfValidity) {
  const Message good = Message::Of(kernel_frames::kSolicitationFrame);
  Message m = good;
  m.hop_limit = 254;
  EXPECT_FALSE(m.Parse()) << "came through a router";
  m = good;
  m.bytes[1] = std::byte{1};
  EXPECT_FALSE(m.Parse()) << "code";
  m = good;
  m.bytes[8] = std::byte{0xff};
  EXPECT_FALSE(m.Parse()) << "multicast target";
  m = good;
  std::memcpy(&m.bytes[8], kHostB4.bytes.data(), 16);
  EXPECT_FALSE(m.Parse()) << "v4-mapped target";
  m = good;
  m.bytes[25] = std::byte{0};
  EXPECT_FALSE(m.Parse()) << "option of length zero";
  m = good;
  m.bytes[25] = std::byte{2};
  EXPECT_FALSE(m.Parse()) << "option beyond the end";
  m = good;
  m.bytes.resize(23);
  EXPECT_FALSE(m.Parse()) << "short";
  m = good;
  m.bytes.push_back(std::byte{1});
  EXPECT_FALSE(m.Parse()) << "half an option";

  m = Message::Of(kernel_frames::kAdvertisementFrame);
  m.destination = kAllNodes;
  EXPECT_FALSE(m.Parse()) << "solicited, yet to a group";
  m = Message::Of(kernel_frames::kRouterSolicitation6);
  m.source = IpAddress::AnyV6();
  EXPECT_FALSE(m.Parse()) << "address of nobody";
}

TEST(NeighborD15, EchoIsNoNeighborMessage) {
  Message m = Message::Of(kernel_frames::kEcho6RequestFrame);
  m.hop_limit = kNeighborHopLimit;
  EXPECT_FALSE(m.Parse());
}

TEST(NeighborD15, RouterAdvertisementWithOptions) {
  Message m;
  m.source = kLinkLocalA;
  m.destination = kAllNodes;
  m.bytes = FromHex(
      "86000000 4000 0708 00007530 000003e8"
      "0101 02000000000a"
      "0501 0000 000005dc"
      "0304 40c0 00015180 00003840 00000000 20010db8000000000000000000000000"
      "0304 8100 00015180 00003840 00000000 20010db8000000000000000000000000"
      "1901 0000 00000000");
  auto view = m.Parse();
  ASSERT_TRUE(view);
  EXPECT_EQ(view->hop_limit(), 64);
  EXPECT_EQ(view->router_lifetime_seconds(), 1800);
  EXPECT_EQ(view->reachable_ms(), 30000u);
  EXPECT_EQ(view->retransmit_ms(), 1000u);
  EXPECT_EQ(view->options().source_mac, kMacA);
  EXPECT_EQ(view->options().mtu, 1500u);
  ASSERT_EQ(view->options().prefix_count, 1) << "a prefix of 129 bits is ignored";
  const PrefixInformation& prefix = view->options().prefixes[0];
  EXPECT_EQ(prefix.prefix.length, 64);
  EXPECT_EQ(prefix.prefix.address.bytes[0], 0x20);
  EXPECT_TRUE(prefix.on_link);
  EXPECT_TRUE(prefix.autonomous);
  EXPECT_EQ(prefix.valid_seconds, 86400u);
  EXPECT_EQ(prefix.preferred_seconds, 14400u);
  m.source = kHostA6;
  EXPECT_FALSE(m.Parse()) << "routers advertise from link-local addresses";
}

}  // namespace
}  // namespace ustcp
