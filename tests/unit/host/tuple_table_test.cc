// The tuple table: one live node per tuple (T3, E13), hand-over from a connection to its TIME_WAIT entry without a gap.
#include "stack/host/tuple_table.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "stack/tcp/tcb.h"
#include "tests/support/test_host.h"

namespace ustcp {
namespace {

Tuple MakeTuple(uint32_t n) {
  Tuple t;
  t.local = {IpAddress::V4(10, 0, 0, 1), 80};
  t.peer = {IpAddress::V4(10, 1, static_cast<uint8_t>(n >> 8), static_cast<uint8_t>(n)), static_cast<uint16_t>(n * 7)};
  return t;
}

class TupleTableTest : public ::testing::Test {
 protected:
  TimeWait* NewNode(const Tuple& t) {
    TimeWait* node = shard_.time_waits.Take();
    node->tuple = t;
    node->hash = table_.Hash(t);
    return node;
  }
  test::TestHost host_;
  Shard& shard_ = host_.NewShard();
  TupleTable& table_ = host_->tuples;
};

TEST_F(TupleTableTest, FindsWhatWasInsertedAndNothingElse) {
  TimeWait* node = NewNode(MakeTuple(1));
  ASSERT_TRUE(table_.Insert(*node));
  EXPECT_EQ(table_.Find(node->tuple, node->hash), node);
  Tuple other = MakeTuple(2);
  EXPECT_EQ(table_.Find(other, table_.Hash(other)), nullptr);
  table_.Remove(*node);
  EXPECT_EQ(table_.Find(node->tuple, node->hash), nullptr);
}

TEST_F(TupleTableTest, RefusesASecondNodeForOneTuple) {
  TimeWait* a = NewNode(MakeTuple(1));
  TimeWait* b = NewNode(MakeTuple(1));
  EXPECT_TRUE(table_.Insert(*a));
  EXPECT_FALSE(table_.Insert(*b));
  EXPECT_FALSE(b->hashed);
}

TEST_F(TupleTableTest, ReplaceHandsTheTupleOver) {
  TimeWait* a = NewNode(MakeTuple(1));
  TimeWait* b = NewNode(MakeTuple(1));
  ASSERT_TRUE(table_.Insert(*a));
  table_.Replace(*a, *b);
  EXPECT_EQ(table_.Find(b->tuple, b->hash), b);
  EXPECT_FALSE(a->hashed);
  table_.Remove(*b);
  EXPECT_EQ(table_.Find(b->tuple, b->hash), nullptr);
}

TEST_F(TupleTableTest, AgreesWithAMapOverRandomOperations) {
  std::mt19937 random(42);
  std::map<uint32_t, TimeWait*> model;
  for (int step = 0; step < 20000; ++step) {
    auto key = static_cast<uint32_t>(random() % 500);
    auto it = model.find(key);
    if (it == model.end()) {
      TimeWait* node = NewNode(MakeTuple(key));
      ASSERT_TRUE(table_.Insert(*node));
      model[key] = node;
    } else if (random() % 2 == 0) {
      table_.Remove(*it->second);
      shard_.time_waits.Give(it->second);
      model.erase(it);
    }
    auto probe = static_cast<uint32_t>(random() % 500);
    Tuple t = MakeTuple(probe);
    TupleNode* expected = model.count(probe) != 0 ? model[probe] : nullptr;
    ASSERT_EQ(table_.Find(t, table_.Hash(t)), expected);
  }
}

}  // namespace
}  // namespace ustcp
