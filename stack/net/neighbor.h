// Neighbours on the link: ARP (RFC 826) and IPv6 neighbour discovery (RFC 4861) share one table per host.
//
// The answer that the data path needs, the MAC address, is one atomic word per entry. Frames that wait for a resolution
// hang on the entry under the table's lock; they leave through whichever shard's driver sees the answer.
#pragma once

#include <atomic>
#include <cstdint>

#include "stack/mem/slot_pool.h"
#include "stack/net/address.h"
#include "stack/sync/robust_mutex.h"
#include "stack/time/timer_wheel.h"

namespace ustcp {

struct Buf;
struct Context;

struct Neighbor : SlotHeader {
  static constexpr SlotKind kSlotKind = SlotKind::kNeighbor;
  enum State : uint8_t { kIncomplete, kReachable, kStale, kDelay, kProbe, kFailed };

  IpAddress address;
  std::atomic<uint64_t> mac{0};       // 48 bits, and kMacValid when usable
  State state = kIncomplete;
  uint8_t probes = 0;
  uint16_t timer_shard = 0;           // whose wheel holds the timer
  Instant confirmed = Instant{};
  Buf* waiting_head = nullptr;        // whole frames without destination MAC
  Buf* waiting_tail = nullptr;
  uint32_t waiting_count = 0;
  Instant deadline = kNever;

  static constexpr uint64_t kMacValid = uint64_t{1} << 48;
};

struct NeighborTable {
  static constexpr int kEntries = 512;
  RobustMutex lock;
  Neighbor entries[kEntries];
  std::atomic<int64_t> next_deadline_ns;   // earliest of the entries' deadlines, INT64_MAX: none
};

}  // namespace ustcp
