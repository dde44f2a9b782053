// The processes on a host and their descriptor tables. A table lives in the arena so that fork can copy it, exec can find
// it again by pid, and the keeper can drop the references of a process that died.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "stack/mem/slot_pool.h"

namespace ustcp {

inline constexpr int kMaxProcesses = 1024;
inline constexpr int kFdsPerPage = 504;
inline constexpr int kFdPagesPerProcess = 2084;  // about a million descriptors

// One descriptor: what it stands for, or nothing. Packed so that a reader needs one load.
class FdEntry {
 public:
  enum Kind : uint8_t { kNone = 0, kSocket = 1, kEpoll = 2 };

  static uint64_t Pack(Kind kind, const void* object) {
    return reinterpret_cast<uint64_t>(object) | (uint64_t{kind} << 56);
  }
  static Kind KindOf(uint64_t bits) { return static_cast<Kind>(bits >> 56); }
  static void* ObjectOf(uint64_t bits) { return reinterpret_cast<void*>(bits & 0x00ff'ffff'ffff'ffff); }
};

struct FdPage : SlotHeader {
  static constexpr SlotKind kSlotKind = SlotKind::kFdPage;
  std::atomic<uint32_t> used{0};
  std::atomic<uint64_t> entries[kFdsPerPage] = {};
};
static_assert(sizeof(FdPage) <= 4096);

struct ProcessSlot {
  enum State : uint32_t {
    kFree = 0,
    kForking,  // table copied, child not yet running; creator_pid says who forks
    kLive,
    kDead,  // being cleaned up by the keeper
  };
  std::atomic<uint32_t> state;
  int32_t pid;
  int32_t creator_pid;
  uint32_t uid;
  uint64_t start_time;           // of /proc/PID/stat, tells a re-used pid
  uint16_t shard;                // its own shard, or kNoShard
  std::atomic<uint64_t> intent;  // a reference being added or dropped right now: FdEntry bits, for clean-up
  std::atomic<uint32_t> waking;  // threads with sleepers to wake outside of a lock: if they die, somebody else has to
  std::atomic<FdPage*> pages[kFdPagesPerProcess];
};
inline constexpr uint16_t kNoShard = 0xffff;

// Slots are taken lowest first and keep their numbers when freed, so behind one that was never used none was: scans of the
// table end there and leave the untouched part of the arena untouched.
inline bool NeverUsed(const ProcessSlot& slot) {
  return slot.pid == 0 && slot.creator_pid == 0 && slot.state.load(std::memory_order_acquire) == ProcessSlot::kFree;
}

}  // namespace ustcp
