// Reassembly (RFC 791, RFC 8200 4.5, RFC 5722), seen from outside: an echo request in fragments is answered when, and
// only when, it is whole and unharmed. D15: nothing is made of damaged fragments.
#include <algorithm>
#include <numeric>
#include <random>

#include <gtest/gtest.h>

#include "tests/unit/net/net_rig.h"

namespace ustcp::test {
namespace {

struct Fragment {
  uint32_t offset;
  Packet data;
  bool more;
};

Packet FragmentPacket(const Fragment& f, uint32_t id, bool v4, uint8_t ecn = 0) {
  Packet p;
  if (v4) {
    p.resize(kIpv4HeaderBytes + f.data.size());
    WriteIpv4(p.data(), {.source = kPeer4,
                         .destination = kOwn4,
                         .protocol = kProtocolIcmp,
                         .tos = ecn,
                         .id = static_cast<uint16_t>(id),
                         .dont_fragment = false,
                         .payload_bytes = static_cast<uint16_t>(f.data.size())});
    MakeIpv4Fragment(p.data(), f.offset, static_cast<uint16_t>(f.data.size()), f.more);
    std::copy(f.data.begin(), f.data.end(), p.begin() + kIpv4HeaderBytes);
  } else {
    constexpr size_t kHeaders = kIpv6HeaderBytes + kIpv6FragmentHeaderBytes;
    p.resize(kHeaders + f.data.size());
    WriteIpv6(p.data(), {.source = kPeer6,
                         .destination = kOwn6,
                         .protocol = kIpv6Fragment,
                         .traffic_class = ecn,
                         .payload_bytes = static_cast<uint16_t>(kIpv6FragmentHeaderBytes + f.data.size())});
    Store8(p.data() + kIpv6HeaderBytes, kProtocolIcmpv6);
    StoreBe16(p.data() + kIpv6HeaderBytes + 2, static_cast<uint16_t>(f.offset | (f.more ? 1u : 0u)));
    StoreBe32(p.data() + kIpv6HeaderBytes + 4, id);
    std::copy(f.data.begin(), f.data.end(), p.begin() + kHeaders);
  }
  return p;
}

Fragment Cut(const Packet& message, uint32_t begin, uint32_t end) {
  return {begin, Packet(message.begin() + begin, message.begin() + end), end < message.size()};
}

class ReassemblyTest : public testing::TestWithParam<bool> {
 protected:
  ReassemblyTest() {
    rig.Introduce(kPeer4);
    rig.Introduce(kPeer6);
  }
  bool v4() const { return GetParam(); }
  Packet Request(size_t data) { return EchoRequest(Filled(data), v4() ? kPeer4 : kPeer6, v4() ? kOwn4 : kOwn6); }
  void Give(const Fragment& f, uint32_t id = 1, uint8_t ecn = 0) { rig.ReceiveIp(FragmentPacket(f, id, v4(), ecn)); }
  uint64_t Oks() { return rig.Count(v4() ? Counter::kIpReasmOKs : Counter::kIp6ReasmOKs); }
  uint64_t Fails() { return rig.Count(v4() ? Counter::kIpReasmFails : Counter::kIp6ReasmFails); }
  // The data of all replies, their own fragments put together by hand; empty when there is none.
  Packet Reply() {
    Packet out;
    for (const auto& frame : rig.Sent()) {
      if (v4()) {
        const auto ip = Ipv4View::Parse(Payload(frame));
        EXPECT_TRUE(ip.has_value());
        EXPECT_EQ(ip->fragment_offset(), out.size());
        out.insert(out.end(), ip->payload().begin(), ip->payload().end());
      } else {
        const auto ip = Ipv6View::Parse(Payload(frame));
        EXPECT_TRUE(ip.has_value());
        if (ip->is_fragment()) {
          EXPECT_EQ(ip->fragment().offset, out.size());
        }
        out.insert(out.end(), ip->payload().begin(), ip->payload().end());
      }
    }
    return out;
  }
  static void ExpectEchoOf(const Packet& reply, const Packet& request) {
    ASSERT_EQ(reply.size(), request.size());
    EXPECT_TRUE(std::equal(reply.begin() + 4, reply.end(), request.begin() + 4));
  }

  NetRig rig;
};

TEST_P(ReassemblyTest, AllOrdersOfFourFragments) {
  const Packet request = Request(3000);
  const uint32_t cuts[] = {0, 800, 1600, 2400, static_cast<uint32_t>(request.size())};
  std::vector<int> order = {0, 1, 2, 3};
  uint32_t id = 1;
  do {
    for (int i = 0; i < 4; ++i) {
      EXPECT_TRUE(Reply().empty());
      Give(Cut(request, cuts[order[i]], cuts[order[i] + 1]), id);
    }
    ExpectEchoOf(Reply(), request);
    ++id;
  } while (std::next_permutation(order.begin(), order.end()));
  EXPECT_EQ(Oks(), 24u);
  EXPECT_EQ(Fails(), 0u);
}

TEST_P(ReassemblyTest, LargestPacket) {
  const size_t largest = 65535 - (v4() ? kIpv4HeaderBytes : 0);
  const Packet request = Request(largest - kIcmpHeaderBytes);
  for (uint32_t at = 0; at < request.size(); at += 1440) {
    Give(Cut(request, at, std::min<uint32_t>(at + 1440, static_cast<uint32_t>(request.size()))));
  }
  ExpectEchoOf(Reply(), request);
}

TEST_P(ReassemblyTest, BeyondTheLargestPacket) {
  // The ping of death: the last fragment would end behind byte 65535.
  Give({65528, Packet(64), false});
  EXPECT_EQ(Fails(), 1u);
  EXPECT_EQ(Oks(), 0u);
}

TEST_P(ReassemblyTest, DuplicatesAreIgnored) {
  const Packet request = Request(1000);
  Give(Cut(request, 0, 400));
  Give(Cut(request, 0, 400));
  Give(Cut(request, 80, 160));
  Give(Cut(request, 400, static_cast<uint32_t>(request.size())));
  ExpectEchoOf(Reply(), request);
  EXPECT_EQ(Fails(), 0u);
}

TEST_P(ReassemblyTest, OverlapDiscardsEverything) {
  const Packet request = Request(1000);
  Give(Cut(request, 0, 400));
  Give(Cut(request, 392, 800));
  EXPECT_EQ(Fails(), 1u);
  // What completes the old datagram completes nothing now.
  Give(Cut(request, 400, static_cast<uint32_t>(request.size())));
  EXPECT_TRUE(Reply().empty());
  EXPECT_EQ(Oks(), 0u);
}

TEST_P(ReassemblyTest, TwoEndsDiscardEverything) {
  const Packet request = Request(1000);
  Give({400, Packet(80), false});
  Give({400, Packet(88), false});
  EXPECT_EQ(Fails(), 1u);
}

TEST_P(ReassemblyTest, TimesOutAndReportsTheFirstFragment) {
  const Packet request = Request(1000);
  Give(Cut(request, 0, 400));
  EXPECT_EQ(NetNextDeadline(rig.ctx), rig.ctx.now + (v4() ? 30s : 60s));
  rig.Advance(v4() ? 30s : 60s);
  EXPECT_EQ(rig.Count(v4() ? Counter::kIpReasmTimeout : Counter::kIp6ReasmTimeout), 1u);
  EXPECT_EQ(Fails(), 1u);
  const auto sent = rig.Sent();
  // An answer to an echo request is due, errors about ICMP queries being allowed.
  ASSERT_EQ(sent.size(), 1u);
  if (v4()) {
    const auto ip = Ipv4View::Parse(Payload(sent[0]));
    const auto icmp = IcmpView::Parse(ip->payload());
    ASSERT_TRUE(icmp.has_value());
    EXPECT_EQ(icmp->type(), kIcmpTimeExceeded);
    EXPECT_EQ(icmp->code(), 1);
  } else {
    const auto ip = Ipv6View::Parse(Payload(sent[0]));
    const auto icmp = Icmpv6View::Parse(ip->payload(), ip->source(), ip->destination());
    ASSERT_TRUE(icmp.has_value());
    EXPECT_EQ(icmp->type(), kIcmpv6TimeExceeded);
    EXPECT_EQ(icmp->code(), 1);
  }
}

TEST_P(ReassemblyTest, TimesOutSilentlyWithoutTheFirstFragment) {
  const Packet request = Request(1000);
  const size_t before = rig.shard.bufs.bytes_taken();
  Give(Cut(request, 400, 800));
  rig.Advance(60s);
  EXPECT_TRUE(rig.Sent().empty());
  EXPECT_EQ(rig.shard.bufs.bytes_taken(), before);
}

TEST_P(ReassemblyTest, FloodOfFirstFragmentsIsBounded) {
  const Packet request = Request(1000);
  for (uint32_t id = 1; id <= 1000; ++id) {
    Give(Cut(request, 0, 400), id);
    rig.ctx.now += 1ms;
  }
  EXPECT_LE(rig.shard.bufs.bytes_taken(), Reassembly::kDatagrams * kBufBytes[3]);
  // The newest still completes.
  Give(Cut(request, 400, static_cast<uint32_t>(request.size())), 1000);
  ExpectEchoOf(Reply(), request);
}

TEST_P(ReassemblyTest, ManyHolesAreBounded) {
  for (uint32_t i = 0; i < 200; ++i) Give({i * 16, Packet(8), true});
  EXPECT_GE(Fails(), 1u);
  EXPECT_EQ(Oks(), 0u);
}

TEST_P(ReassemblyTest, MarkOnOneFragmentMarksThePacket) {
  // RFC 3168 5.3. The reply copies the request's traffic class.
  const Packet request = Request(1000);
  Give(Cut(request, 0, 400), 1, 2);
  Give(Cut(request, 400, static_cast<uint32_t>(request.size())), 1, 3);
  const auto sent = rig.Sent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(v4() ? Ipv4View::Parse(Payload(sent[0]))->tos() : Ipv6View::Parse(Payload(sent[0]))->traffic_class(), 3);
  // A mark among fragments that cannot carry one is a forgery or a fault.
  Give(Cut(request, 0, 400), 2, 0);
  Give(Cut(request, 400, static_cast<uint32_t>(request.size())), 2, 3);
  EXPECT_TRUE(rig.Sent().empty());
  EXPECT_EQ(Fails(), 1u);
}

// The datagram as a map of bytes, by the rules of Linux: contained in what came without a gap: ignored; other overlap,
// two ends, data behind the end: the datagram starts over from nothing.
class NaiveModel {
 public:
  enum Result { kGoesOn, kComplete, kDiscarded };
  Result Give(const Fragment& f) {
    const size_t end = f.offset + f.data.size();
    if (f.more ? total_ != 0 && end > total_ : end < Farthest() || (total_ != 0 && end != total_)) return Discard();
    size_t covered = 0;
    for (size_t i = f.offset; i < end; ++i) covered += have_[i] ? 1 : 0;
    if (covered == f.data.size()) return kGoesOn;
    if (covered != 0) return Discard();
    for (size_t i = 0; i < f.data.size(); ++i) {
      have_[f.offset + i] = true;
      data_[f.offset + i] = f.data[i];
    }
    if (!f.more) total_ = end;
    if (total_ == 0) return kGoesOn;
    for (size_t i = 0; i < total_; ++i)
      if (!have_[i]) return kGoesOn;
    result = Packet(data_.begin(), data_.begin() + static_cast<std::ptrdiff_t>(total_));
    Clear();
    return kComplete;
  }
  Packet result;

 private:
  static constexpr size_t kBytes = 2048;
  size_t Farthest() const {
    size_t n = kBytes;
    while (n > 0 && !have_[n - 1]) --n;
    return n;
  }
  Result Discard() {
    Clear();
    return kDiscarded;
  }
  void Clear() {
    have_.assign(kBytes, false);
    total_ = 0;
  }
  std::vector<bool> have_ = std::vector<bool>(kBytes);
  Packet data_ = Packet(kBytes);
  size_t total_ = 0;
};

TEST_P(ReassemblyTest, AgreesWithANaiveModel) {
  // Random fragments of one message on an 8-byte grid, mostly fitting, sometimes overlapping or ending elsewhere.
  const Packet request = Request(504);
  const auto size = static_cast<uint32_t>(request.size());
  uint64_t completed = 0;
  uint64_t discarded = 0;
  for (uint32_t seed = 1; seed <= 300; ++seed) {
    std::mt19937 rng(seed);
    NaiveModel model;
    for (int i = 0; i < 60; ++i) {
      Fragment f;
      if (rng() % 8 != 0) {
        const auto piece = static_cast<uint32_t>(rng() % 8);
        f = Cut(request, piece * 64, std::min(size, (piece + 1) * 64));
      } else {
        const auto begin = static_cast<uint32_t>(rng() % 60) * 8;
        const auto end = begin + 8 + static_cast<uint32_t>(rng() % 16) * 8;
        f = Cut(request, begin, std::min(size, end));
        // At offset 0 without more to come it would be no fragment.
        if (rng() % 16 == 0 && begin != 0) f.more = !f.more;
      }
      // An IPv6 first fragment needs the transport header, which 8 bytes of ICMPv6 are.
      const auto expected = model.Give(f);
      Give(f, seed);
      const Packet reply = Reply();
      if (expected == NaiveModel::kComplete) {
        ++completed;
        // A wrong end cuts the message off: then the checksum is wrong and there is no reply.
        if (model.result == request) {
          ExpectEchoOf(reply, request);
        } else {
          EXPECT_TRUE(reply.empty());
        }
      } else {
        EXPECT_TRUE(reply.empty()) << "seed " << seed << " fragment " << i;
        discarded += expected == NaiveModel::kDiscarded ? 1u : 0u;
      }
      ASSERT_EQ(Oks(), completed) << "seed " << seed << " fragment " << i;
      ASSERT_EQ(Fails(), discarded) << "seed " << seed << " fragment " << i;
    }
    // The rest of this seed's datagram times out.
    const uint64_t before = Fails();
    rig.Advance(61s);
    rig.Introduce(kPeer4);
    rig.Introduce(kPeer6);
    rig.Sent();
    discarded += Fails() - before;
  }
  EXPECT_GT(completed, 200u);
  EXPECT_GT(discarded, 200u);
}

INSTANTIATE_TEST_SUITE_P(Family, ReassemblyTest, testing::Bool(),
                         [](const auto& family) { return family.param ? "V4" : "V6"; });

TEST(Reassembly6, AtomicFragmentIsAWholePacket) {
  // RFC 6946: it neither waits for others nor mixes with them.
  NetRig rig;
  rig.Introduce(kPeer6);
  const Packet request = EchoRequest(Filled(100), kPeer6, kOwn6);
  rig.ReceiveIp(FragmentPacket({0, Packet(64), true}, 5, false));
  rig.ReceiveIp(FragmentPacket({0, request, false}, 5, false));
  const auto sent = rig.Sent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(Ipv6View::Parse(Payload(sent[0]))->payload().size(), request.size());
}

TEST(Reassembly6, OddLengthIsAnswered) {
  // RFC 8200 4.5: parameter problem, pointing at the payload length.
  NetRig rig;
  rig.Introduce(kPeer6);
  rig.ReceiveIp(FragmentPacket({0, Packet(63), true}, 5, false));
  const auto sent = rig.Sent();
  ASSERT_EQ(sent.size(), 1u);
  const auto ip = Ipv6View::Parse(Payload(sent[0]));
  const auto icmp = Icmpv6View::Parse(ip->payload(), ip->source(), ip->destination());
  EXPECT_EQ(icmp->type(), kIcmpv6ParameterProblem);
  EXPECT_EQ(icmp->pointer(), 4u);
}

}  // namespace
}  // namespace ustcp::test
