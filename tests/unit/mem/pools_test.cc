// Slot and buffer pools: no slot handed out twice, stale references show, free lists can be rebuilt from the slots (T14:
// what a crash leaves must be repairable).
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

#include "stack/create.h"
#include "stack/mem/buf.h"
#include "stack/socket/socket.h"
#include "tests/support/test_host.h"

namespace ustcp {
namespace {

TEST(SlotPool, HandsOutDistinctSlotsAndTakesThemBack) {
  test::TestHost host;
  Shard& shard = host.NewShard();
  std::set<Socket*> taken;
  for (int i = 0; i < 2000; ++i) {
    Socket* s = shard.sockets.Take();
    ASSERT_NE(s, nullptr);
    EXPECT_EQ(s->kind, SlotKind::kSocket);
    EXPECT_TRUE(taken.insert(s).second);
  }
  EXPECT_EQ(shard.sockets.live(), 2000u);
  Socket* some = *taken.begin();
  uint32_t generation = some->generation;
  shard.sockets.Give(some);
  EXPECT_EQ(shard.sockets.Take(), some);
  EXPECT_EQ(some->generation, generation + 1);
}

TEST(SlotPool, RebuildFindsEveryFreeSlotAgain) {
  test::TestHost host;
  Shard& shard = host.NewShard();
  std::vector<Socket*> all;
  for (int i = 0; i < 300; ++i) all.push_back(shard.sockets.Take());
  for (int i = 0; i < 300; i += 3) shard.sockets.Give(all[static_cast<size_t>(i)]);
  shard.sockets.Rebuild();
  EXPECT_EQ(shard.sockets.live(), 200u);
  std::set<Socket*> live;
  shard.sockets.ForEachLive([&](Socket& s) { live.insert(&s); });
  EXPECT_EQ(live.size(), 200u);
  for (int i = 0; i < 500; ++i) EXPECT_EQ(live.count(shard.sockets.Take()), 0u);
}

TEST(SlotPool, AnExhaustedArenaIsARefusalNotACrash) {
  HostConfig config = test::TestHost::DefaultConfig();
  test::TestHost host(config, {}, test::TestHost::DefaultStart(), MinimumArenaBytes());
  Shard& shard = host.NewShard();
  int taken = 0;
  while (shard.bufs.Take(BufClass::kFrame) != nullptr && taken < 1000000) ++taken;
  EXPECT_GT(taken, 100);
  EXPECT_EQ(shard.sockets.Take(), nullptr);
}

TEST(BufPool, ClassesFitWhatTheyPromise) {
  for (size_t bytes :
       {size_t{1}, size_t{960}, size_t{961}, size_t{4032}, size_t{16320}, size_t{16321}, size_t{66000}}) {
    BufClass c = BufPool::ClassFor(bytes);
    EXPECT_GE(kBufBytes[static_cast<size_t>(c)] - sizeof(Buf), bytes);
  }
}

TEST(BufPool, TakesTheLastGivenFirst) {
  test::TestHost host;
  Shard& shard = host.NewShard();
  Buf* a = shard.bufs.Take(BufClass::kLarge);
  Buf* b = shard.bufs.Take(BufClass::kLarge);
  shard.bufs.Give(a);
  shard.bufs.Give(b);
  EXPECT_EQ(shard.bufs.Take(BufClass::kLarge), b);
  EXPECT_EQ(shard.bufs.bytes_taken(), kBufBytes[2]);
}

// Frames at the wrong shard take their buffers along. With all of them going one way, the arena must not be used up.
TEST(BufPool, BuffersThatGoOneWayComeBack) {
  test::TestHost host;
  Shard& from = host.NewShard();
  Shard& to = host.NewShard();
  auto travel = [&](BufClass c, int rounds) {
    for (int i = 0; i < rounds; ++i) {
      Buf* b = from.bufs.Take(c);
      ASSERT_NE(b, nullptr);
      from.bufs.Part(b, to.index);
      to.bufs.Join(b);
      to.bufs.Give(b);
    }
  };
  for (BufClass c : {BufClass::kSmall, BufClass::kMedium, BufClass::kLarge, BufClass::kFrame})
    travel(c, 2 * static_cast<int>(kFreeBufsKept[static_cast<size_t>(c)]));
  const size_t used = host.host().spans.bytes_used();
  for (BufClass c : {BufClass::kSmall, BufClass::kMedium, BufClass::kLarge, BufClass::kFrame}) travel(c, 20000);
  EXPECT_EQ(host.host().spans.bytes_used(), used);
  EXPECT_EQ(from.bufs.bytes_taken(), 0u);
  EXPECT_EQ(to.bufs.bytes_taken(), 0u);
}

// What is in the exchange is nobody's: no repair may keep it too.
TEST(BufPool, ExcessBelongsToNoShard) {
  test::TestHost host;
  Shard& shard = host.NewShard();
  std::vector<Buf*> all;
  for (uint32_t i = 0; i < kFreeBufsKept[3] + 3; ++i) all.push_back(shard.bufs.Take(BufClass::kFrame));
  for (Buf* b : all) shard.bufs.Give(b);
  auto nobodys = std::count_if(all.begin(), all.end(), [](const Buf* b) { return b->pool == kHostOwner; });
  EXPECT_EQ(nobodys, 3);
  std::set<Buf*> again;
  for (size_t i = 0; i < all.size(); ++i) again.insert(shard.bufs.Take(BufClass::kFrame));
  EXPECT_EQ(again, std::set<Buf*>(all.begin(), all.end()));
}

}  // namespace
}  // namespace ustcp
