// Calls that open sockets, set options, and wait for readiness.
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cstdlib>
#include <cstring>
#include <memory>

#include "stack/socket/readiness.h"
#include "stack/socket/socket_ops.h"
#include "tests/packet/calls.h"

namespace ustcp::packet {

namespace {

CallResult Failed(int error) { return {-1, error, ""}; }

std::optional<CallResult> Outcome(Error e) {
  if (e) return CallResult{-1, e.code, ""};
  return CallResult{0};
}

// The value of `name = value` inside text; a value ends at ',' or '}' or ']'.
std::optional<int64_t> Field(const std::string& text, const std::string& name) {
  for (size_t at = text.find(name); at != std::string::npos; at = text.find(name, at + 1)) {
    size_t eq = text.find_first_not_of(" \t", at + name.size());
    if (eq == std::string::npos || text[eq] != '=') continue;
    size_t end = text.find_first_of(",}]", eq);
    return Calls::Value(text.substr(eq + 1, end - eq - 1));
  }
  return std::nullopt;
}

std::string Inner(const std::string& text) {  // of [x]
  if (text.size() >= 2 && (text.front() == '[' || text.front() == '"')) return text.substr(1, text.size() - 2);
  return text;
}

}  // namespace

Calls::Attempt Calls::PrepareOpen(const CallSpec& call) {
  const auto& a = call.arguments;
  if (call.name == "socket") {
    int64_t type = Value(a.at(1)).value_or(SOCK_STREAM);
    auto family = static_cast<uint16_t>(v6_ ? AF_INET6 : AF_INET);
    if (auto named = Value(a.at(0)); named)
      family = static_cast<uint16_t>(*named == AF_INET && v6_ ? AF_INET6 : *named);
    return [this, type, family, call]() -> std::optional<CallResult> {
      Result<Socket*> s = Error{EINVAL};
      world_.Enter(
          [&](Context& ctx) { s = OpenSocket(ctx, family, (type & SOCK_NONBLOCK) != 0 ? O_NONBLOCK : 0, 0, 1); });
      if (!s.ok()) return Failed(s.error().code);
      Descriptor d;
      d.socket = *s;
      return CallResult{TakeFd(call, d)};
    };
  }
  int fd = std::atoi(a.at(0).c_str());
  if (call.name == "listen") {
    int backlog = static_cast<int>(Value(a.at(1)).value_or(0));
    return [this, fd, backlog]() -> std::optional<CallResult> {
      Descriptor* d = Find(fd);
      if (d == nullptr) return Failed(EBADF);
      Error e;
      world_.Enter([&](Context& ctx) {
        e = ListenSocket(ctx, *d->socket, backlog);
        if (!e) NoteAcceptor(ctx.host, *d->socket->listener, 0);
      });
      return Outcome(e);
    };
  }
  bool unspec;
  Endpoint local = ParseAddress(a.at(1), false, &unspec);
  return [this, fd, local]() -> std::optional<CallResult> {
    Descriptor* d = Find(fd);
    if (d == nullptr) return Failed(EBADF);
    Error e;
    world_.Enter([&](Context& ctx) { e = BindSocket(ctx, *d->socket, local); });
    return Outcome(e);
  };
}

Calls::Attempt Calls::PrepareOption(const CallSpec& call) {
  const auto& a = call.arguments;
  int fd = std::atoi(a.at(0).c_str());
  Descriptor* d = Find(fd);
  if (d == nullptr || d->socket == nullptr) return [] { return Failed(EBADF); };
  Socket& s = *d->socket;
  if (call.name == "fcntl") {
    int64_t command = Value(a.at(1)).value_or(-1);
    if (command == F_GETFL) return [&s] { return CallResult{O_RDWR | static_cast<int64_t>(s.status_flags.load())}; };
    int64_t flags = Value(a.at(2)).value_or(0);
    if (command != F_SETFL) return nullptr;
    return [&s, flags] {
      s.status_flags.store(static_cast<uint32_t>(flags & O_NONBLOCK));
      return CallResult{0};
    };
  }
  if (call.name == "ioctl") {
    auto request = static_cast<unsigned long>(Value(a.at(1)).value_or(0));
    std::string want = Inner(a.at(2));
    return [this, &s, request, want]() -> std::optional<CallResult> {
      int value = 0;
      Error e;
      world_.Enter([&](Context& ctx) { e = IoctlSocket(ctx, s, request, &value); });
      if (e) return Failed(e.code);
      CallResult r{0};
      if (want != "..." && Value(want) != value) r.mismatch = "ioctl gave [" + std::to_string(value) + "]";
      return r;
    };
  }
  int64_t level = Value(a.at(1)).value_or(-1), name = Value(a.at(2)).value_or(-1);
  if (v6_ && level == IPPROTO_IP && name == IP_TOS) level = IPPROTO_IPV6, name = IPV6_TCLASS;
  std::string text = a.at(3);
  std::vector<char> value;
  auto put = [&value](const auto& v) {
    value.resize(sizeof v);
    std::memcpy(value.data(), &v, sizeof v);
  };
  bool is_linger = level == SOL_SOCKET && name == SO_LINGER;
  bool is_time = level == SOL_SOCKET && (name == SO_RCVTIMEO || name == SO_SNDTIMEO);
  bool is_name = level == IPPROTO_TCP && name == TCP_CONGESTION;
  if (is_linger) {
    put(linger{static_cast<int>(Field(text, "onoff").value_or(0)),
               static_cast<int>(Field(text, "linger").value_or(0))});
  } else if (is_time) {
    put(timeval{Field(text, "tv_sec").value_or(0), Field(text, "tv_usec").value_or(0)});
  } else if (is_name) {
    std::string inner = Inner(Inner(text));
    value.assign(inner.begin(), inner.end());
  } else {
    put(static_cast<int>(Value(Inner(text)).value_or(0)));
  }
  auto ilevel = static_cast<int>(level), iname = static_cast<int>(name);
  if (call.name == "setsockopt") {
    return [this, &s, ilevel, iname, value]() -> std::optional<CallResult> {
      Error e;
      world_.Enter([&](Context& ctx) {
        e = SetOption(ctx, s, ilevel, iname, value.data(), static_cast<socklen_t>(value.size()));
      });
      return Outcome(e);
    };
  }
  bool any = text == "..." || text == "[...]";
  return [this, &s, ilevel, iname, value, any, is_name, text]() -> std::optional<CallResult> {
    std::vector<char> got(256);
    auto length = static_cast<socklen_t>(is_name ? 16 : value.size());
    Error e;
    world_.Enter([&](Context& ctx) { e = GetOption(ctx, s, ilevel, iname, got.data(), &length); });
    if (e) return Failed(e.code);
    CallResult r{0};
    bool same = std::memcmp(got.data(), value.data(), value.size()) == 0 && (is_name || length == value.size());
    if (!any && !same) {
      int number;
      std::memcpy(&number, got.data(), sizeof number);
      r.mismatch = "getsockopt gave " + (is_name ? std::string(got.data()) : "[" + std::to_string(number) + "]") +
                   ", not " + text;
    }
    return r;
  };
}

// poll([{fd=4, events=POLLIN, revents=POLLIN}], 1, timeout_ms)
Calls::Attempt Calls::PreparePoll(const CallSpec& call) {
  struct Entry {
    int fd;
    int64_t events;
    std::optional<int64_t> revents;
  };
  std::vector<Entry> entries;
  const std::string& list = call.arguments.at(0);
  for (size_t at = list.find('{'); at != std::string::npos; at = list.find('{', at + 1)) {
    std::string one = list.substr(at, list.find('}', at) + 1 - at);
    std::string before_revents = one.substr(0, one.find("revents"));
    entries.push_back({static_cast<int>(Field(one, "fd").value_or(-1)),
                       Field(before_revents + "}", "events").value_or(0), Field(one, "revents")});
  }
  int64_t timeout_ms = Value(call.arguments.at(2)).value_or(0);
  Instant deadline = timeout_ms < 0 ? kNever : world_.now() + std::chrono::milliseconds{timeout_ms};
  return [this, entries, deadline]() -> std::optional<CallResult> {
    CallResult r;
    for (const Entry& e : entries) {
      Descriptor* d = Find(e.fd);
      int64_t level = d == nullptr ? 0x20 : d->socket->ready.load() & (e.events | EPOLLERR | EPOLLHUP);
      if (level != 0) ++r.value;
      if (e.revents && *e.revents != level)
        r.mismatch = "revents of fd " + std::to_string(e.fd) + " is " + std::to_string(level);
    }
    if (r.value == 0 && world_.now() < deadline) {
      if (deadline != kNever) world_.WakeAt(deadline);
      return std::nullopt;
    }
    return r;
  };
}

Calls::Attempt Calls::PrepareEpoll(const CallSpec& call) {
  const auto& a = call.arguments;
  if (call.name == "epoll_create" || call.name == "epoll_create1") {
    return [this, call]() -> std::optional<CallResult> {
      Result<EpollSet*> set = Error{ENOMEM};
      world_.Enter([&](Context& ctx) { set = OpenEpollSet(ctx, 0); });
      if (!set.ok()) return Failed(set.error().code);
      Descriptor d;
      d.epoll = *set;
      return CallResult{TakeFd(call, d)};
    };
  }
  Descriptor* d = Find(std::atoi(a.at(0).c_str()));
  if (d == nullptr || d->epoll == nullptr) return [] { return Failed(EBADF); };
  EpollSet& set = *d->epoll;
  if (call.name == "epoll_ctl") {
    int64_t op = Value(a.at(1)).value_or(0);
    int fd = std::atoi(a.at(2).c_str());
    epoll_event event{};
    if (a.size() > 3) {
      event.events = static_cast<uint32_t>(Field(a[3], "events").value_or(0));
      event.data.fd = static_cast<int>(Field(a[3], "fd").value_or(fd));
    }
    return [this, &set, op, fd, event]() -> std::optional<CallResult> {
      Socket* s = SocketOf(fd);
      if (s == nullptr) return Failed(EBADF);
      int error = 0;
      world_.Enter([&](Context& ctx) {
        if (op == EPOLL_CTL_ADD)
          error = EpollAdd(ctx, set, *s, fd, event);
        else if (op == EPOLL_CTL_MOD)
          error = EpollModify(ctx, set, *s, fd, event);
        else
          error = EpollDelete(ctx, set, *s, fd);
      });
      if (error != 0) return Failed(error);
      return CallResult{0};
    };
  }
  if (call.name != "epoll_wait") return nullptr;
  std::string want = a.at(1);
  int max = static_cast<int>(Value(a.at(2)).value_or(1));
  int64_t timeout_ms = Value(a.at(3)).value_or(0);
  Instant deadline = timeout_ms < 0 ? kNever : world_.now() + std::chrono::milliseconds{timeout_ms};
  return [this, &set, want, max, deadline]() -> std::optional<CallResult> {
    std::vector<epoll_event> events(static_cast<size_t>(std::max(max, 1)));
    int n = EpollCollect(set, events.data(), max);
    if (n == 0 && world_.now() < deadline) {
      if (deadline != kNever) world_.WakeAt(deadline);
      return std::nullopt;
    }
    CallResult r{n};
    size_t at = want.find('{');
    for (int i = 0; i < n && at != std::string::npos; ++i, at = want.find('{', at + 1)) {
      std::string one = want.substr(at, want.find('}', at) + 1 - at);
      auto expect = Field(one, "events");
      if (expect && static_cast<uint32_t>(*expect) != events[i].events)
        r.mismatch = "epoll_wait gave events " + std::to_string(events[i].events);
      if (auto fd = Field(one, "fd"); fd && *fd != events[i].data.fd)
        r.mismatch = "epoll_wait gave fd " + std::to_string(events[i].data.fd);
    }
    return r;
  };
}

}  // namespace ustcp::packet
