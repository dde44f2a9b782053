// D15: Ethernet and ARP frames. Malformed ones are refused, the kernel's are read and written byte for byte.
#include "stack/wire/ethernet.h"

#include <gtest/gtest.h>

#include "stack/wire/arp.h"
#include "tests/unit/wire/bytes_util.h"
#include "tests/unit/wire/kernel_frames.h"

namespace ustcp {
namespace {

TEST(EthernetD15, ReadsAKernelFrame) {
  const ByteVector frame = FromHex(kernel_frames::kArpRequestFrame);
  const auto view = EthernetView::Parse(frame);
  ASSERT_TRUE(view);
  EXPECT_TRUE(view->is_broadcast());
  EXPECT_TRUE(view->is_multicast());
  EXPECT_EQ(view->source(), kMacA);
  EXPECT_EQ(view->ethertype(), kEthertypeArp);
  EXPECT_EQ(view->vlan_id(), 0);
  EXPECT_EQ(view->payload().size(), frame.size() - 14);
}

TEST(EthernetD15, ShortFramesAreRefused) {
  const ByteVector frame = FromHex(kernel_frames::kArpRequestFrame);
  for (size_t size = 0; size < 14; ++size) EXPECT_FALSE(EthernetView::Parse(ConstBytes(frame).first(size)));
  EXPECT_TRUE(EthernetView::Parse(ConstBytes(frame).first(14)));
}

TEST(EthernetD15, VlanTagsAreSkipped) {
  const ByteVector one = FromHex("02000000000a02000000000b 8100 e005 0800 4500");
  auto view = EthernetView::Parse(one);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->ethertype(), kEthertypeIpv4);
  EXPECT_EQ(view->vlan_id(), 5);
  EXPECT_EQ(view->header_bytes(), 18u);
  EXPECT_EQ(ToVector(view->payload()), FromHex("4500"));
  for (size_t size = 14; size < 18; ++size) EXPECT_FALSE(EthernetView::Parse(ConstBytes(one).first(size)));

  const ByteVector priority_only = FromHex("02000000000a02000000000b 8100 e000 86dd");
  view = EthernetView::Parse(priority_only);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->vlan_id(), 0);
  EXPECT_EQ(view->ethertype(), kEthertypeIpv6);

  const ByteVector two = FromHex("02000000000a02000000000b 88a8 0001 8100 0000 0806");
  view = EthernetView::Parse(two);
  ASSERT_TRUE(view);
  EXPECT_NE(view->vlan_id(), 0);
  EXPECT_EQ(view->ethertype(), kEthertypeArp);

  const ByteVector three = FromHex("02000000000a02000000000b 8100 0000 8100 0000 8100 0000 0800");
  EXPECT_FALSE(EthernetView::Parse(three));
}

TEST(EthernetD15, MulticastAddresses) {
  EXPECT_EQ(MulticastMac(IpAddress::V4(239, 129, 2, 3)), (MacAddress{0x01, 0x00, 0x5e, 0x01, 0x02, 0x03}));
  const ByteVector frame = FromHex(kernel_frames::kSolicitationFrame);
  IpAddress group = IpAddress::FromV6Bytes(frame.data() + 14 + 24);
  EXPECT_EQ(MulticastMac(group), EthernetView::Parse(frame)->destination());
}

TEST(ArpD15, KernelFramesRoundTrip) {
  for (const auto hex : {kernel_frames::kArpRequestFrame, kernel_frames::kArpReplyFrame}) {
    const ByteVector frame = FromHex(hex);
    const auto ethernet = EthernetView::Parse(frame);
    ASSERT_TRUE(ethernet);
    const auto arp = ArpView::Parse(ethernet->payload());
    ASSERT_TRUE(arp);
    std::byte out[14 + kArpBytes];
    size_t size = WriteEthernet(out, ethernet->destination(), ethernet->source(), kEthertypeArp);
    size +=
        WriteArp(out + size, {arp->operation(), arp->sender_mac(), arp->sender(), arp->target_mac(), arp->target()});
    EXPECT_EQ(ToVector({out, size}), frame);
  }
}

TEST(ArpD15, FieldsOfAReply) {
  const ByteVector packet = PacketOf(kernel_frames::kArpReplyFrame);
  const auto arp = ArpView::Parse(packet);
  ASSERT_TRUE(arp);
  EXPECT_EQ(arp->operation(), ArpOperation::kReply);
  EXPECT_EQ(arp->sender(), kHostB4);
  EXPECT_EQ(arp->sender_mac(), kMacB);
  EXPECT_EQ(arp->target(), kHostA4);
  EXPECT_EQ(arp->target_mac(), kMacA);
  EXPECT_FALSE(arp->is_gratuitous());
}

TEST(ArpD15, EveryWrongFixedFieldIsRefused) {
  const ByteVector good = PacketOf(kernel_frames::kArpRequestFrame);
  for (size_t size = 0; size < kArpBytes; ++size) EXPECT_FALSE(ArpView::Parse(ConstBytes(good).first(size)));
  for (size_t at = 0; at < 8; ++at) {
    ByteVector bad = good;
    bad[at] ^= std::byte{0x40};
    EXPECT_FALSE(ArpView::Parse(bad)) << "byte " << at;
  }
  ByteVector multicast_mac = good;
  multicast_mac[8] |= std::byte{1};
  EXPECT_FALSE(ArpView::Parse(multicast_mac));
  ByteVector multicast_ip = good;
  multicast_ip[14] = std::byte{224};
  EXPECT_FALSE(ArpView::Parse(multicast_ip));
}

TEST(ArpD15, PaddingBehindThePacketIsHarmless) {
  ByteVector packet = PacketOf(kernel_frames::kArpRequestFrame);
  packet.resize(46);
  ASSERT_TRUE(ArpView::Parse(packet));
  EXPECT_EQ(ArpView::Parse(packet)->target(), kHostB4);
}

}  // namespace
}  // namespace ustcp
