#include "stack/socket/readiness.h"

#include <cerrno>

#include "stack/base/fault.h"
#include "stack/base/user_copy.h"
#include "stack/host/host.h"
#include "stack/socket/socket_internal.h"
#include "stack/sync/futex.h"
#include "stack/tcp/listener.h"

namespace ustcp {
namespace {

constexpr uint32_t kAlways = EPOLLERR | EPOLLHUP;
constexpr uint32_t kModeFlags = EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP;

// The notifier stores the level and then looks for watchers; a watcher links itself and then looks at the level.
WatchNode* FirstWatcher(const Socket& s) { return __atomic_load_n(&s.watchers, __ATOMIC_SEQ_CST); }

void LinkWatcher(Socket& s, WatchNode& node) {
  node.socket = &s;
  node.watch_next = s.watchers;
  USTCP_FAULT_POINT();
  __atomic_store_n(&s.watchers, &node, __ATOMIC_SEQ_CST);
}

void UnlinkWatcher(WatchNode& node) {
  WatchNode** link = &node.socket->watchers;
  while (*link != nullptr && *link != &node) link = &(*link)->watch_next;
  if (*link == &node) __atomic_store_n(link, node.watch_next, __ATOMIC_SEQ_CST);
  USTCP_FAULT_POINT();
  node.watch_next = nullptr;
  node.socket = nullptr;
}

void Signal(Context& ctx, Waiter& waiter) {
  if (waiter.Signal()) ctx.wakes.Add(waiter);
}

void PushReady(EpollSet& set, EpollItem& item) {
  item.queued = true;
  item.ready_next = nullptr;
  USTCP_FAULT_POINT();
  if (set.ready_tail != nullptr)
    set.ready_tail->ready_next = &item;
  else
    set.ready_head = &item;
  USTCP_FAULT_POINT();
  set.ready_tail = &item;
  USTCP_FAULT_POINT();
  set.ready_count.fetch_add(1);
}

EpollItem* PopReady(EpollSet& set) {
  EpollItem* item = set.ready_head;
  set.ready_head = item->ready_next;
  USTCP_FAULT_POINT();
  if (set.ready_head == nullptr) set.ready_tail = nullptr;
  item->queued = false;
  item->ready_next = nullptr;
  set.ready_count.fetch_sub(1);
  return item;
}

void RemoveFromReady(EpollSet& set, EpollItem& item) {
  if (!item.queued) return;
  EpollItem* before = nullptr;
  for (EpollItem* i = set.ready_head; i != nullptr; before = i, i = i->ready_next) {
    if (i != &item) continue;
    if (before != nullptr)
      before->ready_next = item.ready_next;
    else
      set.ready_head = item.ready_next;
    if (set.ready_tail == &item) set.ready_tail = before;
    set.ready_count.fetch_sub(1);
    item.queued = false;
    return;
  }
}

// Queues an item and signals one thread of the set. Returns true when a thread was there to take it.
bool FireItem(Context& ctx, EpollItem& item) {
  EpollSet& set = *item.set;
  EpollSetLock guard(set);
  if (item.disabled) return false;
  if (!item.queued) PushReady(set, item);
  if (set.sleeper_count == 0) return false;
  Waiter* waiter = set.sleepers[0];
  --set.sleeper_count;
  USTCP_FAULT_POINT();
  for (uint32_t i = 0; i < set.sleeper_count; ++i) set.sleepers[i] = set.sleepers[i + 1];
  Signal(ctx, *waiter);
  return true;
}

// Returns true when a thread took notice.
bool Fire(Context& ctx, WatchNode& node) {
  if (node.watch_kind == WatchNode::kEpollItem) return FireItem(ctx, static_cast<EpollItem&>(node));
  Signal(ctx, *static_cast<WaitEntry&>(node).waiter);
  return true;
}

EpollItem* FindItem(Socket& socket, const EpollSet& set, int fd) {
  for (WatchNode* n = socket.watchers; n != nullptr; n = n->watch_next) {
    if (n->watch_kind != WatchNode::kEpollItem) continue;
    auto* item = static_cast<EpollItem*>(n);
    if (item->set == &set && item->fd == fd) return item;
  }
  return nullptr;
}

// Caller holds the watch stripe of the item's socket and the shard lock.
void FreeItem(Context& ctx, EpollItem& item) {
  EpollSet& set = *item.set;
  ctx.shard.item_in_update = &item;
  USTCP_FAULT_POINT();
  {
    EpollSetLock guard(set);
    RemoveFromReady(set, item);
    USTCP_FAULT_POINT();
    if (item.item_prev != nullptr)
      item.item_prev->item_next = item.item_next;
    else
      set.items = item.item_next;
    USTCP_FAULT_POINT();
    if (item.item_next != nullptr) item.item_next->item_prev = item.item_prev;
    --set.item_count;
  }
  USTCP_FAULT_POINT();
  UnlinkWatcher(item);
  ctx.shard.epoll_items.Give(&item);
  ctx.shard.item_in_update = nullptr;
}

// What hangs on the links between an epoll set's items. Whatever may be ready is queued: collecting looks again.
void RepairEpollSet(EpollSet& set) {
  EpollItem* before = nullptr;
  set.item_count = 0;
  set.ready_head = set.ready_tail = nullptr;
  uint32_t ready = 0;
  for (EpollItem* item = set.items; item != nullptr; before = item, item = item->item_next) {
    item->item_prev = before;
    ++set.item_count;
    item->ready_next = nullptr;
    item->queued = !item->disabled && item->socket != nullptr;
    if (!item->queued) continue;
    if (set.ready_tail != nullptr)
      set.ready_tail->ready_next = item;
    else
      set.ready_head = item;
    set.ready_tail = item;
    ++ready;
  }
  set.ready_count.store(ready);
  // Who was taken off the list of sleepers may not have been signalled: everybody looks for himself.
  for (Waiter*& waiter : set.sleepers) {
    if (waiter != nullptr && waiter->kind == SlotKind::kWaiter && waiter->Signal()) FutexWake(waiter->word);
    waiter = nullptr;
  }
  set.sleeper_count = 0;
}

}  // namespace

EpollSetLock::EpollSetLock(EpollSet& set) noexcept : set_(set) {
  if (set.lock.Lock() != LockResult::kOwnerDied) return;
  RepairEpollSet(set);
  set.lock.MarkConsistent();
}

void RepairEpollItems(Context& ctx) noexcept {
  EpollItem* item = ctx.shard.item_in_update;
  ctx.shard.item_in_update = nullptr;
  ctx.shard.epoll_items.ForEachLive([&](EpollItem& fresh) {
    if (fresh.set == nullptr && &fresh != item) ctx.shard.epoll_items.Give(&fresh);
  });
  if (item == nullptr || item->kind != SlotKind::kEpollItem) return;
  if (EpollSet* set = item->set; set != nullptr && set->kind == SlotKind::kEpollSet) {
    EpollSetLock guard(*set);
    RepairEpollSet(*set);
    EpollItem** link = &set->items;
    while (*link != nullptr && *link != item) link = &(*link)->item_next;
    if (*link == item) {
      RemoveFromReady(*set, *item);
      *link = item->item_next;
      if (item->item_next != nullptr) item->item_next->item_prev = item->item_prev;
      --set->item_count;
    }
  }
  if (Socket* socket = item->socket; socket != nullptr) {
    SimpleLock guard(ctx.host.watch_stripe(socket));
    UnlinkWatcher(*item);
  }
  ctx.shard.epoll_items.Give(item);
}

void Notify(Context& ctx, Socket& socket, uint32_t events) noexcept {
  if (events == 0 || FirstWatcher(socket) == nullptr) return;
  SimpleLock guard(ctx.host.watch_stripe(&socket));
  // Plain watchers all hear of it. Of the exclusive ones, those of the process that drives come first: it is awake.
  bool exclusive_seen = false;
  for (WatchNode* n = socket.watchers; n != nullptr; n = n->watch_next) {
    if (((n->events | kAlways) & events) == 0) continue;
    if (n->exclusive)
      exclusive_seen = true;
    else
      Fire(ctx, *n);
  }
  if (!exclusive_seen) return;
  for (bool own_process : {true, false})
    for (WatchNode* n = socket.watchers; n != nullptr; n = n->watch_next) {
      if (!n->exclusive || ((n->events | kAlways) & events) == 0) continue;
      if ((n->process == ctx.shard.process) != own_process) continue;
      if (Fire(ctx, *n)) return;
    }
}

void NoteAcceptor(Host& host, Listener& listener, uint16_t process) noexcept {
  if (process >= kMaxProcesses) return;
  uint16_t shard = host.processes[process].shard;
  if (shard >= kMaxShards) return;
  uint64_t bit = uint64_t{1} << (shard % 64);
  auto& word = listener.acceptors[shard / 64];
  if ((word.load(std::memory_order_relaxed) & bit) == 0) word.fetch_or(bit);
}

void Watch(Host& host, Socket& socket, WatchNode& node) noexcept {
  SimpleLock guard(host.watch_stripe(&socket));
  LinkWatcher(socket, node);
}

void Unwatch(Host& host, WatchNode& node) noexcept {
  Socket* socket = node.socket;
  if (socket == nullptr) return;
  SimpleLock guard(host.watch_stripe(socket));
  if (node.socket == socket) UnlinkWatcher(node);
}

int EpollAdd(Context& ctx, EpollSet& set, Socket& socket, int fd, const epoll_event& event) noexcept {
  if ((event.events & EPOLLEXCLUSIVE) != 0 &&
      (event.events & ~(EPOLLEXCLUSIVE | EPOLLWAKEUP | EPOLLET | EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0)
    return EINVAL;
  SimpleLock guard(ctx.host.watch_stripe(&socket));
  if (FindItem(socket, set, fd) != nullptr) return EEXIST;
  EpollItem* item = ctx.shard.epoll_items.Take();
  if (item == nullptr) return ENOMEM;
  ctx.shard.item_in_update = item;
  USTCP_FAULT_POINT();
  item->watch_kind = WatchNode::kEpollItem;
  item->set = &set;
  item->fd = fd;
  item->events = event.events & ~kModeFlags;
  item->flags = event.events & kModeFlags;
  item->exclusive = (event.events & EPOLLEXCLUSIVE) != 0;
  item->process = set.process;
  item->data = event.data.u64;
  {
    EpollSetLock set_guard(set);
    item->item_next = set.items;
    if (set.items != nullptr) set.items->item_prev = item;
    USTCP_FAULT_POINT();
    set.items = item;
    USTCP_FAULT_POINT();
    ++set.item_count;
  }
  USTCP_FAULT_POINT();
  LinkWatcher(socket, *item);
  ctx.shard.item_in_update = nullptr;
  if (Listener* listener = socket.listener; listener != nullptr) NoteAcceptor(ctx.host, *listener, set.process);
  if ((socket.ready.load() & (item->events | kAlways)) != 0) FireItem(ctx, *item);
  return 0;
}

int EpollModify(Context& ctx, EpollSet& set, Socket& socket, int fd, const epoll_event& event) noexcept {
  SimpleLock guard(ctx.host.watch_stripe(&socket));
  EpollItem* item = FindItem(socket, set, fd);
  if (item == nullptr) return ENOENT;
  if (item->exclusive || (event.events & EPOLLEXCLUSIVE) != 0) return EINVAL;
  {
    EpollSetLock set_guard(set);
    item->events = event.events & ~kModeFlags;
    item->flags = event.events & kModeFlags;
    item->data = event.data.u64;
    item->disabled = false;
  }
  if ((socket.ready.load() & (item->events | kAlways)) != 0) FireItem(ctx, *item);
  return 0;
}

int EpollDelete(Context& ctx, EpollSet& set, Socket& socket, int fd) noexcept {
  SimpleLock guard(ctx.host.watch_stripe(&socket));
  EpollItem* item = FindItem(socket, set, fd);
  if (item == nullptr) return ENOENT;
  FreeItem(ctx, *item);
  return 0;
}

void EpollForget(Context& ctx, Socket& socket) noexcept {
  if (FirstWatcher(socket) == nullptr) return;
  SimpleLock guard(ctx.host.watch_stripe(&socket));
  for (WatchNode* n = socket.watchers; n != nullptr;) {
    WatchNode* next = n->watch_next;
    if (n->watch_kind == WatchNode::kEpollItem)
      FreeItem(ctx, *static_cast<EpollItem*>(n));
    else
      UnlinkWatcher(*n);
    n = next;
  }
}

bool EpollDropItem(Context& ctx, EpollSet& set, EpollItem& item) noexcept {
  Socket* socket = item.socket;
  if (item.kind != SlotKind::kEpollItem || item.set != &set || socket == nullptr) return false;
  SimpleLock guard(ctx.host.watch_stripe(socket));
  FreeItem(ctx, item);
  return true;
}

int EpollCollect(EpollSet& set, epoll_event* events, int max) noexcept {
  if (set.ready_count.load() == 0 || max <= 0) return 0;
  EpollSetLock guard(set);
  int count = 0;
  // Each item that is queued now is looked at once; level-triggered ones go back to the tail.
  for (uint32_t left = set.ready_count.load(); left > 0 && count < max; --left) {
    EpollItem* item = set.ready_head;
    uint32_t now = item->disabled ? 0 : item->socket->ready.load() & (item->events | kAlways);
    if (now != 0) {
      epoll_event event{};
      event.events = now;
      event.data.u64 = item->data;
      // What the program did not get stays.
      if (!PutUser(&events[count], event)) return count > 0 ? count : -EFAULT;
    }
    PopReady(set);
    if (now == 0) continue;
    ++count;
    if ((item->flags & EPOLLONESHOT) != 0)
      item->disabled = true;
    else if ((item->flags & EPOLLET) == 0)
      PushReady(set, *item);
  }
  return count;
}

bool EpollSleep(EpollSet& set, Waiter& waiter) noexcept {
  EpollSetLock guard(set);
  for (uint32_t i = 0; i < set.sleeper_count; ++i)
    if (set.sleepers[i] == &waiter) return true;
  if (set.sleeper_count == EpollSet::kMaxSleepers) return false;
  set.sleepers[set.sleeper_count++] = &waiter;
  return true;
}

void EpollWake(EpollSet& set, Waiter& waiter) noexcept {
  EpollSetLock guard(set);
  for (uint32_t i = 0; i < set.sleeper_count; ++i) {
    if (set.sleepers[i] != &waiter) continue;
    --set.sleeper_count;
    for (uint32_t j = i; j < set.sleeper_count; ++j) set.sleepers[j] = set.sleepers[j + 1];
    return;
  }
}

}  // namespace ustcp
