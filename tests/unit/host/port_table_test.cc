// bind() conflicts and listener choice as Linux has them (E13, T15).
#include "stack/host/port_table.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>

#include "stack/mem/slot_pool.h"

namespace ustcp {
namespace {

struct Owner : SlotHeader {
  BindNode node;
};

class PortTableTest : public ::testing::Test {
 protected:
  PortTableTest() { table_->Init(); }

  static Owner Make(const IpAddress& address, uint16_t port) {
    Owner o;
    o.node.address = address;
    o.node.port = port;
    o.node.v6 = !address.is_v4();
    return o;
  }
  bool Bind(Owner& o) {
    o.node.owner = &o;
    return table_->Bind(o.node);
  }
  SlotHeader* Listener(const IpAddress& address, uint16_t port, uint32_t hash = 0) {
    return table_->FindListener(Endpoint{address, port}, hash);
  }

  std::unique_ptr<PortTable> table_{new PortTable()};
  IpAddress any4_ = IpAddress::AnyV4(), any6_ = IpAddress::AnyV6();
  IpAddress a_ = IpAddress::V4(10, 0, 0, 1), b_ = IpAddress::V4(10, 0, 0, 2);
};

TEST_F(PortTableTest, SameAddressAndPortConflict) {
  Owner x = Make(a_, 80), y = Make(a_, 80), z = Make(b_, 80), w = Make(any4_, 80);
  EXPECT_TRUE(Bind(x));
  EXPECT_FALSE(Bind(y));
  EXPECT_TRUE(Bind(z));
  EXPECT_FALSE(Bind(w));
  table_->Remove(x.node);
  table_->Remove(z.node);
  EXPECT_TRUE(Bind(w));
}

TEST_F(PortTableTest, ReuseAddrLetsOthersInUnlessOneListens) {
  Owner x = Make(any4_, 80), y = Make(any4_, 80);
  x.node.reuse = y.node.reuse = true;
  ASSERT_TRUE(Bind(x));
  EXPECT_TRUE(Bind(y));
  EXPECT_TRUE(table_->SetListening(x.node));
  EXPECT_FALSE(table_->SetListening(y.node));
}

TEST_F(PortTableTest, TimeWaitBlocksARestartWithoutReuseAddr) {  // T15
  Owner tw = Make(a_, 80);
  tw.node.reuse = true;  // inherited from a listener that had the option
  tw.node.owner = &tw;
  table_->Add(tw.node, 80);
  Owner plain = Make(any4_, 80);
  EXPECT_FALSE(Bind(plain));
  plain.node.reuse = true;
  EXPECT_TRUE(Bind(plain));
}

TEST_F(PortTableTest, ReusePortSharesBetweenSocketsOfOneUser) {
  Owner x = Make(any4_, 80), y = Make(any4_, 80), z = Make(any4_, 80);
  for (Owner* o : {&x, &y, &z}) o->node.reuseport = true;
  z.node.uid = 1000;
  ASSERT_TRUE(Bind(x));
  EXPECT_TRUE(Bind(y));
  EXPECT_FALSE(Bind(z));
  EXPECT_TRUE(table_->SetListening(x.node));
  EXPECT_TRUE(table_->SetListening(y.node));
  std::set<SlotHeader*> seen;
  for (uint32_t hash = 0; hash < 1000; ++hash) seen.insert(Listener(a_, 80, hash * 2654435761u));
  EXPECT_EQ(seen, (std::set<SlotHeader*>{&x, &y}));
}

TEST_F(PortTableTest, V6WildcardCoversV4UnlessV6Only) {
  Owner dual = Make(any6_, 80), four = Make(any4_, 80);
  ASSERT_TRUE(Bind(dual));
  EXPECT_FALSE(Bind(four));
  table_->Remove(dual.node);
  dual.node.v6only = true;
  ASSERT_TRUE(Bind(dual));
  EXPECT_TRUE(Bind(four));
}

TEST_F(PortTableTest, ExactListenerBeatsWildcardAndDualStack) {
  Owner wild = Make(any4_, 80), exact = Make(a_, 80), dual = Make(any6_, 81);
  wild.node.reuse = exact.node.reuse = true;
  ASSERT_TRUE(Bind(wild));
  ASSERT_TRUE(Bind(exact));
  ASSERT_TRUE(Bind(dual));
  wild.node.listening = exact.node.listening = dual.node.listening = true;
  EXPECT_EQ(Listener(a_, 80), &exact);
  EXPECT_EQ(Listener(b_, 80), &wild);
  EXPECT_EQ(Listener(a_, 81), &dual);
  EXPECT_EQ(Listener(a_, 82), nullptr);
  dual.node.v6only = true;
  EXPECT_EQ(Listener(a_, 81), nullptr);
}

TEST_F(PortTableTest, EphemeralRangeRunsOut) {  // E12, EADDRNOTAVAIL and EADDRINUSE
  std::vector<std::unique_ptr<Owner>> owners;
  for (int i = 0; i < 10; ++i) {
    owners.push_back(std::make_unique<Owner>(Make(any4_, 0)));
    owners.back()->node.owner = owners.back().get();
    ASSERT_TRUE(table_->BindAny(owners.back()->node, 5000, 5009, 12345u * i));
  }
  std::set<uint16_t> ports;
  for (auto& o : owners) ports.insert(o->node.port);
  EXPECT_EQ(ports.size(), 10u);
  Owner late = Make(any4_, 0);
  EXPECT_FALSE(table_->BindAny(late.node, 5000, 5009, 3));
}

}  // namespace
}  // namespace ustcp
