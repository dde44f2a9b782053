// Time as the stack sees it: an argument, never read from a clock. Instants are nanoseconds of CLOCK_MONOTONIC (the same
// for every process of a host); tests hand in virtual ones.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>

namespace ustcp {

using Duration = std::chrono::nanoseconds;

// A clock without now(): asking it for the time does not compile.
struct StackClock {
  using duration = Duration;
  using rep = Duration::rep;
  using period = Duration::period;
  using time_point = std::chrono::time_point<StackClock, Duration>;
  static constexpr bool is_steady = true;
};

using Instant = StackClock::time_point;

// "Never": later than every real instant.
inline constexpr Instant kNever{Duration{std::numeric_limits<int64_t>::max()}};

using namespace std::chrono_literals;  // NOLINT: durations are written 200ms throughout the stack

constexpr int64_t ToNanos(Duration d) { return d.count(); }
constexpr int64_t ToMicros(Duration d) { return d.count() / 1000; }
constexpr int64_t ToMillis(Duration d) { return d.count() / 1'000'000; }
constexpr Instant InstantFromNanos(int64_t ns) { return Instant{Duration{ns}}; }
constexpr int64_t NanosOf(Instant t) { return t.time_since_epoch().count(); }

}  // namespace ustcp
