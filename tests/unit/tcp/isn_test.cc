// E8: initial sequence numbers are a clock plus a keyed hash of the four-tuple.
#include "stack/tcp/isn.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/support/test_host.h"

namespace ustcp {
namespace {

Tuple TupleOf(uint16_t local_port, uint16_t peer_port) {
  return {{IpAddress::V4(192, 168, 0, 1), local_port}, {IpAddress::V4(192, 0, 2, 1), peer_port}};
}

TEST(IsnTest, E8_GrowsWithTheClockForOneTuple) {
  test::TestHost host;
  Instant t = test::TestHost::DefaultStart();
  Seq first = ChooseIss(host.host(), TupleOf(80, 4000), t);
  EXPECT_EQ(ChooseIss(host.host(), TupleOf(80, 4000), t + 64ms) - first, 1'000'000);
  EXPECT_TRUE(ChooseIss(host.host(), TupleOf(80, 4000), t + 60s).After(first));
}

TEST(IsnTest, E8_TuplesDoNotTellOfEachOther) {
  test::TestHost host;
  Instant t = test::TestHost::DefaultStart();
  std::set<uint32_t> numbers, distances;
  Seq before = ChooseIss(host.host(), TupleOf(80, 1000), t);
  for (uint16_t port = 1001; port < 1501; ++port) {
    Seq now = ChooseIss(host.host(), TupleOf(80, port), t);
    numbers.insert(now.raw());
    distances.insert(now.raw() - before.raw());
    before = now;
  }
  EXPECT_EQ(numbers.size(), 500u);
  EXPECT_EQ(distances.size(), 500u);
  // Client and server side of one connection differ too.
  Tuple there{TupleOf(80, 1000).peer, TupleOf(80, 1000).local};
  EXPECT_NE(ChooseIss(host.host(), there, t), ChooseIss(host.host(), TupleOf(80, 1000), t));
}

}  // namespace
}  // namespace ustcp
