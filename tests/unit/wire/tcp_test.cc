// D15, D1: TCP headers.
#include "stack/wire/tcp.h"

#include <gtest/gtest.h>

#include "stack/wire/ipv4.h"
#include "tests/unit/wire/bytes_util.h"
#include "tests/unit/wire/kernel_frames.h"

namespace ustcp {
namespace {

TEST(TcpViewD15, ReadsAndRewritesAKernelSegment) {
  const ByteVector packet = PacketOf(kernel_frames::kData);
  const auto ip = Ipv4View::Parse(packet);
  ASSERT_TRUE(ip);
  const auto tcp = TcpView::Parse(ip->payload());
  ASSERT_TRUE(tcp);
  EXPECT_EQ(tcp->destination_port(), 7000);
  EXPECT_EQ(tcp->seq(), Seq(2903994787u));
  EXPECT_EQ(tcp->ack(), Seq(3319654323u));
  EXPECT_EQ(tcp->flags(), kTcpPsh | kTcpAck);
  EXPECT_EQ(tcp->window(), 63);
  EXPECT_EQ(tcp->header_bytes(), 32u);
  EXPECT_EQ(tcp->payload().size(), 101u);
  EXPECT_EQ(tcp->sequence_length(), 101u);

  ByteVector out(tcp->bytes().size());
  ASSERT_EQ(WriteTcp(out.data(), {tcp->source_port(), 7000, tcp->seq(), tcp->ack(), kTcpPsh | kTcpAck, 63, 0, 12}),
            32u);
  std::memcpy(&out[20], tcp->options().data(), 12);
  std::memcpy(&out[32], tcp->payload().data(), 101);
  FillTransportChecksum(ip->source(), ip->destination(), kProtocolTcp, out, kTcpChecksumOffset);
  EXPECT_EQ(out, ToVector(ip->payload()));
}

TEST(TcpViewD15, EveryFieldRoundTrips) {
  std::mt19937 rng(1);
  for (int i = 0; i < 5000; ++i) {
    TcpHeader h;
    h.source_port = static_cast<uint16_t>(rng());
    h.destination_port = static_cast<uint16_t>(rng());
    h.seq = Seq(static_cast<uint32_t>(rng()));
    h.ack = Seq(static_cast<uint32_t>(rng()));
    h.flags = {static_cast<uint16_t>(rng() & kTcpFlagMask)};
    h.window = static_cast<uint16_t>(rng());
    h.urgent_pointer = static_cast<uint16_t>(rng());
    h.option_bytes = static_cast<uint8_t>(rng() % 11 * 4);
    ByteVector segment(kTcpHeaderBytes + h.option_bytes + rng() % 50);
    ASSERT_EQ(WriteTcp(segment.data(), h), kTcpHeaderBytes + h.option_bytes);
    const auto tcp = TcpView::Parse(segment);
    ASSERT_TRUE(tcp);
    ASSERT_EQ(tcp->source_port(), h.source_port);
    ASSERT_EQ(tcp->destination_port(), h.destination_port);
    ASSERT_EQ(tcp->seq(), h.seq);
    ASSERT_EQ(tcp->ack(), h.ack);
    ASSERT_EQ(tcp->flags(), h.flags);
    ASSERT_EQ(tcp->window(), h.window);
    ASSERT_EQ(tcp->urgent_pointer(), h.urgent_pointer);
    ASSERT_EQ(tcp->options().size(), h.option_bytes);
    ASSERT_EQ(tcp->payload().size(), segment.size() - kTcpHeaderBytes - h.option_bytes);
    ASSERT_EQ(tcp->sequence_length(), tcp->payload().size() + tcp->syn() + tcp->fin());
  }
}

TEST(TcpViewD15, EachFlagHasItsBit) {
  const struct {
    TcpFlags flag;
    bool (TcpView::*get)() const;
    const char* wire;  // bytes 12 and 13
  } cases[] = {{kTcpFin, &TcpView::fin, "5001"}, {kTcpSyn, &TcpView::syn, "5002"},     {kTcpRst, &TcpView::rst, "5004"},
               {kTcpPsh, &TcpView::psh, "5008"}, {kTcpAck, &TcpView::has_ack, "5010"}, {kTcpUrg, &TcpView::urg, "5020"},
               {kTcpEce, &TcpView::ece, "5040"}, {kTcpCwr, &TcpView::cwr, "5080"},     {kTcpAe, &TcpView::ae, "5100"}};
  for (const auto& c : cases) {
    ByteVector segment(kTcpHeaderBytes);
    WriteTcp(segment.data(), {.flags = c.flag});
    EXPECT_EQ(ToVector(ConstBytes(segment).subspan(12, 2)), FromHex(c.wire));
    const auto tcp = TcpView::Parse(segment);
    ASSERT_TRUE(tcp);
    for (const auto& other : cases) EXPECT_EQ(((*tcp).*other.get)(), other.flag == c.flag) << c.wire;
  }
}

TEST(TcpViewD15, ReservedBitsAreNoFlags) {
  ByteVector segment(kTcpHeaderBytes);
  segment[12] = std::byte{0x5e};
  ASSERT_TRUE(TcpView::Parse(segment));
  EXPECT_EQ(TcpView::Parse(segment)->flags(), TcpFlags{});
}

TEST(TcpViewD15, DataOffsetIsChecked) {
  ByteVector segment(60);
  for (size_t size = 0; size <= segment.size(); ++size) {
    for (unsigned offset = 0; offset < 16; ++offset) {
      if (size > 12) segment[12] = static_cast<std::byte>(offset << 4);
      const bool sound = size >= 20 && offset >= 5 && offset * 4 <= size;
      ASSERT_EQ(TcpView::Parse(ConstBytes(segment).first(size)).has_value(), sound) << size << " " << offset;
    }
  }
}

TEST(TcpFlagsD15, SetOperations) {
  const TcpFlags f = kTcpSyn | kTcpAck;
  EXPECT_TRUE(f.Has(kTcpSyn));
  EXPECT_TRUE(f.Has(kTcpSyn | kTcpAck));
  EXPECT_FALSE(f.Has(kTcpSyn | kTcpRst));
  EXPECT_TRUE(f.HasAny(kTcpSyn | kTcpRst));
  EXPECT_FALSE(f.HasAny(kTcpFin | kTcpRst));
  EXPECT_EQ(f.Without(kTcpSyn), kTcpAck);
}

}  // namespace
}  // namespace ustcp
