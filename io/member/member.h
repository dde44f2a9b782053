// A process on a host: attaching to the arena, asking the keeper for TAP queues, coming back after fork and exec.
//
// Runs inside programs: no heap, no exceptions, raw system calls only (the C library's are interposed). Errors are one
// line for stderr and an errno number for the socket call: ENETDOWN (no interface, keeper not to be had, versions differ),
// EACCES (no right to the host or the interface), EINVAL (settings). The caller prints the line, once.
//
// Not thread-safe: the caller serialises calls on one Member. Descriptors are moved high, close-on-exec, and listed in
// OwnedFds as kShared.
#pragma once

#include <array>
#include <cstdint>

#include "io/device/tap.h"
#include "io/member/arena_map.h"
#include "io/member/keeper_protocol.h"
#include "io/settings/settings.h"
#include "stack/host/host.h"

namespace ustcp {

inline constexpr int kMaxMemberQueues = 16;

struct Member {
  Host* host = nullptr;  // null: not attached. Mapped at kArenaBase.
  uint16_t process = 0;  // index in host->processes
  bool resumed = false;  // the slot was found again after exec: its table of descriptors is already there
  int arena_fd = -1;
  int keeper_fd = -1;  // connection to the keeper; -1 when it was lost (the next request makes a new one)
  uint64_t arena_bytes = 0;
  ArenaIdentity arena;  // how another keeper's arena is told from ours
  // Fixed by the first attach: the user id may change later.
  char socket_path[kMaxSettingPath] = {};  // where the keeper was found last
  char directory[kMaxSettingPath] = {};    // where one that this process starts will be
  struct Queue {
    uint16_t shard = 0;
    int fd = -1;
    QueueShare share = QueueShare::kOwn;
  };
  std::array<Queue, kMaxMemberQueues> queues{};  // what RequestQueue gave, offered to the next keeper; fd -1: free
};

// Attaches to settings.host.name, starting its keeper when none answers. Idempotent. On success the process has a live
// slot in host->processes, and the keeper watches the process.
IoError Attach(const Settings& settings, const char* const* environment, Member* member) noexcept;

// A TAP queue for the shard. When there is one for several shards (*share), all may write to it and one reads: see
// MayReadQueue. The keeper keeps a copy, to drive the shard when nobody does. Sets shard.has_queue. When the queue's
// descriptor was lost (closed by the program past us), call again: the same queue comes back.
IoError RequestQueue(const Settings& settings, const char* const* environment, Member* member, uint16_t shard,
                     TapQueue* out, QueueShare* share) noexcept;

// After an error on a queue (the device was deleted and made again): a new queue in place of the old one.
IoError ReopenQueue(const Settings& settings, const char* const* environment, Member* member, uint16_t shard,
                    TapQueue* out, QueueShare* share) noexcept;

// Whether the shard's driver reads the queue it has; changes when the keeper passes the reading on.
inline bool MayReadQueue(const Host& host, uint16_t shard, QueueShare share) noexcept {
  return share == QueueShare::kOwn ||
         (share == QueueShare::kOnly && host.queue_reader.load(std::memory_order_relaxed) == shard + 1u);
}

// The descriptor of a queue has another number now.
void MoveQueue(Member* member, int from, int to) noexcept;

// The keeper wakes sleepers of other processes that sleep on a descriptor (Waiter::kDescriptor): hands it a copy of the
// eventfd `fd`, which it finds by the number in Waiter::wake_descriptor. To be called once for each such descriptor.
IoError RegisterWakeDescriptor(const Settings& settings, const char* const* environment, Member* member,
                               int fd) noexcept;

// In a child of fork, whose parent prepared slot `process` (state kForking): drops the parent's connection, takes the
// slot over (kLive) and tells the keeper to watch it. The mapping was inherited; a connection is made by the first request.
// Never fails today; the caller prints what it might say all the same.
IoError AttachForked(const Settings& settings, const char* const* environment, Member* member,
                     uint16_t process) noexcept;

// After the program closed our descriptors past us: the arena's is fetched from the keeper again. Does nothing when it is
// there.
IoError RestoreArena(const Settings& settings, const char* const* environment, Member* member) noexcept;

// True while the keeper's connection stands: one cheap system call. False: call EnsureKeeper.
bool KeeperAlive(const Member& member) noexcept;

// Reconnects, or (`start`) starts a new keeper that adopts the arena, which takes a right to the interface that not every
// member has. Nothing is lost when it fails; try again later.
IoError EnsureKeeper(const Settings& settings, const char* const* environment, Member* member,
                     bool start = true) noexcept;

// Before exec with sockets: the keeper is told that this process comes back as another program, which may be another user's
// by then. Never starts a keeper; what fails shows when the new program attaches.
void AnnounceExec(const Settings& settings, const char* const* environment, Member* member) noexcept;

// Maps an arena read-only for tools that look (ss, nstat). member->process is kNoProcess. Never starts a keeper.
inline constexpr uint16_t kNoProcess = 0xffff;
IoError Observe(const Settings& settings, const char* const* environment, Member* member,
                bool writable = false) noexcept;
// Unmaps and closes what Observe opened.
void EndObserve(Member* member) noexcept;

// A process slot for (pid, start_time): the one it has, or a free one made live. kNoProcess when all are taken.
// `found` tells whether it existed. Takes host_lock.
uint16_t TakeProcessSlot(Host& host, int32_t pid, uint64_t start_time, uint32_t uid, bool* found) noexcept;

// Field 22 of /proc/PID/stat, clock ticks after boot; 0 when there is no such process.
uint64_t ProcessStartTime(int32_t pid) noexcept;

// Wakes the keeper when it sleeps; to be called after leaving a shard without a driver, and after changes to the process
// table. Costs no system call while it is awake.
void NudgeKeeper(Host& host) noexcept;

}  // namespace ustcp
