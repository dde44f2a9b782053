// D1: the order of sequence numbers across the wrap at 2^32 (RFC 9293 3.4).
#include "stack/base/seq.h"

#include <gtest/gtest.h>

#include <random>

namespace ustcp {
namespace {

constexpr uint32_t kHalf = 0x80000000u;

TEST(SeqD1, LawsHoldForAnyNumbersLessThanHalfTheCircleApart) {
  std::mt19937 rng(1);
  for (int i = 0; i < 200000; ++i) {
    const Seq a(static_cast<uint32_t>(rng()));
    const uint32_t n = static_cast<uint32_t>(rng()) % (kHalf - 1) + 1;
    const Seq b = a + n;
    ASSERT_TRUE(a.Before(b)) << a.raw() << " + " << n;
    ASSERT_TRUE(b.After(a));
    ASSERT_FALSE(b.Before(a));
    ASSERT_FALSE(a.After(b));
    ASSERT_TRUE(a.AtOrBefore(b));
    ASSERT_TRUE(b.AtOrAfter(a));
    ASSERT_FALSE(a.AtOrAfter(b));
    ASSERT_FALSE(b.AtOrBefore(a));
    ASSERT_EQ(b - a, static_cast<int32_t>(n));
    ASSERT_EQ(a - b, -static_cast<int32_t>(n));
    ASSERT_EQ(b - n, a);
    ASSERT_EQ(Seq::Earliest(a, b), a);
    ASSERT_EQ(Seq::Earliest(b, a), a);
    ASSERT_EQ(Seq::Latest(a, b), b);
    ASSERT_EQ(Seq::Latest(b, a), b);
  }
}

TEST(SeqD1, EqualNumbers) {
  for (const uint32_t raw : {0u, 1u, kHalf, 0xffffffffu}) {
    const Seq a(raw);
    EXPECT_FALSE(a.Before(a));
    EXPECT_FALSE(a.After(a));
    EXPECT_TRUE(a.AtOrBefore(a));
    EXPECT_TRUE(a.AtOrAfter(a));
    EXPECT_EQ(a - a, 0);
  }
}

TEST(SeqD1, TheWrapIsNothingSpecial) {
  const Seq last(0xffffffff);
  EXPECT_EQ((last + 1).raw(), 0u);
  EXPECT_TRUE(last.Before(Seq(0)));
  EXPECT_TRUE(Seq(5).After(Seq(0xfffffff0)));
  EXPECT_EQ(Seq(5) - Seq(0xfffffff0), 21);
  Seq s(0xfffffffe);
  s += 4;
  EXPECT_EQ(s.raw(), 2u);
  s -= 4;
  EXPECT_EQ(s.raw(), 0xfffffffeu);
}

TEST(SeqRangeD1, ContainsAcrossTheWrap) {
  const SeqRange r{Seq(0xfffffffe), Seq(3)};
  EXPECT_EQ(r.length(), 5u);
  EXPECT_FALSE(r.Contains(Seq(0xfffffffd)));
  EXPECT_TRUE(r.Contains(Seq(0xfffffffe)));
  EXPECT_TRUE(r.Contains(Seq(0)));
  EXPECT_TRUE(r.Contains(Seq(2)));
  EXPECT_FALSE(r.Contains(Seq(3)));
  const SeqRange empty{Seq(7), Seq(7)};
  EXPECT_TRUE(empty.empty());
  EXPECT_FALSE(empty.Contains(Seq(7)));
}

// Relations of two ranges against a model on plain integers, at every position around the wrap.
TEST(SeqRangeD1, RelationsMatchIntervalsOnTheLine) {
  for (const uint32_t base : {0u, 0xfffffff8u, kHalf - 8, 12345u}) {
    for (uint32_t a = 0; a < 8; ++a) {
      for (uint32_t b = a; b < 8; ++b) {
        for (uint32_t c = 0; c < 8; ++c) {
          for (uint32_t d = c; d < 8; ++d) {
            const SeqRange x{Seq(base) + a, Seq(base) + b};
            const SeqRange y{Seq(base) + c, Seq(base) + d};
            ASSERT_EQ(x.Overlaps(y), std::max(a, c) < std::min(b, d)) << base << " " << a << b << c << d;
            ASSERT_EQ(x.Touches(y), std::max(a, c) <= std::min(b, d)) << base << " " << a << b << c << d;
            ASSERT_EQ(x.Contains(y), a <= c && d <= b) << base << " " << a << b << c << d;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace ustcp
