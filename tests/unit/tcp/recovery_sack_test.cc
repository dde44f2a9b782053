// D3, D4: fast retransmit, SACK scoreboard, RACK (RFC 8985), D-SACK, reneging, PRR.
#include <gtest/gtest.h>

#include "recovery_harness.h"
#include "stack/tcp/recovery/internal.h"

namespace ustcp::testing {
namespace {

using Times = std::vector<Sent>;

TEST(RecoveryD3, ThirdSackedSegmentStartsFastRetransmitOfTheHoleOnly) {
  SenderHarness h;
  h.Send(10);
  h.Pass(100ms);
  h.Ack(0, {{1000, 2000}});
  EXPECT_EQ(h.s.ca_state, CaState::kDisorder);
  EXPECT_EQ(h.Retransmit(), Times{});
  h.Ack(0, {{1000, 3000}});
  EXPECT_EQ(h.Retransmit(), Times{});
  AckResult third = h.Ack(0, {{1000, 4000}});
  EXPECT_TRUE(third.entered_recovery);
  EXPECT_EQ(third.segments_lost, 1u);
  EXPECT_EQ(h.s.ca_state, CaState::kRecovery);
  EXPECT_EQ(h.Retransmit(), (Times{{0, 1000}}));
  EXPECT_EQ(h.s.ssthresh, 5u);
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPSackRecovery), 1u);
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPFastRetrans), 1u);
  EXPECT_EQ(h.Count(Counter::kTcpRetransSegs), 1u);
  h.Pass(100ms);
  AckResult last = h.Ack(10'000);
  EXPECT_EQ(h.s.ca_state, CaState::kOpen);
  EXPECT_TRUE(last.left_recovery);
  // ssthresh, and the seven segments that this ACK delivered earn one more.
  EXPECT_EQ(h.s.cwnd, 6u);
  EXPECT_EQ(h.s.xmit_timer, XmitTimer::kNone);
}

// RFC 6937 by hand: cwnd 10, ssthresh 5, one segment lost.
TEST(RecoveryD4, ProportionalReductionHalvesOverOneRoundTrip) {
  SenderHarness h;
  h.Send(10);
  h.Pass(100ms);
  h.Ack(0, {{1000, 4000}});
  // in flight 6 > 5: CEIL(3 * 5 / 10) = 2 may go.
  EXPECT_EQ(h.s.cwnd, 8u);
  EXPECT_EQ(h.Retransmit(), (Times{{0, 1000}}));
  EXPECT_EQ(SendAllowance(h.s), 1u);
  h.Send(1);
  h.Ack(0, {{1000, 5000}});  // delivered 4: CEIL(2) - 2 = 0; in flight 7
  EXPECT_EQ(h.s.in_flight(), 7u);
  EXPECT_EQ(SendAllowance(h.s), 0u);
  h.Ack(0, {{1000, 6000}});  // delivered 5: CEIL(2.5) - 2 = 1
  EXPECT_EQ(SendAllowance(h.s), 1u);
  h.Send(1);
  h.Ack(0, {{1000, 7000}});  // delivered 6: 3 - 3 = 0; in flight 6
  EXPECT_EQ(h.s.in_flight(), 6u);
  EXPECT_EQ(SendAllowance(h.s), 0u);
  h.Ack(0, {{1000, 8000}});  // in flight 5 = ssthresh: none
  EXPECT_EQ(h.s.in_flight(), 5u);
  EXPECT_EQ(SendAllowance(h.s), 0u);
  h.Ack(0, {{1000, 9000}});  // one out, one in
  EXPECT_EQ(SendAllowance(h.s), 1u);
}

// The share grows as CEIL(delivered * ssthresh / flight at start), whatever the sizes of the steps.
TEST(RecoveryD4, ProportionalReductionSendsItsShare) {
  for (uint32_t window : {20u, 31u, 100u, 777u}) {
    SenderHarness h;
    Sender s = h.s;
    s.prior_cwnd = window;
    s.ssthresh = window * 7 / 10;
    s.packets_out = window;
    s.cwnd = window;
    s.lost_out = 1;
    s.ca_state = CaState::kRecovery;
    uint32_t delivered = 0;
    uint32_t sent = 0;
    for (uint32_t step = 1; s.in_flight() > s.ssthresh + 3; step = step % 3 + 1) {
      s.sacked_out += step;
      delivered += step;
      recovery::ProportionalReduction(s, step, 0, false);
      const uint32_t now = s.cwnd - s.in_flight();
      sent += now;
      s.prr_out += now;
      s.packets_out += now;
      EXPECT_EQ(sent, (uint64_t{delivered} * s.ssthresh + window - 1) / window) << window << " after " << delivered;
    }
  }
}

// Below ssthresh (heavy loss) PRR is conservative while losses go on and otherwise slow-starts back.
TEST(RecoveryD4, ProportionalReductionBelowThresholdFollowsDeliveries) {
  SenderHarness h;
  Sender s = h.s;
  s.ca_state = CaState::kRecovery;
  s.prior_cwnd = 20;
  s.ssthresh = 10;
  s.packets_out = 20;
  s.lost_out = 14;
  s.sacked_out = 2;
  s.prr_out = 3;
  s.prr_delivered = 2;
  recovery::ProportionalReduction(s, 1, 1, true);
  EXPECT_EQ(s.cwnd - s.in_flight(), 1u);
  s.prr_out += 1;
  recovery::ProportionalReduction(s, 1, 0, true);
  EXPECT_EQ(s.cwnd - s.in_flight(), 2u);
  s.prr_out += 2;
  recovery::ProportionalReduction(s, 1, 0, false);
  EXPECT_EQ(s.cwnd - s.in_flight(), 1u);
}

TEST(RecoveryD4, SackCutsFramesAtSegmentBoundaries) {
  SenderHarness h;
  h.Send(1, 10);
  EXPECT_EQ(h.records.live(), 1u);
  h.Pass(100ms);
  h.Ack(0, {{3000, 5000}});
  EXPECT_EQ(h.records.live(), 3u);
  EXPECT_EQ(h.s.sacked_out, 2u);
  EXPECT_EQ(h.s.packets_out, 10u);
  // A block that ends within a segment covers only the whole ones.
  h.Ack(0, {{3000, 6500}});
  EXPECT_EQ(h.s.sacked_out, 3u);
  EXPECT_EQ(h.s.lost_out, 3u);
  EXPECT_EQ(h.s.ca_state, CaState::kRecovery);
  // in flight 10 - 3 - 3 = 4, ssthresh 5: one.
  EXPECT_EQ(h.Retransmit(), (Times{{0, 1000}}));
  h.Pass(100ms);
  h.Ack(3000, {{3000, 10'000}});
  EXPECT_EQ(h.s.lost_out, 0u);
}

TEST(RecoveryD4, PartialAckCutsFrames) {
  SenderHarness h;
  h.Send(1, 10);
  h.Pass(100ms);
  AckResult r = h.Ack(4000);
  EXPECT_EQ(r.segments_acked, 4u);
  EXPECT_EQ(h.s.packets_out, 6u);
  // Within a segment: it remains as a whole.
  r = h.Ack(4500);
  EXPECT_EQ(r.bytes_acked, 500u);
  EXPECT_EQ(r.segments_acked, 0u);
  EXPECT_EQ(h.s.packets_out, 6u);
  r = h.Ack(10'000);
  EXPECT_EQ(r.segments_acked, 6u);
  EXPECT_EQ(h.records.live(), 0u);
}

TEST(RecoveryD4, RetransmissionsOfAFrameAreCutToTheWindow) {
  SenderHarness h;
  h.s.cwnd = 20;
  h.Send(2, 10);
  h.Pass(100ms);
  h.Ack(0, {{10'000, 20'000}});
  EXPECT_EQ(h.s.lost_out, 10u);
  // All ten lost: in flight 0, ssthresh 10, ten delivered.
  EXPECT_EQ(h.Retransmit(4), (Times{{0, 4000}, {4000, 8000}, {8000, 10'000}}));
  EXPECT_EQ(h.s.retrans_out, 10u);
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPFastRetrans), 10u);
}

TEST(RecoveryD4, RackWaitsAQuarterRoundTripForReordering) {
  SenderHarness h;
  h.Send(3);
  h.Pass(100ms);
  h.Ack(0, {{1000, 2000}});
  ASSERT_EQ(h.s.xmit_timer, XmitTimer::kReorder);
  // 100 ms + 100 / 4 since the transmission, and 2 ms of margin.
  EXPECT_EQ(h.FireTimer(), 27ms);
  EXPECT_EQ(h.s.ca_state, CaState::kRecovery);
  EXPECT_EQ(h.Retransmit(), (Times{{0, 1000}}));
}

TEST(RecoveryD4, RackForgetsReorderingThatResolvesInTime) {
  SenderHarness h;
  h.Send(3);
  h.Pass(100ms);
  h.Ack(0, {{1000, 2000}});
  h.Pass(10ms);
  AckResult r = h.Ack(2000);
  EXPECT_EQ(h.s.ca_state, CaState::kOpen);
  EXPECT_NE(h.s.xmit_timer, XmitTimer::kReorder);
  EXPECT_FALSE(r.entered_recovery);
  EXPECT_TRUE(h.s.reordering_seen);
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPSACKReorder), 1u);
}

TEST(RecoveryD4, OnceReorderingWasSeenThreeSacksDoNotSuffice) {
  SenderHarness h;
  h.s.reordering_seen = true;
  h.Send(8);
  h.Pass(100ms);
  h.Ack(0, {{1000, 5000}});
  EXPECT_EQ(h.s.ca_state, CaState::kDisorder);
  EXPECT_EQ(h.s.xmit_timer, XmitTimer::kReorder);
  EXPECT_EQ(h.FireTimer(), 27ms);
  EXPECT_EQ(h.Retransmit(), (Times{{0, 1000}}));
}

TEST(RecoveryD4, RackFindsALostRetransmission) {
  SenderHarness h;
  h.Send(10);
  h.Pass(100ms);
  h.Ack(0, {{1000, 4000}});
  EXPECT_EQ(h.Retransmit(), (Times{{0, 1000}}));
  h.Send(1);
  h.Pass(100ms);
  // What was sent with and after the retransmission arrives, the retransmission does not.
  h.Ack(0, {{1000, 11'000}});
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPLostRetransmit), 1u);
  EXPECT_EQ(h.Retransmit(), (Times{{0, 1000}}));
}

TEST(RecoveryD4, DsacksWidenTheReorderingWindowForSixteenRecoveries) {
  SenderHarness h;
  Sender& s = h.s;
  RateSample rate;
  rate.prior_delivered = 5;
  s.delivered = 10;
  s.rack.dsack_seen = true;
  recovery::RackUpdateWindow(h.env(), s, rate);
  EXPECT_EQ(s.rack.window_steps, 2);
  EXPECT_EQ(s.rack.window_persist, 16);
  // Not again within the round trip.
  s.rack.dsack_seen = true;
  rate.prior_delivered = 9;
  recovery::RackUpdateWindow(h.env(), s, rate);
  EXPECT_EQ(s.rack.window_steps, 2);
  rate.prior_delivered = 10;
  s.rack.dsack_seen = true;
  recovery::RackUpdateWindow(h.env(), s, rate);
  EXPECT_EQ(s.rack.window_steps, 3);
  s.rack.window_persist = 0;
  recovery::RackUpdateWindow(h.env(), s, rate);
  EXPECT_EQ(s.rack.window_steps, 1);
}

TEST(RecoveryD4, DsackUndoesTheReduction) {
  SenderHarness h;
  h.Send(10);
  h.Pass(100ms);
  h.Ack(0, {{1000, 4000}});
  EXPECT_EQ(h.Retransmit(), (Times{{0, 1000}}));
  h.Ack(4000);
  EXPECT_EQ(h.s.ca_state, CaState::kRecovery);
  h.Pass(100ms);
  AckResult r = h.Ack(5000, {{0, 1000}});
  EXPECT_TRUE(r.undone);
  EXPECT_EQ(h.s.ca_state, CaState::kOpen);
  EXPECT_EQ(h.s.cwnd, 12u) << "10 as before, and slow start goes on with what this ACK delivered";
  EXPECT_EQ(h.s.ssthresh, kInfiniteSsthresh);
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPDSACKUndo), 1u);
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPDSACKRecv), 1u);
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPDSACKRecvSegs), 1u);
}

TEST(RecoveryD4, DsacksForMoreThanWasRetransmittedAreDubious) {
  SenderHarness h;
  h.Send(10);
  h.Pass(100ms);
  h.Ack(5000, {{0, 1000}});
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPDSACKIgnoredDubious), 1u);
  EXPECT_EQ(h.s.cwnd, 15u) << "five delivered, the duplicate not counted";
  EXPECT_EQ(h.s.ca_state, CaState::kOpen);
}

TEST(RecoveryD4, TimestampsUndoARecoveryCausedByReordering) {
  SenderHarness h(CcKind::kReno, true, true);
  const uint32_t original = h.Stamp();
  h.Send(10);
  h.Pass(100ms);
  h.Ack(0, {{1000, 4000}}, original);
  EXPECT_EQ(h.Retransmit(), (Times{{0, 1000}}));
  h.Pass(5ms);
  // The original arrives late: the echo is older than the retransmission.
  AckResult r = h.Ack(10'000, {}, original);
  EXPECT_TRUE(r.undone);
  EXPECT_EQ(h.s.ca_state, CaState::kOpen);
  EXPECT_EQ(h.s.cwnd, 17u) << "10 as before, and seven delivered";
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPFullUndo), 1u);
}

TEST(RecoveryD4, TimestampsUndoAtAPartialAck) {
  SenderHarness h(CcKind::kReno, true, true);
  const uint32_t original = h.Stamp();
  h.Send(10);
  h.Pass(100ms);
  h.Ack(0, {{1000, 4000}}, original);
  EXPECT_EQ(h.Retransmit(), (Times{{0, 1000}}));
  h.Pass(5ms);
  AckResult r = h.Ack(4000, {}, original);
  EXPECT_TRUE(r.undone);
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPPartialUndo), 1u);
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPTSReorder), 1u);
  EXPECT_EQ(h.s.ca_state, CaState::kOpen);
  EXPECT_EQ(h.s.cwnd, 11u) << "10 as before, and one delivered";
}

TEST(RecoveryD4, RenegedSacksAreForgottenAfterHalfARoundTrip) {
  SenderHarness h;
  h.Send(5);
  h.Pass(100ms);
  h.Ack(0, {{2000, 5000}});
  EXPECT_EQ(h.s.lost_out, 2u);
  EXPECT_EQ(h.Retransmit(), (Times{{0, 1000}, {1000, 2000}}));
  h.Pass(100ms);
  h.Ack(2000);
  ASSERT_EQ(h.s.xmit_timer, XmitTimer::kRetransmit);
  EXPECT_EQ(h.FireTimer(), 50ms);
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPSACKReneging), 1u);
  EXPECT_EQ(h.s.sacked_out, 0u);
  EXPECT_EQ(h.s.lost_out, 3u);
  EXPECT_EQ(h.Retransmit(), (Times{{2000, 3000}}));
}

TEST(RecoveryD4, ImpossibleBlocksAreIgnored) {
  SenderHarness h;
  h.Send(5);
  h.Pass(100ms);
  h.Ack(0, {{4000, 6000}});  // beyond snd_nxt
  h.Ack(0, {{3000, 3000}});  // empty
  h.Ack(0, {{3000, 2000}});  // reversed
  h.Ack(0, {{0, 1000}});     // begins at snd_una: nonsense
  EXPECT_EQ(h.s.sacked_out, 0u);
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPSACKDiscard), 4u);
}

TEST(RecoveryD4, AcksOfTheFutureChangeNothing) {
  SenderHarness h;
  h.Send(2);
  AckResult r = h.Ack(2001);
  EXPECT_TRUE(r.invalid);
  EXPECT_EQ(h.s.packets_out, 2u);
}

TEST(RecoveryD4, BlocksOfOldAcksStillCount) {
  SenderHarness h;
  h.Send(6);
  h.Pass(100ms);
  h.Ack(1000);
  AckResult r = h.Ack(0, {{3000, 4000}});
  EXPECT_TRUE(r.old);
  EXPECT_EQ(h.s.sacked_out, 1u);
}

TEST(RecoveryD4, HeavyReorderingRaisesTheMetric) {
  SenderHarness h;
  h.s.cwnd = 40;
  h.Send(40);
  h.Pass(100ms);
  h.s.reordering_seen = true;
  h.Ack(0, {{1000, 30'000}});
  h.Ack(30'000);
  // The hole at 0 was filled by its original below 30000: 30 segments.
  EXPECT_EQ(h.s.reordering, 30u);
}

TEST(RecoveryD11, EcnEchoReducesOncePerWindow) {
  SenderHarness h;
  h.Send(10);
  h.Pass(100ms);
  h.Ack(1000, {}, 0, true);
  EXPECT_EQ(h.s.ca_state, CaState::kCwr);
  EXPECT_TRUE(h.s.cwr_queued);
  EXPECT_EQ(h.s.ssthresh, 5u);
  h.Ack(2000, {}, 0, true);
  EXPECT_EQ(h.s.ssthresh, 5u);
  h.Ack(10'000);
  h.Send(1);
  h.Pass(100ms);
  h.Ack(11'000);
  EXPECT_EQ(h.s.ca_state, CaState::kOpen);
  EXPECT_EQ(h.s.cwnd, 5u);
}

}  // namespace
}  // namespace ustcp::testing
