// TCP frames on their way out: headers, checksums and segmentation requests, and delivery within the host.
#include <gtest/gtest.h>

#include "stack/net/frames.h"
#include "tests/unit/net/net_rig.h"

namespace ustcp::test {
namespace {

class OutputTest : public testing::TestWithParam<bool> {
 protected:
  bool v4() const { return GetParam(); }
  IpAddress own() const { return v4() ? kOwn4 : kOwn6; }
  IpAddress peer() const { return v4() ? kPeer4 : kPeer6; }
  size_t ip_bytes() const { return v4() ? kIpv4HeaderBytes : kIpv6HeaderBytes; }

  // A segment whose payload lies in two pieces of odd length.
  FrameFate Build(NetRig& rig, TxFrame& frame, const IpAddress& to, size_t data, uint16_t gso_size) {
    payload_ = Filled(data);
    Path path;
    EXPECT_TRUE(FindPath(rig.ctx, own(), to, path));
    std::byte* tcp = BeginFrame(rig.ctx, path, frame, own(), to, kProtocolTcp, {.tos = 2}, kTcpHeaderBytes, data);
    WriteTcp(tcp, {.source_port = 80, .destination_port = 5000, .seq = Seq(9), .flags = kTcpAck | kTcpPsh});
    const size_t first = data / 2 | 1;
    frame.pieces[0] = {payload_.data(), first};
    frame.pieces[1] = {payload_.data() + first, data - first};
    frame.piece_count = 2;
    return FinishTcpFrame(rig.ctx, path, frame, own(), to, gso_size);
  }
  static Packet Flat(const TxFrame& frame) {
    Packet p(frame.headers.begin(), frame.headers.begin() + frame.header_bytes);
    for (int i = 0; i < frame.piece_count; ++i) {
      const auto* from = static_cast<const std::byte*>(frame.pieces[i].iov_base);
      p.insert(p.end(), from, from + frame.pieces[i].iov_len);
    }
    return p;
  }
  ConstBytes Segment(const Packet& frame) const { return Payload(frame).subspan(ip_bytes()); }

  Packet payload_;
};

TEST_P(OutputTest, FullChecksumWithoutOffload) {
  HostConfig config = TestHost::DefaultConfig();
  config.device.checksum_offload = config.device.tso4 = config.device.tso6 = false;
  NetRig rig(config);
  rig.Introduce(peer());
  TxFrame frame;
  ASSERT_EQ(Build(rig, frame, peer(), 999, 0), FrameFate::kReady);
  const Packet p = Flat(frame);
  EXPECT_EQ(frame.vnet.flags, 0);
  EXPECT_EQ(frame.payload_bytes, 999u);
  EXPECT_EQ(EthernetView::Parse(p)->destination(), kPeerMac);
  EXPECT_TRUE(VerifyTransportChecksum(own(), peer(), kProtocolTcp, Segment(p)));
  if (v4()) {
    const auto ip = Ipv4View::Parse(Payload(p));
    ASSERT_TRUE(ip.has_value());
    EXPECT_TRUE(ip->dont_fragment());
    EXPECT_EQ(ip->tos(), 2);
    EXPECT_EQ(ip->total_bytes(), 20u + 20u + 999u);
  } else {
    const auto ip = Ipv6View::Parse(Payload(p));
    ASSERT_TRUE(ip.has_value());
    EXPECT_EQ(ip->traffic_class(), 2);
    EXPECT_EQ(ip->payload().size(), 20u + 999u);
  }
}

TEST_P(OutputTest, PartialChecksumAndSegmentation) {
  NetRig rig;
  rig.Introduce(peer());
  TxFrame frame;
  ASSERT_EQ(Build(rig, frame, peer(), 30001, 1448), FrameFate::kReady);
  const Packet p = Flat(frame);
  EXPECT_EQ(frame.vnet.flags, VirtioNetHeader::kNeedsChecksum);
  EXPECT_EQ(frame.vnet.checksum_start, kEthernetHeaderBytes + ip_bytes());
  EXPECT_EQ(frame.vnet.checksum_offset, 16);
  EXPECT_EQ(frame.vnet.gso_type, v4() ? VirtioNetHeader::kGsoTcpV4 : VirtioNetHeader::kGsoTcpV6);
  EXPECT_EQ(frame.vnet.gso_size, 1448);
  EXPECT_EQ(frame.vnet.header_length, kEthernetHeaderBytes + ip_bytes() + kTcpHeaderBytes);
  // What the device adds to the partial sum must make the checksum right.
  Packet segment(Segment(p).begin(), Segment(p).end());
  InternetSum sum;
  sum.Add(segment);
  StoreBe16(segment.data() + kTcpChecksumOffset, sum.Complement());
  EXPECT_TRUE(VerifyTransportChecksum(own(), peer(), kProtocolTcp, segment));
}

TEST_P(OutputTest, WaitingFrameIsCompleteWhenItLeaves) {
  // The copy keeps payload and virtio header though the send queue may be gone by then.
  NetRig rig;
  TxFrame frame;
  EXPECT_EQ(Build(rig, frame, peer(), 5001, 1448), FrameFate::kTaken);
  const Packet expected = payload_;
  payload_.assign(payload_.size(), std::byte{0});
  EXPECT_EQ(rig.Sent().size(), 1u);
  rig.Introduce(peer());
  const auto sent = rig.SentFrames();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].vnet.gso_size, 1448);
  EXPECT_EQ(EthernetView::Parse(sent[0].bytes)->destination(), kPeerMac);
  const auto tcp = TcpView::Parse(Segment(sent[0].bytes));
  ASSERT_TRUE(tcp.has_value());
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), tcp->payload().begin(), tcp->payload().end()));
}

TEST_P(OutputTest, LocalFramesNeverTouchTheDevice) {
  HostConfig config = TestHost::DefaultConfig();
  config.device.checksum_offload = config.device.tso4 = config.device.tso6 = false;
  NetRig rig(config);
  TxFrame frame;
  EXPECT_EQ(Build(rig, frame, own(), 40001, 20000), FrameFate::kTaken);
  EXPECT_TRUE(rig.Sent().empty());
  ASSERT_FALSE(rig.shard.mailbox.empty());
  // Taken from the mailbox it is a segment like any other, its checksum vouched for.
  DrainMailbox(rig.ctx);
  // Counted as the three segments it would have been on a link.
  EXPECT_EQ(rig.Count(Counter::kTcpInSegs), 3u);
  EXPECT_EQ(rig.Count(Counter::kTcpInErrs), 0u);
}

INSTANTIATE_TEST_SUITE_P(Family, OutputTest, testing::Bool(),
                         [](const auto& family) { return family.param ? "V4" : "V6"; });

}  // namespace
}  // namespace ustcp::test
