// One deadline per object, kept in a hierarchical timing wheel in the arena. The wheel holds, for each object, the
// earliest of its deadlines; moving a deadline later does not touch the wheel (the object finds on waking that it is
// early and arms again), so an ACK that pushes the retransmission timer out costs nothing here.
#pragma once

#include <cstddef>
#include <cstdint>

#include "stack/time/time.h"

namespace ustcp {

struct SlotHeader;

struct TimerNode {
  TimerNode* next = nullptr;  // circular list with the slot's head
  TimerNode* prev = nullptr;  // null: not armed
  Instant deadline = kNever;
  SlotHeader* owner = nullptr;  // whose deadline this is; its kind says what to do
  uint16_t slot = 0;
  bool armed() const { return prev != nullptr; }
};

// Guarded by the shard's lock. Deadlines keep nanosecond precision: Expire() hands out exactly those at or before `now`.
class TimerWheel {
 public:
  void Init(Instant now) noexcept;
  // Arms or moves. A deadline in the past fires at the next Expire.
  void Arm(TimerNode& node, Instant deadline) noexcept;
  // Arms only when not armed or when `deadline` is earlier than the armed one.
  void ArmEarlier(TimerNode& node, Instant deadline) noexcept {
    if (!node.armed() || deadline < node.deadline) Arm(node, deadline);
  }
  void Cancel(TimerNode& node) noexcept;
  // Takes one expired node off the wheel, or null when none is due. Call until null.
  TimerNode* Expire(Instant now) noexcept;
  // The earliest armed deadline, or kNever. Exact.
  Instant NextDeadline() noexcept;
  size_t armed() const noexcept { return armed_; }

 private:
  // Level L has 64 slots of 2^(20 + 6 L) ns: about 1 ms, 67 ms, 4.3 s, 275 s, 4.9 h, 13 d.
  static constexpr int kLevels = 6;
  static constexpr int kSlotBits = 6;
  static constexpr int kSlots = 1 << kSlotBits;
  static constexpr int kTickShift = 20;

  void Insert(TimerNode& node) noexcept;
  void Unlink(TimerNode& node) noexcept;
  // Moves on to the next tick that has something, `tick` at most.
  void Advance(uint64_t tick) noexcept;
  Instant SlotEarliest(int slot) noexcept;

  uint64_t tick_;  // everything before this tick has been moved to `due_` or down
  size_t armed_;
  bool next_known_;
  Instant next_;
  uint64_t occupied_[kLevels];
  // The earliest deadline of each occupied slot whose bit is set in earliest_known_. A slot of the higher levels may hold
  // thousands of TIME_WAIT entries, which must not be walked whenever some other timer is cancelled.
  uint64_t earliest_known_[kLevels];
  Instant earliest_[kLevels * kSlots];
  TimerNode slots_[kLevels * kSlots];
  TimerNode due_;  // expired or of the current tick, unsorted
};

}  // namespace ustcp
