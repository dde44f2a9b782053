#include "stack/time/timer_wheel.h"

#include <algorithm>
#include <bit>

#include "stack/base/check.h"
#include "stack/base/fault.h"

namespace ustcp {
namespace {

constexpr uint16_t kDueSlot = 0xffff;

void Link(TimerNode& head, TimerNode& node) {
  node.next = &head;
  node.prev = head.prev;
  USTCP_FAULT_POINT();
  head.prev->next = &node;
  head.prev = &node;
}

bool Empty(const TimerNode& head) { return head.next == &head; }

}  // namespace

void TimerWheel::Init(Instant now) noexcept {
  tick_ = static_cast<uint64_t>(NanosOf(now)) >> kTickShift;
  armed_ = 0;
  next_known_ = true;
  next_ = kNever;
  for (auto& o : occupied_) o = 0;
  for (auto& k : earliest_known_) k = 0;
  for (auto& head : slots_) head.next = head.prev = &head;
  due_.next = due_.prev = &due_;
}

void TimerWheel::Insert(TimerNode& node) noexcept {
  int64_t ns = std::max<int64_t>(NanosOf(node.deadline), 0);
  uint64_t tick = static_cast<uint64_t>(ns) >> kTickShift;
  if (tick <= tick_) {
    node.slot = kDueSlot;
    Link(due_, node);
    return;
  }
  for (int level = 0; level < kLevels; ++level) {
    int shift = level * kSlotBits;
    uint64_t distance = (tick >> shift) - (tick_ >> shift);
    bool last = level == kLevels - 1;
    if (distance < kSlots || last) {
      uint64_t index = distance < kSlots ? (tick >> shift) : (tick_ >> shift) + kSlots - 1;
      auto slot = static_cast<uint16_t>(level * kSlots + (index & (kSlots - 1)));
      uint64_t bit = uint64_t{1} << (index & (kSlots - 1));
      if ((occupied_[level] & bit) == 0) {
        earliest_known_[level] |= bit;
        earliest_[slot] = node.deadline;
      } else {
        earliest_[slot] = std::min(earliest_[slot], node.deadline);  // of no use while it is not known
      }
      node.slot = slot;
      occupied_[level] |= bit;
      Link(slots_[slot], node);
      return;
    }
  }
}

void TimerWheel::Unlink(TimerNode& node) noexcept {
  node.prev->next = node.next;
  node.next->prev = node.prev;
  if (node.slot != kDueSlot) {
    uint64_t bit = uint64_t{1} << (node.slot % kSlots);
    if (Empty(slots_[node.slot])) occupied_[node.slot / kSlots] &= ~bit;
    if (node.deadline == earliest_[node.slot]) earliest_known_[node.slot / kSlots] &= ~bit;
  }
  node.next = node.prev = nullptr;
  USTCP_FAULT_POINT();
}

void TimerWheel::Arm(TimerNode& node, Instant deadline) noexcept {
  if (deadline == kNever) return Cancel(node);
  if (node.armed()) {
    if (node.deadline == deadline) return;
    if (next_known_ && node.deadline == next_) next_known_ = false;
    Unlink(node);
  } else {
    ++armed_;
  }
  node.deadline = deadline;
  Insert(node);
  if (next_known_ && deadline < next_) next_ = deadline;
}

void TimerWheel::Cancel(TimerNode& node) noexcept {
  if (!node.armed()) return;
  if (next_known_ && node.deadline == next_) next_known_ = false;
  Unlink(node);
  --armed_;
}

void TimerWheel::Advance(uint64_t tick) noexcept {
  // Finds the next occupied slot on each level instead of stepping through empty ticks.
  while (tick_ < tick && Empty(due_)) {
    uint64_t target = tick;
    for (int level = 0; level < kLevels; ++level) {
      if (occupied_[level] == 0) continue;
      int shift = level * kSlotBits;
      uint64_t here = tick_ >> shift;
      int from = static_cast<int>((here + 1) & (kSlots - 1));
      uint64_t rotated = std::rotr(occupied_[level], from);
      uint64_t at = (here + 1 + static_cast<uint64_t>(std::countr_zero(rotated))) << shift;
      target = std::min(target, at);
    }
    tick_ = target;
    for (int level = kLevels - 1; level >= 0; --level) {
      int shift = level * kSlotBits;
      if ((tick_ & ((uint64_t{1} << shift) - 1)) != 0) continue;
      auto index = (tick_ >> shift) & (kSlots - 1);
      if ((occupied_[level] >> index & 1) == 0) continue;
      TimerNode& head = slots_[level * kSlots + static_cast<int>(index)];
      occupied_[level] &= ~(uint64_t{1} << index);
      TimerNode* node = head.next;
      head.next = head.prev = &head;
      while (node != &head) {
        TimerNode* next = node->next;
        Insert(*node);
        node = next;
      }
    }
  }
}

TimerNode* TimerWheel::Expire(Instant now) noexcept {
  auto tick = static_cast<uint64_t>(std::max<int64_t>(NanosOf(now), 0)) >> kTickShift;
  if (armed_ == 0) {
    tick_ = std::max(tick_, tick);
    return nullptr;
  }
  Advance(tick);
  TimerNode* best = nullptr;
  for (TimerNode* n = due_.next; n != &due_; n = n->next)
    if (n->deadline <= now && (best == nullptr || n->deadline < best->deadline)) best = n;
  if (best != nullptr) Cancel(*best);
  return best;
}

Instant TimerWheel::SlotEarliest(int slot) noexcept {
  uint64_t bit = uint64_t{1} << (slot % kSlots);
  if ((earliest_known_[slot / kSlots] & bit) == 0) {
    const TimerNode& head = slots_[slot];
    Instant earliest = kNever;
    for (TimerNode* n = head.next; n != &head; n = n->next) earliest = std::min(earliest, n->deadline);
    earliest_[slot] = earliest;
    earliest_known_[slot / kSlots] |= bit;
  }
  return earliest_[slot];
}

Instant TimerWheel::NextDeadline() noexcept {
  if (next_known_) return next_;
  Instant best = kNever;
  for (TimerNode* n = due_.next; n != &due_; n = n->next) best = std::min(best, n->deadline);
  for (int level = 0; level < kLevels; ++level) {
    if (occupied_[level] == 0) continue;
    int from = static_cast<int>(((tick_ >> (level * kSlotBits)) + 1) & (kSlots - 1));
    uint64_t rotated = std::rotr(occupied_[level], from);
    int index = (from + std::countr_zero(rotated)) & (kSlots - 1);
    best = std::min(best, SlotEarliest(level * kSlots + index));
  }
  next_ = best;
  next_known_ = true;
  return best;
}

}  // namespace ustcp
