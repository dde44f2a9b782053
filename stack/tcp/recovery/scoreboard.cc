// The records of a sender: cutting, marking, lists and counts.
#include "stack/base/check.h"
#include "stack/tcp/recovery/internal.h"

namespace ustcp::recovery {
namespace {

// The record now stands for `delta` segments more (or fewer): in every count that its flags put it in.
void AdjustCounts(Sender& s, const TxSegment& r, int32_t delta) {
  const auto d = static_cast<uint32_t>(delta);
  s.packets_out += d;
  if (r.Has(TxSegment::kSacked)) s.sacked_out += d;
  if (r.Has(TxSegment::kLost)) s.lost_out += d;
  if (r.Has(TxSegment::kRetransmitted)) s.retrans_out += d;
  if (!s.sack_ok) LimitRenoSacked(s);
}

void InsertIntoTimeList(Sender& s, TxSegment& r, TxSegment* after) {
  s.by_time.InsertAfter(after, &r);
  r.in_time_list = true;
}

}  // namespace

uint32_t SegmentsFor(uint32_t payload, uint32_t mss) noexcept { return payload <= mss ? 1 : (payload + mss - 1) / mss; }

TxSegment* SplitRecord(const SenderEnv& env, Sender& s, TxSegment& r, uint32_t payload) noexcept {
  USTCP_DCHECK(payload > 0 && payload < r.payload());
  TxSegment* rest = env.records.Take();
  if (rest == nullptr) return nullptr;
  const uint32_t syn = r.Has(TxSegment::kSyn) ? 1 : 0;
  const uint32_t rest_payload = r.payload() - payload;
  const uint32_t old_segments = r.segments;

  rest->flags = r.flags & static_cast<uint8_t>(~TxSegment::kSyn);
  rest->mss = r.mss;
  rest->range = {r.range.begin + payload + syn, r.range.end};
  rest->sender = &s;
  rest->first_sent = r.first_sent;
  rest->last_sent = r.last_sent;
  rest->send_number = r.send_number;
  rest->delivered_at = r.delivered_at;
  rest->window_started = r.window_started;
  rest->delivered = r.delivered;
  rest->delivered_ce = r.delivered_ce;
  rest->segments = static_cast<uint16_t>(SegmentsFor(rest_payload, rest->mss));
  s.queue.InsertAfter(&r, rest);
  if (r.in_time_list) InsertIntoTimeList(s, *rest, &r);

  r.range.end = rest->range.begin;
  r.flags &= static_cast<uint8_t>(~(TxSegment::kFin | TxSegment::kPush));
  r.segments = static_cast<uint16_t>(SegmentsFor(payload, r.mss));
  const auto delta = static_cast<int32_t>(r.segments + rest->segments) - static_cast<int32_t>(old_segments);
  if (delta != 0) AdjustCounts(s, r, delta);
  // The probe is the record's last segment.
  if (s.tlp_record == &r) s.tlp_record = rest;
  return rest;
}

void Resegment(Sender& s, TxSegment& r) noexcept {
  if (r.mss == s.mss) return;
  const uint32_t segments = SegmentsFor(r.payload(), s.mss);
  const auto delta = static_cast<int32_t>(segments) - static_cast<int32_t>(r.segments);
  r.mss = s.mss;
  r.segments = static_cast<uint16_t>(segments);
  if (delta != 0) AdjustCounts(s, r, delta);
}

void TrimRecord(TxSegment& r, Seq to, uint16_t segments) noexcept {
  if (to.After(r.range.begin)) r.flags &= static_cast<uint8_t>(~TxSegment::kSyn);
  r.range.begin = to;
  r.segments = segments;
}

void RemoveRecord(const SenderEnv& env, Sender& s, TxSegment& r) noexcept {
  LeaveTimeList(s, r);
  if (s.retransmit_hint == &r) s.retransmit_hint = r.next;
  if (s.sack_hint == &r) s.sack_hint = r.next;
  if (s.tlp_record == &r) s.tlp_record = nullptr;
  s.queue.Remove(&r);
  env.records.Give(&r);
}

void MarkLost(const SenderEnv& env, Sender& s, TxSegment& r) noexcept {
  if (r.Has(TxSegment::kSacked)) return;
  const bool again = r.Has(TxSegment::kRetransmitted);
  if (r.Has(TxSegment::kLost) && !again) return;
  if (s.retransmit_hint != nullptr ? r.range.begin.Before(s.retransmit_hint->range.begin) : s.lost_out == 0)
    s.retransmit_hint = &r;
  if (again) {
    r.flags &= static_cast<uint8_t>(~TxSegment::kRetransmitted);
    s.retrans_out -= r.segments;
    env.counters.Add(Counter::kTcpExtTCPLostRetransmit, r.segments);
  }
  if (!r.Has(TxSegment::kLost)) {
    r.flags |= TxSegment::kLost;
    s.lost_out += r.segments;
  }
  s.lost += r.segments;
  LeaveTimeList(s, r);
}

void LeaveTimeList(Sender& s, TxSegment& r) noexcept {
  if (!r.in_time_list) return;
  s.by_time.Remove(&r);
  r.in_time_list = false;
}

void MoveToTimeListEnd(Sender& s, TxSegment& r) noexcept {
  LeaveTimeList(s, r);
  InsertIntoTimeList(s, r, s.by_time.tail());
}

void UnmarkAllLost(Sender& s) noexcept {
  s.lost_out = 0;
  s.retransmit_hint = nullptr;
  // Back into the order of time. Neighbours in sequence were mostly sent one after the other, so each search goes on
  // where the previous one ended.
  TxSegment* after = nullptr;
  for (TxSegment* r = s.queue.head(); r != nullptr; r = r->next) {
    r->flags &= static_cast<uint8_t>(~TxSegment::kLost);
    if (r->in_time_list || r->Has(TxSegment::kSacked)) continue;
    if (after != nullptr && after->mark().After(r->mark())) after = nullptr;
    TxSegment* next = after != nullptr ? after->time_next : s.by_time.head();
    while (next != nullptr && !next->mark().After(r->mark())) {
      after = next;
      next = next->time_next;
    }
    InsertIntoTimeList(s, *r, after);
    after = r;
  }
}

TxSegment* FindRecord(Sender& s, Seq seq) noexcept {
  TxSegment* head = s.queue.head();
  if (head == nullptr || seq.Before(head->range.begin) || !seq.Before(s.queue.tail()->range.end)) return nullptr;
  // From whichever known place is nearest.
  TxSegment* r = s.sack_hint;
  if (r == nullptr) r = head;
  if (!seq.Before(r->range.begin)) {
    if (s.queue.tail()->range.begin - seq < seq - r->range.begin) r = s.queue.tail();
  } else if (seq - head->range.begin < r->range.begin - seq) {
    r = head;
  }
  while (!seq.Before(r->range.end)) r = r->next;
  while (seq.Before(r->range.begin)) r = r->prev;
  s.sack_hint = r;
  return r;
}

Seq HighestSacked(const Sender& s) noexcept { return s.sacked_out == 0 ? s.snd_una : s.highest_sacked; }

bool AnyRetransmissionDone(const Sender& s) noexcept {
  return s.retrans_out != 0 || (s.queue.head() != nullptr && s.queue.head()->Has(TxSegment::kEverRetransmitted));
}

void CountDelivered(Sender& s, uint32_t segments, bool ece) noexcept {
  s.delivered += segments;
  if (ece) s.delivered_ce += segments;
}

}  // namespace ustcp::recovery
