// D15, E12, D12: ICMP and ICMPv6 messages; what an error quotes leads to the connection it is about.
#include "stack/wire/icmp.h"

#include <gtest/gtest.h>

#include "stack/wire/icmpv6.h"
#include "stack/wire/ipv4.h"
#include "stack/wire/ipv6.h"
#include "stack/wire/tcp.h"
#include "tests/unit/wire/bytes_util.h"
#include "tests/unit/wire/kernel_frames.h"

namespace ustcp {
namespace {

// The payload behind the IP header of a captured frame.
ByteVector Message4(std::string_view hex) {
  const ByteVector packet = PacketOf(hex);
  return ToVector(Ipv4View::Parse(packet)->payload());
}
ByteVector Message6(std::string_view hex) {
  const ByteVector packet = PacketOf(hex);
  return ToVector(Ipv6View::Parse(packet)->payload());
}

TEST(IcmpD15, EchoReplyIsTheKernels) {
  const ByteVector request = Message4(kernel_frames::kEchoRequestFrame);
  const auto view = IcmpView::Parse(request);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->type(), kIcmpEchoRequest);
  EXPECT_EQ(view->echo_id(), 0x1234);
  EXPECT_EQ(view->echo_sequence(), 1);
  EXPECT_EQ(view->body().size(), 9u);
  ByteVector out(request.size());
  ASSERT_EQ(WriteIcmpEchoReply(out.data(), *view), request.size());
  EXPECT_EQ(out, Message4(kernel_frames::kEchoReplyFrame));
}

TEST(IcmpD15, EchoReplyInPlace) {
  ByteVector message = Message4(kernel_frames::kEchoRequestFrame);
  const auto view = IcmpView::Parse(message);
  WriteIcmpEchoReply(message.data(), *view);
  EXPECT_EQ(message, Message4(kernel_frames::kEchoReplyFrame));
}

TEST(IcmpD15, Echo6ReplyIsTheKernels) {
  const ByteVector request = Message6(kernel_frames::kEcho6RequestFrame);
  const auto view = Icmpv6View::Parse(request, kHostA6, kHostB6);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->type(), kIcmpv6EchoRequest);
  EXPECT_FALSE(view->is_error());
  EXPECT_EQ(view->echo_id(), 0x1234);
  ByteVector out(request.size());
  ASSERT_EQ(WriteIcmpv6EchoReply(out.data(), *view, kHostB6, kHostA6), request.size());
  EXPECT_EQ(out, Message6(kernel_frames::kEcho6ReplyFrame));
}

TEST(IcmpD15, DamagedMessagesAreRefusedWithTheReason) {
  ByteVector message = Message4(kernel_frames::kEchoRequestFrame);
  DropReason why = DropReason::kNone;
  EXPECT_FALSE(IcmpView::Parse(ConstBytes(message).first(7), ChecksumTrust::kVerify, &why));
  EXPECT_EQ(why, DropReason::kIcmpHeader);
  message.back() ^= std::byte{1};
  EXPECT_FALSE(IcmpView::Parse(message, ChecksumTrust::kVerify, &why));
  EXPECT_EQ(why, DropReason::kIcmpChecksum);
  EXPECT_TRUE(IcmpView::Parse(message, ChecksumTrust::kVouched, &why));
  EXPECT_EQ(why, DropReason::kNone);

  ByteVector message6 = Message6(kernel_frames::kEcho6RequestFrame);
  EXPECT_FALSE(Icmpv6View::Parse(message6, kHostA6, kLinkLocalA, ChecksumTrust::kVerify, &why));
  EXPECT_EQ(why, DropReason::kIcmpChecksum);
  EXPECT_FALSE(Icmpv6View::Parse(ConstBytes(message6).first(7), kHostA6, kHostB6, ChecksumTrust::kVerify, &why));
  EXPECT_EQ(why, DropReason::kIcmpHeader);
}

TEST(IcmpE12, PortUnreachableOfTheKernelIsReadAndRewritten) {
  const ByteVector message = Message4(kernel_frames::kPortUnreachableFrame);
  const auto view = IcmpView::Parse(message);
  ASSERT_TRUE(view);
  EXPECT_TRUE(view->is_error());
  EXPECT_EQ(view->code(), kIcmpPortUnreachable);
  const auto quoted = view->quoted();
  ASSERT_TRUE(quoted);
  EXPECT_EQ(quoted->source, kHostA4);
  EXPECT_EQ(quoted->destination, kHostB4);
  EXPECT_EQ(quoted->protocol, 17);
  EXPECT_EQ(quoted->destination_port, 9);
  ByteVector out(message.size());
  ASSERT_EQ(WriteIcmpError(out.data(), kMaxIcmpErrorBytes, kIcmpUnreachable, kIcmpPortUnreachable, 0, view->body()),
            message.size());
  EXPECT_EQ(out, message);
}

TEST(IcmpE12, PortUnreachable6OfTheKernelIsReadAndRewritten) {
  const ByteVector message = Message6(kernel_frames::kPortUnreachable6Frame);
  const auto view = Icmpv6View::Parse(message, kHostB6, kHostA6);
  ASSERT_TRUE(view);
  EXPECT_TRUE(view->is_error());
  EXPECT_EQ(view->code(), kIcmpv6PortUnreachable);
  const auto quoted = view->quoted();
  ASSERT_TRUE(quoted);
  EXPECT_EQ(quoted->tuple().local.address, kHostA6);
  EXPECT_EQ(quoted->tuple().peer, (Endpoint{kHostB6, 9}));
  ByteVector out(message.size());
  ASSERT_EQ(WriteIcmpv6Error(out.data(), kMaxIcmpv6ErrorBytes, kIcmpv6Unreachable, kIcmpv6PortUnreachable, 0,
                             view->body(), kHostB6, kHostA6),
            message.size());
  EXPECT_EQ(out, message);
}

TEST(IcmpD12, FragmentationNeededQuotesASegment) {
  const ByteVector packet = PacketOf(kernel_frames::kData);
  ByteVector out(kMaxIcmpErrorBytes);
  out.resize(WriteIcmpError(out.data(), 8 + 28, kIcmpUnreachable, kIcmpFragmentationNeeded, 1400, packet));
  ASSERT_EQ(out.size(), 36u);
  const auto view = IcmpView::Parse(out);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->next_hop_mtu(), 1400);
  const auto quoted = view->quoted();
  ASSERT_TRUE(quoted);
  const auto ip = Ipv4View::Parse(packet);
  const auto tcp = TcpView::Parse(ip->payload());
  EXPECT_EQ(quoted->tuple(), (Tuple{{kHostA4, tcp->source_port()}, {kHostB4, 7000}}));
  EXPECT_EQ(quoted->seq, tcp->seq());
  EXPECT_EQ(quoted->protocol, kProtocolTcp);
  EXPECT_EQ(quoted->transport.size(), 8u);
}

TEST(IcmpD12, PacketTooBigCarriesTheMtu) {
  const ByteVector packet = PacketOf(kernel_frames::kPartialSyn6);
  ByteVector out(kMaxIcmpv6ErrorBytes);
  out.resize(WriteIcmpv6Error(out.data(), out.size(), kIcmpv6PacketTooBig, 0, 1280, packet, kHostB6, kHostA6));
  const auto view = Icmpv6View::Parse(out, kHostB6, kHostA6);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->mtu(), 1280u);
  ASSERT_TRUE(view->quoted());
  EXPECT_EQ(view->quoted()->seq, Seq(687899072));
}

TEST(IcmpD15, QuotesTooShortOrWithoutTransportAreRefused) {
  ByteVector packet = PacketOf(kernel_frames::kData);
  for (size_t size = 0; size < 28; ++size) EXPECT_FALSE(ParseQuotedIpv4(ConstBytes(packet).first(size))) << size;
  EXPECT_TRUE(ParseQuotedIpv4(ConstBytes(packet).first(28)));
  StoreBe16(&packet[6], 0x2001);
  EXPECT_FALSE(ParseQuotedIpv4(packet));
  StoreBe16(&packet[6], 0x2000);
  EXPECT_TRUE(ParseQuotedIpv4(packet));

  const ByteVector packet6 = PacketOf(kernel_frames::kPartialSyn6);
  for (size_t size = 0; size < 48; ++size) EXPECT_FALSE(ParseQuotedIpv6(ConstBytes(packet6).first(size))) << size;
  EXPECT_TRUE(ParseQuotedIpv6(ConstBytes(packet6).first(48)));
}

TEST(IcmpD15, QuotedExtensionHeadersAreWalked) {
  ByteVector packet = PacketOf(kernel_frames::kPartialSyn6);
  const ByteVector fragment = FromHex("0600 0001 00000007");
  packet[6] = std::byte{kIpv6Fragment};
  packet.insert(packet.begin() + 40, fragment.begin(), fragment.end());
  ASSERT_TRUE(ParseQuotedIpv6(packet));
  EXPECT_EQ(ParseQuotedIpv6(packet)->protocol, kProtocolTcp);
  EXPECT_EQ(ParseQuotedIpv6(packet)->destination_port, 7000);
  packet[43] = std::byte{9};  // offset 8: not the first fragment
  EXPECT_FALSE(ParseQuotedIpv6(packet));
}

TEST(IcmpD15, ErrorsStayWithinTheirLimit) {
  const ByteVector packet(2000, std::byte{0x45});
  ByteVector out(2000, std::byte{0xee});
  EXPECT_EQ(WriteIcmpError(out.data(), kMaxIcmpErrorBytes, kIcmpTimeExceeded, 1, 0, packet), kMaxIcmpErrorBytes);
  EXPECT_EQ(out[kMaxIcmpErrorBytes], std::byte{0xee});
}

}  // namespace
}  // namespace ustcp
