// What the core costs without a device: segments out and in, connections, timers, a turn of an event loop, locks.
//   ustcp_bench [--benchmark_filter=REGEX]
// Times are per operation as named; those of segments are taken by hand around eight of them, since the other side's work
// lies in between.
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstring>
#include <random>
#include <vector>

#include "stack/base/user_copy.h"
#include "stack/socket/readiness.h"
#include "stack/socket/socket.h"
#include "stack/sync/robust_mutex.h"
#include "stack/tcp/listener.h"
#include "tests/bench/link.h"

namespace ustcp::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kGroup = 8;

double Seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

struct Connected {
  Connected() {
    listening = link.Listen(80);
    link.Connect(listening, client, server);
    // Grow the congestion window to what it needs.
    for (int i = 0; i < 64; ++i) {
      link.On(1, [&](Context& ctx) { Link::Send(ctx, *server, 65536); });
      link.Settle();
      link.On(0, [&](Context& ctx) {
        while (Link::Receive(ctx, *client) > 0) {
        }
      });
      link.Pass(50ms);
    }
  }
  // Delayed acknowledgements and window updates go their way, unmeasured.
  void Rest() {
    link.On(0, [&](Context& ctx) {
      while (Link::Receive(ctx, *client) > 0) {
      }
    });
    link.On(1, [&](Context& ctx) {
      while (Link::Receive(ctx, *server) > 0) {
      }
    });
    link.Settle();
    link.Pass(50ms);
  }
  Link link;
  Socket* listening = nullptr;
  Socket* client = nullptr;
  Socket* server = nullptr;
};

// SendSocket() and PollTransmit() of one segment of range(0) bytes.
void SegmentOut(benchmark::State& state) {
  Connected c;
  auto bytes = static_cast<size_t>(state.range(0));
  for (auto _ : state) {
    Clock::duration spent{};
    c.link.On(1, [&](Context& ctx) {
      TxBatch& batch = c.link.batch();
      auto begun = Clock::now();
      for (int i = 0; i < kGroup; ++i) {
        Link::Send(ctx, *c.server, bytes);
        PollTransmit(ctx, batch);
      }
      spent = Clock::now() - begun;
      for (size_t i = 0; i < batch.count; ++i) c.link.Copy(0, batch.frames[i]);
      ReleaseTransmitted(ctx, batch);
    });
    state.SetIterationTime(Seconds(spent) / kGroup);
    c.link.On(0, [&](Context& ctx) { c.link.Deliver(0, ctx); });
    c.Rest();
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * state.range(0));
}
BENCHMARK(SegmentOut)->Arg(64)->Arg(1024)->Arg(60000)->UseManualTime();

// OnFrame() of one in-order segment of range(0) bytes, and ReceiveSocket() of them all.
void SegmentIn(benchmark::State& state) {
  Connected c;
  auto bytes = static_cast<size_t>(state.range(0));
  for (auto _ : state) {
    for (int i = 0; i < kGroup; ++i) {
      c.link.On(1, [&](Context& ctx) { Link::Send(ctx, *c.server, bytes); });
      c.link.Carry(1);
    }
    auto begun = Clock::now();
    c.link.On(0, [&](Context& ctx) {
      c.link.Deliver(0, ctx);
      while (Link::Receive(ctx, *c.client) > 0) {
      }
    });
    state.SetIterationTime(Seconds(Clock::now() - begun) / kGroup);
    c.Rest();
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * state.range(0));
}
BENCHMARK(SegmentIn)->Arg(64)->Arg(1024)->Arg(30000)->UseManualTime();

// One request of 64 bytes and its answer of range(0) bytes, both stacks, each side woken through an epoll set.
void RequestAndAnswer(benchmark::State& state) {
  Connected c;
  EpollSet* sets[2];
  Socket* sockets[2] = {c.client, c.server};
  for (int i : {0, 1})
    sets[i] = c.link.On(i, [&](Context& ctx) {
      EpollSet* set = *OpenEpollSet(ctx, 0);
      epoll_event event{EPOLLIN, {}};
      EpollAdd(ctx, *set, *sockets[i], 5, event);
      return set;
    });
  size_t sizes[2] = {64, static_cast<size_t>(state.range(0))};
  epoll_event events[8];
  for (auto _ : state) {
    for (int from : {0, 1}) {
      c.link.On(from, [&](Context& ctx) { Link::Send(ctx, *sockets[from], sizes[from]); });
      c.link.Carry(from);
      int to = 1 - from;
      c.link.On(to, [&](Context& ctx) { c.link.Deliver(to, ctx); });
      if (EpollCollect(*sets[to], events, 8) != 1) state.SkipWithError("no event");
      c.link.On(to, [&](Context& ctx) { Link::Receive(ctx, *sockets[to]); });
    }
  }
}
BENCHMARK(RequestAndAnswer)->Arg(64)->Arg(1024);

// Handshake, accept, close by the server and then the client, both stacks; the TIME_WAIT entries pile up as on a server.
void ConnectionSetUpAndClose(benchmark::State& state) {
  Link link;
  Socket* listening = link.Listen(80);
  for (auto _ : state) {
    Socket *client, *server;
    link.Connect(listening, client, server);
    if (server == nullptr) {
      state.SkipWithError("no connection");
      break;
    }
    link.On(1, [&](Context& ctx) { ReleaseSocket(ctx, *server); });
    link.Settle();
    link.On(0, [&](Context& ctx) { ReleaseSocket(ctx, *client); });
    link.Settle();
    // Ports come back after a minute: about as many connections a second as a busy server has.
    state.PauseTiming();
    link.Pass(3ms);
    state.ResumeTiming();
  }
}
BENCHMARK(ConnectionSetUpAndClose);

// Arming a timer among range(0) armed ones and cancelling it, asking for the next deadline each time as drivers do.
void TimerArmAndCancel(benchmark::State& state) {
  auto wheel = std::make_unique<TimerWheel>();
  wheel->Init(test::TestHost::DefaultStart());
  std::mt19937 random(1);
  std::vector<TimerNode> others(static_cast<size_t>(state.range(0)));
  for (TimerNode& node : others)
    wheel->Arm(node, test::TestHost::DefaultStart() + 1s + Duration{random() % 60'000'000'000});
  TimerNode node;
  for (auto _ : state) {
    wheel->Arm(node, test::TestHost::DefaultStart() + 200ms);
    benchmark::DoNotOptimize(wheel->NextDeadline());
    wheel->Cancel(node);
    benchmark::DoNotOptimize(wheel->NextDeadline());
  }
}
BENCHMARK(TimerArmAndCancel)->Arg(0)->Arg(1000)->Arg(100000);

// Moving an armed timer later, as every acknowledgement does: what a connection's ArmEarlier() saves.
void TimerMovedLater(benchmark::State& state) {
  auto wheel = std::make_unique<TimerWheel>();
  Instant now = test::TestHost::DefaultStart();
  wheel->Init(now);
  TimerNode node;
  wheel->Arm(node, now + 200ms);
  for (auto _ : state) wheel->ArmEarlier(node, now += 1us);
}
BENCHMARK(TimerMovedLater);

// The timers of range(0) connections firing one after the other.
void TimerExpiry(benchmark::State& state) {
  auto wheel = std::make_unique<TimerWheel>();
  Instant now = test::TestHost::DefaultStart();
  wheel->Init(now);
  std::vector<TimerNode> nodes(static_cast<size_t>(state.range(0)));
  std::mt19937 random(1);
  for (auto _ : state) {
    for (TimerNode& node : nodes) wheel->Arm(node, now + Duration{random() % 1'000'000'000});
    now += 1s;
    while (wheel->Expire(now) != nullptr) {
    }
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations()) * state.range(0));
}
BENCHMARK(TimerExpiry)->Arg(100)->Arg(10000);

// A turn of an event loop with nothing to do but one event among range(0) watched sockets: notify, collect, read.
void EpollTurn(benchmark::State& state) {
  Link link;
  Socket* listening = link.Listen(80);
  EpollSet* set = link.On(1, [](Context& ctx) { return *OpenEpollSet(ctx, 0); });
  std::vector<Socket*> clients, servers;
  for (int i = 0; i < state.range(0); ++i) {
    Socket *client, *server;
    link.Connect(listening, client, server);
    if (server == nullptr) return state.SkipWithError("no connection");
    link.On(1, [&](Context& ctx) {
      epoll_event event{EPOLLIN, {.u64 = static_cast<uint64_t>(i)}};
      EpollAdd(ctx, *set, *server, i, event);
    });
    servers.push_back(server);
  }
  epoll_event events[64];
  size_t i = 0;
  for (auto _ : state) {
    link.On(1, [&](Context& ctx) {
      servers[i]->ready.fetch_or(EPOLLIN);
      Notify(ctx, *servers[i], EPOLLIN);
    });
    benchmark::DoNotOptimize(EpollCollect(*set, events, 64));
    servers[i]->ready.fetch_and(~uint32_t{EPOLLIN});
    benchmark::DoNotOptimize(EpollCollect(*set, events, 64));  // a level that is gone leaves the list
    i = (i + 1) % servers.size();
  }
}
BENCHMARK(EpollTurn)->Arg(1)->Arg(1000);

// The listener of a port that range(0) connections and TIME_WAIT entries share, as every SYN asks for it.
void FindListener(benchmark::State& state) {
  test::TestHost box;
  std::vector<BindNode> nodes(static_cast<size_t>(state.range(0)));
  BindNode listener;
  SlotHeader owner{};
  listener.owner = &owner;
  listener.port = 80;
  box->ports.Bind(listener);
  box->ports.SetListening(listener);
  for (BindNode& node : nodes) box->ports.Add(node, 80);
  Endpoint local{IpAddress::V4(192, 168, 0, 1), 80};
  for (auto _ : state) benchmark::DoNotOptimize(box->ports.FindListener(local, 1));
}
BENCHMARK(FindListener)->Arg(1)->Arg(10000);

void LockPair(benchmark::State& state) {
  RobustMutex mutex;
  mutex.Init();
  for (auto _ : state) {
    benchmark::DoNotOptimize(mutex.Lock());
    mutex.Unlock();
  }
}
BENCHMARK(LockPair);

void ShardLockPair(benchmark::State& state) {
  test::TestHost box;
  Shard& shard = box.NewShard();
  for (auto _ : state) {
    ShardLock lock(box.host(), shard, test::TestHost::DefaultStart());
    benchmark::DoNotOptimize(&lock.ctx);
  }
}
BENCHMARK(ShardLockPair);

// The copy that may fault, of range(0) bytes, beside memcpy.
template <typename Copy>
void CopyBytes(benchmark::State& state, Copy&& copy) {
  auto n = static_cast<size_t>(state.range(0));
  std::vector<std::byte> from(n, std::byte{1}), to(n + 16);
  for (auto _ : state) {
    copy(to.data() + 16, from.data(), n);
    benchmark::ClobberMemory();
  }
}
void UserCopy(benchmark::State& state) {
  CopyBytes(state, [](void* to, const void* from, size_t n) { (void)CopyUser(to, from, n); });
}
void PlainCopy(benchmark::State& state) {
  CopyBytes(state, [](void* to, const void* from, size_t n) { std::memcpy(to, from, n); });
}
BENCHMARK(UserCopy)->Arg(8)->Arg(64)->Arg(200)->Arg(1448)->Arg(16384)->Arg(65536);
BENCHMARK(PlainCopy)->Arg(8)->Arg(64)->Arg(200)->Arg(1448)->Arg(16384)->Arg(65536);

}  // namespace
}  // namespace ustcp::bench
