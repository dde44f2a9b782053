// D2, D3, D4, D11: random traffic over a network that loses, reorders and duplicates, against a receiver that is correct
// by construction. After every step the sender's counts, lists and flags agree (CheckSender), its scoreboard says exactly
// what the blocks it received say, and in the end everything has arrived. The seed is printed on failure.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <queue>
#include <random>
#include <set>
#include <vector>

#include "recovery_harness.h"

namespace ustcp::testing {
namespace {

struct Conditions {
  double loss = 0.02;
  double ack_loss = 0.01;
  double duplicate = 0.01;
  Duration delay = 20ms;
  Duration jitter = 0ms;  // of each packet, so that they overtake each other
  bool sack = true;
  bool timestamps = true;
  uint32_t frame_segments = 4;
  CcKind cc = CcKind::kCubic;
};

// Whole segments, numbered.
class Receiver {
 public:
  struct Reply {
    uint32_t ack;
    std::vector<SenderHarness::Block> blocks;
    uint32_t tsecr;
  };

  Reply Take(uint32_t segment, uint32_t stamp, bool sack) {
    std::vector<SenderHarness::Block> blocks;
    const bool duplicate = segment < next_ || have_.contains(segment);
    if (segment <= next_) ts_recent_ = std::max(ts_recent_, stamp);
    if (duplicate && sack) blocks.push_back({segment * kMss, (segment + 1) * kMss});
    if (segment >= next_) {
      have_.insert(segment);
      while (have_.erase(next_) != 0) ++next_;
      order_.erase(std::remove(order_.begin(), order_.end(), segment), order_.end());
      order_.insert(order_.begin(), segment);
    }
    if (sack) {
      // Up to three ranges, the most recently touched first.
      std::set<uint32_t> told;
      for (uint32_t s : order_) {
        if (!have_.contains(s)) continue;
        uint32_t first = s;
        uint32_t last = s;
        while (have_.contains(first - 1)) --first;
        while (have_.contains(last + 1)) ++last;
        if (!told.insert(first).second) continue;
        blocks.push_back({first * kMss, (last + 1) * kMss});
        if (blocks.size() == 3) break;
      }
      order_.resize(std::min<size_t>(order_.size(), 64));
    }
    return {next_ * kMss, blocks, ts_recent_};
  }
  uint32_t next() const { return next_; }

 private:
  uint32_t next_ = 0;
  uint32_t ts_recent_ = 0;
  std::set<uint32_t> have_;
  std::vector<uint32_t> order_;
};

class Simulation {
 public:
  Simulation(const Conditions& conditions, uint32_t seed, uint32_t segments)
      : c_(conditions), rng_(seed), segments_(segments), h_(c_.cc, c_.sack, c_.timestamps, 32 << 20) {
    h_.s.write_end = SenderHarness::At(segments * kMss);
    h_.s.snd_wnd = h_.s.max_window = 400 * kMss;
  }

  // Returns the time it took.
  Duration Run() {
    const Instant start = h_.now;
    Poll();
    while (h_.s.snd_una != SenderHarness::At(segments_ * kMss)) {
      if (::testing::Test::HasFatalFailure() || ++steps_ > 400'000) {
        ADD_FAILURE() << "stuck at " << h_.OffsetOf(h_.s.snd_una) / kMss << " of " << segments_;
        break;
      }
      const Instant arrival = events_.empty() ? kNever : events_.begin()->first;
      if (h_.s.xmit_deadline <= arrival) {
        EXPECT_NE(h_.s.xmit_timer, XmitTimer::kNone);
        h_.FireTimer();
        if (h_.s.sack_reneged) known_.clear();
      } else {
        Event e = events_.begin()->second;
        events_.erase(events_.begin());
        h_.now = arrival;
        if (e.is_ack) {
          OnAckArrives(e.reply);
        } else {
          OnSegmentArrives(e);
        }
      }
      Poll();
    }
    return h_.now - start;
  }

  const SenderHarness& harness() const { return h_; }

 private:
  struct Event {
    bool is_ack = false;
    uint32_t segment = 0;
    uint32_t stamp = 0;
    Receiver::Reply reply;
  };

  bool Chance(double p) { return std::uniform_real_distribution<>(0, 1)(rng_) < p; }
  Instant Arrival() {
    const auto spread = static_cast<uint64_t>(c_.jitter.count()) + 1;
    return h_.now + c_.delay + Duration(static_cast<int64_t>(rng_() % spread));
  }

  void Transmit(uint32_t begin, uint32_t end) {
    ASSERT_EQ(begin % kMss, 0u);
    ASSERT_EQ(end % kMss, 0u);
    for (uint32_t at = begin; at < end; at += kMss)
      for (int copies = Chance(c_.duplicate) ? 2 : 1; copies > 0; --copies)
        if (!Chance(c_.loss)) {
          Event e;
          e.segment = at / kMss;
          e.stamp = h_.Stamp();
          events_.emplace(Arrival(), e);
        }
  }

  void Poll() {
    bool more = true;
    while (more) {
      for (;;) {
        Retransmission next = NextRetransmission(h_.env(), h_.s, c_.frame_segments);
        if (next.record == nullptr) break;
        ASSERT_FALSE(next.record->Has(TxSegment::kSacked)) << "what has arrived must not be sent again";
        ASSERT_LE(next.record->segments, c_.frame_segments);
        Transmit(h_.OffsetOf(next.record->range.begin), h_.OffsetOf(next.record->range.end));
        OnRetransmit(h_.env(), h_.s, next);
        h_.Check();
      }
      uint32_t allowed = 0;
      while (h_.s.has_unsent() && (allowed = SendAllowance(h_.s)) != 0) {
        const auto window = (h_.s.window_end() - h_.s.snd_nxt) / static_cast<int32_t>(kMss);
        const uint32_t left = static_cast<uint32_t>(h_.s.write_end - h_.s.snd_nxt) / kMss;
        if (window <= 0) break;
        const uint32_t n = std::min({allowed, static_cast<uint32_t>(window), left, c_.frame_segments});
        const uint32_t at = h_.OffsetOf(h_.s.snd_nxt);
        ASSERT_NE(OnTransmit(h_.env(), h_.s, n * kMss, 0), nullptr);
        Transmit(at, at + n * kMss);
        h_.Check();
      }
      more = OnOutputIdle(h_.env(), h_.s, h_.s.has_unsent() && allowed == 0);
      h_.Check();
    }
  }

  void OnSegmentArrives(const Event& e) {
    Event back;
    back.is_ack = true;
    back.reply = receiver_.Take(e.segment, e.stamp, c_.sack);
    if (!Chance(c_.ack_loss)) events_.emplace(Arrival(), back);
  }

  void OnAckArrives(const Receiver::Reply& reply) {
    const uint32_t una = h_.OffsetOf(h_.s.snd_una);
    std::vector<SeqRange> ranges;
    for (const auto& b : reply.blocks) {
      ranges.push_back({SenderHarness::At(b.begin), SenderHarness::At(b.end)});
      if (b.begin > una)
        for (uint32_t at = b.begin; at < b.end; at += kMss) known_.insert(at);
    }
    AckInput in;
    in.ack = SenderHarness::At(reply.ack);
    in.sacks = ranges.data();
    in.sack_count = static_cast<uint8_t>(ranges.size());
    in.has_tsecr = c_.timestamps;
    in.tsecr_ms = reply.tsecr;
    OnAck(h_.env(), h_.s, in);
    h_.Check();
    if (c_.sack) CompareScoreboard();
    ASSERT_LE(h_.s.undo_retransmits, static_cast<int32_t>(h_.s.total_retransmits));
  }

  // Exactly the reported segments are SACKed.
  void CompareScoreboard() {
    known_.erase(known_.begin(), known_.lower_bound(h_.OffsetOf(h_.s.snd_una)));
    uint32_t sacked = 0;
    for (const TxSegment* r = h_.s.queue.head(); r != nullptr; r = r->next)
      for (uint32_t at = h_.OffsetOf(r->range.begin); at < h_.OffsetOf(r->range.end); at += kMss) {
        ASSERT_EQ(r->Has(TxSegment::kSacked), known_.contains(at)) << "segment " << at / kMss;
        sacked += r->Has(TxSegment::kSacked) ? 1 : 0;
      }
    ASSERT_EQ(sacked, h_.s.sacked_out);
  }

  Conditions c_;
  std::mt19937_64 rng_;
  uint32_t segments_;
  SenderHarness h_;
  Receiver receiver_;
  std::multimap<Instant, Event> events_;
  std::set<uint32_t> known_;
  int steps_ = 0;
};

// A thread sanitizer makes it twenty times slower, and there is one thread.
#ifdef __SANITIZE_THREAD__
constexpr uint32_t kSeeds = 15;
#else
constexpr uint32_t kSeeds = 150;
#endif

TEST(RecoveryPropertyD4, ScoreboardAgreesWithANaiveOneUnderAnyNetwork) {
  for (uint32_t seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 rng(seed);
    Conditions c;
    auto pick = [&rng](uint32_t below) { return static_cast<uint32_t>(rng() % below); };
    c.loss = pick(4) * pick(8) * 0.01;
    c.ack_loss = pick(3) * 0.1;
    c.duplicate = pick(3) * 0.02;
    c.jitter = std::chrono::milliseconds(pick(3) * pick(30));
    c.sack = rng() % 4 != 0;
    c.timestamps = rng() % 2 != 0;
    c.frame_segments = 1 + pick(16);
    c.cc = rng() % 2 != 0 ? CcKind::kCubic : CcKind::kReno;
    Simulation sim(c, seed, 400);
    sim.Run();
    if (HasFailure()) return;
  }
}

TEST(RecoveryPropertyD3, WithoutLossNothingIsEverSentAgain) {
  for (bool sack : {true, false}) {
    Conditions c;
    c.loss = c.ack_loss = c.duplicate = 0;
    c.sack = sack;
    Simulation sim(c, 1, 2000);
    sim.Run();
    EXPECT_EQ(sim.harness().Count(Counter::kTcpRetransSegs), 0u);
    EXPECT_EQ(sim.harness().Count(Counter::kTcpExtTCPTimeouts), 0u);
  }
}

// Reordering beyond the first few round trips must not look like loss (RFC 8985), and what did is undone.
TEST(RecoveryPropertyD4, ReorderingAloneHardlyCostsAnything) {
  Conditions c;
  c.loss = c.ack_loss = c.duplicate = 0;
  c.jitter = 4ms;
  Simulation sim(c, 7, 20'000);
  sim.Run();
  const SenderHarness& h = sim.harness();
  EXPECT_TRUE(h.s.reordering_seen);
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPTimeouts), 0u);
  EXPECT_LT(h.Count(Counter::kTcpRetransSegs), 200u) << "of 20000";
}

// Only what was lost is sent again: with SACK, in order and 2 % loss, spurious retransmissions are rare.
TEST(RecoveryPropertyD4, SackSendsOnlyWhatIsMissing) {
  Conditions c;
  c.loss = 0.02;
  c.ack_loss = c.duplicate = 0;
  Simulation sim(c, 3, 5000);
  sim.Run();
  const uint64_t sent_again = sim.harness().Count(Counter::kTcpRetransSegs);
  EXPECT_GT(sent_again, 60u);
  EXPECT_LT(sent_again, 160u) << "2 % of 5000 are 100, and 2 % of those again";
  EXPECT_LE(sim.harness().Count(Counter::kTcpExtTCPDSACKRecv), sim.harness().Count(Counter::kTcpExtTCPLossProbes));
}

}  // namespace
}  // namespace ustcp::testing
