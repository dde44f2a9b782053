// What TCP tells the socket layer (declared in stack/tcp/tcp.h).
#include "stack/base/fault.h"
#include "stack/host/host.h"
#include "stack/socket/readiness.h"
#include "stack/socket/socket.h"
#include "stack/socket/socket_internal.h"
#include "stack/tcp/listener.h"
#include "stack/tcp/tcb.h"
#include "stack/tcp/tcp.h"

namespace ustcp {

void StoreLevel(Socket& s, const Connection* conn) noexcept {
  uint32_t level;
  if (s.state == SocketState::kListening) return;  // kept by the accept queue, under the listener's lock
  if (conn != nullptr)
    level = TcpPoll(*conn, s);
  else
    level = kClosedLevel | (s.error != 0 ? EPOLLERR : 0u) |
            (s.state == SocketState::kDisconnected ? EPOLLIN | EPOLLRDNORM | EPOLLRDHUP : 0u);
  s.ready.store(level);
}

bool SocketForAccepted(Context& ctx, Listener& listener, Connection& conn) noexcept {
  ListenerLock guard(listener);
  Socket* parent = SocketOf(listener.socket);
  if (parent == nullptr) return false;
  if (listener.accept_queue_full()) {
    ctx.counters().Add(Counter::kTcpExtListenOverflows);
    ctx.counters().Add(Counter::kTcpExtListenDrops);
    return false;
  }
  Socket* s = ctx.shard.sockets.Take();
  if (s == nullptr) {
    ctx.counters().Add(Counter::kTcpExtListenDrops);
    return false;
  }
  s->parent = &listener;  // first: who waits nowhere in its parent's queue is nobody's
  USTCP_FAULT_POINT();
  s->refs.store(1);  // the queue's, handed to whoever accepts
  s->family = parent->family;
  s->state = SocketState::kConnected;
  s->connect_reported = true;
  s->uid = parent->uid;
  s->owner_pid = parent->owner_pid;
  s->inode = ctx.host.next_inode.fetch_add(1);
  s->options = parent->options;
  s->local = conn.tuple.local;
  s->peer = conn.tuple.peer;
  s->conn = &conn;
  USTCP_FAULT_POINT();
  conn.socket = s;
  USTCP_FAULT_POINT();
  StoreLevel(*s, &conn);
  Listener::Queue& queue = listener.queues[ctx.shard.index];
  if (queue.tail != nullptr)
    queue.tail->accept_next = s;
  else
    queue.head = s;
  USTCP_FAULT_POINT();
  queue.tail = s;
  USTCP_FAULT_POINT();
  listener.accept_count.fetch_add(1);
  USTCP_FAULT_POINT();
  parent->ready.store(EPOLLIN | EPOLLRDNORM);
  Notify(ctx, *parent, EPOLLIN | EPOLLRDNORM);
  return true;
}

void SocketEvents(Context& ctx, Connection& conn, uint32_t events) noexcept {
  Socket* s = SocketOf(conn.socket);
  if (s == nullptr) return;
  if (s->state == SocketState::kConnecting && conn.state != TcpState::kSynSent && conn.state != TcpState::kSynRecv &&
      conn.state != TcpState::kClosed)
    s->state = SocketState::kConnected;
  StoreLevel(*s, &conn);
  Notify(ctx, *s, events);
}

void SocketError(Context& ctx, Connection& conn, int error) noexcept {
  if (conn.socket == nullptr) return;
  conn.socket->error = error;
  SocketEvents(ctx, conn, EPOLLERR | EPOLLHUP | EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM | EPOLLRDHUP);
}

void SocketDetach(Context& ctx, Connection& conn) noexcept {
  Socket* s = SocketOf(conn.socket);
  if (s == nullptr) return;
  conn.socket = nullptr;
  USTCP_FAULT_POINT();
  s->conn = nullptr;
  USTCP_FAULT_POINT();
  s->state = SocketState::kDisconnected;
  StoreLevel(*s, nullptr);
  Notify(ctx, *s, s->ready.load());
}

}  // namespace ustcp
