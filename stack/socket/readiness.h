// Readiness of sockets and who is told: epoll sets, and threads that sleep in poll, select or a blocking call.
//
// Level: Socket::ready, an atomic mask of EPOLL bits kept up to date by whoever holds the socket's shard lock. Edge: every
// Notify() call names the bits that just happened, also when the level did not change (new data on readable socket), and
// queues the socket on the epoll sets that asked for them. Linux's wake-up rules: all plain watchers, and one of the
// exclusive ones (EPOLLEXCLUSIVE, blocking accept).
#pragma once

#include <sys/epoll.h>

#include <atomic>
#include <cstdint>

#include "stack/host/waiter.h"
#include "stack/mem/slot_pool.h"
#include "stack/sync/robust_mutex.h"

namespace ustcp {

struct Context;
struct Host;
struct Socket;
struct EpollSet;
struct Listener;

// A link in a socket's watch list; guarded by the host's watch stripe of that socket.
struct WatchNode : SlotHeader {
  enum Kind : uint8_t { kEpollItem, kWaitEntry };
  Kind watch_kind = kWaitEntry;
  bool exclusive = false;
  uint16_t process = 0;
  uint32_t events = 0;  // EPOLL bits that concern this watcher; ERR and HUP always do
  Socket* socket = nullptr;
  WatchNode* watch_next = nullptr;  // one way only: adding and removing are one store each
};

// A thread sleeping for one socket.
struct WaitEntry : WatchNode {
  static constexpr SlotKind kSlotKind = SlotKind::kWaitEntry;
  Waiter* waiter = nullptr;
  WaitEntry* next_of_waiter = nullptr;  // free for the sleeper: its entries of one call
};

// One (descriptor, socket) registered in an epoll set.
struct EpollItem : WatchNode {
  static constexpr SlotKind kSlotKind = SlotKind::kEpollItem;
  EpollSet* set = nullptr;
  int32_t fd = -1;
  uint32_t flags = 0;  // EPOLLET, EPOLLONESHOT, EPOLLEXCLUSIVE, EPOLLWAKEUP
  uint64_t data = 0;
  bool queued = false;    // on the set's ready list
  bool disabled = false;  // ONESHOT has fired
  EpollItem* ready_next = nullptr;
  EpollItem* item_next = nullptr;  // all items of the set
  EpollItem* item_prev = nullptr;
};

// The lists of a set are made anew from `item_next` when a holder of its lock died.
struct EpollSet : SlotHeader {
  static constexpr SlotKind kSlotKind = SlotKind::kEpollSet;
  RobustMutex lock;  // guards everything below
  std::atomic<uint32_t> refs{0};
  std::atomic<uint32_t> ready_count{0};
  std::atomic<bool> has_kernel_members{false};  // the real epoll descriptor may watch kernel descriptors
  uint32_t item_count = 0;
  EpollItem* items = nullptr;
  EpollItem* ready_head = nullptr;
  EpollItem* ready_tail = nullptr;
  static constexpr int kMaxSleepers = 64;
  uint32_t sleeper_count = 0;
  Waiter* sleepers[kMaxSleepers] = {};  // threads in epoll_wait on this set, longest sleeper first
  uint16_t process = 0;                 // creator
};

class EpollSetLock {
 public:
  explicit EpollSetLock(EpollSet& set) noexcept;
  ~EpollSetLock() { set_.lock.Unlock(); }
  EpollSetLock(const EpollSetLock&) = delete;
  EpollSetLock& operator=(const EpollSetLock&) = delete;

 private:
  EpollSet& set_;
};

// Tells the watchers of a socket that `events` (EPOLL bits) happened. The level must have been stored before.
void Notify(Context& ctx, Socket& socket, uint32_t events) noexcept;

// The process accepts on this listener: its shard is a good place for new connections.
void NoteAcceptor(Host& host, Listener& listener, uint16_t process) noexcept;

// Adds or removes a watcher. After Watch the caller must look at the level once more before it sleeps.
void Watch(Host& host, Socket& socket, WatchNode& node) noexcept;
void Unwatch(Host& host, WatchNode& node) noexcept;

// epoll_ctl on a ustcp socket. `ctx` holds the lock of the socket's shard. Errors: EEXIST, ENOENT, ENOMEM, EINVAL.
int EpollAdd(Context& ctx, EpollSet& set, Socket& socket, int fd, const epoll_event& event) noexcept;
int EpollModify(Context& ctx, EpollSet& set, Socket& socket, int fd, const epoll_event& event) noexcept;
int EpollDelete(Context& ctx, EpollSet& set, Socket& socket, int fd) noexcept;
// The last descriptor `fd` of a socket in some process closed: items leave their sets when the socket itself goes
// (Linux: an item lives as long as its open file).
void EpollForget(Context& ctx, Socket& socket) noexcept;
// Frees one item of a set that is being released. `ctx` holds the lock of the item's shard. False: the item is gone.
bool EpollDropItem(Context& ctx, EpollSet& set, EpollItem& item) noexcept;
// Takes ready events, level-triggered items staying queued. Returns the number written to the program's array, or -EFAULT.
int EpollCollect(EpollSet& set, epoll_event* events, int max) noexcept;
// A thread is in epoll_wait and would take an event: Notify signals the one that waits longest and takes it off the list.
// False when the set has too many sleepers already.
bool EpollSleep(EpollSet& set, Waiter& waiter) noexcept;
void EpollWake(EpollSet& set, Waiter& waiter) noexcept;

}  // namespace ustcp
