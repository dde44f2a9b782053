// Epoll semantics on sockets: level, edge, one-shot, exclusive, and who is woken (issue "nginx and curl", preload; E5, E14).
#include "stack/socket/readiness.h"

#include <gtest/gtest.h>

#include "stack/socket/socket.h"
#include "stack/socket/socket_ops.h"
#include "tests/support/test_host.h"

namespace ustcp {
namespace {

class ReadinessTest : public ::testing::Test {
 protected:
  ReadinessTest() : ctx_{host_.host(), shard_, test::TestHost::DefaultStart(), {}, {}} {
    socket_ = OpenSocket(ctx_, 2, 0, 0, 1).value();
    socket_->ready.store(0);
    set_ = OpenEpollSet(ctx_, 0).value();
  }
  int Add(uint32_t events, EpollSet* set = nullptr, uint64_t data = 7) {
    epoll_event e{events, {.u64 = data}};
    return EpollAdd(ctx_, set != nullptr ? *set : *set_, *socket_, 3, e);
  }
  void Happen(uint32_t level, uint32_t events) {
    socket_->ready.store(level);
    Notify(ctx_, *socket_, events);
  }
  int Collect(EpollSet* set = nullptr) { return EpollCollect(set != nullptr ? *set : *set_, events_, 8); }
  Waiter* Asleep(EpollSet& set, uint16_t process = 0) {
    Waiter* w = shard_.waiters.Take();
    w->process = process;
    w->state.store(Waiter::kAsleep);
    EXPECT_TRUE(EpollSleep(set, *w));
    return w;
  }
  int Woken() {
    int n = 0;
    ctx_.wakes.Flush([&n](Waiter&) { ++n; });
    return n;
  }

  test::TestHost host_;
  Shard& shard_ = host_.NewShard();
  Context ctx_;
  Socket* socket_;
  EpollSet* set_;
  epoll_event events_[8];
};

TEST_F(ReadinessTest, LevelReportsUntilTheLevelFalls) {
  ASSERT_EQ(Add(EPOLLIN), 0);
  EXPECT_EQ(Collect(), 0);
  Happen(EPOLLIN, EPOLLIN);
  EXPECT_EQ(Collect(), 1);
  EXPECT_EQ(uint32_t{events_[0].events}, uint32_t{EPOLLIN});
  EXPECT_EQ(uint64_t{events_[0].data.u64}, 7u);
  EXPECT_EQ(Collect(), 1);
  socket_->ready.store(0);
  EXPECT_EQ(Collect(), 0);
  EXPECT_EQ(set_->ready_count.load(), 0u);
}

TEST_F(ReadinessTest, EdgeReportsEachEventOnce) {
  ASSERT_EQ(Add(EPOLLIN | EPOLLET), 0);
  Happen(EPOLLIN, EPOLLIN);
  EXPECT_EQ(Collect(), 1);
  EXPECT_EQ(Collect(), 0);
  Happen(EPOLLIN, EPOLLIN);  // more data on a readable socket is an edge again
  EXPECT_EQ(Collect(), 1);
  EXPECT_EQ(Collect(), 0);
}

TEST_F(ReadinessTest, AddingAReadySocketReportsIt) {
  socket_->ready.store(EPOLLOUT);
  ASSERT_EQ(Add(EPOLLOUT | EPOLLET), 0);
  EXPECT_EQ(Collect(), 1);
  EXPECT_EQ(Collect(), 0);
}

TEST_F(ReadinessTest, OneShotIsSilentUntilModified) {
  ASSERT_EQ(Add(EPOLLIN | EPOLLONESHOT), 0);
  Happen(EPOLLIN, EPOLLIN);
  EXPECT_EQ(Collect(), 1);
  Happen(EPOLLIN, EPOLLIN);
  EXPECT_EQ(Collect(), 0);
  epoll_event again{EPOLLIN | EPOLLONESHOT, {.u64 = 8}};
  ASSERT_EQ(EpollModify(ctx_, *set_, *socket_, 3, again), 0);
  EXPECT_EQ(Collect(), 1);
  EXPECT_EQ(uint64_t{events_[0].data.u64}, 8u);
}

TEST_F(ReadinessTest, ErrorsAreReportedWithoutBeingAskedFor) {
  ASSERT_EQ(Add(EPOLLIN), 0);
  Happen(EPOLLERR | EPOLLHUP, EPOLLERR | EPOLLHUP);
  ASSERT_EQ(Collect(), 1);
  EXPECT_EQ(uint32_t{events_[0].events}, uint32_t{EPOLLERR | EPOLLHUP});
}

TEST_F(ReadinessTest, UnwantedEventsDoNotWake) {
  ASSERT_EQ(Add(EPOLLOUT), 0);
  Asleep(*set_);
  Happen(EPOLLIN, EPOLLIN);
  EXPECT_EQ(Woken(), 0);
  EXPECT_EQ(Collect(), 0);
}

TEST_F(ReadinessTest, ErrorsOfTheCallsAreLinuxs) {
  ASSERT_EQ(Add(EPOLLIN), 0);
  EXPECT_EQ(Add(EPOLLIN), EEXIST);
  epoll_event e{EPOLLIN, {}};
  EXPECT_EQ(EpollModify(ctx_, *set_, *socket_, 4, e), ENOENT);
  EXPECT_EQ(EpollDelete(ctx_, *set_, *socket_, 4), ENOENT);
  EXPECT_EQ(EpollDelete(ctx_, *set_, *socket_, 3), 0);
  EXPECT_EQ(Add(EPOLLIN | EPOLLEXCLUSIVE | EPOLLRDHUP), EINVAL);
  EXPECT_EQ(Add(EPOLLIN | EPOLLEXCLUSIVE), 0);
  EXPECT_EQ(EpollModify(ctx_, *set_, *socket_, 3, e), EINVAL);
}

TEST_F(ReadinessTest, PlainItemsWakeEverySetExclusiveOnesWakeOne) {
  EpollSet* sets[3];
  for (auto& set : sets) {
    set = OpenEpollSet(ctx_, 0).value();
    ASSERT_EQ(Add(EPOLLIN, set), 0);
    Asleep(*set);
  }
  Happen(EPOLLIN, EPOLLIN);
  EXPECT_EQ(Woken(), 3);
  EpollForget(ctx_, *socket_);
  socket_->ready.store(0);
  for (auto& set : sets) {
    ASSERT_EQ(Add(EPOLLIN | EPOLLEXCLUSIVE, set), 0);
    Asleep(*set);
  }
  Happen(EPOLLIN, EPOLLIN);
  EXPECT_EQ(Woken(), 1);
}

TEST_F(ReadinessTest, ExclusivePrefersTheProcessThatDrives) {
  shard_.process = 5;
  EpollSet* other = OpenEpollSet(ctx_, 4).value();
  EpollSet* own = OpenEpollSet(ctx_, 5).value();
  ASSERT_EQ(Add(EPOLLIN | EPOLLEXCLUSIVE, own), 0);
  ASSERT_EQ(Add(EPOLLIN | EPOLLEXCLUSIVE, other), 0);
  Asleep(*other);
  Waiter* mine = Asleep(*own);
  Happen(EPOLLIN, EPOLLIN);
  EXPECT_EQ(mine->word.load(), 1u);
  EXPECT_EQ(Woken(), 1);
}

TEST_F(ReadinessTest, TwoEventsWakeTwoSleepersOfOneSet) {
  ASSERT_EQ(Add(EPOLLIN | EPOLLET), 0);
  Waiter* first = Asleep(*set_);
  Waiter* second = Asleep(*set_);
  Happen(EPOLLIN, EPOLLIN);
  EXPECT_EQ(first->word.load(), 1u);
  EXPECT_EQ(second->word.load(), 0u);
  Happen(EPOLLIN, EPOLLIN);
  EXPECT_EQ(second->word.load(), 1u);
}

TEST_F(ReadinessTest, AClosedSocketLeavesItsSets) {
  ASSERT_EQ(Add(EPOLLIN), 0);
  Happen(EPOLLIN, EPOLLIN);
  EXPECT_EQ(set_->item_count, 1u);
  EXPECT_TRUE(ReleaseSocket(ctx_, *socket_));
  EXPECT_EQ(set_->item_count, 0u);
  EXPECT_EQ(Collect(), 0);
  EXPECT_EQ(shard_.epoll_items.live(), 0u);
}

TEST_F(ReadinessTest, ClosingASetForgetsItsItems) {
  ASSERT_EQ(Add(EPOLLIN), 0);
  ReleaseEpollSet(host_.host(), *set_, ctx_.now);
  EXPECT_EQ(shard_.epoll_items.live(), 0u);
  EXPECT_EQ(shard_.epoll_sets.live(), 0u);
  EXPECT_EQ(socket_->watchers, nullptr);
}

}  // namespace
}  // namespace ustcp
