// What the death of a lock holder leaves of sockets and listeners, put right: the part of RepairShard that knows them.
#include "stack/base/check.h"
#include "stack/host/host.h"
#include "stack/socket/socket.h"
#include "stack/socket/socket_internal.h"
#include "stack/socket/socket_ops.h"
#include "stack/tcp/listener.h"
#include "stack/tcp/tcb.h"

namespace ustcp {
namespace {

bool IsQueued(const Listener::Queue& queue, const Socket& s) {
  for (const Socket* q = queue.head; q != nullptr; q = q->accept_next)
    if (q == &s) return true;
  return false;
}

// The links from the head are the truth: each change of them is one store.
void RepairListener(Listener& listener) {
  // A socket that was being taken from its queue, by somebody who will not give it to anyone: it waits again.
  if (Socket* s = listener.in_transit;
      s != nullptr && s->kind == SlotKind::kSocket && s->generation == listener.in_transit_generation) {
    Listener::Queue& queue = listener.queues[s->shard];
    if (!IsQueued(queue, *s)) {
      s->accept_next = queue.head;
      s->parent = &listener;
      s->taker.store(0);
      queue.head = s;
    }
  }
  listener.in_transit = nullptr;
  uint32_t count = 0;
  for (Listener::Queue& queue : listener.queues) {
    queue.tail = nullptr;
    for (Socket* s = queue.head; s != nullptr; s = s->accept_next) {
      queue.tail = s;
      ++count;
    }
  }
  listener.accept_count.store(count);
  if (listener.socket != nullptr) listener.socket->ready.store(count != 0 ? EPOLLIN | EPOLLRDNORM : 0u);
}

// Waits at a listener without being in its queue: it was on its way there.
bool LostOnItsWay(const Socket& s, uint16_t shard) {
  if (s.parent == nullptr) return false;
  if (s.parent->kind != SlotKind::kListener) return true;
  ListenerLock guard(*s.parent);
  return !IsQueued(s.parent->queues[shard], s);
}

bool OnClosingList(const Shard& shard, const Socket& s) {
  for (const Socket* c = shard.closing.load(); c != nullptr; c = c->accept_next)
    if (c == &s) return true;
  return false;
}

void RepairSocket(Context& ctx, Socket& s) {
  if (s.conn != nullptr && (s.conn->kind != SlotKind::kConnection || s.conn->socket != &s)) {
    s.conn = nullptr;
    if (s.state != SocketState::kListening) s.state = SocketState::kDisconnected;
    StoreLevel(s, nullptr);
  }
  // listen() or the end of listening was under way: either ends here.
  Listener* listener = s.listener;
  if (listener != nullptr && (!s.bind.linked || !s.bind.listening || listener->socket != &s)) {
    CloseListener(ctx, s);
    s.state = SocketState::kListening;
  }
  const bool named = s.state == SocketState::kBound || s.state == SocketState::kFresh;
  if ((s.state == SocketState::kListening && s.listener == nullptr) || (named && s.conn == nullptr))
    BackToFresh(ctx, s);
}

}  // namespace

ListenerLock::ListenerLock(Listener& listener) noexcept : listener_(listener) {
  if (listener.lock.Lock() != LockResult::kOwnerDied) return;
  RepairListener(listener);
  listener.lock.MarkConsistent();
}

void RepairSockets(Context& ctx) noexcept {
  Shard& shard = ctx.shard;
  Socket* closing = shard.in_close;
  shard.in_close = nullptr;
  shard.sockets.ForEachLive([&](Socket& s) {
    RepairSocket(ctx, s);
    if (s.inode == 0 || LostOnItsWay(s, shard.index) || (&s == closing && !OnClosingList(shard, s))) {
      s.parent = nullptr;
      FinishClose(ctx, s);
    }
  });
  // A listener that no socket has was just being made, or given back.
  shard.listeners.ForEachLive([&shard](Listener& listener) {
    if (listener.socket == nullptr || listener.socket->listener != &listener) shard.listeners.Give(&listener);
  });
}

}  // namespace ustcp
