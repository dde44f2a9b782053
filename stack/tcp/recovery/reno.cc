// Recovery without SACK (RFC 6582): every duplicate ACK stands for a segment that left the network, wherever it belongs.
#include "stack/tcp/recovery/internal.h"

namespace ustcp::recovery {
namespace {

// More duplicates than segments that can have arrived: the network reorders or duplicates.
void CheckRenoReordering(const SenderEnv& env, Sender& s, uint32_t addend) {
  if (!LimitRenoSacked(s)) return;
  s.reordering = std::min(s.packets_out + addend, static_cast<uint32_t>(env.sysctls.tcp_max_reordering));
  s.reordering_seen = true;
  ++s.reorder_events;
  env.counters.Add(Counter::kTcpExtTCPRenoReorder);
}

}  // namespace

// At least the first segment has not arrived. True when sacked_out had to be lowered.
bool LimitRenoSacked(Sender& s) noexcept {
  const uint32_t holes = std::min(std::max(s.lost_out, 1u), s.packets_out);
  if (s.sacked_out + holes <= s.packets_out) return false;
  s.sacked_out = s.packets_out - holes;
  return true;
}

void AddRenoSacks(const SenderEnv& env, Sender& s, uint32_t duplicates, bool ece) noexcept {
  if (duplicates == 0) return;
  const uint32_t before = s.sacked_out;
  s.sacked_out += duplicates;
  CheckRenoReordering(env, s, 0);
  if (s.sacked_out > before) CountDelivered(s, s.sacked_out - before, ece);
}

void RemoveRenoSacks(const SenderEnv& env, Sender& s, uint32_t acked, bool ece) noexcept {
  if (acked > 0) {
    // One of them filled the hole; the others are those that the duplicates had announced.
    const uint32_t announced = s.sacked_out;
    CountDelivered(s, acked > announced ? std::max(acked - announced, 1u) : 1, ece);
    s.sacked_out = acked - 1 >= announced ? 0 : announced - (acked - 1);
  }
  CheckRenoReordering(env, s, acked);
}

void MarkLostByDuplicates(const SenderEnv& env, Sender& s, bool una_advanced) noexcept {
  // RFC 5681 3.2: the third duplicate; RFC 6582 3.2: a partial ACK during recovery shows the next hole.
  const bool third = s.ca_state < CaState::kRecovery && s.sacked_out >= s.reordering;
  const bool partial = s.ca_state == CaState::kRecovery && una_advanced;
  if (!third && !partial) return;
  TxSegment* head = s.queue.head();
  if (head == nullptr || head->Has(TxSegment::kLost)) return;
  // Only the first segment is known to be missing.
  if (head->segments > 1 && head->payload() > head->mss) SplitRecord(env, s, *head, head->mss);
  MarkLost(env, s, *head);
  LimitRenoSacked(s);
}

}  // namespace ustcp::recovery
