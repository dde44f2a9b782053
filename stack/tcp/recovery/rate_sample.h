// Delivery-rate estimation (draft-cheng-iccrg-delivery-rate-estimation): how many segments arrived over which time, free
// of the distortion of ACK compression. Model-based congestion control lives on it; tcp_info shows it.
#pragma once

#include <cstdint>

#include "stack/tcp/recovery/tx_segment.h"
#include "stack/time/time.h"

namespace ustcp {

struct Sender;
struct SenderEnv;

struct RateSample {
  Instant prior_at{};            // start of the interval: when prior_delivered was reached
  uint32_t prior_delivered = 0;  // 0: no segment was delivered by this ACK
  uint32_t prior_delivered_ce = 0;
  int32_t delivered = -1;  // segments over the interval; negative: no valid sample
  int32_t delivered_ce = -1;
  int64_t interval_us = -1;  // negative: no valid sample
  uint32_t send_interval_us = 0;
  uint32_t ack_interval_us = 0;
  int64_t rtt_us = -1;        // of the latest segment delivered
  uint32_t losses = 0;        // newly deemed lost by this ACK
  uint32_t acked_sacked = 0;  // newly delivered
  uint32_t prior_in_flight = 0;
  SendMark last_sent;  // of the latest segment delivered
  bool app_limited = false;
  bool retransmitted = false;  // from a retransmitted segment
  bool ack_delayed = false;    // looks like a delayed ACK
};

// A record is being sent (again): notes the sender's state in it.
void StampForRate(const SenderEnv& env, Sender& s, TxSegment& r) noexcept;
// A record was delivered: keeps the most recently sent one as the sample's start.
void NoteDelivered(Sender& s, TxSegment& r, RateSample& sample) noexcept;
// All records of an ACK have been noted: computes interval and rate.
void FinishRateSample(const SenderEnv& env, Sender& s, RateSample& sample, bool reneged) noexcept;

}  // namespace ustcp
