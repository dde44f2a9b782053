// D2, D3, D4: timeouts, tail loss probes, F-RTO and Eifel undo, recovery without SACK. Deadlines are exact.
#include <gtest/gtest.h>

#include "recovery_harness.h"

namespace ustcp::testing {
namespace {

using Times = std::vector<Sent>;

struct NoProbe : SenderHarness {
  explicit NoProbe(bool sack = true, bool timestamps = false) : SenderHarness(CcKind::kReno, sack, timestamps) {
    sysctls.tcp_early_retrans = 0;
  }
};

TEST(RecoveryD2, TimeoutSendsTheFirstSegmentOnlyAndDoubles) {
  NoProbe h;
  h.Send(10);
  EXPECT_EQ(h.s.xmit_timer, XmitTimer::kRetransmit);
  EXPECT_EQ(h.FireTimer(), 300ms);
  EXPECT_EQ(h.s.ca_state, CaState::kLoss);
  EXPECT_EQ(h.s.cwnd, 1u);
  EXPECT_EQ(h.s.ssthresh, 5u);
  EXPECT_EQ(h.Retransmit(), (Times{{0, 1000}}));
  EXPECT_EQ(h.last_reason, RetransmitReason::kTimeout);
  EXPECT_EQ(h.FireTimer(), 600ms);
  EXPECT_EQ(h.Retransmit(), (Times{{0, 1000}}));
  EXPECT_EQ(h.FireTimer(), 1200ms);
  EXPECT_EQ(h.Retransmit(), (Times{{0, 1000}}));
  EXPECT_EQ(h.s.ssthresh, 5u) << "once per window, not once per timeout";
  EXPECT_EQ(h.s.retransmits, 3);
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPTimeouts), 3u);
  EXPECT_EQ(h.Count(Counter::kTcpRetransSegs), 3u);
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPLostRetransmit), 2u);
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPSlowStartRetrans), 0u);
}

TEST(RecoveryD2, SlowStartThroughTheLostSegmentsAfterATimeout) {
  NoProbe h;
  h.Send(6);
  h.NothingMore();
  h.FireTimer();
  h.Retransmit();
  h.Pass(100ms);
  AckResult r = h.Ack(1000);
  EXPECT_LT(r.rtt_us, 0) << "Karn: no sample from a retransmitted segment";
  EXPECT_EQ(h.s.cwnd, 2u);
  EXPECT_EQ(h.Retransmit(), (Times{{1000, 2000}, {2000, 3000}}));
  h.Pass(100ms);
  h.Ack(3000);
  EXPECT_EQ(h.Retransmit(), (Times{{3000, 4000}, {4000, 5000}, {5000, 6000}}));
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPSlowStartRetrans), 5u);
  h.Pass(100ms);
  AckResult last = h.Ack(6000);
  EXPECT_TRUE(last.left_recovery);
  EXPECT_EQ(h.s.ca_state, CaState::kOpen);
  EXPECT_EQ(h.s.retransmits, 0);
}

TEST(RecoveryD2, BackoffLastsUntilAValidSample) {
  NoProbe h;
  h.Send(1);
  h.NothingMore();
  h.FireTimer();
  h.Retransmit();
  h.Pass(50ms);
  h.Ack(1000);
  EXPECT_EQ(h.s.rtt.rto, 600ms) << "Karn's second half";
  h.Send(1);
  h.NothingMore();
  EXPECT_EQ(h.s.xmit_deadline - h.now, 600ms);
  h.Pass(100ms);
  h.Ack(2000);
  EXPECT_EQ(h.s.rtt.rto, 300ms);
}

TEST(RecoveryD2, TimestampsGiveASampleFromRetransmissions) {
  NoProbe h(true, true);
  h.Send(1);
  h.NothingMore();
  h.FireTimer();
  h.Retransmit();
  const uint32_t second = h.Stamp();
  h.Pass(80ms);
  AckResult r = h.Ack(1000, {}, second);
  EXPECT_EQ(r.rtt_us, 80'000);
  EXPECT_FALSE(r.undone);
}

TEST(RecoveryD2, FifteenRetriesTakeAQuarterOfAnHour) {
  NoProbe h;
  const Instant start = h.now;
  h.Send(1);
  h.NothingMore();
  int timeouts = 0;
  for (;;) {
    h.now = h.s.xmit_deadline;
    if (RetriesExhausted(h.env(), h.s, 15, Duration::zero())) break;
    h.FireTimer();
    ASSERT_EQ(h.Retransmit(), (Times{{0, 1000}}));
    ASSERT_LT(++timeouts, 40);
  }
  // 0.3 s, then 0.6 ... 76.8 s (together 153 s), then 120 s each until 924.6 s after the first retransmission.
  EXPECT_EQ(h.now - start, 300ms + std::chrono::milliseconds(153'000) + 7 * 120s);
  EXPECT_EQ(timeouts, 15);
}

TEST(RecoveryD2, UserTimeoutEndsWaitingInTime) {
  NoProbe h;
  h.Send(1);
  h.NothingMore();
  EXPECT_EQ(h.FireTimer(1s), 300ms);
  h.Retransmit();
  EXPECT_FALSE(RetriesExhausted(h.env(), h.s, 15, 1s));
  EXPECT_EQ(h.FireTimer(1s), 600ms);
  h.Retransmit();
  EXPECT_EQ(h.s.xmit_deadline - h.now, 400ms);
  h.now = h.s.xmit_deadline;
  EXPECT_TRUE(RetriesExhausted(h.env(), h.s, 15, 1s));
}

TEST(RecoveryD2, NothingIsExhaustedBeforeTheFirstTimeout) {
  NoProbe h;
  h.Send(1);
  h.Pass(1h);
  EXPECT_FALSE(RetriesExhausted(h.env(), h.s, 0, 1ms));
}

TEST(RecoveryE2, SynsGoOutAtAConstantPaceFirst) {
  NoProbe h;
  ReleaseSender(h.env(), h.s);
  InitSender(h.env(), h.s, Seq(7), CcKind::kReno);
  h.s.handshaking = true;
  h.s.mss = kMss;
  ASSERT_NE(OnTransmit(h.env(), h.s, 0, TxSegment::kSyn), nullptr);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(h.FireTimer(), 1s) << i;
    EXPECT_EQ(h.Retransmit().size(), 1u);
  }
  EXPECT_EQ(h.FireTimer(), 2s);
  EXPECT_EQ(h.Retransmit().size(), 1u);
  EXPECT_EQ(h.s.xmit_deadline - h.now, 4s);
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPSynRetrans), 6u);
  h.Pass(100ms);
  AckInput in;
  in.ack = Seq(8);
  in.has_data = true;
  h.s.sack_ok = true;
  AckResult r = OnAck(h.env(), h.s, in);
  EXPECT_TRUE(r.syn_acked);
  h.s.handshaking = false;
  OnEstablished(h.env(), h.s, -1);
  EXPECT_EQ(h.s.cwnd, 1u) << "several SYNs were lost";
  EXPECT_EQ(h.s.rtt.rto, 3s) << "RFC 6298 5.7";
  EXPECT_EQ(h.s.ssthresh, kInfiniteSsthresh);
  EXPECT_EQ(h.s.ca_state, CaState::kOpen);
  EXPECT_EQ(h.s.xmit_timer, XmitTimer::kNone);
}

TEST(RecoveryD4, FrtoFindsATimeoutSpurious) {
  NoProbe h;
  h.Send(4);
  h.FireTimer();
  EXPECT_EQ(h.Retransmit(), (Times{{0, 1000}}));
  // The ACK of the delayed original: new data instead of retransmissions.
  h.Pass(20ms);
  h.Ack(1000);
  EXPECT_EQ(h.Retransmit(), Times{});
  EXPECT_TRUE(ForcesPush(h.s));
  EXPECT_GE(SendAllowance(h.s), 1u);
  h.Send(1);
  // The next one acknowledges what was never sent again.
  h.Pass(1ms);
  AckResult r = h.Ack(2000);
  EXPECT_TRUE(r.undone);
  EXPECT_EQ(h.s.ca_state, CaState::kOpen);
  EXPECT_EQ(h.s.cwnd, 10u);
  EXPECT_EQ(h.s.ssthresh, kInfiniteSsthresh);
  EXPECT_EQ(h.s.lost_out, 0u);
  EXPECT_EQ(h.Retransmit(), Times{});
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPSpuriousRTOs), 1u);
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPLossUndo), 1u);
}

TEST(RecoveryD4, FrtoFallsBackWithoutNewData) {
  NoProbe h;
  h.Send(4);
  h.NothingMore();
  h.FireTimer();
  h.Retransmit();
  h.Pass(100ms);
  h.Ack(1000);
  EXPECT_FALSE(h.s.frto);
  EXPECT_EQ(h.Retransmit(), (Times{{1000, 2000}, {2000, 3000}}));
}

TEST(RecoveryD4, FrtoFallsBackWhenNewDataCannotBeSent) {
  NoProbe h;
  h.Send(4);
  h.FireTimer();
  h.Retransmit();
  h.Pass(100ms);
  h.Ack(1000);
  EXPECT_EQ(h.s.retransmit_mode, RetransmitMode::kNew);
  EXPECT_TRUE(OnOutputIdle(h.env(), h.s, false));
  EXPECT_EQ(h.Retransmit(), (Times{{1000, 2000}, {2000, 3000}}));
}

TEST(RecoveryD4, FrtoConfirmsARealTimeout) {
  NoProbe h;
  h.Send(4);
  h.FireTimer();
  h.Retransmit();
  h.Pass(100ms);
  h.Ack(1000);
  h.Send(1);
  h.Pass(100ms);
  // The new data arrives beyond holes: the rest was lost.
  AckResult r = h.Ack(1000, {{4000, 5000}});
  EXPECT_FALSE(r.undone);
  EXPECT_EQ(h.s.ca_state, CaState::kLoss);
  ASSERT_FALSE(h.Retransmit().empty());
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPSpuriousRTOs), 0u);
}

TEST(RecoveryD4, EifelTimestampsUndoASpuriousTimeoutAtOnce) {
  NoProbe h(true, true);
  const uint32_t original = h.Stamp();
  h.Send(4);
  h.FireTimer();
  h.Retransmit();
  h.Pass(20ms);
  AckResult r = h.Ack(1000, {}, original);
  EXPECT_TRUE(r.undone);
  EXPECT_EQ(h.s.ca_state, CaState::kOpen);
  EXPECT_EQ(h.s.cwnd, 10u);
  EXPECT_EQ(h.Retransmit(), Times{});
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPLossUndo), 1u);
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPSpuriousRTOs), 0u);
}

TEST(RecoveryD4, ProbeAfterTwoRoundTrips) {
  SenderHarness h;
  h.Send(3);
  h.NothingMore();
  ASSERT_EQ(h.s.xmit_timer, XmitTimer::kLossProbe);
  EXPECT_EQ(h.FireTimer(), 202ms);
  EXPECT_EQ(h.Retransmit(), (Times{{2000, 3000}}));
  EXPECT_EQ(h.last_reason, RetransmitReason::kLossProbe);
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPLossProbes), 1u);
  EXPECT_EQ(h.s.retrans_out, 0u);
  EXPECT_EQ(h.s.xmit_timer, XmitTimer::kRetransmit);
  EXPECT_EQ(h.s.xmit_deadline - h.now, 300ms);
  EXPECT_EQ(h.s.cwnd, 10u);
}

TEST(RecoveryD4, ProbeOfALoneSegmentAllowsForADelayedAck) {
  SenderHarness h;
  h.s.rtt = RttEstimator{};
  AddRttSample(h.s.rtt, h.sysctls, 400'000, h.s.snd_una, h.s.snd_nxt);  // RTO 1.2 s
  h.Send(1);
  h.NothingMore();
  EXPECT_EQ(h.s.xmit_deadline - h.now, 1000ms);  // 2 * 400 + 200
}

TEST(RecoveryD4, ProbeNeverLaterThanTheTimeout) {
  SenderHarness h;
  h.Send(1);
  h.NothingMore();
  EXPECT_EQ(h.s.xmit_timer, XmitTimer::kLossProbe);
  EXPECT_EQ(h.s.xmit_deadline - h.now, 300ms);
}

TEST(RecoveryD4, ProbeOfNewDataIgnoresCwnd) {
  SenderHarness h;
  h.s.cwnd = 2;
  h.Send(2);
  EXPECT_EQ(SendAllowance(h.s), 0u);
  h.FireTimer();
  EXPECT_EQ(SendAllowance(h.s), 1u);
  EXPECT_TRUE(ForcesPush(h.s));
  h.Send(1);
  EXPECT_EQ(SendAllowance(h.s), 0u);
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPLossProbes), 1u);
  EXPECT_EQ(h.Count(Counter::kTcpRetransSegs), 0u);
  h.Pass(100ms);
  h.Ack(3000);
  EXPECT_FALSE(h.s.tlp_outstanding);
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPLossProbeRecovery), 0u);
}

TEST(RecoveryD4, ProbeTurnsATailLossIntoFastRecovery) {
  SenderHarness h;
  h.Send(3);
  h.NothingMore();
  h.FireTimer();
  h.Retransmit();
  h.Pass(100ms);
  h.Ack(0, {{2000, 3000}});
  EXPECT_EQ(h.s.ca_state, CaState::kRecovery);
  EXPECT_EQ(h.Retransmit(), (Times{{0, 1000}})) << "PRR: one delivered, one out";
  h.Pass(100ms);
  h.Ack(1000, {{2000, 3000}});
  EXPECT_EQ(h.Retransmit(), (Times{{1000, 2000}}));
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPTimeouts), 0u);
}

TEST(RecoveryD4, ProbeReportedAsDuplicateCostsNothing) {
  SenderHarness h;
  h.Send(3);
  h.NothingMore();
  h.FireTimer();
  h.Retransmit();
  h.Pass(10ms);
  h.Ack(3000, {{2000, 3000}});
  EXPECT_FALSE(h.s.tlp_outstanding);
  EXPECT_EQ(h.s.cwnd, 10u);
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPLossProbeRecovery), 0u);
}

TEST(RecoveryD4, ProbeThatRepairedALossReducesTheWindow) {
  SenderHarness h;
  h.Send(3);
  h.NothingMore();
  h.Pass(100ms);
  h.Ack(2000);
  h.FireTimer();
  EXPECT_EQ(h.Retransmit(), (Times{{2000, 3000}}));
  h.Pass(100ms);
  h.Ack(3000);
  EXPECT_TRUE(h.s.tlp_outstanding);
  h.Send(1);
  h.NothingMore();
  h.Pass(100ms);
  const uint32_t before = h.s.cwnd;
  h.Ack(4000);
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPLossProbeRecovery), 1u);
  EXPECT_EQ(h.s.ssthresh, before / 2);
  EXPECT_EQ(h.s.ca_state, CaState::kOpen);
}

TEST(RecoveryD4, ProbeIsTheLastSegmentOfAFrame) {
  SenderHarness h;
  h.Send(1, 4);
  h.NothingMore();
  h.FireTimer();
  EXPECT_EQ(h.Retransmit(), (Times{{3000, 4000}}));
  EXPECT_EQ(h.s.packets_out, 4u);
}

TEST(RecoveryD4, NoProbeWithoutSackOrWhenSwitchedOff) {
  SenderHarness plain(CcKind::kReno, false);
  plain.Send(3);
  EXPECT_EQ(plain.s.xmit_timer, XmitTimer::kRetransmit);
  NoProbe off;
  off.Send(3);
  EXPECT_EQ(off.s.xmit_timer, XmitTimer::kRetransmit);
}

TEST(RecoveryD3, NewRenoRepairsOneHolePerRoundTrip) {
  NoProbe h(false);
  h.Send(10);  // 0 and 3000 are lost
  h.Pass(100ms);
  h.Ack(0);
  h.Ack(0);
  EXPECT_EQ(h.s.ca_state, CaState::kDisorder);
  EXPECT_EQ(SendAllowance(h.s), 2u) << "limited transmit, RFC 3042";
  EXPECT_EQ(h.Retransmit(), Times{});
  AckResult r = h.Ack(0);
  EXPECT_TRUE(r.duplicate);
  EXPECT_EQ(h.Retransmit(), (Times{{0, 1000}}));
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPRenoRecovery), 1u);
  EXPECT_EQ(h.s.ssthresh, 5u);
  for (int i = 0; i < 5; ++i) h.Ack(0);
  h.Pass(100ms);
  h.Ack(3000);
  EXPECT_EQ(h.s.ca_state, CaState::kRecovery) << "a partial ACK";
  EXPECT_EQ(h.Retransmit(), (Times{{3000, 4000}}));
  h.Pass(100ms);
  h.Ack(10'000);
  // Full ACK, but duplicates may still come: the state is kept until something newer is acknowledged.
  EXPECT_EQ(h.s.ca_state, CaState::kRecovery);
  h.Send(1);
  h.Pass(100ms);
  h.Ack(11'000);
  EXPECT_EQ(h.s.ca_state, CaState::kOpen);
  EXPECT_EQ(h.s.cwnd, 5u);
}

TEST(RecoveryD3, AcksWithDataOrWindowUpdatesAreNoDuplicates) {
  NoProbe h(false);
  h.Send(10);
  h.Pass(100ms);
  AckInput in;
  in.ack = h.s.snd_una;
  in.window_changed = true;
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(OnAck(h.env(), h.s, in).duplicate);
  in.window_changed = false;
  in.has_data = true;
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(OnAck(h.env(), h.s, in).duplicate);
  EXPECT_EQ(h.s.ca_state, CaState::kOpen);
}

TEST(RecoveryD3, MergedDuplicateAcksCountEach) {
  NoProbe h(false);
  h.Send(10);
  h.Pass(100ms);
  AckInput in;
  in.ack = h.s.snd_una;
  in.segments = 3;
  EXPECT_TRUE(OnAck(h.env(), h.s, in).entered_recovery);
}

TEST(RecoveryD2, ShrunkWindowIsProbedWithOneSegment) {
  NoProbe h;
  h.Send(5);
  h.Pass(100ms);
  h.Ack(0, {{3000, 5000}});
  h.s.snd_wnd = 0;
  h.now = h.s.xmit_deadline;
  OnRetransmissionTimeout(h.env(), h.s, Duration::zero(), true);
  EXPECT_EQ(h.Retransmit(), (Times{{0, 1000}}));
  EXPECT_EQ(h.Count(Counter::kTcpExtTCPTimeouts), 0u);
  EXPECT_EQ(h.s.retransmits, 0);
}

TEST(RecoveryD12, SegmentsTooLargeForThePathAreCutAnewWithoutAReduction) {
  NoProbe h;
  h.Send(4);
  h.s.mss = 600;
  OnMssLowered(h.env(), h.s);
  h.Check();
  EXPECT_EQ(h.s.lost_out, 4u);
  EXPECT_EQ(h.s.cwnd, 10u);
  EXPECT_EQ(h.s.ssthresh, kInfiniteSsthresh);
  EXPECT_EQ(
      h.Retransmit(1),
      (Times{
          {0, 600}, {600, 1000}, {1000, 1600}, {1600, 2000}, {2000, 2600}, {2600, 3000}, {3000, 3600}, {3600, 4000}}));
  h.Pass(100ms);
  h.Ack(4000);
  EXPECT_EQ(h.s.ca_state, CaState::kOpen);
  EXPECT_GE(h.s.cwnd, 10u);
}

TEST(RecoveryD11, IdlePeriodsShrinkTheWindow) {
  SenderHarness h;
  h.s.cwnd = 40;
  h.Send(1);
  h.NothingMore();
  h.Pass(100ms);
  h.Ack(1000);
  h.s.cwnd = 40;
  h.Pass(300ms);  // 400 ms since the last transmission, RTO 300 ms
  OnApplicationWrite(h.env(), h.s);
  EXPECT_EQ(h.s.cwnd, 20u);
  EXPECT_EQ(h.s.ssthresh, kInfiniteSsthresh);
  h.s.cwnd = 40;
  h.Pass(10s);
  OnApplicationWrite(h.env(), h.s);
  EXPECT_EQ(h.s.cwnd, 10u) << "never below the restart window";
  h.s.cwnd = 40;
  h.sysctls.tcp_slow_start_after_idle = 0;
  h.Pass(10s);
  OnApplicationWrite(h.env(), h.s);
  EXPECT_EQ(h.s.cwnd, 40u);
}

TEST(RecoveryD4, OutOfRecordsIsNoDisaster) {
  SenderHarness h(CcKind::kReno, true, false, 2 * kSpanBytes);
  h.s.cwnd = 100'000;
  h.s.snd_wnd = 1u << 30;
  int sent = 0;
  while (OnTransmit(h.env(), h.s, kMss, 0) != nullptr) ++sent;
  EXPECT_GT(sent, 100);
  h.Check();
  // No record for a split: the SACK of half a frame is not taken in, and nothing breaks.
  h.Pass(100ms);
  h.Ack(kMss * static_cast<uint32_t>(sent));
  EXPECT_EQ(h.records.live(), 0u);
}

}  // namespace
}  // namespace ustcp::testing
