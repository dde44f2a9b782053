// Routes and source addresses (RFC 1122 3.3.1, RFC 6724). E12: ENETUNREACH.
#include <gtest/gtest.h>

#include "tests/unit/net/net_rig.h"

namespace ustcp::test {
namespace {

HostConfig Routed() {
  HostConfig c = TestHost::DefaultConfig();
  c.addresses[2] = IpPrefix{IpAddress::V4(10, 1, 2, 3), 24};
  c.address_count = 3;
  c.routes[0] = {IpPrefix{IpAddress::V4(10, 0, 0, 0), 8}, IpAddress::V4(192, 168, 0, 7)};
  c.routes[1] = {IpPrefix{IpAddress::AnyV4(), 0}, IpAddress::V4(192, 168, 0, 254)};
  c.routes[2] = {IpPrefix{IpAddress::V4(172, 16, 0, 0), 12}, IpAddress::AnyV4()};
  c.route_count = 3;
  return c;
}

IpAddress Hop(NetRig& rig, const IpAddress& to) {
  IpAddress hop;
  EXPECT_TRUE(NextHop(rig.host.host(), to, hop));
  return hop;
}

TEST(Route, LongestPrefixWins) {
  NetRig rig(Routed());
  EXPECT_EQ(Hop(rig, kPeer4), kPeer4);
  EXPECT_EQ(Hop(rig, IpAddress::V4(10, 1, 2, 9)), IpAddress::V4(10, 1, 2, 9));
  EXPECT_EQ(Hop(rig, IpAddress::V4(10, 1, 3, 9)), IpAddress::V4(192, 168, 0, 7));
  EXPECT_EQ(Hop(rig, IpAddress::V4(172, 20, 0, 1)), IpAddress::V4(172, 20, 0, 1));
  EXPECT_EQ(Hop(rig, IpAddress::V4(8, 8, 8, 8)), IpAddress::V4(192, 168, 0, 254));
}

TEST(Route, NoRouteWithoutDefault) {
  NetRig rig;
  Path path;
  EXPECT_FALSE(FindPath(rig.ctx, kOwn4, IpAddress::V4(8, 8, 8, 8), path));
  EXPECT_EQ(rig.Count(Counter::kIpOutNoRoutes), 1u);
  IpAddress source;
  EXPECT_FALSE(ChooseSource(rig.host.host(), IpAddress::V4(8, 8, 8, 8), source));
}

TEST(Route, GroupsBroadcastAndKernelLoopbackAreUnreachable) {
  NetRig rig;
  Path path;
  for (const IpAddress& to : {IpAddress::V4(224, 0, 0, 1), IpAddress::V4(255, 255, 255, 255),
                              IpAddress::V4(192, 168, 255, 255), IpAddress::V4(127, 0, 0, 1), IpAddress::AnyV4()}) {
    EXPECT_FALSE(FindPath(rig.ctx, kOwn4, to, path));
  }
  EXPECT_FALSE(FindPath(rig.ctx, kOwn6, kAllNodes, path));
  EXPECT_FALSE(FindPath(rig.ctx, kOwn6, kPeer4, path));
}

TEST(Route, OwnAddressesStayInside) {
  NetRig rig;
  Path path;
  ASSERT_TRUE(FindPath(rig.ctx, kOwn4, kOwn4, path));
  EXPECT_TRUE(path.local);
  EXPECT_EQ(path.mtu, 65535);
  ASSERT_TRUE(FindPath(rig.ctx, kOwn6, LinkLocalAddress(rig.mac()), path));
  EXPECT_TRUE(path.local);
}

TEST(Route, LoopbackInsideWhenConfigured) {
  HostConfig c = TestHost::DefaultConfig();
  c.loopback_inside = true;
  NetRig rig(c);
  Path path;
  const IpAddress loopback = IpAddress::V4(127, 3, 2, 1);
  ASSERT_TRUE(FindPath(rig.ctx, loopback, loopback, path));
  EXPECT_TRUE(path.local);
  IpAddress source;
  ASSERT_TRUE(ChooseSource(rig.host.host(), loopback, source));
  EXPECT_EQ(source, IpAddress::V4(127, 0, 0, 1));
}

TEST(Route, SourceIsOnTheNextHopsSubnet) {
  NetRig rig(Routed());
  IpAddress source;
  ASSERT_TRUE(ChooseSource(rig.host.host(), IpAddress::V4(10, 1, 2, 9), source));
  EXPECT_EQ(source, IpAddress::V4(10, 1, 2, 3));
  ASSERT_TRUE(ChooseSource(rig.host.host(), IpAddress::V4(8, 8, 8, 8), source));
  EXPECT_EQ(source, kOwn4);
  ASSERT_TRUE(ChooseSource(rig.host.host(), kPeer6, source));
  EXPECT_EQ(source, kOwn6);
  ASSERT_TRUE(ChooseSource(rig.host.host(), LinkLocalAddress(kPeerMac), source));
  EXPECT_EQ(source, LinkLocalAddress(rig.mac()));
}

TEST(Route, NoIpv6OnALinkBelow1280) {
  // RFC 8200 5.
  HostConfig c = TestHost::DefaultConfig();
  c.device.mtu = 1279;
  NetRig rig(c);
  Path path;
  EXPECT_FALSE(FindPath(rig.ctx, kOwn6, kPeer6, path));
  EXPECT_TRUE(FindPath(rig.ctx, kOwn4, kPeer4, path));
  EXPECT_EQ(path.mtu, 1279);
}

TEST(Route, SlashThirtyOneHasNoBroadcast) {
  // RFC 3021.
  HostConfig c = TestHost::DefaultConfig();
  c.addresses[0] = IpPrefix{IpAddress::V4(192, 168, 0, 0), 31};
  NetRig rig(c);
  EXPECT_FALSE(IsBroadcast(rig.host.host(), IpAddress::V4(192, 168, 0, 1)));
  EXPECT_TRUE(IsBroadcast(rig.host.host(), IpAddress::V4(255, 255, 255, 255)));
}

}  // namespace
}  // namespace ustcp::test
