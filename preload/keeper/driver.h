// The keeper's half that maps the arena: drives shards that nobody else drives, notices deaths and cleans up. It has no
// rights beyond the members' and makes few system calls.
//
// When it drives (docs/architecture.md, "keeper"):
//   led shard       a thread of the program sleeps on its queue: left alone, looked at now and then in case that thread is
//                   stopped; then it is driven as a quiet one until that thread turns again
//   busy shard      its program comes by by itself: looked at every tick; a tick without a turn is made up for
//   quiet shard     its program has not come by for several ticks: the driver sleeps on its queue in the program's place
//   orphaned shard  its program is gone: the same, until its last connection is
#pragma once

#include <poll.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "io/engine/engine.h"
#include "io/settings/settings.h"
#include "preload/keeper/cleanup.h"
#include "preload/keeper/internal.h"
#include "preload/keeper/setup.h"
#include "preload/keeper/wakes.h"
#include "stack/host/host.h"

namespace ustcp::keeper {

// The driver process: makes the arena (or adopts `arena_fd` >= 0), drops its rights, reports over `socket`, and works until
// the broker is gone. Returns the exit status.
int RunDriver(const Settings& settings, const DeviceInfo& device, const User& user, int socket, int arena_fd);

class Driver {
 public:
  Driver(Host& host, int socket, bool adopted);
  ~Driver();
  // False when a descriptor or thread could not be made.
  bool Open();
  void Run();

 private:
  static constexpr Duration kStuckLook = 250ms;  // at led shards with connections
  static constexpr Duration kBusyRetry = 1ms;    // a lock is held: again after this
  static constexpr uint32_t kFramesPerTurn = 256;

  struct ShardWatch {
    QueueRef queue;
    int32_t told = 0;    // as the broker counted when it sent the queue
    uint64_t turns = 0;  // as of the last look
    int quiet_ticks = 0;
    // Of a led shard:
    Instant next_look = Instant{};
    uint64_t look_turns = 0;  // as of the last such look
    bool overdue = false;     // there was something to do then
    bool stuck = false;       // its leader does not turn: we do
    bool asked_queue = false;
    bool letting_go = false;  // the broker was asked to close its copy of the queue
  };
  // What a look at all shards decided.
  struct Plan {
    Instant next = kNever;       // when to look again
    bool ticking = false;        // some shard needs looking at every tick
    std::vector<pollfd> queues;  // to sleep on in their programs' place
  };

  void HearBroker();
  void Hear(const InternalMessage& message, int fd);
  void HearQueue(const InternalMessage& message, int fd);
  void Tell(InternalKind kind, uint16_t shard);
  void LookAtProcesses();
  void WatchProcess(uint16_t slot);
  void Bury(uint16_t slot);
  void FinishBurials();
  void LookAtShard(Shard& shard, Instant now, Plan* plan);
  void LookAtLed(Shard& shard, ShardWatch& watch, Instant now, Plan* plan);
  void LookAtStuck(Shard& shard, ShardWatch& watch, Instant now, Plan* plan);
  bool FreeWhenEmpty(Shard& shard);
  void LetGoOfQueue(Shard& shard);
  void CloseQueue(Shard& shard);
  void PassReadingOn();
  void Announce();
  bool Drive(Shard& shard);
  void Send(Context& ctx, QueueRef queue);
  void FlushTouched(Context& ctx);
  QueueRef QueueOf(const Shard& shard) const;
  QueueRef ReadQueueOf(const Shard& shard) const;
  bool QueueOfAnother(const Shard& shard) const;
  void Sleep(const Plan& plan);
  void ReportIdle();
  bool Replaced() const;
  Duration Tick() const;

  Host& host_;
  int socket_;
  Wakes wakes_;
  std::vector<Burial> burials_;
  bool adopted_;
  bool broker_gone_ = false;
  bool told_to_end_ = false;
  bool reported_idle_ = false;
  bool look_ = true;        // at the process table
  uint32_t seen_word_ = 0;  // keeper_word as of the last look
  Instant started_;
  Instant awake_until_;  // no deep sleep before: members who often leave their lead need not wake us each time
  int epoll_fd_ = -1;
  int nudge_fd_ = -1;  // written when keeper_word changes while we sleep
  Engine* engine_ = nullptr;
  EngineStats counted_;  // of engine_, what the shards were told of
  std::unique_ptr<TxBatch> batch_;
  std::array<ShardWatch, kMaxShards> shards_{};
  QueueRef only_queue_;  // of an interface with one queue; shards_[].queue are unused then
  int announce_ = -1;    // shard whose queue is to tell the link where the host is
  bool announced_;
  Instant last_nudge_ = Instant{};
  std::array<int, kMaxProcesses> pidfds_;
};

}  // namespace ustcp::keeper
