// One record per transmitted and not yet acknowledged stretch of sequence space: what the sender must remember to detect
// its loss, to send it again and to measure with it. A record of several segments (one segmentation-offload frame) is
// split at a segment boundary as soon as a SACK, a partial acknowledgement or a small window tells its parts apart. The
// payload itself stays in the send queue and is found by sequence number.
#pragma once

#include <cstdint>
#include <type_traits>

#include "stack/base/seq.h"
#include "stack/mem/slot_pool.h"
#include "stack/time/time.h"

namespace ustcp {

struct Sender;

// When something was sent, exactly enough to say which of two segments left first: several share an instant when one turn
// of the driver sends them, and those of one frame share the number too and go by sequence.
struct SendMark {
  Instant at{};
  uint32_t number = 0;  // of the transmission, growing
  Seq end;

  bool After(const SendMark& other) const {
    if (at != other.at) return at > other.at;
    if (number != other.number) return static_cast<int32_t>(number - other.number) > 0;
    return end.After(other.end);
  }
};

struct TxSegment : SlotHeader {
  static constexpr SlotKind kSlotKind = SlotKind::kTxSegment;

  enum Flags : uint8_t {
    kSyn = 1 << 0,                // the first number is the SYN's
    kFin = 1 << 1,                // the last number is the FIN's
    kSacked = 1 << 2,             // the peer reported it selectively
    kLost = 1 << 3,               // deemed lost; stays set while its retransmission is in flight
    kRetransmitted = 1 << 4,      // its latest retransmission is in flight (counted in Sender::retrans_out)
    kEverRetransmitted = 1 << 5,  // sent more than once, tail loss probes included: Karn's rule applies
    kAppLimited = 1 << 6,         // delivery rate: sent while the application had no more
    kPush = 1 << 7,               // free for the owner of the send queue: PSH was set
  };

  bool Has(uint8_t any) const { return (flags & any) != 0; }
  uint32_t length() const { return range.length(); }
  SendMark mark() const { return {last_sent, send_number, range.end}; }
  uint32_t payload() const { return length() - (Has(kSyn) ? 1u : 0u) - (Has(kFin) ? 1u : 0u); }

  uint8_t flags = 0;
  bool in_time_list = false;
  uint16_t segments = 1;      // number of packets on the wire, by `mss`
  uint16_t mss = 0;           // payload bytes of each packet but the last
  SeqRange range;             // never empty; SYN and FIN count one each
  Sender* sender = nullptr;   // whose record it is: lets a repair after a crash find the records of one connection
  TxSegment* next = nullptr;  // sequence order, from snd_una to snd_nxt without a gap
  TxSegment* prev = nullptr;
  TxSegment* time_next = nullptr;  // order of the latest transmission (RACK); only those that may still get lost
  TxSegment* time_prev = nullptr;
  Instant first_sent{};
  Instant last_sent{};
  uint32_t send_number = 0;  // Sender::send_count at the latest transmission
  // Delivery-rate estimation: the sender's state when this was last sent. delivered_at == kNever: used up.
  Instant delivered_at{};
  Instant window_started{};
  uint32_t delivered = 0;
  uint32_t delivered_ce = 0;
};
static_assert(std::is_trivially_destructible_v<TxSegment>);
static_assert(sizeof(TxSegment) <= 128);

// A doubly linked list through two members of TxSegment; holds no memory.
template <TxSegment* TxSegment::*kNext, TxSegment* TxSegment::*kPrev>
class TxSegmentList {
 public:
  TxSegment* head() const { return head_; }
  TxSegment* tail() const { return tail_; }
  bool empty() const { return head_ == nullptr; }
  static TxSegment* Next(const TxSegment* r) { return r->*kNext; }
  static TxSegment* Prev(const TxSegment* r) { return r->*kPrev; }

  // Behind `after`; in front of everything when `after` is null.
  void InsertAfter(TxSegment* after, TxSegment* r) {
    TxSegment* next = after != nullptr ? after->*kNext : head_;
    r->*kPrev = after;
    r->*kNext = next;
    (after != nullptr ? after->*kNext : head_) = r;
    (next != nullptr ? next->*kPrev : tail_) = r;
  }
  void PushBack(TxSegment* r) { InsertAfter(tail_, r); }
  void Remove(TxSegment* r) {
    TxSegment* next = r->*kNext;
    TxSegment* prev = r->*kPrev;
    (prev != nullptr ? prev->*kNext : head_) = next;
    (next != nullptr ? next->*kPrev : tail_) = prev;
    r->*kNext = nullptr;
    r->*kPrev = nullptr;
  }
  void Clear() { head_ = tail_ = nullptr; }

 private:
  TxSegment* head_ = nullptr;
  TxSegment* tail_ = nullptr;
};

using SequenceList = TxSegmentList<&TxSegment::next, &TxSegment::prev>;
using TimeList = TxSegmentList<&TxSegment::time_next, &TxSegment::time_prev>;

}  // namespace ustcp
