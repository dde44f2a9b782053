// The host's neighbours on the link: the record only. What changes it is stack/net/neighbor.h.
#pragma once

#include <atomic>
#include <cstdint>

#include "stack/base/address.h"
#include "stack/mem/slot_pool.h"
#include "stack/sync/robust_mutex.h"
#include "stack/time/time.h"

namespace ustcp {

struct Buf;

// An entry is free when its kind is kFree; all-zero memory is a table of free entries. Everything but the atomics is
// guarded by the table's lock; `generation` is read without it and grows before an entry changes hands.
struct Neighbor : SlotHeader {
  static constexpr SlotKind kSlotKind = SlotKind::kNeighbor;
  enum State : uint8_t { kNone, kIncomplete, kReachable, kStale, kDelay, kProbe, kFailed };

  IpAddress address;
  std::atomic<uint64_t> mac{0};           // 48 bits, and kMacValid when usable
  std::atomic<int64_t> confirmed_ns{0};   // when the peer last proved that it hears us
  std::atomic<int64_t> look_again_ns{0};  // a sender later than this takes the lock and looks at the state
  State state = kNone;
  uint8_t probes = 0;             // sent in this state
  Instant updated = Instant{};    // when the MAC address was last learnt
  Instant used = Instant{};       // when a path was last made through it: the longest unused is evicted
  int64_t reachable_time_ns = 0;  // randomised each time it becomes reachable
  Instant deadline = kNever;
  Buf* waiting_head = nullptr;  // whole frames without destination MAC, oldest first
  Buf* waiting_tail = nullptr;
  uint32_t waiting_count = 0;

  static constexpr uint64_t kMacValid = uint64_t{1} << 48;
};

struct NeighborTable {
  static constexpr int kEntries = 512;
  // An address may live in this many entries, from its hash on.
  static constexpr int kWindow = 16;
  RobustMutex lock;
  Neighbor entries[kEntries];
  std::atomic<int64_t> next_deadline_ns;  // earliest of the entries' deadlines, INT64_MAX: none
};

}  // namespace ustcp
