// Sequences of socket calls on two hosts with a link between them that loses, doubles, delays and damages frames. The
// input is a script, one operation per record. After every operation the invariants of both shards must hold, and bytes
// that arrive must be the bytes that were sent, in order; once all is closed and time has run on, no slot and no buffer
// may be left.
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "stack/socket/readiness.h"
#include "stack/socket/socket.h"
#include "stack/tcp/listener.h"
#include "stack/tcp/tcb.h"
#include "tests/support/two_hosts.h"

namespace ustcp {
namespace {

constexpr size_t kMaxSockets = 12;
constexpr size_t kMaxOperations = 250;
constexpr uint16_t kPorts[] = {80, 8080, 0, 40000};

[[noreturn]] void Fail(const char* what, const char* detail = "") {
  std::fprintf(stderr, "socket_ops_fuzz: %s %s\n", what, detail);
  std::abort();
}

// The input, read front to back; past the end everything is zero.
class Script {
 public:
  Script(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return at_ >= size_; }
  uint8_t Byte() { return at_ < size_ ? data_[at_++] : uint8_t{0}; }
  uint16_t Word() {
    const uint8_t high = Byte();
    return static_cast<uint16_t>(high << 8 | Byte());
  }

 private:
  const uint8_t* data_;
  size_t size_;
  size_t at_ = 0;
};

// What stands at a place of every stream: no period that a segment or buffer size could share.
std::byte PatternAt(uint64_t position) {
  return static_cast<std::byte>((position * 0x9e3779b97f4a7c15u) >> 56 ^ position >> 16);
}

struct Descriptor {
  Socket* socket;
  // Shared by the descriptors of one socket.
  struct Stream {
    uint64_t sent = 0;
    uint64_t received = 0;
  };
  std::shared_ptr<Stream> stream;
};

test::TwoHosts MakeHosts(uint8_t how) {
  HostConfig configs[2] = {test::TwoHosts::ConfigOf(1), test::TwoHosts::ConfigOf(2)};
  for (HostConfig& config : configs) {
    if ((how & 1) == 0) config.device.checksum_offload = config.device.tso4 = config.device.tso6 = false;
    if ((how & 2) != 0) config.device.mtu = 1280;
  }
  Sysctls sysctls;
  sysctls.tcp_syncookies = (how & 4) == 0;
  sysctls.tcp_sack = (how & 8) == 0;
  sysctls.tcp_timestamps = (how & 16) == 0;
  sysctls.tcp_window_scaling = (how & 32) == 0;
  if ((how & 64) != 0) {
    sysctls.tcp_abort_on_overflow = 1;
    sysctls.tcp_max_orphans = 2;
    sysctls.tcp_max_tw_buckets = 2;
    sysctls.tcp_tw_reuse = 1;
  }
  return test::TwoHosts(configs[0], configs[1], sysctls, sysctls);
}

class World {
 public:
  explicit World(uint8_t how) : damage_allowed_((how & 1) == 0), net_(MakeHosts(how)) {
    net_.lose = [this](int, ConstBytes) { return Roll(loss_); };
    net_.duplicate = [this](int) { return Roll(doubling_); };
    net_.jitter = [this](int) { return Roll(delay_) ? Duration{std::chrono::milliseconds(Draw() % 16)} : Duration{}; };
    net_.corrupt = [this](int, Bytes frame) {
      // One bit: what a checksum is sure to find. Without offload, since only then there is one.
      if (damage_allowed_ && Roll(damage_)) frame[Draw() % frame.size()] ^= std::byte{1} << (Draw() % 8);
    };
    for (int i = 0; i < 2; ++i) {
      sets_[i] = net_.On(i, [](Context& ctx) { return *OpenEpollSet(ctx, 0); });
      waiters_[i] = net_.On(i, [](Context& ctx) { return ctx.shard.waiters.Take(); });
    }
  }

  void Run(Script script) {
    for (size_t i = 0; i < kMaxOperations && !script.empty(); ++i) {
      const uint8_t operation = script.Byte();
      side_ = operation >> 7;
      Operate(operation % 24, script);
      CheckBoth();
    }
    Finish();
  }

 private:
  // --- the link ---

  uint32_t Draw() {
    random_ = random_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(random_ >> 33);
  }
  bool Roll(uint8_t per_256) { return per_256 != 0 && Draw() % 256 < per_256; }

  void ChangeLink(Script& script) {
    const uint8_t what = script.Byte();
    loss_ = (what & 1) != 0 ? script.Byte() : uint8_t{0};
    doubling_ = (what & 2) != 0 ? script.Byte() : uint8_t{0};
    delay_ = (what & 4) != 0 ? script.Byte() : uint8_t{0};
    damage_ = (what & 8) != 0 ? script.Byte() : uint8_t{0};
    random_ ^= what;
  }

  // --- operations ---

  void Operate(uint8_t operation, Script& script) {
    switch (operation) {
      case 0:
      case 1: Open(script); break;
      case 2: Bind(script); break;
      case 3: Listen(script); break;
      case 4:
      case 5: Connect(script); break;
      case 6:
      case 7: Accept(script); break;
      case 8:
      case 9: Send(script); break;
      case 10:
      case 11: Receive(script); break;
      case 12: Shutdown(script); break;
      case 13: Close(script); break;
      case 14: SetSomeOption(script); break;
      case 15: GetSomeOption(script); break;
      case 16: EpollControl(script); break;
      case 17: EpollWait(script); break;
      case 18: Ioctl(script); break;
      case 19: Duplicate(script); break;
      case 20: ChangeLink(script); break;
      case 21: Disconnect(script); break;
      case 22: StartServerAndClient(script); break;
      default: net_.Run(std::chrono::milliseconds(script.Word() % 8192)); break;
    }
    if (operation < 20) net_.Run(std::chrono::milliseconds(3));
  }

  std::vector<Descriptor>& Table() { return descriptors_[side_]; }
  Descriptor* Pick(Script& script) {
    const uint8_t which = script.Byte();
    return Table().empty() ? nullptr : &Table()[which % Table().size()];
  }

  Socket* OpenHere(bool v4) {
    if (Table().size() >= kMaxSockets) return nullptr;
    auto s = net_.On(side_, [&](Context& ctx) { return OpenSocket(ctx, v4 ? AF_INET : AF_INET6, 0, 0, 1); });
    if (!s.ok()) return nullptr;
    Table().push_back({*s, std::make_shared<Descriptor::Stream>()});
    return *s;
  }
  void Open(Script& script) { (void)OpenHere((script.Byte() & 1) == 0); }

  IpAddress AddressFor(const Socket& s, uint8_t how, int side) {
    const bool v4 = s.family == AF_INET || (how & 0x40) != 0;
    switch (how & 3) {
      case 0: return v4 && s.family == AF_INET ? IpAddress::AnyV4() : IpAddress::AnyV6();
      case 1: return IpAddress::V4(127, 0, 0, 1);
      default: return net_.side(side).box->config.addresses[v4 ? 0 : 1].address;
    }
  }

  void Bind(Script& script) {
    Descriptor* d = Pick(script);
    const uint8_t how = script.Byte();
    if (d == nullptr) return;
    net_.On(side_, [&](Context& ctx) {
      if ((how & 0x80) != 0) d->socket->options.reuse_addr = true;
      (void)BindSocket(ctx, *d->socket, {AddressFor(*d->socket, how, side_), kPorts[how >> 2 & 3]});
    });
  }

  void Listen(Script& script) {
    Descriptor* d = Pick(script);
    const uint8_t backlog = script.Byte();
    if (d != nullptr) net_.On(side_, [&](Context& ctx) { (void)ListenSocket(ctx, *d->socket, backlog % 8); });
  }

  void ConnectTo(Socket& s, const Endpoint& peer) {
    net_.On(side_, [&](Context& ctx) { (void)ConnectSocket(ctx, s, peer); });
  }
  void Connect(Script& script) {
    Descriptor* d = Pick(script);
    const uint8_t how = script.Byte();
    if (d == nullptr) return;
    const SocketState before = d->socket->state;
    const int to = (how & 0x20) != 0 ? side_ : 1 - side_;
    ConnectTo(*d->socket, {AddressFor(*d->socket, how | 2, to), kPorts[how >> 2 & 3]});
    // A new connection is a new stream.
    if (before != SocketState::kConnecting && d->socket->state == SocketState::kConnecting) *d->stream = {};
  }

  // The beginning of most connections, in one step.
  void StartServerAndClient(Script& script) {
    const uint8_t how = script.Byte();
    const bool v4 = (how & 1) == 0;
    Socket* server = OpenHere(v4);
    if (server == nullptr) return;
    net_.On(side_, [&](Context& ctx) {
      server->options.reuse_addr = true;
      (void)BindSocket(ctx, *server, {v4 ? IpAddress::AnyV4() : IpAddress::AnyV6(), 80});
      (void)ListenSocket(ctx, *server, how >> 4);
    });
    side_ = 1 - side_;
    if (Socket* client = OpenHere(v4))
      ConnectTo(*client, {net_.side(1 - side_).box->config.addresses[v4 ? 0 : 1].address, 80});
    net_.Run(std::chrono::milliseconds(5));
    side_ = 1 - side_;
    Take(*server);
  }

  void Take(Socket& listening) {
    if (Table().size() >= kMaxSockets) return;
    auto s = AcceptSocket(net_.side(side_).box.host(), listening, 0);
    if (!s.ok()) return;
    if ((*s)->refs.load() != 1) Fail("an accepted socket with other references");
    Table().push_back({*s, std::make_shared<Descriptor::Stream>()});
  }
  void Accept(Script& script) {
    if (Descriptor* d = Pick(script)) Take(*d->socket);
  }

  void Send(Script& script) {
    Descriptor* d = Pick(script);
    size_t bytes = script.Word();
    const uint8_t how = script.Byte();
    if (d == nullptr) return;
    if ((how & 8) == 0) bytes %= 3000;
    const int flags = ((how & 1) != 0 ? MSG_MORE : 0) | ((how & 6) == 6 ? MSG_OOB : 0);
    if ((flags & MSG_OOB) != 0) urgent_used_ = true;
    std::vector<std::byte> data(bytes);
    for (size_t i = 0; i < bytes; ++i) data[i] = PatternAt(d->stream->sent + i);
    std::array<iovec, 3> iov;
    const size_t a = bytes / 3, b = bytes / 2;
    iov[0] = {data.data(), a};
    iov[1] = {data.data() + a, b - a};
    iov[2] = {data.data() + b, bytes - b};
    auto result = net_.On(
        side_, [&](Context& ctx) { return SendSocket(ctx, *d->socket, UserVector(iov.data(), 3, bytes), flags); });
    if (!result.ok()) return;
    if (*result > bytes) Fail("more sent than given");
    d->stream->sent += *result;
  }

  void Receive(Script& script) {
    Descriptor* d = Pick(script);
    const size_t bytes = script.Word();
    const uint8_t how = script.Byte();
    if (d == nullptr) return;
    const int flags =
        ((how & 1) != 0 ? MSG_PEEK : 0) | ((how & 6) == 6 ? MSG_OOB : 0) | ((how & 8) != 0 ? MSG_TRUNC : 0);
    std::vector<std::byte> data(bytes);
    std::array<iovec, 2> iov;
    iov[0] = {data.data(), bytes / 3};
    iov[1] = {data.data() + bytes / 3, bytes - bytes / 3};
    auto result = net_.On(
        side_, [&](Context& ctx) { return ReceiveSocket(ctx, *d->socket, UserVector(iov.data(), 2, bytes), flags); });
    if (!result.ok() || (flags & MSG_OOB) != 0) return;
    if (*result > bytes) Fail("more received than asked for");
    // Urgent bytes leave the stream unless they are wanted inline, so places shift.
    if (!urgent_used_ && (flags & MSG_TRUNC) == 0)
      for (size_t i = 0; i < *result; ++i)
        if (data[i] != PatternAt(d->stream->received + i)) Fail("other bytes than were sent");
    if ((flags & MSG_PEEK) == 0) d->stream->received += *result;
  }

  void Shutdown(Script& script) {
    Descriptor* d = Pick(script);
    const uint8_t how = script.Byte();
    if (d != nullptr) net_.On(side_, [&](Context& ctx) { (void)ShutdownSocket(ctx, *d->socket, how % 4); });
  }

  void Close(Script& script) {
    Descriptor* d = Pick(script);
    if (d == nullptr) return;
    net_.On(side_, [&](Context& ctx) { (void)ReleaseSocket(ctx, *d->socket); });
    Table().erase(Table().begin() + (d - Table().data()));
  }

  void Duplicate(Script& script) {
    Descriptor* d = Pick(script);
    if (d == nullptr || Table().size() >= kMaxSockets) return;
    RetainSocket(*d->socket);
    Descriptor copy = *d;
    Table().push_back(std::move(copy));
  }

  void Disconnect(Script& script) {
    Descriptor* d = Pick(script);
    if (d == nullptr) return;
    net_.On(side_, [&](Context& ctx) { (void)DisconnectSocket(ctx, *d->socket); });
    *d->stream = {};
  }

  static int LevelOf(uint8_t how) {
    constexpr int kLevels[] = {SOL_SOCKET, IPPROTO_TCP, IPPROTO_IP, IPPROTO_IPV6};
    return (how & 0x40) != 0 ? how : kLevels[how & 3];
  }

  void SetSomeOption(Script& script) {
    Descriptor* d = Pick(script);
    const uint8_t how = script.Byte();
    const int name = script.Byte();
    const auto length = static_cast<socklen_t>((how & 0x80) != 0 ? script.Byte() % 32 : 4);
    // Exactly this long, so that a read beyond it is seen.
    std::unique_ptr<uint8_t[]> value(new uint8_t[length]{});
    const size_t given = (how & 0x20) != 0 ? length : std::min<socklen_t>(length, 2);
    for (size_t i = 0; i < given; ++i) value[i] = script.Byte();
    if (d == nullptr) return;
    net_.On(side_, [&](Context& ctx) { (void)SetOption(ctx, *d->socket, LevelOf(how), name, value.get(), length); });
  }

  void GetSomeOption(Script& script) {
    Descriptor* d = Pick(script);
    const uint8_t how = script.Byte();
    const int name = script.Byte();
    auto length = static_cast<socklen_t>((how & 0x80) != 0 ? script.Byte() : 4);
    std::unique_ptr<uint8_t[]> value(new uint8_t[length]{});
    if (d == nullptr) return;
    const socklen_t room = length;
    Error e = net_.On(
        side_, [&](Context& ctx) { return GetOption(ctx, *d->socket, LevelOf(how), name, value.get(), &length); });
    if (e == kOk && length > room) Fail("getsockopt says it wrote more than there was room for");
    Endpoint endpoint;
    for (bool peer : {false, true}) {
      if (GetName(*d->socket, peer, endpoint)) continue;
      sockaddr_storage address;
      socklen_t bytes = sizeof address;
      WriteSockaddr(d->socket->family, endpoint, reinterpret_cast<sockaddr*>(&address), &bytes);
      auto again = ParseSockaddr(*d->socket, reinterpret_cast<sockaddr*>(&address), bytes, true);
      if (!again.ok()) Fail("an address of ours does not parse");
    }
  }

  void Ioctl(Script& script) {
    constexpr unsigned long kRequests[] = {FIONREAD, TIOCOUTQ, SIOCOUTQNSD, SIOCATMARK, 0};
    Descriptor* d = Pick(script);
    const uint8_t which = script.Byte();
    if (d == nullptr) return;
    int value = 0;
    net_.On(side_, [&](Context& ctx) { (void)IoctlSocket(ctx, *d->socket, kRequests[which % 5], &value); });
    if (value < 0) Fail("a negative count");
  }

  void EpollControl(Script& script) {
    Descriptor* d = Pick(script);
    const uint8_t how = script.Byte();
    epoll_event event{};
    event.events = script.Byte() | ((how & 4) != 0 ? EPOLLET : 0u) | ((how & 8) != 0 ? EPOLLONESHOT : 0u) |
                   ((how & 16) != 0 ? EPOLLEXCLUSIVE : 0u);
    if (d == nullptr) return;
    event.data.u64 = reinterpret_cast<uintptr_t>(d->socket);
    const int fd = how >> 6;
    net_.On(side_, [&](Context& ctx) {
      if ((how & 3) == 0)
        (void)EpollModify(ctx, *sets_[side_], *d->socket, fd, event);
      else if ((how & 3) == 1)
        (void)EpollDelete(ctx, *sets_[side_], *d->socket, fd);
      else
        (void)EpollAdd(ctx, *sets_[side_], *d->socket, fd, event);
    });
  }

  void EpollWait(Script& script) {
    const uint8_t how = script.Byte();
    std::array<epoll_event, 8> events;
    const int count = EpollCollect(*sets_[side_], events.data(), how % 9);
    for (int i = 0; i < count; ++i) {
      // Only sockets that somebody still has are reported.
      const auto* s = reinterpret_cast<Socket*>(events[static_cast<size_t>(i)].data.u64);
      if (std::none_of(Table().begin(), Table().end(), [s](const Descriptor& d) { return d.socket == s; }))
        Fail("an event of a socket that was closed");
    }
    if (count == 0 && (how & 0x80) != 0) (void)EpollSleep(*sets_[side_], *waiters_[side_]);
    if (how % 3 == 0) EpollWake(*sets_[side_], *waiters_[side_]);
  }

  // --- checks ---

  void CheckBoth() {
    for (int i = 0; i < 2; ++i) {
      ShardLock lock(net_.side(i).box.host(), net_.side(i).shard, net_.now());
      char why[160] = "";
      if (CheckInvariants(lock.ctx, why, sizeof why) != 0) Fail("invariant:", why);
    }
  }

  static bool Idle(const Shard& shard) {
    return shard.connections.live() == 0 && shard.half_opens.live() == 0 && shard.time_waits.live() == 0;
  }

  void Finish() {
    loss_ = static_cast<uint8_t>(loss_ >= 128 ? 255 : 0);  // a dead link, or a good one
    doubling_ = delay_ = damage_ = 0;
    for (side_ = 0; side_ < 2; ++side_) {
      for (Descriptor& d : Table()) net_.On(side_, [&](Context& ctx) { (void)ReleaseSocket(ctx, *d.socket); });
      Table().clear();
      EpollWake(*sets_[side_], *waiters_[side_]);
      ReleaseEpollSet(net_.side(side_).box.host(), *sets_[side_], net_.now());
      net_.On(side_, [&](Context& ctx) { ctx.shard.waiters.Give(waiters_[side_]); });
    }
    CheckBoth();
    net_.RunUntil([this] { return Idle(net_.side(0).shard) && Idle(net_.side(1).shard); }, std::chrono::hours(4));
    net_.Run(std::chrono::minutes(2));  // datagrams in the making and frames that wait for a neighbour
    CheckBoth();
    for (int i = 0; i < 2; ++i) ExpectEmpty(net_.side(i).shard, net_.side(i).box.host());
  }

  static void ExpectEmpty(Shard& shard, Host& host) {
    if (shard.connections.live() != 0) Fail("connection leaked");
    if (shard.half_opens.live() != 0) Fail("half-open connection leaked");
    if (shard.time_waits.live() != 0) Fail("TIME_WAIT record leaked");
    if (shard.sockets.live() != 0) Fail("socket leaked");
    if (shard.listeners.live() != 0) Fail("listener leaked");
    if (shard.epoll_items.live() != 0) Fail("epoll item leaked");
    if (shard.epoll_sets.live() != 0) Fail("epoll set leaked");
    if (shard.waiters.live() != 0) Fail("waiter leaked");
    if (shard.tx_segments.live() != 0) Fail("segment record leaked");
    if (shard.bufs.bytes_taken() != 0) Fail("buffer leaked");
    if (host.orphan_count.load() != 0) Fail("orphan_count does not return to zero");
    if (host.time_wait_count.load() != 0) Fail("time_wait_count does not return to zero");
    size_t bound = 0;
    for (uint16_t port : kPorts) host.ports.ForEach(port, [&](BindNode&) { ++bound; });
    if (bound != 0) Fail("port leaked");
  }

  bool damage_allowed_;
  test::TwoHosts net_;
  int side_ = 0;
  std::vector<Descriptor> descriptors_[2];
  EpollSet* sets_[2] = {};
  Waiter* waiters_[2] = {};
  bool urgent_used_ = false;
  uint8_t loss_ = 0, doubling_ = 0, delay_ = 0, damage_ = 0;
  uint64_t random_ = 1;
};

}  // namespace
}  // namespace ustcp

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ustcp::Script script(data, size);
  ustcp::World world(script.Byte());
  world.Run(script);
  return 0;
}
