// The wheel against a naive model: exact deadlines, any order of arming, moving and cancelling (D2, T3: every timer of the
// stack rests on it).
#include "stack/time/timer_wheel.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <random>
#include <vector>

namespace ustcp {
namespace {

Instant At(int64_t ns) { return InstantFromNanos(ns); }

class TimerWheelTest : public ::testing::Test {
 protected:
  TimerWheelTest() { wheel_->Init(At(1'000'000'000)); }
  std::unique_ptr<TimerWheel> wheel_ = std::make_unique<TimerWheel>();
};

TEST_F(TimerWheelTest, FiresExactlyAtItsDeadline) {
  TimerNode node;
  wheel_->Arm(node, At(1'200'000'123));
  EXPECT_EQ(wheel_->NextDeadline(), At(1'200'000'123));
  EXPECT_EQ(wheel_->Expire(At(1'200'000'122)), nullptr);
  EXPECT_EQ(wheel_->Expire(At(1'200'000'123)), &node);
  EXPECT_FALSE(node.armed());
  EXPECT_EQ(wheel_->NextDeadline(), kNever);
}

TEST_F(TimerWheelTest, PastDeadlineFiresAtOnce) {
  TimerNode node;
  wheel_->Arm(node, At(5));
  EXPECT_EQ(wheel_->Expire(At(1'000'000'000)), &node);
}

TEST_F(TimerWheelTest, ExpiresInOrderOfDeadline) {
  TimerNode a, b, c;
  wheel_->Arm(a, At(1'000'300'000));
  wheel_->Arm(b, At(1'000'100'000));
  wheel_->Arm(c, At(1'000'200'000));
  EXPECT_EQ(wheel_->Expire(At(2'000'000'000)), &b);
  EXPECT_EQ(wheel_->Expire(At(2'000'000'000)), &c);
  EXPECT_EQ(wheel_->Expire(At(2'000'000'000)), &a);
}

TEST_F(TimerWheelTest, HoldsDeadlinesOfMonths) {
  TimerNode node;
  int64_t far = int64_t{90} * 24 * 3600 * 1'000'000'000;
  wheel_->Arm(node, At(far));
  EXPECT_EQ(wheel_->Expire(At(far - 1)), nullptr);
  EXPECT_EQ(wheel_->NextDeadline(), At(far));
  EXPECT_EQ(wheel_->Expire(At(far)), &node);
}

TEST_F(TimerWheelTest, AgreesWithANaiveModel) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    auto wheel = std::make_unique<TimerWheel>();
    int64_t now = 1'000'000'000;
    wheel->Init(At(now));
    std::vector<TimerNode> nodes(64);
    std::vector<std::optional<int64_t>> model(nodes.size());
    for (int step = 0; step < 3000; ++step) {
      size_t i = random() % nodes.size();
      switch (random() % 4) {
        case 0:
        case 1: {
          int64_t spans[] = {1'000, 1'000'000, 300'000'000, 60'000'000'000, 7'200'000'000'000};
          int64_t deadline = now + static_cast<int64_t>(random() % static_cast<uint64_t>(spans[random() % 5]));
          wheel->Arm(nodes[i], At(deadline));
          model[i] = deadline;
          break;
        }
        case 2:
          wheel->Cancel(nodes[i]);
          model[i].reset();
          break;
        case 3: {
          int64_t jumps[] = {500, 2'000'000, 100'000'000, 30'000'000'000};
          now += static_cast<int64_t>(random() % static_cast<uint64_t>(jumps[random() % 4]));
          while (TimerNode* fired = wheel->Expire(At(now))) {
            auto at = static_cast<size_t>(fired - nodes.data());
            ASSERT_TRUE(model[at].has_value());
            ASSERT_LE(*model[at], now);
            model[at].reset();
          }
          break;
        }
      }
      int64_t earliest = NanosOf(kNever);
      for (auto& m : model)
        if (m && *m < earliest) earliest = *m;
      ASSERT_EQ(wheel->NextDeadline(), At(earliest)) << "step " << step;
    }
  }
}

}  // namespace
}  // namespace ustcp
