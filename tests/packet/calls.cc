// Calls on connections: data, accept, connect, close.
#include "tests/packet/calls.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdlib>
#include <cstring>
#include <memory>

#include "stack/socket/socket_ops.h"
#include "stack/tcp/tcb.h"
#include "stack/tcp/tcp.h"

namespace ustcp::packet {

namespace {

CallResult Failed(int error) { return {-1, error, ""}; }
CallResult Failed(Error e) { return {-1, e.code, ""}; }

// The sizes in an iovec list such as [{..., 1000}, {..., 500}].
std::vector<size_t> IovecSizes(const std::string& text) {
  std::vector<size_t> out;
  for (size_t at = text.find('{'); at != std::string::npos; at = text.find('{', at + 1)) {
    size_t comma = text.find(',', at);
    if (comma == std::string::npos) break;
    out.push_back(static_cast<size_t>(std::strtoull(text.c_str() + comma + 1, nullptr, 0)));
  }
  return out;
}

size_t Sum(const std::vector<size_t>& sizes) {
  size_t total = 0;
  for (size_t n : sizes) total += n;
  return total;
}

}  // namespace

Socket* Calls::SocketOf(int fd) {
  Descriptor* d = Find(fd);
  return d == nullptr ? nullptr : d->socket;
}

Descriptor* Calls::Find(int fd) {
  auto at = fds_.find(fd);
  return at == fds_.end() ? nullptr : &at->second;
}

// The descriptor gets the number that the script gives as result, so that scripts need not know ours.
int Calls::TakeFd(const CallSpec& call, Descriptor d) {
  int fd = 3;
  if (auto wanted = Value(call.result); wanted && *wanted >= 0 && Find(static_cast<int>(*wanted)) == nullptr)
    fd = static_cast<int>(*wanted);
  while (Find(fd) != nullptr) ++fd;
  fds_[fd] = d;
  return fd;
}

std::optional<CallResult> Calls::Start(const CallSpec& call) {
  Attempt attempt = Prepare(call);
  if (!attempt) return CallResult{-1, 0, "the runner cannot do this call: " + call.name};
  auto result = attempt();
  if (!result) pending_ = std::move(attempt);
  return result;
}

std::optional<CallResult> Calls::Retry() {
  if (!pending_) return std::nullopt;
  auto result = pending_();
  if (result) pending_ = nullptr;
  return result;
}

Calls::Attempt Calls::Prepare(const CallSpec& call) {
  const std::string& n = call.name;
  if (n == "accept" || n == "accept4") return Accept(call);
  if (n == "connect") return Connect(call);
  if (n == "close" || n == "shutdown") return PrepareClose(call);
  if (n == "poll") return PreparePoll(call);
  if (n.compare(0, 6, "epoll_") == 0) return PrepareEpoll(call);
  if (n == "getsockopt" || n == "setsockopt" || n == "fcntl" || n == "ioctl") return PrepareOption(call);
  if (n == "socket" || n == "bind" || n == "listen") return PrepareOpen(call);
  return PrepareData(call);
}

Endpoint Calls::ParseAddress(const std::string& text, bool remote, bool* unspec) {
  *unspec = text.find("AF_UNSPEC") != std::string::npos;
  Endpoint e{remote ? world_.ends().peer : (v6_ ? IpAddress::AnyV6() : IpAddress::AnyV4()), World::kLocalPort};
  if (text == "...") {
    if (!remote) e.address = world_.ends().local;
    return e;
  }
  if (size_t at = text.find("htons("); at != std::string::npos)
    e.port = static_cast<uint16_t>(std::strtoul(text.c_str() + at + 6, nullptr, 0));
  size_t quote = text.find('"');
  if (quote == std::string::npos) return e;
  std::string address = text.substr(quote + 1, text.find('"', quote + 1) - quote - 1);
  unsigned a, b, c, d;
  if (std::sscanf(address.c_str(), "%u.%u.%u.%u", &a, &b, &c, &d) == 4)
    e.address = IpAddress::V4(static_cast<uint8_t>(a), static_cast<uint8_t>(b), static_cast<uint8_t>(c),
                              static_cast<uint8_t>(d));
  return e;
}

Calls::Attempt Calls::Accept(const CallSpec& call) {
  int fd = std::atoi(call.arguments.at(0).c_str());
  int flags = call.name == "accept4" ? static_cast<int>(Value(call.arguments.back()).value_or(0)) : 0;
  return [this, fd, flags, call]() -> std::optional<CallResult> {
    Descriptor* d = Find(fd);
    if (d == nullptr) return Failed(EBADF);
    if (d->socket == nullptr) return Failed(ENOTSOCK);
    Result<Socket*> taken = Error{EINVAL};
    world_.Enter([&](Context& ctx) { taken = AcceptSocket(ctx.host, *d->socket, ctx.shard.index); });
    if (taken.ok()) {
      if ((flags & SOCK_NONBLOCK) != 0) taken.value()->status_flags.store(O_NONBLOCK);
      Descriptor accepted;
      accepted.socket = taken.value();
      last_peer_port_ = taken.value()->peer.port;
      last_fd_ = TakeFd(call, accepted);
      return CallResult{last_fd_};
    }
    if (taken.error() == Error{EAGAIN} && !d->socket->nonblocking()) return std::nullopt;
    return Failed(taken.error());
  };
}

Calls::Attempt Calls::Connect(const CallSpec& call) {
  int fd = std::atoi(call.arguments.at(0).c_str());
  bool unspec;
  Endpoint peer = ParseAddress(call.arguments.at(1), true, &unspec);
  auto started = std::make_shared<bool>(false);
  return [this, fd, peer, unspec, started]() -> std::optional<CallResult> {
    Descriptor* d = Find(fd);
    if (d == nullptr) return Failed(EBADF);
    Socket& s = *d->socket;
    bool fresh = s.state == SocketState::kFresh || s.state == SocketState::kBound;
    if (fresh && !*started) {
      world_.NoteConnect(peer.port);
      last_fd_ = fd;
      last_peer_port_ = peer.port;
      d->read_at = d->write_at = 1;
    }
    Error e;
    world_.Enter([&](Context& ctx) { e = unspec ? DisconnectSocket(ctx, s) : ConnectSocket(ctx, s, peer); });
    bool waiting = e == Error{EINPROGRESS} || e == Error{EALREADY};
    *started = true;
    if (waiting && !s.nonblocking()) return std::nullopt;
    if (e) return Failed(e);
    return CallResult{0};
  };
}

Calls::Attempt Calls::Send(int fd, size_t bytes, int flags) {
  auto sent = std::make_shared<size_t>(0);
  return [this, fd, bytes, flags, sent]() -> std::optional<CallResult> {
    Descriptor* d = Find(fd);
    if (d == nullptr) return Failed(EBADF);
    Socket& s = *d->socket;
    bool dont_wait = s.nonblocking() || (flags & MSG_DONTWAIT) != 0;
    std::vector<std::byte> data(bytes - *sent);
    for (size_t i = 0; i < data.size(); ++i) data[i] = PatternAt(d->write_at + static_cast<uint32_t>(i));
    Result<size_t> result = size_t{0};
    world_.Enter([&](Context& ctx) { result = SendSocket(ctx, s, UserVector(data.data(), data.size()), flags); });
    if (result.ok()) {
      *sent += *result;
      d->write_at += static_cast<uint32_t>(*result);
      if (*sent == bytes || dont_wait) return CallResult{static_cast<int64_t>(*sent)};
      return std::nullopt;
    }
    if (result.error() == Error{EAGAIN} && !dont_wait) return std::nullopt;
    if (*sent != 0) return CallResult{static_cast<int64_t>(*sent)};
    return Failed(result.error());
  };
}

Calls::Attempt Calls::Receive(int fd, std::vector<size_t> sizes, int flags) {
  auto got = std::make_shared<size_t>(0);
  size_t total = Sum(sizes);
  return [this, fd, total, flags, got]() -> std::optional<CallResult> {
    Descriptor* d = Find(fd);
    if (d == nullptr) return Failed(EBADF);
    Socket& s = *d->socket;
    bool dont_wait = s.nonblocking() || (flags & MSG_DONTWAIT) != 0;
    std::vector<std::byte> data(total - *got);
    Result<size_t> result = size_t{0};
    world_.Enter([&](Context& ctx) { result = ReceiveSocket(ctx, s, UserVector(data.data(), data.size()), flags); });
    if (!result.ok()) {
      if (result.error() == Error{EAGAIN} && !dont_wait) return std::nullopt;
      if (*got != 0) return CallResult{static_cast<int64_t>(*got)};
      return Failed(result.error());
    }
    if ((flags & (MSG_OOB | MSG_TRUNC)) != 0) d->check_reads = false;
    CallResult out;
    if (d->check_reads)
      for (size_t i = 0; i < *result; ++i)
        if (data[i] != PatternAt(d->read_at + static_cast<uint32_t>(i))) {
          out.mismatch = "byte " + std::to_string(d->read_at + i) + " of the stream was read wrongly";
          break;
        }
    if ((flags & MSG_PEEK) == 0) d->read_at += static_cast<uint32_t>(*result);
    *got += *result;
    out.value = static_cast<int64_t>(*got);
    bool more = (flags & MSG_WAITALL) != 0 && *result != 0 && *got < total && (flags & MSG_PEEK) == 0;
    if (more && !dont_wait) return std::nullopt;
    return out;
  };
}

Calls::Attempt Calls::PrepareData(const CallSpec& call) {
  const auto& a = call.arguments;
  const std::string& n = call.name;
  auto number = [&a](size_t i) { return i < a.size() ? Value(a[i]).value_or(0) : 0; };
  int fd = static_cast<int>(number(0));
  auto size = [&](size_t i) { return static_cast<size_t>(number(i)); };
  if (n == "read") return Receive(fd, {size(2)}, 0);
  if (n == "recv" || n == "recvfrom") return Receive(fd, {size(2)}, static_cast<int>(number(3)));
  if (n == "readv") return Receive(fd, IovecSizes(a.at(1)), 0);
  if (n == "write") return Send(fd, size(2), 0);
  if (n == "send" || n == "sendto") return Send(fd, size(2), static_cast<int>(number(3)));
  if (n == "writev") return Send(fd, Sum(IovecSizes(a.at(1))), 0);
  if (n == "sendmsg" || n == "recvmsg") {
    size_t iov = a.at(1).find("msg_iov");
    std::string list = iov == std::string::npos ? a.at(1) : a.at(1).substr(a.at(1).find('[', iov));
    if (n == "recvmsg") return Receive(fd, IovecSizes(list), static_cast<int>(number(2)));
    return Send(fd, Sum(IovecSizes(list)), static_cast<int>(number(2)));
  }
  return nullptr;
}

void Calls::CloseFd(int fd) {
  Descriptor d = fds_[fd];
  fds_.erase(fd);
  if (d.epoll != nullptr) {
    ReleaseEpollSet(world_.host(), *d.epoll, world_.now());
    return;
  }
  world_.Enter([&](Context& ctx) { ReleaseSocket(ctx, *d.socket); });
}

Calls::Attempt Calls::PrepareClose(const CallSpec& call) {
  int fd = std::atoi(call.arguments.at(0).c_str());
  if (call.name == "shutdown") {
    int how = static_cast<int>(Value(call.arguments.at(1)).value_or(-1));
    return [this, fd, how]() -> std::optional<CallResult> {
      Descriptor* d = Find(fd);
      if (d == nullptr) return Failed(EBADF);
      Error e;
      world_.Enter([&](Context& ctx) { e = ShutdownSocket(ctx, *d->socket, how); });
      if (e) return Failed(e);
      return CallResult{0};
    };
  }
  // The lingering wait is the caller's, as in the preloaded close().
  auto deadline = std::make_shared<Instant>(kNever);
  return [this, fd, deadline]() -> std::optional<CallResult> {
    Descriptor* d = Find(fd);
    if (d == nullptr) return Failed(EBADF);
    if (Socket* s = d->socket; s != nullptr && s->conn != nullptr && s->options.linger_on &&
                               s->options.linger_seconds > 0 && TcpReadable(*s->conn) == 0) {
      if (*deadline == kNever) {
        *deadline = world_.now() + std::chrono::seconds{s->options.linger_seconds};
        world_.Enter([&](Context& ctx) { TcpShutdownWrite(ctx, *s->conn); });
        s->shut_wr = true;
      }
      if (s->conn != nullptr && TcpLingering(*s->conn) && world_.now() < *deadline) {
        world_.WakeAt(*deadline);
        return std::nullopt;
      }
    }
    CloseFd(fd);
    return CallResult{0};
  };
}

void Calls::CloseAll() {
  pending_ = nullptr;
  while (!fds_.empty()) CloseFd(fds_.begin()->first);
}

}  // namespace ustcp::packet
