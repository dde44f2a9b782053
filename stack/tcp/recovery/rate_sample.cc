#include "stack/tcp/recovery/rate_sample.h"

#include <algorithm>

#include "stack/tcp/recovery/internal.h"

namespace ustcp {

using namespace recovery;

void StampForRate(const SenderEnv& env, Sender& s, TxSegment& r) noexcept {
  // A flight that starts from nothing: the interval must not contain the idle time before.
  if (s.packets_out == 0) s.window_started = s.delivered_at = env.now;
  r.window_started = s.window_started;
  r.delivered_at = s.delivered_at;
  r.delivered = s.delivered;
  r.delivered_ce = s.delivered_ce;
  if (s.app_limited != 0) {
    r.flags |= TxSegment::kAppLimited;
  } else {
    r.flags &= static_cast<uint8_t>(~TxSegment::kAppLimited);
  }
}

void NoteDelivered(Sender& s, TxSegment& r, RateSample& sample) noexcept {
  if (r.delivered_at == kNever) return;
  if (sample.prior_at == Instant{} || r.mark().After(sample.last_sent)) {
    sample.prior_delivered = r.delivered;
    sample.prior_delivered_ce = r.delivered_ce;
    sample.prior_at = r.delivered_at;
    sample.app_limited = r.Has(TxSegment::kAppLimited);
    sample.retransmitted = r.Has(TxSegment::kRetransmitted | TxSegment::kEverRetransmitted);
    sample.last_sent = r.mark();
    s.window_started = r.last_sent;
    sample.send_interval_us = static_cast<uint32_t>(ToMicros(r.last_sent - r.window_started));
  }
  // A SACKed segment must not count again when it is acknowledged cumulatively.
  if (r.Has(TxSegment::kSacked)) r.delivered_at = kNever;
}

void FinishRateSample(const SenderEnv& env, Sender& s, RateSample& sample, bool reneged) noexcept {
  if (s.app_limited != 0 && static_cast<int32_t>(s.delivered - s.app_limited) > 0) s.app_limited = 0;
  if (sample.acked_sacked != 0) s.delivered_at = env.now;
  if (sample.prior_at == Instant{} || reneged) {
    sample.delivered = -1;
    sample.interval_us = -1;
    return;
  }
  sample.delivered = static_cast<int32_t>(s.delivered - sample.prior_delivered);
  sample.delivered_ce = static_cast<int32_t>(s.delivered_ce - sample.prior_delivered_ce);
  // The rate over the longer of both phases: ACKs may come in a burst, and so may transmissions.
  sample.ack_interval_us = static_cast<uint32_t>(ToMicros(env.now - sample.prior_at));
  sample.interval_us = std::max(sample.send_interval_us, sample.ack_interval_us);
  // Shorter than the shortest round trip: a retransmission's ACK for its original, or clock trouble.
  if (s.rtt.min_rtt_us() == kNoRtt || sample.interval_us < s.rtt.min_rtt_us()) {
    sample.interval_us = -1;
    return;
  }
  // An application-limited rate counts only when it is higher.
  if (!sample.app_limited || uint64_t(sample.delivered) * s.rate_interval_us >=
                                 uint64_t{s.rate_delivered} * static_cast<uint64_t>(sample.interval_us)) {
    s.rate_delivered = static_cast<uint32_t>(sample.delivered);
    s.rate_interval_us = static_cast<uint32_t>(sample.interval_us);
    s.rate_app_limited = sample.app_limited;
  }
}

}  // namespace ustcp
