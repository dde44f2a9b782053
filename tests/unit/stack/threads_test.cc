// Threads at work on the same two hosts, mainly for the thread sanitizer. Each of a host's shards is driven by a thread of
// its own; frames arrive at any shard, clients' sockets are used by whichever thread comes by, servers' by the thread whose
// epoll set they are in. What comes back must be what was sent.
#include <gtest/gtest.h>
#include <sys/epoll.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "stack/socket/readiness.h"
#include "stack/socket/socket.h"
#include "tests/support/two_hosts.h"

namespace ustcp::test {
namespace {

constexpr int kClient = 0, kServer = 1;
constexpr int kShardsOfHost = 3;
constexpr int kConnections = 60;
constexpr int kAtOnce = 12;
constexpr size_t kBytesEach = 60'000;
constexpr size_t kPiece = 4096;
constexpr uint16_t kPort = 80;

struct Packet {
  VirtioNetHeader vnet;
  std::vector<std::byte> bytes;
};

// What is on its way to one shard.
class Wire {
 public:
  void Put(Packet packet) {
    std::lock_guard hold(mutex_);
    packets_.push_back(std::move(packet));
  }
  std::vector<Packet> Take(size_t most) {
    std::lock_guard hold(mutex_);
    std::vector<Packet> out;
    for (; !packets_.empty() && out.size() < most; packets_.pop_front()) out.push_back(std::move(packets_.front()));
    return out;
  }

 private:
  std::mutex mutex_;
  std::deque<Packet> packets_;
};

// A connection's end, held by one thread at a time.
struct End {
  Socket* socket;
  uint8_t pattern;
  size_t sent = 0, received = 0;
  std::vector<std::byte> waiting;  // server: read and not sent back yet
  bool finished = false;           // server: the client has said its last
};

std::byte ByteAt(const End& end, size_t offset) { return static_cast<std::byte>(end.pattern + offset * 7); }

class StackThreads : public ::testing::Test {
 protected:
  StackThreads() {
    for (int h = 0; h < 2; ++h) {
      hosts_[h] = std::make_unique<TestHost>(TwoHosts::ConfigOf(static_cast<uint8_t>(h + 1)));
      for (uint16_t i = 0; i < kShardsOfHost; ++i) {
        shards_[h][i] = &hosts_[h]->NewShard(i);
        host(h).processes[i].shard = shards_[h][i]->index;
      }
    }
  }

  Host& host(int h) { return hosts_[h]->host(); }
  Instant Now() const {
    return TestHost::DefaultStart() + std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now() - begun_);
  }

  // --- a driver ---

  void Transmit(int h, Context& ctx, TxBatch& batch, std::mt19937& rng) {
    bool more = true;
    while (more) {
      more = PollTransmit(ctx, batch);
      for (size_t n = 0; n < batch.count; ++n) {
        const TxFrame& frame = batch.frames[n];
        Packet packet{frame.vnet, {frame.headers.begin(), frame.headers.begin() + frame.header_bytes}};
        for (int i = 0; i < frame.piece_count; ++i) {
          auto* p = static_cast<const std::byte*>(frame.pieces[i].iov_base);
          packet.bytes.insert(packet.bytes.end(), p, p + frame.pieces[i].iov_len);
        }
        // A flow keeps its queue, mostly.
        size_t flow = rng() % 10 == 0 || packet.bytes.size() < 38
                          ? rng()
                          : LoadBe16(&packet.bytes[34]) + LoadBe16(&packet.bytes[36]);
        wires_[1 - h][flow % kShardsOfHost].Put(std::move(packet));
      }
      ReleaseTransmitted(ctx, batch);
    }
  }
  void Release(ShardLock& lock) {
    PublishDeadline(lock.ctx);
    lock.Unlock();
    lock.ctx.wakes.Flush([](Waiter&) {});
  }
  // As the interposer does when it drops a lock.
  void Finish(int h, ShardLock& lock, TxBatch& batch, std::mt19937& rng) {
    Context& ctx = lock.ctx;
    Transmit(h, ctx, batch, rng);
    Release(lock);
    for (Shard* shard : shards_[h]) {
      if (shard == &ctx.shard || (ctx.touched[shard->index / 64] >> (shard->index % 64) & 1) == 0) continue;
      ShardLock there(ctx.host, *shard, Now());
      Transmit(h, there.ctx, batch, rng);
      Release(there);
    }
    while (HasMail(ctx.shard)) {
      ShardLock again(ctx.host, ctx.shard, Now());
      DrainMailbox(again.ctx);
      Transmit(h, again.ctx, batch, rng);
      Release(again);
    }
  }
  // Half of the frames come in buffers of the arena, which the stack may keep, the others are the caller's.
  void Deliver(Context& ctx, Packet& packet, std::mt19937& rng) {
    const size_t room = kFrameReadOffset + sizeof(VirtioNetHeader) + packet.bytes.size();
    RxFrame frame;
    frame.vnet = packet.vnet;
    frame.bytes = Bytes(packet.bytes.data(), packet.bytes.size());
    if (Buf* b = rng() % 2 == 0 ? ctx.shard.bufs.Take(BufPool::ClassFor(room)) : nullptr) {
      b->offset = kFrameReadOffset + sizeof(VirtioNetHeader);
      b->length = static_cast<uint32_t>(packet.bytes.size());
      std::memcpy(b->begin(), packet.bytes.data(), packet.bytes.size());
      frame.bytes = b->bytes();
      frame.buffer = b;
    }
    OnFrame(ctx, frame);
    if (frame.buffer != nullptr) ctx.shard.bufs.Give(frame.buffer);
  }
  void Turn(int h, int i, TxBatch& batch, std::mt19937& rng) {
    std::vector<Packet> packets = wires_[h][i].Take(16);
    ShardLock lock(host(h), *shards_[h][i], Now());
    DrainMailbox(lock.ctx);
    for (Packet& packet : packets) Deliver(lock.ctx, packet, rng);
    if (NextDeadline(lock.ctx) <= lock.ctx.now) OnDeadline(lock.ctx);
    Finish(h, lock, batch, rng);
  }
  template <typename F>
  auto With(int h, Shard& shard, TxBatch& batch, std::mt19937& rng, F&& f) {
    ShardLock lock(host(h), shard, Now());
    auto result = f(lock.ctx);
    Finish(h, lock, batch, rng);
    return result;
  }

  // Bytes, 0 at the end of the stream, or minus errno.
  static ssize_t Send(Context& ctx, Socket& s, std::byte* from, size_t bytes) {
    auto r = SendSocket(ctx, s, UserVector(from, bytes), 0);
    return r.ok() ? static_cast<ssize_t>(*r) : -r.error().code;
  }
  static ssize_t Receive(Context& ctx, Socket& s, std::byte* to, size_t bytes) {
    auto r = ReceiveSocket(ctx, s, UserVector(to, bytes), 0);
    return r.ok() ? static_cast<ssize_t>(*r) : -r.error().code;
  }

  // --- the programs ---

  void Open(int i, TxBatch& batch, std::mt19937& rng) {
    const int number = opened_.fetch_add(1);
    if (number >= kConnections) return;
    End end{nullptr, static_cast<uint8_t>(number)};
    end.socket = With(kClient, *shards_[kClient][i], batch, rng, [&](Context& ctx) {
      Socket* s = *OpenSocket(ctx, AF_INET, 0, 0, 1);
      EXPECT_EQ(ConnectSocket(ctx, *s, {host(kServer).config.addresses[0].address, kPort}).code, EINPROGRESS);
      return s;
    });
    std::lock_guard hold(clients_mutex_);
    clients_.push_back(std::move(end));
  }
  // One step of some connection, which is nobody else's meanwhile.
  void ClientStep(int i, TxBatch& batch, std::mt19937& rng) {
    End end;
    {
      std::unique_lock hold(clients_mutex_);
      if (clients_.size() < kAtOnce && opened_ < kConnections) {
        hold.unlock();
        return Open(i, batch, rng);
      }
      if (clients_.empty()) return;
      end = std::move(clients_.front());
      clients_.pop_front();
    }
    const bool done =
        With(kClient, host(kClient).shard(*end.socket), batch, rng, [&](Context& ctx) { return Talk(ctx, end); });
    if (done) {
      ++clients_done_;
      return;
    }
    std::lock_guard hold(clients_mutex_);
    clients_.push_back(std::move(end));
  }
  bool Talk(Context& ctx, End& end) {
    std::byte piece[kPiece];
    if (end.sent < kBytesEach) {
      const size_t n = std::min(kPiece, kBytesEach - end.sent);
      for (size_t k = 0; k < n; ++k) piece[k] = ByteAt(end, end.sent + k);
      const ssize_t sent = Send(ctx, *end.socket, piece, n);
      if (sent > 0) end.sent += static_cast<size_t>(sent);
      EXPECT_TRUE(sent > 0 || sent == -EAGAIN) << strerror(static_cast<int>(-sent));
      if (end.sent == kBytesEach && end.pattern % 2 == 0) {
        EXPECT_EQ(ShutdownSocket(ctx, *end.socket, SHUT_WR), kOk);
      }
    }
    const ssize_t got = Receive(ctx, *end.socket, piece, kPiece);
    EXPECT_TRUE(got > 0 || got == -EAGAIN) << got;
    for (ssize_t k = 0; k < got; ++k)
      if (piece[k] != ByteAt(end, end.received + static_cast<size_t>(k))) ++wrong_bytes_;
    if (got > 0) end.received += static_cast<size_t>(got);
    if (end.received < kBytesEach && got != 0 && (got > 0 || got == -EAGAIN)) return false;
    ReleaseSocket(ctx, *end.socket);
    return true;
  }

  void Accept(int i, EpollSet& set, TxBatch& batch, std::mt19937& rng) {
    auto accepted = AcceptSocket(host(kServer), *listening_, shards_[kServer][i]->index);
    if (!accepted.ok()) return;
    auto* end = new End{*accepted, 0};
    With(kServer, host(kServer).shard(*end->socket), batch, rng, [&](Context& ctx) {
      epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP, .data = {.ptr = end}};
      EXPECT_EQ(EpollAdd(ctx, set, *end->socket, 7, event), 0);
      return 0;
    });
  }
  void ServerStep(int i, EpollSet& set, TxBatch& batch, std::mt19937& rng) {
    epoll_event events[8];
    const int n = EpollCollect(set, events, 8);
    for (int k = 0; k < n; ++k) {
      if (events[k].data.ptr == nullptr) {
        Accept(i, set, batch, rng);
        continue;
      }
      auto* end = static_cast<End*>(events[k].data.ptr);
      if (!With(kServer, host(kServer).shard(*end->socket), batch, rng, [&](Context& ctx) { return Echo(ctx, *end); }))
        continue;
      delete end;
      ++servers_done_;
    }
  }
  bool Echo(Context& ctx, End& end) {
    if (end.waiting.empty() && !end.finished) {
      end.waiting.resize(kPiece);
      const ssize_t got = Receive(ctx, *end.socket, end.waiting.data(), kPiece);
      EXPECT_TRUE(got >= 0 || got == -EAGAIN) << got;
      end.waiting.resize(got > 0 ? static_cast<size_t>(got) : 0);
      end.finished = got == 0 || (got < 0 && got != -EAGAIN);
    }
    if (!end.waiting.empty()) {
      const ssize_t sent = Send(ctx, *end.socket, end.waiting.data(), end.waiting.size());
      EXPECT_TRUE(sent > 0 || sent == -EAGAIN) << sent;
      if (sent > 0) end.waiting.erase(end.waiting.begin(), end.waiting.begin() + sent);
    }
    if (!end.finished || !end.waiting.empty()) return false;
    ReleaseSocket(ctx, *end.socket);
    return true;
  }

  void Listen(TxBatch& batch, std::mt19937& rng) {
    listening_ = With(kServer, *shards_[kServer][0], batch, rng, [&](Context& ctx) {
      Socket* s = *OpenSocket(ctx, AF_INET, 0, 0, 1);
      EXPECT_EQ(BindSocket(ctx, *s, {IpAddress::AnyV4(), kPort}), kOk);
      EXPECT_EQ(ListenSocket(ctx, *s, kConnections), kOk);
      return s;
    });
  }
  bool Done() const { return clients_done_ == kConnections && servers_done_ == kConnections; }
  bool GivenUp() const { return HasFailure() || Now() > TestHost::DefaultStart() + 120s; }

  void Drive(int h, int i) {
    std::mt19937 rng(static_cast<uint32_t>(h * kShardsOfHost + i + 1));
    auto batch = std::make_unique<TxBatch>();
    EpollSet* set = nullptr;
    if (h == kServer) {
      set = With(h, *shards_[h][i], *batch, rng,
                 [&](Context& ctx) { return *OpenEpollSet(ctx, static_cast<uint16_t>(i)); });
      With(h, host(h).shard(*listening_), *batch, rng, [&](Context& ctx) {
        epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};
        return EpollAdd(ctx, *set, *listening_, 3, event);
      });
    }
    while (!Done() && !GivenUp()) {
      Turn(h, i, *batch, rng);
      if (h == kServer)
        ServerStep(i, *set, *batch, rng);
      else
        ClientStep(i, *batch, rng);
      std::this_thread::yield();
    }
    if (set != nullptr) ReleaseEpollSet(host(h), *set, Now());
  }

  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
  std::unique_ptr<TestHost> hosts_[2];
  Shard* shards_[2][kShardsOfHost];
  Wire wires_[2][kShardsOfHost];
  Socket* listening_ = nullptr;
  std::mutex clients_mutex_;
  std::deque<End> clients_;
  std::atomic<int> opened_{0}, clients_done_{0}, servers_done_{0}, wrong_bytes_{0};
};

TEST_F(StackThreads, CarryConnectionsThatNobodyOwns) {  // D1, E5
  {
    std::mt19937 rng(99);
    auto batch = std::make_unique<TxBatch>();
    Listen(*batch, rng);
  }
  std::vector<std::thread> drivers;
  for (int h = 0; h < 2; ++h)
    for (int i = 0; i < kShardsOfHost; ++i) drivers.emplace_back([this, h, i] { Drive(h, i); });
  for (std::thread& driver : drivers) driver.join();
  EXPECT_EQ(clients_done_, kConnections);
  EXPECT_EQ(servers_done_, kConnections);
  EXPECT_EQ(wrong_bytes_, 0);
  for (int h = 0; h < 2; ++h)
    for (Shard* shard : shards_[h]) {
      ShardLock lock(host(h), *shard, Now());
      DrainMailbox(lock.ctx);
      char why[160] = "";
      EXPECT_EQ(CheckInvariants(lock.ctx, why, sizeof why), 0) << why;
    }
}

}  // namespace
}  // namespace ustcp::test
