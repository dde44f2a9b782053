#include "stack/tcp/cc/cubic.h"

#include <algorithm>

#include "stack/tcp/cc/congestion.h"
#include "stack/tcp/recovery/sender.h"

namespace ustcp {
namespace {

constexpr uint32_t kScale = 1024;
constexpr uint32_t kBeta = 717;  // window after a loss, in 1/1024
constexpr uint32_t kC = 410;     // C, in 1/1024 segments per s^3
constexpr int kTimeShift = 10;   // the curve's time runs in 1/1024 s
// W_est grows by one for every cwnd * kRenoScale / 8 segments, i.e. by 3 (1 - beta) / (1 + beta) per window.
constexpr uint32_t kRenoScale = 8 * (kScale + kBeta) / 3 / (kScale - kBeta);
// K^3 = (W_max - cwnd) / C, with K in 1/1024 s.
constexpr uint64_t kKFactor = (uint64_t{1} << (10 + 3 * kTimeShift)) / kC;
// The cube of 128 s with C still fits into 64 bits, and by then the curve asks for far more than cnt = 2 grants.
constexpr uint64_t kLongestOffset = uint64_t{1} << 17;

constexpr uint32_t kHystartLowWindow = 16;
constexpr uint8_t kHystartSamples = 8;
constexpr uint32_t kHystartDelayMinUs = 4000;
constexpr uint32_t kHystartDelayMaxUs = 16000;
constexpr Duration kHystartAckSpacing = 2ms;  // ACKs closer than this belong to one train
constexpr uint64_t kLargestFrame = 65536;

int64_t Millis(const SenderEnv& env) { return NanosOf(env.now) / 1'000'000; }

void StartRound(const SenderEnv& env, Sender& s) {
  CubicVars& v = s.cc.vars.cubic;
  v.round_start = v.last_ack = env.now;
  v.round_end = s.snd_nxt;
  v.round_min_rtt_us = kNoRtt;
  v.sample_count = 0;
}

void LeaveSlowStart(const SenderEnv& env, Sender& s, Counter detected, Counter window) {
  s.cc.vars.cubic.found = true;
  env.counters.Add(detected);
  env.counters.Add(window, s.cwnd);
  s.ssthresh = s.cwnd;
}

// A frame leaves the host in one piece and its ACKs come as a train that is longer by the time the frame takes at the
// pacing rate.
int64_t AckTrainSlackMicros(const Sender& s) {
  if (s.pacing_rate == 0) return 0;
  return static_cast<int64_t>(std::min<uint64_t>(1000, kLargestFrame * 4 * 1'000'000 / s.pacing_rate));
}

void Hystart(const SenderEnv& env, Sender& s, uint32_t delay_us) {
  CubicVars& v = s.cc.vars.cubic;
  if (s.snd_una.After(v.round_end)) StartRound(env, s);
  if (s.cwnd < kHystartLowWindow) return;

  // ACK train: the ACKs of one round arrive back to back for longer than half the propagation delay.
  if (env.now - v.last_ack <= kHystartAckSpacing) {
    v.last_ack = env.now;
    int64_t threshold_us = v.delay_min_us + AckTrainSlackMicros(s);
    if (!s.paced) threshold_us >>= 1;
    if (ToMicros(env.now - v.round_start) > threshold_us)
      LeaveSlowStart(env, s, Counter::kTcpExtTCPHystartTrainDetect, Counter::kTcpExtTCPHystartTrainCwnd);
  }
  // Delay: the round's smallest round trip rose by an eighth over the smallest ever.
  v.round_min_rtt_us = std::min(v.round_min_rtt_us, delay_us);
  if (v.sample_count < kHystartSamples) {
    ++v.sample_count;
  } else if (v.round_min_rtt_us >
             v.delay_min_us + std::clamp(v.delay_min_us >> 3, kHystartDelayMinUs, kHystartDelayMaxUs)) {
    LeaveSlowStart(env, s, Counter::kTcpExtTCPHystartDelayDetect, Counter::kTcpExtTCPHystartDelayCwnd);
  }
}

// Sets cnt, the number of ACKed segments that earn one more segment of window now.
void UpdateCurve(const SenderEnv& env, Sender& s, uint32_t acked) {
  CubicVars& v = s.cc.vars.cubic;
  const uint32_t cwnd = s.cwnd;
  const int64_t now_ms = Millis(env);
  v.ack_cnt += acked;
  // Recomputing more often than every 1/32 s changes nothing noticeable.
  if (v.last_cwnd == cwnd && now_ms - v.last_time_ms <= 1000 / 32) return;

  if (v.epoch_start_ms == 0 || now_ms != v.last_time_ms) {
    v.last_cwnd = cwnd;
    v.last_time_ms = now_ms;
    if (v.epoch_start_ms == 0) {
      v.epoch_start_ms = now_ms;
      v.ack_cnt = acked;
      v.reno_cwnd = cwnd;
      if (v.last_max_cwnd <= cwnd) {
        v.k = 0;
        v.origin = cwnd;
      } else {
        v.k = CubeRoot(kKFactor * (v.last_max_cwnd - cwnd));
        v.origin = v.last_max_cwnd;
      }
    }
    // The window of one round trip from now on.
    const int64_t elapsed_ms = now_ms - v.epoch_start_ms + (v.delay_min_us + 999) / 1000;
    const uint64_t t = (static_cast<uint64_t>(elapsed_ms) << kTimeShift) / 1000;
    const uint64_t offset = std::min(t < v.k ? v.k - t : t - v.k, kLongestOffset);
    const uint64_t delta = (uint64_t{kC} * offset * offset * offset) >> (10 + 3 * kTimeShift);
    const int64_t target =
        t < v.k ? int64_t{v.origin} - static_cast<int64_t>(delta) : int64_t{v.origin} + static_cast<int64_t>(delta);
    v.cnt = target > int64_t{cwnd} ? static_cast<uint32_t>(cwnd / (target - cwnd)) : 100 * cwnd;
    // Before the first loss the curve knows nothing: at least 5 % per round trip.
    if (v.last_max_cwnd == 0 && v.cnt > 20) v.cnt = 20;
  }

  const uint32_t per_segment = std::max(static_cast<uint32_t>((uint64_t{cwnd} * kRenoScale) >> 3), 1u);
  if (v.ack_cnt > per_segment) {
    const uint32_t steps = (v.ack_cnt - 1) / per_segment;
    v.ack_cnt -= steps * per_segment;
    v.reno_cwnd += steps;
  }
  if (v.reno_cwnd > cwnd) v.cnt = std::min(v.cnt, cwnd / (v.reno_cwnd - cwnd));
  v.cnt = std::max(v.cnt, 2u);
}

}  // namespace

uint32_t CubeRoot(uint64_t value) noexcept {
  // Bit by bit from the top: 2^63 has a cube root of 2^21.
  uint64_t root = 0;
  for (int bit = 21; bit >= 0; --bit) {
    const uint64_t candidate = root | (uint64_t{1} << bit);
    if (static_cast<unsigned __int128>(candidate) * candidate * candidate <= value) root = candidate;
  }
  return static_cast<uint32_t>(root);
}

void CubicInit(const SenderEnv& env, Sender& s) noexcept {
  s.cc.vars.cubic = CubicVars{};
  StartRound(env, s);
}

void CubicOnAck(const SenderEnv& env, Sender& s, uint32_t acked) noexcept {
  if (!CcIsCwndLimited(s)) return;
  if (CcInSlowStart(s.cwnd, s.ssthresh)) {
    acked = CcSlowStart(s, acked);
    if (acked == 0) return;
  }
  UpdateCurve(env, s, acked);
  CcAvoidCongestion(s, s.cc.vars.cubic.cnt, acked);
}

void CubicOnSample(const SenderEnv& env, Sender& s, int64_t rtt_us) noexcept {
  CubicVars& v = s.cc.vars.cubic;
  if (rtt_us < 0) return;
  // Samples right after a recovery contain its queue.
  if (v.epoch_start_ms != 0 && Millis(env) - v.epoch_start_ms < 1000) return;
  const auto delay = static_cast<uint32_t>(std::clamp<int64_t>(rtt_us, 1, UINT32_MAX));
  if (v.delay_min_us == 0 || v.delay_min_us > delay) v.delay_min_us = delay;
  if (!v.found && CcInSlowStart(s.cwnd, s.ssthresh)) Hystart(env, s, delay);
}

uint32_t CubicSsthresh(const SenderEnv&, Sender& s) noexcept {
  CubicVars& v = s.cc.vars.cubic;
  v.epoch_start_ms = 0;
  // Fast convergence: a flow that did not get back to its former window leaves room for newer ones.
  v.last_max_cwnd =
      s.cwnd < v.last_max_cwnd ? static_cast<uint32_t>(uint64_t{s.cwnd} * (kScale + kBeta) / (2 * kScale)) : s.cwnd;
  return std::max(static_cast<uint32_t>(uint64_t{s.cwnd} * kBeta / kScale), 2u);
}

void CubicOnRto(const SenderEnv& env, Sender& s) noexcept { CubicInit(env, s); }

void CubicOnTransmitStart(const SenderEnv& env, Sender& s) noexcept {
  CubicVars& v = s.cc.vars.cubic;
  if (v.epoch_start_ms == 0 || s.last_sent == Instant{}) return;
  const int64_t now_ms = Millis(env);
  const int64_t idle_ms = now_ms - NanosOf(s.last_sent) / 1'000'000;
  if (idle_ms > 0) v.epoch_start_ms = std::min(v.epoch_start_ms + idle_ms, now_ms);
}

}  // namespace ustcp
