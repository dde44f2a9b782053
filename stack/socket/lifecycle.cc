// Opening, naming, listening, connecting, accepting and closing (socket_ops.h).
#include <netinet/in.h>
#include <sodium/crypto_shorthash.h>

#include <algorithm>
#include <cstring>

#include "stack/base/fault.h"
#include "stack/host/host.h"
#include "stack/socket/readiness.h"
#include "stack/socket/socket.h"
#include "stack/socket/socket_internal.h"
#include "stack/socket/socket_ops.h"
#include "stack/tcp/listener.h"
#include "stack/tcp/tcb.h"
#include "stack/tcp/tcp.h"

namespace ustcp {
namespace {

constexpr int kNonblock = 04000;  // O_NONBLOCK

// Removes what bind() or an automatic choice registered for the socket itself.
void Unbind(Host& host, Socket& s) {
  host.ports.Remove(s.bind);
  s.bind = BindNode{};
}

void FillBindNode(Socket& s, const Endpoint& local) {
  s.bind.owner = &s;
  s.bind.address = local.address;
  s.bind.port = local.port;
  s.bind.uid = s.uid;
  s.bind.v6 = s.family == AF_INET6;
  s.bind.v6only = s.options.v6only;
  s.bind.reuse = s.options.reuse_addr;
  s.bind.reuseport = s.options.reuse_port;
}

// A port for a socket that has none, chosen as bind() with port 0 does.
Error BindEphemeral(Context& ctx, Socket& s, const IpAddress& address) {
  FillBindNode(s, Endpoint{address, 0});
  const PortRange range = EphemeralPorts(ctx.sysctls());
  if (!ctx.host.ports.BindAny(s.bind, range.first, range.last, ctx.Random())) {
    s.bind = BindNode{};
    return Error{EADDRINUSE};
  }
  s.local = Endpoint{address, s.bind.port};
  return kOk;
}

// The close of a socket that nobody accepted sends RST, as with a linger time of 0.
void ResetOnClose(Socket& s) {
  s.options.linger_on = true;
  s.options.linger_seconds = 0;
}

// Ends one socket that nobody accepted.
void DropUnaccepted(Context& ctx, Socket& s) {
  ResetOnClose(s);
  if (s.refs.fetch_sub(1) == 1) FinishClose(ctx, s);
}

// Takes the first socket of a queue that is not empty. The caller holds the listener's lock, and says by clearing
// `in_transit` that the socket has a new home.
Socket* PopAccepted(Listener& listener, Listener::Queue& queue) {
  Socket* s = queue.head;
  listener.in_transit_generation = s->generation;
  listener.in_transit = s;
  USTCP_FAULT_POINT();
  queue.head = s->accept_next;
  USTCP_FAULT_POINT();
  if (queue.head == nullptr) queue.tail = nullptr;
  s->accept_next = nullptr;
  s->parent = nullptr;
  return s;
}

}  // namespace

void CloseListener(Context& ctx, Socket& s) noexcept {
  Listener& listener = *s.listener;
  ctx.host.ports.Remove(s.bind);
  USTCP_FAULT_POINT();
  s.bind.listening = false;
  Listener::Queue& own = listener.queues[ctx.shard.index];
  {
    ListenerLock guard(listener);
    listener.socket = nullptr;
    for (Listener::Queue& queue : listener.queues) {
      // Another shard's sockets are closed by whoever drives that shard next.
      while (&queue != &own && queue.head != nullptr) {
        Socket* queued = PopAccepted(listener, queue);
        ResetOnClose(*queued);
        listener.in_transit = nullptr;
        if (queued->refs.fetch_sub(1) == 1) HandOverForClose(ctx, *queued);
      }
    }
    s.ready.store(0);
  }
  while (own.head != nullptr) {
    {
      ListenerLock guard(listener);
      ctx.shard.in_close = PopAccepted(listener, own);
      listener.in_transit = nullptr;
    }
    USTCP_FAULT_POINT();
    DropUnaccepted(ctx, *ctx.shard.in_close);
    ctx.shard.in_close = nullptr;
  }
  listener.accept_count.store(0);
  USTCP_FAULT_POINT();
  s.listener = nullptr;
  ctx.shard.listeners.Give(&listener);
}

void HandOverForClose(Context& ctx, Socket& s) noexcept {
  Shard& shard = ctx.host.shard(s);
  Socket* head = shard.closing.load(std::memory_order_relaxed);
  do s.accept_next = head;
  while (!shard.closing.compare_exchange_weak(head, &s, std::memory_order_release, std::memory_order_relaxed));
  if (Waiter* leader = shard.leader_waiter.load(); leader != nullptr && leader->Signal()) ctx.wakes.Add(*leader);
}

bool Socket::nonblocking() const { return (status_flags.load(std::memory_order_relaxed) & kNonblock) != 0; }

Result<Socket*> OpenSocket(Context& ctx, uint16_t family, uint32_t status_flags, uint32_t uid, int32_t pid) noexcept {
  if (family != AF_INET && family != AF_INET6) return Error{EAFNOSUPPORT};
  Socket* s = ctx.shard.sockets.Take();
  if (s == nullptr) return Error{ENOBUFS};
  s->refs.store(1);
  s->family = family;
  s->status_flags.store(status_flags);
  s->uid = uid;
  s->owner_pid = pid;
  s->options.v6only = family == AF_INET6 && ctx.sysctls().bindv6only != 0;
  s->options.congestion = static_cast<CcKind>(int32_t{ctx.sysctls().tcp_congestion_control});
  s->local.address = family == AF_INET ? IpAddress::AnyV4() : IpAddress::AnyV6();
  s->ready.store(kClosedLevel);
  USTCP_FAULT_POINT();
  s->inode = ctx.host.next_inode.fetch_add(1);  // last: who has none was never handed out
  return s;
}

Result<Endpoint> ParseSockaddr(const Socket& s, const sockaddr* address, socklen_t length, bool for_connect) noexcept {
  uint16_t family;
  if (length < sizeof family) return Error{EINVAL};
  std::memcpy(&family, address, sizeof family);
  Endpoint e;
  if (s.family == AF_INET) {
    if (length < sizeof(sockaddr_in)) return Error{EINVAL};
    sockaddr_in in;
    std::memcpy(&in, address, sizeof in);
    e.address = IpAddress::FromV4Bytes(&in.sin_addr);
    e.port = ntohs(in.sin_port);
    // bind() takes AF_UNSPEC with the any-address as AF_INET, for old programs.
    if (family != AF_INET && (for_connect || family != AF_UNSPEC || !e.address.is_any())) return Error{EAFNOSUPPORT};
    return e;
  }
  if (length < 24) return Error{EINVAL};  // SIN6_LEN_RFC2133
  if (family != AF_INET6) return Error{for_connect || family != AF_INET ? EAFNOSUPPORT : EINVAL};
  sockaddr_in6 in6{};
  std::memcpy(&in6, address, std::min<size_t>(length, sizeof in6));
  e.address = IpAddress::FromV6Bytes(&in6.sin6_addr);
  e.port = ntohs(in6.sin6_port);
  return e;
}

void WriteSockaddr(uint16_t family, const Endpoint& endpoint, sockaddr* address, socklen_t* length) noexcept {
  if (family == AF_INET) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(endpoint.port);
    std::memcpy(&in.sin_addr, endpoint.address.v4(), 4);
    std::memcpy(address, &in, std::min<size_t>(*length, sizeof in));
    *length = sizeof in;
    return;
  }
  sockaddr_in6 in6{};
  in6.sin6_family = AF_INET6;
  in6.sin6_port = htons(endpoint.port);
  std::memcpy(&in6.sin6_addr, endpoint.address.bytes.data(), 16);
  std::memcpy(address, &in6, std::min<size_t>(*length, sizeof in6));
  *length = sizeof in6;
}

Error BindSocket(Context& ctx, Socket& s, const Endpoint& local) noexcept {
  const IpAddress& a = local.address;
  if (s.family == AF_INET6 && a.is_v4() && s.options.v6only) return Error{EINVAL};
  if (!a.is_any() && !s.options.freebind && ctx.sysctls().ip_nonlocal_bind == 0 && !IsLocalAddress(ctx.host, a))
    return Error{EADDRNOTAVAIL};
  if (local.port != 0 && local.port < ctx.sysctls().ip_unprivileged_port_start && s.uid != 0) return Error{EACCES};
  if (s.state != SocketState::kFresh || s.bind.linked) return Error{EINVAL};
  if (local.port == 0) {
    if (Error e = BindEphemeral(ctx, s, a)) return e;
  } else {
    FillBindNode(s, local);
    if (!ctx.host.ports.Bind(s.bind)) {
      s.bind = BindNode{};
      return Error{EADDRINUSE};
    }
    s.local = local;
  }
  s.state = SocketState::kBound;
  return kOk;
}

Error ListenSocket(Context& ctx, Socket& s, int backlog) noexcept {
  auto somaxconn = static_cast<uint32_t>(ctx.sysctls().somaxconn);
  uint32_t limit = std::min(static_cast<uint32_t>(backlog), somaxconn);
  if (s.state == SocketState::kListening) {
    ListenerLock guard(*s.listener);
    s.listener->backlog = limit;
    return kOk;
  }
  if (s.state != SocketState::kFresh && s.state != SocketState::kBound) return Error{EINVAL};
  if (!s.bind.linked)
    if (Error e = BindEphemeral(ctx, s, s.family == AF_INET ? IpAddress::AnyV4() : IpAddress::AnyV6())) return e;
  Listener* listener = ctx.shard.listeners.Take();
  if (listener == nullptr) return Error{ENOBUFS};
  listener->lock.Init();
  listener->socket = &s;
  listener->local = s.local;
  listener->backlog = limit;
  USTCP_FAULT_POINT();
  s.listener = listener;
  USTCP_FAULT_POINT();
  s.state = SocketState::kListening;
  USTCP_FAULT_POINT();
  s.ready.store(0);
  s.bind.reuse = s.options.reuse_addr;
  s.bind.reuseport = s.options.reuse_port;
  if (!ctx.host.ports.SetListening(s.bind)) {
    s.listener = nullptr;
    s.state = SocketState::kBound;
    s.ready.store(kClosedLevel);
    ctx.shard.listeners.Give(listener);
    return Error{EADDRINUSE};
  }
  return kOk;
}

namespace {

Error StartConnect(Context& ctx, Socket& s, const Endpoint& peer) {
  Endpoint to = peer;
  if (to.address.is_any()) {
    // The any-address as a destination is the host itself (Linux: loopback).
    bool v4 = s.family == AF_INET || to.address.is_v4();
    if (!ChooseSource(ctx.host, v4 ? IpAddress::V4(127, 0, 0, 1) : IpAddress::AnyV6(), to.address))
      return Error{ENETUNREACH};
  }
  if (to.address.is_multicast()) return Error{ENETUNREACH};
  if (s.family == AF_INET6 && to.address.is_v4() && s.options.v6only) return Error{ENETUNREACH};
  Endpoint from = s.local;
  if (from.address.is_any() && !ChooseSource(ctx.host, to.address, from.address)) return Error{ENETUNREACH};
  if (from.address.is_v4() != to.address.is_v4()) return Error{ENETUNREACH};
  s.peer = to;
  s.local = from;
  s.error = 0;
  if (s.bind.linked) {
    if (Error e = TcpConnect(ctx, s)) return e;
  } else {
    // RFC 6056, algorithm 3: a keyed offset per destination, then on to the next free one; even distances first would
    // leave odd ports to bind(), as Linux does.
    struct {
      IpAddress from, to;
      uint16_t port;
    } key{from.address, to.address, to.port};
    static_assert(sizeof key == 34);
    uint64_t offset;
    crypto_shorthash(reinterpret_cast<uint8_t*>(&offset), reinterpret_cast<const uint8_t*>(&key), sizeof key,
                     ctx.host.secrets.port.data());
    offset += ctx.Random() % 8 * 2;
    const PortRange range = EphemeralPorts(ctx.sysctls());
    const uint32_t count = range.last - range.first + 1u;
    Error result{EADDRNOTAVAIL};
    for (uint32_t parity = 0; parity < 2 && result == Error{EADDRNOTAVAIL}; ++parity)
      for (uint32_t i = parity; i < count; i += 2) {
        auto port = static_cast<uint16_t>(range.first + ((offset & ~uint64_t{1}) + i) % count);
        Tuple tuple{{from.address, port}, to};
        TupleNode* taken = ctx.host.tuples.Find(tuple, ctx.host.tuples.Hash(tuple));
        if (taken != nullptr && taken->kind != SlotKind::kTimeWait) continue;
        if (!ctx.host.ports.UsableForConnect(port)) continue;
        s.local.port = port;
        result = TcpConnect(ctx, s);
        if (result != Error{EADDRNOTAVAIL}) break;
      }
    if (result) {
      s.local = Endpoint{from.address, 0};
      return result;
    }
  }
  s.state = SocketState::kConnecting;
  s.connect_reported = false;
  StoreLevel(s, s.conn);
  return Error{EINPROGRESS};
}

}  // namespace

void BackToFresh(Context& ctx, Socket& s) noexcept {
  if (s.conn != nullptr) {
    Connection* conn = s.conn;
    TcpDisconnect(ctx, *conn);
    s.conn = nullptr;
  }
  s.peer = Endpoint{};
  s.shut_rd = s.shut_wr = false;
  if (s.bind.linked) {
    s.local = Endpoint{s.bind.address, s.bind.port};
    s.state = SocketState::kBound;
  } else {
    s.local = Endpoint{s.family == AF_INET ? IpAddress::AnyV4() : IpAddress::AnyV6(), 0};
    s.state = SocketState::kFresh;
  }
  StoreLevel(s, nullptr);
}

Error ConnectSocket(Context& ctx, Socket& s, const Endpoint& peer) noexcept {
  switch (s.state) {
    case SocketState::kFresh:
    case SocketState::kBound: {
      IpAddress bound = s.local.address;
      Error e = StartConnect(ctx, s, peer);
      if (e != Error{EINPROGRESS}) s.local.address = bound;
      return e;
    }
    case SocketState::kConnecting: {
      TcpState state = s.conn != nullptr ? s.conn->state : TcpState::kClosed;
      if (state == TcpState::kSynSent || state == TcpState::kSynRecv) return Error{EALREADY};
      if (state == TcpState::kClosed) {
        int error = TakeError(s);
        BackToFresh(ctx, s);
        return Error{error != 0 ? error : ECONNABORTED};
      }
      s.state = SocketState::kConnected;
      s.connect_reported = true;
      return kOk;
    }
    case SocketState::kConnected:
      if (!s.connect_reported) {
        s.connect_reported = true;
        if (s.conn != nullptr && s.conn->state == TcpState::kClosed && s.error != 0) {
          int error = TakeError(s);
          BackToFresh(ctx, s);
          return Error{error};
        }
        return kOk;
      }
      return Error{EISCONN};
    case SocketState::kListening:
    case SocketState::kDisconnected: return Error{EISCONN};
  }
  return Error{EINVAL};
}

Error DisconnectSocket(Context& ctx, Socket& s) noexcept {
  if (s.state == SocketState::kListening) {
    CloseListener(ctx, s);
    if (s.bind.port_given)
      ctx.host.ports.Add(s.bind, s.bind.port);
    else
      Unbind(ctx.host, s);
  }
  s.error = 0;
  BackToFresh(ctx, s);
  return kOk;
}

Result<Socket*> AcceptSocket(Host& host, Socket& listening, uint16_t prefer_shard) noexcept {
  (void)host;
  Listener* listener = listening.listener;
  if (listening.state != SocketState::kListening || listener == nullptr) return Error{EINVAL};
  ListenerLock guard(*listener);
  if (listener->socket != &listening) return Error{EINVAL};
  if (listener->accept_count.load() == 0) return Error{EAGAIN};
  Listener::Queue* queue = prefer_shard < kMaxShards ? &listener->queues[prefer_shard] : &listener->queues[0];
  for (int i = 0; queue->head == nullptr && i < kMaxShards; ++i) queue = &listener->queues[i];
  if (queue->head == nullptr) return Error{EAGAIN};
  Socket* s = PopAccepted(*listener, *queue);
  USTCP_FAULT_POINT();
  if (listener->accept_count.fetch_sub(1) == 1) listening.ready.store(0);
  s->taker.store(static_cast<uint16_t>(prefer_shard + 1));
  USTCP_FAULT_POINT();
  listener->in_transit = nullptr;
  return s;
}

void RetainSocket(Socket& s) noexcept { s.refs.fetch_add(1); }

bool DropReference(Socket& s) noexcept { return s.refs.fetch_sub(1) == 1; }

bool ReleaseSocket(Context& ctx, Socket& s) noexcept {
  if (!DropReference(s)) return false;
  FinishClose(ctx, s);
  return true;
}

void FinishClose(Context& ctx, Socket& s) noexcept {
  EpollForget(ctx, s);
  if (s.listener != nullptr) CloseListener(ctx, s);
  if (s.conn != nullptr) {
    Connection* conn = s.conn;
    ctx.shard.in_update = conn;
    USTCP_FAULT_POINT();
    s.conn = nullptr;
    USTCP_FAULT_POINT();
    TcpClose(ctx, *conn);
    ctx.shard.in_update = nullptr;
  }
  Unbind(ctx.host, s);
  ctx.shard.sockets.Give(&s);
}

Result<EpollSet*> OpenEpollSet(Context& ctx, uint16_t process) noexcept {
  EpollSet* set = ctx.shard.epoll_sets.Take();
  if (set == nullptr) return Error{ENOMEM};
  set->lock.Init();
  set->refs.store(1);
  set->process = process;
  return set;
}

void ReleaseEpollSet(Host& host, EpollSet& set, Instant now) noexcept {
  if (set.refs.fetch_sub(1) != 1) return;
  for (;;) {
    EpollItem* item;
    {
      EpollSetLock guard(set);
      item = set.items;
    }
    if (item == nullptr) break;
    ShardLock lock(host, host.shard(*item), now);
    EpollDropItem(lock.ctx, set, *item);
  }
  ShardLock lock(host, host.shard(set), now);
  lock.ctx.shard.epoll_sets.Give(&set);
}

}  // namespace ustcp
