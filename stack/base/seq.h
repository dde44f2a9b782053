// Sequence numbers of RFC 9293 3.4: 32 bits, compared modulo 2^32. There is deliberately no operator<, because "less"
// has no meaning on a circle; the named comparisons hold for numbers less than 2^31 apart.
#pragma once

#include <cstdint>

namespace ustcp {

class Seq {
 public:
  constexpr Seq() = default;
  constexpr explicit Seq(uint32_t raw) : raw_(raw) {}

  constexpr uint32_t raw() const { return raw_; }

  // As in the kernel, Before and After are one comparison with swapped arguments. Two numbers exactly 2^31 apart are
  // therefore both Before and After each other; windows are far smaller, so no decision depends on it.
  constexpr bool Before(Seq other) const { return *this - other < 0; }
  constexpr bool After(Seq other) const { return other.Before(*this); }
  constexpr bool AtOrBefore(Seq other) const { return !After(other); }
  constexpr bool AtOrAfter(Seq other) const { return !Before(other); }

  static constexpr Seq Earliest(Seq a, Seq b) { return b.Before(a) ? b : a; }
  static constexpr Seq Latest(Seq a, Seq b) { return b.After(a) ? b : a; }

  constexpr Seq& operator+=(uint32_t n) {
    raw_ += n;
    return *this;
  }
  constexpr Seq& operator-=(uint32_t n) {
    raw_ -= n;
    return *this;
  }
  friend constexpr Seq operator+(Seq s, uint32_t n) { return Seq(s.raw_ + n); }
  friend constexpr Seq operator-(Seq s, uint32_t n) { return Seq(s.raw_ - n); }
  // The signed distance from b to a.
  friend constexpr int32_t operator-(Seq a, Seq b) { return static_cast<int32_t>(a.raw_ - b.raw_); }
  friend constexpr bool operator==(Seq, Seq) = default;

 private:
  uint32_t raw_ = 0;
};

// The half-open range [begin, end) on the circle; at most 2^31 - 1 long, empty when both ends are equal.
struct SeqRange {
  Seq begin;
  Seq end;

  constexpr uint32_t length() const { return end.raw() - begin.raw(); }
  constexpr bool empty() const { return begin == end; }
  // Unsigned distances from `begin` decide, so that a range may straddle the wrap.
  constexpr bool Contains(Seq s) const { return s.raw() - begin.raw() < length(); }
  constexpr bool Contains(SeqRange other) const { return begin.AtOrBefore(other.begin) && other.end.AtOrBefore(end); }
  // At least one number in common.
  constexpr bool Overlaps(SeqRange other) const {
    return !empty() && !other.empty() && begin.Before(other.end) && other.begin.Before(end);
  }
  // In common or adjacent: the union of both is one range.
  constexpr bool Touches(SeqRange other) const { return begin.AtOrBefore(other.end) && other.begin.AtOrBefore(end); }
  friend constexpr bool operator==(SeqRange, SeqRange) = default;
};

}  // namespace ustcp
