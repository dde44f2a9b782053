// The process's side of the stack: attaching to the host, holding a shard's lock, driving it and sleeping. The interposed
// calls use this and socket_ops.h, nothing below.
//
// Threads: every function may be called by any thread. No function may be called from a signal handler that interrupted
// this layer; signals.h defers handlers while InsideStack() is true.
#pragma once

#include <poll.h>
#include <sys/epoll.h>
#include <sys/types.h>
#include <csignal>
#include <span>

#include "io/member/member.h"
#include "stack/host/host.h"
#include "stack/socket/readiness.h"
#include "stack/socket/socket.h"

namespace ustcp::runtime {

// CLOCK_MONOTONIC.
Instant Now() noexcept;
// The calling thread's last reading of it, where the thread holds on to one.
extern thread_local constinit int64_t t_clock_ns;

// Attaches on first use. Null on failure, with *error the errno for the call (ENETDOWN, EACCES, EINVAL); the reason was
// printed once as a line on stderr. A failed attach is tried again by the next call after one second at the earliest.
// `quiet`: a failure is neither printed nor remembered.
Host* AttachOrFail(int* error, bool quiet) noexcept;
// Null while this process is not attached.
Host* AttachedHost() noexcept;
const Member* AttachedMember() noexcept;
// Before attaching: where the program that ran in this process before had its keeper.
void UseKeeperAt(const char* socket_path) noexcept;
// Tells the keeper of an exec that hands sockets on.
void BeforeExec() noexcept;
ProcessSlot* OwnProcess() noexcept;
// The process's own shard. Requires: attached.
Shard& HomeShard() noexcept;

// True while the calling thread holds a lock of the arena.
bool InsideStack() noexcept;
// Called when the outermost Locked of a thread ended (set by signals.cc to run deferred handlers).
extern void (*g_after_unlock)() noexcept;

// Holds the lock of a socket's shard. On destruction: sends what is due (at once, unless the thread is working through a
// set of events that epoll_wait, poll or select gave it: then with the next wait), unlocks, wakes sleepers.
class Locked {
 public:
  explicit Locked(Socket& socket) noexcept;
  explicit Locked(Shard& shard) noexcept;
  ~Locked();
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;
  Context& ctx() noexcept { return lock_.ctx; }
  // What is due is sent on destruction in any case: it is much, and waiting for more of it gains nothing.
  void SendAtOnce() noexcept { at_once_ = true; }
  // This call has nothing to send: what was due before it stays for the thread's next wait, if the thread is working
  // through events of one, and be it a single one.
  void LeaveOutput() noexcept { leave_ = true; }

 private:
  bool MayWait(const struct ThreadState& t, const Context& ctx) const noexcept;

  int depth_;  // entered before the lock is taken
  bool at_once_ = false;
  bool leave_ = false;
  ShardLock lock_;
};

// Sleeps until the socket shows any of `events` (EPOLLERR and EPOLLHUP always count), driving its shard meanwhile.
// Returns 0, EAGAIN when the deadline passed, or EINTR when a signal handler ran.
int WaitSocket(Socket& socket, uint32_t events, Instant deadline) noexcept;

// Takes in what has arrived if the calling thread can tell at once that something has, and no other thread leads. For
// calls that go on for long without a wait: acknowledged buffers come back while they are in the cache.
void TurnIfFramesWait() noexcept;

struct PollMember {
  Socket* socket;
  uint32_t events;
};
// One wait over sockets and kernel descriptors. `kernel` gets its revents. Returns 0 when something may be ready (look at
// the levels and revents), EAGAIN when the deadline passed, EINTR, or ENOMEM. A deadline in the past makes one turn
// without sleeping.
int WaitMany(std::span<const PollMember> members, std::span<pollfd> kernel, Instant deadline,
             const sigset_t* mask) noexcept;

// epoll_wait on a set with ustcp members. Fills `events` with ready ustcp members first, then (has_kernel_members) with
// what the kernel's set at `real_epfd` reports. Returns the number of events, 0 on timeout, or -errno.
int WaitEpoll(EpollSet& set, int real_epfd, bool has_kernel_members, epoll_event* events, int max, Instant deadline,
              const sigset_t* mask) noexcept;

// The program ends, or becomes another one, and the calling thread's ring with it: what it has read is taken in, and
// reading ends, so that what comes later stays in the queue for the keeper or the next program. The thread may go on all
// the same (an exec that fails).
void LeaveQueue() noexcept;

// fork: nothing of ours is locked while it happens.
void BeforeFork() noexcept;
void AfterForkParent() noexcept;
// `process` is the slot that the parent prepared for the child (its table copied), or -1 when it was not attached.
void AfterForkChild(int process) noexcept;

// Descriptors that belong to the stack, for close(), dup2() and close_range() to leave alone. A call that moved one tells
// with RelocateDescriptor.
bool IsOwnDescriptor(int fd) noexcept;
// The program wants number `fd`, which is ours: moves ours elsewhere. False: not ours.
bool RelocateDescriptor(int fd) noexcept;

}  // namespace ustcp::runtime
