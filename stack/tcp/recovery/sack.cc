// SACK and D-SACK blocks (RFC 2018, 2883): which are believed, and what they say about the records.
#include <array>

#include "stack/base/check.h"
#include "stack/tcp/recovery/internal.h"

namespace ustcp::recovery {
namespace {

constexpr size_t kMaxBlocks = Sender::kSackCacheBlocks;

// How many segments a D-SACK reports as received twice; 0: not credible.
uint32_t JudgeDsack(Sender& s, AckWork& w, SeqRange block) {
  if (!block.begin.Before(block.end)) return 0;
  const uint32_t length = block.length();
  // More than ever fitted into the peer's window.
  if (length > s.max_window) return 0;
  uint32_t segments = 1;
  if (length > s.mss) {
    segments = (length + s.mss - 1) / s.mss;
  } else if (s.tlp_outstanding && s.tlp_high_seq == block.end) {
    w.dsack_of_probe = true;
  }
  s.dsack_dups += segments;
  // More duplicates than there were retransmissions: the network duplicates.
  if (s.dsack_dups > s.total_retransmits) return 0;
  // Retransmitted too early because of reordering: RACK should wait longer. Probes are early by intention.
  if (s.reordering_seen && !w.dsack_of_probe) s.rack.dsack_seen = true;
  w.dsack = true;
  w.sack_delivered += segments;
  return segments;
}

void ReduceUndo(Sender& s, uint32_t segments) {
  s.undo_retransmits = std::max(0, s.undo_retransmits - static_cast<int32_t>(segments));
}

// Is the first block a D-SACK (RFC 2883 4), and a credible one?
bool CheckDsack(const SenderEnv& env, Sender& s, AckWork& w) {
  const SeqRange first = w.in.sacks[0];
  if (first.begin.Before(w.in.ack)) {
    env.counters.Add(Counter::kTcpExtTCPDSACKRecv);
  } else if (w.in.sack_count > 1) {
    const SeqRange second = w.in.sacks[1];
    if (first.end.After(second.end) || first.begin.Before(second.begin)) return false;
    env.counters.Add(Counter::kTcpExtTCPDSACKOfoRecv);
  } else {
    return false;
  }
  const uint32_t segments = JudgeDsack(s, w, first);
  if (segments == 0) {
    env.counters.Add(Counter::kTcpExtTCPDSACKIgnoredDubious);
    return false;
  }
  env.counters.Add(Counter::kTcpExtTCPDSACKRecvSegs, segments);
  // Data whose records are gone already.
  if (s.undo_marked && s.undo_retransmits > 0 && !first.end.After(w.prior_una) && first.end.After(s.undo_marker))
    ReduceUndo(s, segments);
  return true;
}

// Could the peer have received exactly this? A block must lie within what is outstanding; a D-SACK may also lie below
// snd_una, as far back as the data of the present episode.
bool IsPlausible(const Sender& s, bool dsack, SeqRange b) {
  if (b.end.After(s.snd_nxt) || !b.begin.Before(b.end) || !b.begin.Before(s.snd_nxt)) return false;
  if (b.begin.After(s.snd_una)) return true;
  if (!dsack || !s.undo_marked) return false;
  if (b.end.After(s.snd_una)) return false;
  if (!b.begin.Before(s.undo_marker)) return true;
  if (!b.end.After(s.undo_marker)) return false;
  return !b.begin.Before(b.end - s.max_window);
}

// Does the block cover the record? Cuts the record where the block's edge goes through it, at a segment boundary inside
// the block's part. False also when the record has to be looked at again because it was cut in front of the block.
bool Matches(const SenderEnv& env, Sender& s, TxSegment& r, SeqRange b) {
  if (b.Contains(r.range)) return true;
  if (r.segments < 2 || !r.range.end.After(b.begin) || !b.end.After(r.range.begin)) return false;
  const bool from_start = !b.begin.After(r.range.begin);
  const uint32_t syn = r.Has(TxSegment::kSyn) ? 1 : 0;
  uint32_t cut;
  if (from_start) {
    cut = (b.end.raw() - r.range.begin.raw() - syn) / r.mss * r.mss;
  } else {
    cut = (b.begin.raw() - r.range.begin.raw() - syn + r.mss - 1) / r.mss * r.mss;
  }
  if (cut == 0 || cut >= r.payload()) return false;
  return SplitRecord(env, s, r, cut) != nullptr && from_start;
}

void TagRecord(const SenderEnv& env, Sender& s, AckWork& w, TxSegment& r, bool dsack) {
  const uint8_t before = r.flags;
  constexpr uint8_t kAnyRetransmission = TxSegment::kRetransmitted | TxSegment::kEverRetransmitted;
  if (dsack && r.Has(kAnyRetransmission)) {
    if (s.undo_marked && s.undo_retransmits > 0 && r.range.end.After(s.undo_marker)) ReduceUndo(s, r.segments);
    if (r.Has(TxSegment::kSacked)) w.reordered = Seq::Earliest(w.reordered, r.range.begin);
  }
  // About to be acknowledged cumulatively.
  if (!r.range.end.After(s.snd_una)) return;

  if (!r.Has(TxSegment::kSacked)) {
    RackAdvance(env, s, before, r.mark());
    if (r.Has(TxSegment::kRetransmitted)) {
      // Not marked lost (the loss was taken back): the retransmission is believed to be still on its way.
      if (r.Has(TxSegment::kLost)) {
        r.flags &= static_cast<uint8_t>(~(TxSegment::kLost | TxSegment::kRetransmitted));
        s.lost_out -= r.segments;
        s.retrans_out -= r.segments;
      }
    } else {
      if (!r.Has(TxSegment::kEverRetransmitted)) {
        // A hole below what had been SACKed is filled by its original: reordering.
        if (r.range.begin.Before(HighestSacked(s))) w.reordered = Seq::Earliest(w.reordered, r.range.begin);
        if (!r.range.end.After(s.high_seq)) w.original_delivered = true;
        if (w.first_sacked == Instant{}) w.first_sacked = r.last_sent;
        w.last_sacked = r.last_sent;
      }
      if (r.Has(TxSegment::kLost)) {
        r.flags &= static_cast<uint8_t>(~TxSegment::kLost);
        s.lost_out -= r.segments;
      }
    }
    const Seq highest = HighestSacked(s);
    r.flags |= TxSegment::kSacked;
    s.sacked_out += r.segments;
    s.highest_sacked = Seq::Latest(highest, r.range.end);
    w.data_sacked = true;
    w.sack_delivered += r.segments;
  }
  if (dsack && r.Has(TxSegment::kRetransmitted)) {
    r.flags &= static_cast<uint8_t>(~TxSegment::kRetransmitted);
    s.retrans_out -= r.segments;
  }
  NoteDelivered(s, r, w.rate);
  LeaveTimeList(s, r);
}

// Tags the records that begin in [from, to) as far as the block (or the D-SACK inside it) covers them.
void Walk(const SenderEnv& env, Sender& s, AckWork& w, SeqRange block, const SeqRange* dsack, Seq from, Seq to) {
  for (TxSegment* r = FindRecord(s, from); r != nullptr && r->range.begin.Before(to); r = r->next) {
    bool duplicate = dsack != nullptr && Matches(env, s, *r, *dsack);
    if (duplicate || Matches(env, s, *r, block)) {
      TagRecord(env, s, w, *r, duplicate);
      s.sack_hint = r;
    }
  }
}

}  // namespace

void CheckReordering(const SenderEnv& env, Sender& s, Seq low, bool by_timestamp) noexcept {
  const Seq highest = HighestSacked(s);
  if (!low.Before(highest)) return;
  const uint32_t distance = highest.raw() - low.raw();
  if (s.mss != 0 && distance > uint64_t{s.reordering} * s.mss)
    s.reordering = std::min((distance + s.mss - 1) / s.mss, static_cast<uint32_t>(env.sysctls.tcp_max_reordering));
  s.reordering_seen = true;
  ++s.reorder_events;
  env.counters.Add(by_timestamp ? Counter::kTcpExtTCPTSReorder : Counter::kTcpExtTCPSACKReorder);
}

void TagSacks(const SenderEnv& env, Sender& s, AckWork& w) noexcept {
  w.reordered = s.snd_nxt;
  if (s.sacked_out == 0) s.sack_cache_count = 0;  // must not outlive a turn of the sequence space
  const size_t count = std::min<size_t>(w.in.sack_count, kMaxBlocks);
  const bool found_dsack = CheckDsack(env, s, w);
  // Very old ACKs say nothing of use.
  if (w.in.ack.Before(w.prior_una - s.max_window)) return;
  if (s.packets_out == 0) return;

  std::array<SeqRange, kMaxBlocks> blocks;
  size_t used = 0;
  const SeqRange* dsack = nullptr;
  for (size_t i = 0; i < count; ++i) {
    const SeqRange b = w.in.sacks[i];
    const bool is_dsack = i == 0 && found_dsack;
    if (!IsPlausible(s, is_dsack, b)) {
      if (is_dsack) {
        env.counters.Add(s.undo_marked ? Counter::kTcpExtTCPDSACKIgnoredOld : Counter::kTcpExtTCPDSACKIgnoredNoUndo);
      } else if (w.in.ack == s.snd_una || b.end.After(s.snd_una)) {
        env.counters.Add(Counter::kTcpExtTCPSACKDiscard);
      }
      continue;
    }
    if (!b.end.After(w.prior_una)) continue;
    if (is_dsack) {
      // Reported inside its enclosing block, which follows.
      dsack = &w.in.sacks[0];
      continue;
    }
    // In order of sequence.
    size_t at = used++;
    for (; at > 0 && b.begin.Before(blocks[at - 1].begin); --at) blocks[at] = blocks[at - 1];
    blocks[at] = b;
  }

  for (size_t i = 0; i < used; ++i) {
    const SeqRange b = blocks[i];
    Seq from = b.begin;
    // What the previous ACK's blocks covered has been tagged, unless duplicates are to be found in it.
    if (dsack == nullptr) {
      for (size_t c = 0; c < s.sack_cache_count && from.Before(b.end); ++c) {
        const SeqRange known = s.sack_cache[c];
        if (!known.begin.Before(b.end) || !known.end.After(from)) continue;
        if (from.Before(known.begin)) Walk(env, s, w, b, nullptr, from, known.begin);
        from = known.end;
      }
    }
    if (from.Before(b.end)) Walk(env, s, w, b, dsack, from, b.end);
  }
  s.sack_cache_count = static_cast<uint8_t>(used);
  std::copy_n(blocks.begin(), used, s.sack_cache);

  if (s.ca_state != CaState::kLoss || s.undo_marked) CheckReordering(env, s, w.reordered, false);
  USTCP_DCHECK(s.sacked_out + s.lost_out <= s.packets_out);
}

}  // namespace ustcp::recovery
