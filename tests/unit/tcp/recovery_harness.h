// A sender on virtual time without a connection: sends segments of 1000 bytes, receives hand-made ACKs, records what is
// sent again. Sequence numbers in tests are offsets from the first data byte, which lies just below the wrap.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <memory>
#include <vector>

#include "stack/tcp/recovery/sender.h"

namespace ustcp::testing {

inline constexpr uint32_t kMss = 1000;
inline constexpr uint32_t kStart = 0xffff'f000;

struct Sent {
  uint32_t begin;
  uint32_t end;
  friend bool operator==(const Sent&, const Sent&) = default;
};

class SenderHarness {
 public:
  struct Block {
    uint32_t begin;
    uint32_t end;
  };

  explicit SenderHarness(CcKind cc = CcKind::kReno, bool sack = true, bool timestamps = false,
                         size_t arena_bytes = 4 << 20)
      : memory_(new std::byte[arena_bytes]()) {
    void* first = memory_.get();
    size_t space = arena_bytes;
    std::align(64, arena_bytes - 64, first, space);
    spans_.Init(first, memory_.get() + arena_bytes);
    records.Init(&spans_, 0);
    InitSender(env(), s, Seq(kStart), cc);
    s.sack_ok = sack;
    s.timestamps_ok = timestamps;
    s.mss = kMss;
    s.snd_wnd = s.max_window = 1 << 20;
    s.write_end = Seq(kStart) + (1u << 24);
    OnEstablished(env(), s, 100'000);
  }
  ~SenderHarness() {
    ReleaseSender(env(), s);
    EXPECT_EQ(records.live(), 0u);
  }

  SenderEnv env() { return {records, counters, sysctls, now}; }
  static Seq At(uint32_t offset) { return Seq(kStart) + offset; }
  uint32_t OffsetOf(Seq seq) const { return seq.raw() - kStart; }

  // New data, `count` frames of `segments` each.
  void Send(int count, uint32_t segments = 1) {
    for (int i = 0; i < count; ++i) {
      s.write_end = Seq::Latest(s.write_end, s.snd_nxt + segments * kMss);
      ASSERT_NE(OnTransmit(env(), s, segments * kMss, 0), nullptr);
    }
    OnOutputIdle(env(), s, s.in_flight() >= s.cwnd);
    Check();
  }
  // No unsent data, as far as the sender can see.
  void NothingMore() {
    s.write_end = s.snd_nxt;
    OnOutputIdle(env(), s, false);
  }
  AckResult Ack(uint32_t to, std::initializer_list<Block> blocks = {}, uint32_t tsecr_ms = 0, bool ece = false) {
    std::vector<SeqRange> ranges;
    for (const Block& b : blocks) ranges.push_back({At(b.begin), At(b.end)});
    AckInput in;
    in.ack = At(to);
    in.sacks = ranges.data();
    in.sack_count = static_cast<uint8_t>(ranges.size());
    in.has_tsecr = tsecr_ms != 0;
    in.tsecr_ms = tsecr_ms;
    in.ece = ece;
    AckResult result = OnAck(env(), s, in);
    Check();
    return result;
  }
  // Sends again whatever is due.
  std::vector<Sent> Retransmit(uint32_t max_segments = 64) {
    std::vector<Sent> sent;
    for (;;) {
      Retransmission next = NextRetransmission(env(), s, max_segments);
      if (next.record == nullptr) break;
      sent.push_back({OffsetOf(next.record->range.begin), OffsetOf(next.record->range.end)});
      last_reason = next.reason;
      OnRetransmit(env(), s, next);
      Check();
    }
    return sent;
  }
  void Pass(Duration time) { now += time; }
  // Time until the timer, which fires then.
  Duration FireTimer(Duration user_timeout = Duration::zero()) {
    const Duration wait = s.xmit_deadline - now;
    now = s.xmit_deadline;
    switch (s.xmit_timer) {
      case XmitTimer::kRetransmit: OnRetransmissionTimeout(env(), s, user_timeout, false); break;
      case XmitTimer::kLossProbe: OnTailLossProbe(env(), s); break;
      case XmitTimer::kReorder: OnReorderTimer(env(), s); break;
      default: ADD_FAILURE() << "no timer";
    }
    Check();
    return wait;
  }
  void Check() {
    const char* why = CheckSender(s);
    ASSERT_EQ(why, nullptr) << why;
  }
  uint64_t Count(Counter c) const { return counters.Get(c); }
  uint32_t Stamp() const { return TimestampClock(now); }

  Instant now = InstantFromNanos(10'000'000'000);
  Sysctls sysctls;
  Counters counters;
  SlotPool<TxSegment> records;
  Sender s;
  RetransmitReason last_reason = RetransmitReason::kLost;

 private:
  std::unique_ptr<std::byte[]> memory_;
  SpanAllocator spans_;
};

}  // namespace ustcp::testing
