#include "stack/tcp/recovery/internal.h"

namespace ustcp {
namespace {

const char* CheckRecord(const Sender& s, const TxSegment& r) {
  if (r.kind != SlotKind::kTxSegment) return "record is not a live slot";
  if (r.sender != &s) return "record of another sender";
  if (r.range.empty()) return "empty record";
  if (r.segments == 0 || r.mss == 0) return "record without segments";
  if (r.payload() > uint32_t{r.segments} * r.mss) return "more payload than its segments hold";
  if (r.Has(TxSegment::kSacked) && r.Has(TxSegment::kLost)) return "SACKed and lost";
  if (r.Has(TxSegment::kRetransmitted) && !r.Has(TxSegment::kEverRetransmitted)) return "retransmitted but never";
  const bool at_risk = !r.Has(TxSegment::kSacked) && (!r.Has(TxSegment::kLost) || r.Has(TxSegment::kRetransmitted));
  if (r.in_time_list != at_risk) return "in the time list wrongly";
  if (r.last_sent < r.first_sent) return "sent again before it was sent";
  return nullptr;
}

const char* CheckCounts(const Sender& s) {
  uint64_t packets = 0;
  uint64_t sacked = 0;
  uint64_t lost = 0;
  uint64_t retransmitted = 0;
  uint64_t at_risk = 0;
  Seq expect = s.snd_una;
  const TxSegment* before = nullptr;
  bool past_hint = s.retransmit_hint == nullptr;
  for (const TxSegment* r = s.queue.head(); r != nullptr; before = r, r = r->next) {
    if (const char* why = CheckRecord(s, *r)) return why;
    if (r->range.begin != expect) return "gap or overlap between records";
    if (r->prev != before) return "broken back link";
    if (r == s.retransmit_hint) past_hint = true;
    if (!past_hint && r->Has(TxSegment::kLost) && !r->Has(TxSegment::kRetransmitted))
      return "something to retransmit before the hint";
    expect = r->range.end;
    packets += r->segments;
    if (r->Has(TxSegment::kSacked)) {
      sacked += r->segments;
      if (r->range.end.After(s.highest_sacked)) return "SACKed beyond highest_sacked";
    }
    if (r->Has(TxSegment::kLost)) lost += r->segments;
    if (r->Has(TxSegment::kRetransmitted)) retransmitted += r->segments;
    if (r->in_time_list) ++at_risk;
  }
  if (!past_hint) return "retransmit_hint not in the queue";
  if (s.queue.tail() != before) return "wrong tail";
  if (expect != s.snd_nxt) return "records do not reach snd_nxt";
  if (packets != s.packets_out) return "packets_out";
  if (s.sack_ok && sacked != s.sacked_out) return "sacked_out";
  if (lost != s.lost_out) return "lost_out";
  if (retransmitted != s.retrans_out) return "retrans_out";
  for (const TxSegment* r = s.by_time.head(); r != nullptr; r = r->time_next) {
    if (!r->in_time_list || at_risk == 0) return "stranger in the time list";
    if (r->time_next != nullptr && r->mark().After(r->time_next->mark())) return "time list out of order";
    --at_risk;
  }
  return at_risk == 0 ? nullptr : "missing in the time list";
}

}  // namespace

const char* CheckSender(const Sender& s) noexcept {
  if (s.snd_una.After(s.snd_nxt)) return "snd_una beyond snd_nxt";
  if (s.cwnd == 0) return "cwnd is zero";
  if (s.sacked_out + s.lost_out > s.packets_out) return "more left the network than entered it";
  if (const char* why = CheckCounts(s)) return why;
  if ((s.xmit_timer == XmitTimer::kNone) != (s.xmit_deadline == kNever)) return "timer without deadline";
  if (s.packets_out != 0 && (s.xmit_timer == XmitTimer::kNone || s.xmit_timer == XmitTimer::kPersist))
    return "data in flight without a timer";
  if (s.packets_out == 0 && s.xmit_timer != XmitTimer::kNone && s.xmit_timer != XmitTimer::kPersist)
    return "retransmission timer without data in flight";
  if (s.in_reduction() && s.prior_cwnd == 0) return "reduction from nothing";
  return nullptr;
}

}  // namespace ustcp
