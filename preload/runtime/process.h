// The process's part of the runtime that its own files share: the member, the home shard, its TAP queue, and who leads.
#pragma once

#include "io/engine/engine_types.h"
#include "preload/runtime/runtime.h"
#include "preload/runtime/thread.h"

namespace ustcp::runtime {

// The queue to write to, fetched on first use; fd -1 when there is none.
QueueRef HomeQueue() noexcept;
// There is none yet, or the keeper refused it: to be asked for again.
bool QueueMissing() noexcept;
inline constexpr Duration kQueueRetry = 50ms;
// The queue to read: the same one, unless it is for another shard to read.
QueueRef ReadQueue() noexcept;
// The same, but fd -1 as long as nobody needed it.
QueueRef KnownQueue() noexcept;
// After the device failed: asks for a new one.
void ReopenHomeQueue() noexcept;

// The settings the process attached with. Requires: attached.
const Settings& CurrentSettings() noexcept;

// The leader reads the queue and fires the timers of the home shard; the process's other waiters sleep. True when the
// calling thread leads (now or already).
bool TakeLead(ThreadState& t) noexcept;
// Gives it up; another sleeping thread of the process is woken to take it.
void LeaveLead(ThreadState& t) noexcept;
bool Leads(const ThreadState& t) noexcept;
// A thread that sleeps without leading must be known, so that it can be told to lead.
void JoinFollowers(ThreadState& t) noexcept;
void LeaveFollowers(ThreadState& t) noexcept;

// One turn on the home shard: sends what is due, takes what has arrived, fires timers. With `flush_answers` also sends
// what that made due; otherwise it waits for the next turn.
void Turn(ThreadState& t, bool flush_answers) noexcept;
// Sends everything due in a shard whose lock ctx holds.
void Flush(ThreadState& t, Context& ctx) noexcept;
// After unlocking, the sleepers having been woken: flushes other shards that the turn touched, looks into mailboxes filled meanwhile.
void AfterUnlock(ThreadState& t, Context& ctx) noexcept;
// Takes in what this thread's ring has read and nobody has seen. Before the thread goes off to other work: no other thread
// can, and a frame that stays behind is as good as lost. Requires: no lock of the arena is held.
void TakeInHeldFrames(ThreadState& t) noexcept;
// A thread sleeps on a descriptor: gives the keeper a copy, so that other processes can wake it through the keeper.
void AnnounceWakeDescriptor(int fd) noexcept;
// The keeper's connection, which a leader watches while it sleeps; -1 when there is none.
int KeeperDescriptor() noexcept;
// The program closed the arena's descriptor past us: gets it back. False when that fails.
bool RestoreArenaDescriptor() noexcept;
// It ended: starts another one, which adopts the arena.
void CheckKeeper() noexcept;
// When to do so again after that failed; kNever as a rule.
Instant KeeperRetry() noexcept;
// Wakes a sleeper whose Waiter says kDescriptor: in this process by a write, elsewhere through the keeper.
void WakeByDescriptor(Waiter& w) noexcept;

}  // namespace ustcp::runtime
