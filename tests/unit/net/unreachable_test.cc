// What TCP hears from the network layer. E12: EHOSTUNREACH when the neighbour does not answer, ECONNREFUSED and
// EHOSTUNREACH by ICMP; D12: path MTU.
#include <netinet/in.h>

#include <gtest/gtest.h>

#include "stack/socket/socket.h"
#include "stack/socket/socket_ops.h"
#include "stack/tcp/tcb.h"
#include "tests/unit/net/net_rig.h"

namespace ustcp::test {
namespace {

class UnreachableTest : public testing::TestWithParam<bool> {
 protected:
  bool v4() const { return GetParam(); }
  IpAddress own() const { return v4() ? kOwn4 : kOwn6; }
  IpAddress peer() const { return v4() ? kPeer4 : kPeer6; }

  Socket* Connect() {
    Socket* s = *OpenSocket(rig.ctx, v4() ? AF_INET : AF_INET6, 0, 0, 1);
    EXPECT_EQ(ConnectSocket(rig.ctx, *s, {peer(), 80}), Error{EINPROGRESS});
    return s;
  }
  int SocketErrorOf(Socket* s) {
    int error = -1;
    socklen_t length = sizeof error;
    EXPECT_EQ(GetOption(rig.ctx, *s, SOL_SOCKET, SO_ERROR, &error, &length), kOk);
    return error;
  }
  // The SYN, taken from what the host sends once the peer is known.
  Packet Syn() {
    rig.Introduce(peer());
    for (auto& frame : rig.Sent()) {
      const uint16_t type = EthernetView::Parse(frame)->ethertype();
      if (type == kEthertypeArp) continue;
      if (type == kEthertypeIpv6 && Ipv6View::Parse(Payload(frame))->protocol() != kProtocolTcp) continue;
      return Packet(Payload(frame).begin(), Payload(frame).end());
    }
    ADD_FAILURE() << "no SYN";
    return {};
  }
  void GiveError(uint8_t type, uint8_t code, uint32_t rest, const Packet& quoted) {
    Packet error(kMaxIcmpErrorBytes);
    error.resize(v4() ? WriteIcmpError(error.data(), error.size(), type, code, rest, quoted)
                      : WriteIcmpv6Error(error.data(), error.size(), type, code, rest, quoted, peer(), own()));
    rig.ReceiveIp(Ip(v4() ? kProtocolIcmp : kProtocolIcmpv6, error, peer(), own()));
  }

  NetRig rig;
};

TEST_P(UnreachableTest, NeighborThatDoesNotAnswer) {
  // E12.
  Socket* s = Connect();
  rig.Sent();
  for (int i = 0; i < 2; ++i) {
    rig.Advance(1s);
    rig.Sent();
    EXPECT_EQ(SocketErrorOf(s), 0);
  }
  rig.Advance(1s);
  EXPECT_EQ(SocketErrorOf(s), EHOSTUNREACH);
}

TEST_P(UnreachableTest, AnotherShardFindsOut) {
  // E12. The table is the host's: whichever driver comes by gives up on the neighbour, and the connection hears of it.
  Shard& other = rig.host.NewShard();
  Socket* s = Connect();
  rig.Sent();
  Context there{rig.host.host(), other, rig.ctx.now, {}};
  for (int i = 0; i < 3; ++i) {
    there.now += 1s;
    NetOnDeadline(there);
  }
  rig.ctx.now = there.now;
  DrainMailbox(rig.ctx);
  EXPECT_EQ(SocketErrorOf(s), EHOSTUNREACH);
}

TEST_P(UnreachableTest, PortUnreachableRefuses) {
  Socket* s = Connect();
  const Packet syn = Syn();
  GiveError(v4() ? kIcmpUnreachable : kIcmpv6Unreachable, v4() ? kIcmpPortUnreachable : kIcmpv6PortUnreachable, 0, syn);
  EXPECT_EQ(SocketErrorOf(s), ECONNREFUSED);
}

TEST_P(UnreachableTest, HostUnreachable) {
  Socket* s = Connect();
  const Packet syn = Syn();
  GiveError(v4() ? kIcmpUnreachable : kIcmpv6Unreachable, v4() ? kIcmpHostUnreachable : kIcmpv6AddressUnreachable, 0,
            syn);
  EXPECT_EQ(SocketErrorOf(s), EHOSTUNREACH);
}

TEST_P(UnreachableTest, ForgedSequenceNumberIsIgnored) {
  // RFC 5927 4.1.
  Socket* s = Connect();
  Packet syn = Syn();
  std::byte* seq = syn.data() + (v4() ? kIpv4HeaderBytes : kIpv6HeaderBytes) + 4;
  StoreBe32(seq, LoadBe32(seq) + 1000);
  GiveError(v4() ? kIcmpUnreachable : kIcmpv6Unreachable, v4() ? kIcmpPortUnreachable : kIcmpv6PortUnreachable, 0, syn);
  EXPECT_EQ(SocketErrorOf(s), 0);
  EXPECT_EQ(rig.Count(Counter::kTcpExtOutOfWindowIcmps), 1u);
}

TEST_P(UnreachableTest, PathMtuIsLoweredWithinReason) {
  // D12.
  Socket* s = Connect();
  const Packet syn = Syn();
  const uint8_t type = v4() ? kIcmpUnreachable : kIcmpv6PacketTooBig;
  const uint8_t code = v4() ? kIcmpFragmentationNeeded : 0;
  GiveError(type, code, 1400, syn);
  EXPECT_EQ(s->conn->path.mtu, 1400);
  GiveError(type, code, 68, syn);
  EXPECT_EQ(s->conn->path.mtu, v4() ? 552 : 1280);
  EXPECT_EQ(SocketErrorOf(s), 0);
}

INSTANTIATE_TEST_SUITE_P(Family, UnreachableTest, testing::Bool(),
                         [](const auto& family) { return family.param ? "V4" : "V6"; });

}  // namespace
}  // namespace ustcp::test
