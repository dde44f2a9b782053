// A fixed piece of work for each thing that the core does, to be run under callgrind, which counts the instructions of it
// (tests/bench/instructions.py). Two hosts joined without a device, on a clock that only moves when told: every run does
// the same. Counted is one side, from the lock of its shard to its drop, as preload/runtime/turn.cc drives it; the peer
// and the copying of frames in between are not.
//   ustcp_instructions              prints "NAME TIMES" for each; callgrind dumps its counts under NAME
//   ustcp_instructions --about      prints what built it
#include <gnu/libc-version.h>
#include <valgrind/callgrind.h>

#include <cstdio>
#include <cstring>
#include <vector>

#include "stack/socket/readiness.h"
#include "tests/bench/link.h"

namespace ustcp::bench {
namespace {

// Little memory: tools that shadow it have to.
constexpr size_t kArenaBytes = size_t{256} << 20;
constexpr int kClient = 0, kServer = 1;
constexpr int kWarmUp = 200, kTimes = 1000;

// Counting starts, or pauses, for as long as this lives.
class Toggle {
 public:
  explicit Toggle(bool on = true) : on_(on) {
    if (on_) CALLGRIND_TOGGLE_COLLECT;
  }
  ~Toggle() {
    if (on_) CALLGRIND_TOGGLE_COLLECT;
  }
  Toggle(const Toggle&) = delete;
  Toggle& operator=(const Toggle&) = delete;

 private:
  bool on_;
};
using Counted = Toggle;
using Uncounted = Toggle;

// The side that is counted, driven as a program's thread drives its shard.
class Ours {
 public:
  Ours(Link& link, int side) : link_(link), side_(side) {}

  // A call of the program: under the lock, what it says stays for the next turn.
  template <typename F>
  auto Call(F&& f) {
    Counted counted;
    return link_.On(side_, [&](Context& ctx) {
      auto result = f(ctx);
      PublishDeadline(ctx);
      return result;
    });
  }
  // What has arrived comes in, what is due fires, what there is to say goes out. Returns the frames that went out.
  size_t Turn() {
    Counted counted;
    return link_.On(side_, [&](Context& ctx) {
      DrainMailbox(ctx);
      link_.Deliver(side_, ctx);
      if (NextDeadline(ctx) <= ctx.now) OnDeadline(ctx);
      size_t frames = 0;
      for (bool more = HasOutput(ctx.shard); more;) {
        more = PollTransmit(ctx, link_.batch());
        {
          Uncounted wire;
          for (size_t i = 0; i < link_.batch().count; ++i) link_.Copy(1 - side_, link_.batch().frames[i]);
        }
        frames += link_.batch().count;
        ReleaseTransmitted(ctx, link_.batch());
      }
      PublishDeadline(ctx);
      return frames;
    });
  }

 private:
  Link& link_;
  int side_;
};

// The other side: takes in what came, does f, and sends; nothing of it counts.
template <typename F>
void Peer(Link& link, int side, F&& f) {
  link.On(side, [&](Context& ctx) {
    link.Deliver(side, ctx);
    if (NextDeadline(ctx) <= ctx.now) OnDeadline(ctx);
    f(ctx);
  });
  link.Carry(side);
}

void ReceiveAll(Context& ctx, Socket& s) {
  while (Link::Receive(ctx, s) > 0) {
  }
}

// Runs one piece of work `warm_up` times uncounted and `times` times counted. `work` returns how often it did the thing.
template <typename F>
void Measure(const char* name, int warm_up, int times, F&& work) {
  for (int i = 0; i < warm_up; ++i) work();
  CALLGRIND_ZERO_STATS;
  size_t done = 0;
  for (int i = 0; i < times; ++i) done += work();
  CALLGRIND_DUMP_STATS_AT(name);
  printf("%s %zu\n", name, done);
}

struct Connected {
  explicit Connected(int count) : listening(link.Listen(80)), clients(count), servers(count) {
    for (int i = 0; i < count; ++i) {
      link.Connect(listening, clients[i], servers[i]);
      Must({servers[i] == nullptr ? ECONNREFUSED : 0});
    }
  }
  Link link{kArenaBytes};
  Socket* listening;
  std::vector<Socket*> clients, servers;
};

// A server's event loop: 64 bytes in, 1,024 out, eight connections at a time that one wait finds.
void Requests() {
  constexpr int kAtOnce = 8;
  Connected c(kAtOnce);
  Ours ours(c.link, kServer);
  EpollSet* set = c.link.On(kServer, [&](Context& ctx) {
    EpollSet* made = *OpenEpollSet(ctx, 0);
    for (int i = 0; i < kAtOnce; ++i) {
      epoll_event event{EPOLLIN, {.u64 = static_cast<uint64_t>(i)}};
      EpollAdd(ctx, *made, *c.servers[i], i, event);
    }
    return made;
  });
  Measure("request", kWarmUp, kTimes, [&] {
    c.link.Advance(100us);
    Peer(c.link, kClient, [&](Context& ctx) {
      for (Socket* s : c.clients) {
        ReceiveAll(ctx, *s);
        Link::Send(ctx, *s, 64);
      }
    });
    ours.Turn();
    epoll_event events[64];
    int n;
    {
      Counted counted;
      n = EpollCollect(*set, events, 64);
    }
    Must({n == kAtOnce ? 0 : EPROTO});
    for (int i = 0; i < n; ++i) {
      Socket& s = *c.servers[events[i].data.u64];
      ours.Call([&](Context& ctx) { return Link::Receive(ctx, s); });
      ours.Call([&](Context& ctx) { return Link::Send(ctx, s, 1024); });
    }
    ours.Turn();
    return static_cast<size_t>(n);
  });
}

// 64 bytes in and 64 back, blocking calls: the read's turn brings the message, the write sends at once.
void RoundTrips() {
  Connected c(1);
  Ours ours(c.link, kServer);
  Measure("round-trip", kWarmUp, kTimes, [&] {
    c.link.Advance(10us);
    Peer(c.link, kClient, [&](Context& ctx) {
      ReceiveAll(ctx, *c.clients[0]);
      Link::Send(ctx, *c.clients[0], 64);
    });
    ours.Turn();
    ours.Call([&](Context& ctx) { return Link::Receive(ctx, *c.servers[0]); });
    ours.Call([&](Context& ctx) { return Link::Send(ctx, *c.servers[0], 64); });
    ours.Turn();
    return size_t{1};
  });
}

// Bulk out: eight writes, their frames, and the acknowledgements they bring. For each frame.
void SegmentsOut(const char* name, size_t bytes) {
  Connected c(1);
  Ours ours(c.link, kServer);
  Measure(name, kWarmUp, kTimes / 4, [&] {
    size_t frames = 0;
    c.link.Advance(1ms);
    for (int i = 0; i < 8; ++i) {
      ours.Call([&](Context& ctx) { return Link::Send(ctx, *c.servers[0], bytes); });
      frames += ours.Turn();
    }
    Peer(c.link, kClient, [&](Context& ctx) { ReceiveAll(ctx, *c.clients[0]); });
    return frames + ours.Turn();
  });
}

// Bulk in: eight frames in one turn, one read of them all, and the acknowledgements. For each frame.
void SegmentsIn(const char* name, size_t bytes) {
  Connected c(1);
  Ours ours(c.link, kServer);
  Measure(name, kWarmUp, kTimes / 4, [&] {
    size_t frames = 0;
    c.link.Advance(1ms);
    for (int i = 0; i < 8; ++i) {
      c.link.On(kClient, [&](Context& ctx) { Link::Send(ctx, *c.clients[0], bytes); });
      frames += c.link.Carry(kClient);
    }
    ours.Turn();
    ours.Call([&](Context& ctx) { return Link::Receive(ctx, *c.servers[0]); });
    ours.Turn();
    Peer(c.link, kClient, [](Context&) {});
    return frames;
  });
}

// A connection of the side that is counted, from its handshake to its end, both ends closing, the server first. The
// server's TIME_WAIT entries end a minute later and are a part of it.
void Connections(const char* name, int counted_side) {
  Connected c(0);
  Ours ours(c.link, counted_side);
  auto talk = [&] {
    // As long as anybody has something to say.
    for (size_t moved = 1; moved > 0;) {
      c.link.On(1 - counted_side, [&](Context& ctx) { c.link.Deliver(1 - counted_side, ctx); });
      moved = c.link.Carry(1 - counted_side);
      moved += ours.Turn();
    }
  };
  // The calls of either side, counted or not.
  auto on = [&](int side, auto&& f) { return side == counted_side ? ours.Call(f) : c.link.On(side, f); };
  int left = kWarmUp + kTimes;
  Measure(name, kWarmUp, kTimes, [&] {
    Endpoint to{c.link.side(kServer).address, c.listening->local.port};
    Socket* client = on(kClient, [&](Context& ctx) {
      Socket* s = *OpenSocket(ctx, AF_INET, 0, 0, 1);
      Must(ConnectSocket(ctx, *s, to), EINPROGRESS);
      return s;
    });
    talk();
    Socket* server;
    {
      Counted counted(counted_side == kServer);
      server = *AcceptSocket(c.link.side(kServer).box.host(), *c.listening, 0);
    }
    on(kServer, [&](Context& ctx) { return ReleaseSocket(ctx, *server); });
    talk();
    on(kClient, [&](Context& ctx) { return ReleaseSocket(ctx, *client); });
    talk();
    c.link.Advance(3ms);
    --left;
    if (left == kTimes || left == 0) {
      c.link.Advance(70s);
      talk();
    }
    return size_t{1};
  });
}

}  // namespace
}  // namespace ustcp::bench

int main(int argc, char** argv) {
  using namespace ustcp::bench;
  if (argc == 2 && strcmp(argv[1], "--about") == 0) {
    printf("%s, glibc %s\n", USTCP_BUILT_WITH, gnu_get_libc_version());
    return 0;
  }
  Requests();
  RoundTrips();
  SegmentsOut("segment-out-1448", 1448);
  SegmentsOut("segment-out-60000", 60000);
  SegmentsIn("segment-in-1448", 1448);
  SegmentsIn("segment-in-30000", 30000);
  Connections("connection-accepted", kServer);
  Connections("connection-opened", kClient);
  return 0;
}
