// kill -9 inside a critical section. A child process performs one operation on a host in shared memory and dies at the
// n-th place where that is possible, for every n; the parent then takes the lock, which repairs the shard, and looks for
// what must hold afterwards: consistent structures, other connections that still transfer, nothing leaked once all is
// closed, and no peer left hanging.
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "stack/base/fault.h"
#include "stack/socket/readiness.h"
#include "stack/socket/socket.h"
#include "stack/tcp/listener.h"
#include "stack/tcp/tcb.h"
#include "tests/support/two_hosts.h"

namespace ustcp::test {
namespace {

#if defined(USTCP_ASSERTIONS)
int g_points_left;
void DieWhenCounted() noexcept {
  if (g_points_left-- == 0) kill(getpid(), SIGKILL);
}
void DieAt(int n) {
  g_points_left = n;
  g_fault_hook = DieWhenCounted;
}
#else
// Without fault points only the end of the operation is one.
void DieAt(int) {}
#endif

constexpr int kServerSide = 1;  // where processes die

class Repair : public ::testing::Test {
 protected:
  struct World {
    World() : net(TwoHosts::ConfigOf(1), TwoHosts::ConfigOf(2), Quick(), Quick(), /*shared=*/true) {
      listening = Open(1);
      net.On(1, [&](Context& ctx) {
        listening->options.reuse_addr = true;
        EXPECT_EQ(BindSocket(ctx, *listening, {IpAddress::AnyV4(), 80}), kOk);
        EXPECT_EQ(ListenSocket(ctx, *listening, 8), kOk);
      });
      bystander = Connect();
      bystander_server = Accept();
      client = Connect();
      server = Accept();
      set = net.On(1, [](Context& ctx) { return *OpenEpollSet(ctx, 0); });
      for (Socket* s : {listening, bystander_server, server}) AddToSet(*s);
    }
    static Sysctls Quick() {
      Sysctls s;
      s.tcp_synack_retries = 2;
      return s;
    }
    Socket* Open(int side) {
      return net.On(side, [](Context& ctx) { return *OpenSocket(ctx, AF_INET, 0, 0, 1); });
    }
    Socket* StartConnect() {
      Socket* s = Open(0);
      net.On(0, [&](Context& ctx) { (void)ConnectSocket(ctx, *s, {net.side(1).address, 80}); });
      return s;
    }
    Socket* Connect() {
      Socket* s = StartConnect();
      net.Run(20ms);
      return s;
    }
    Socket* Accept() {
      auto s = AcceptSocket(net.side(1).box.host(), *listening, 0);
      return s.ok() ? *s : nullptr;
    }
    void AddToSet(Socket& s) {
      net.On(1, [&](Context& ctx) {
        epoll_event event{.events = EPOLLIN | EPOLLRDHUP, .data = {.ptr = &s}};
        EXPECT_EQ(EpollAdd(ctx, *set, s, 3, event), 0);
      });
    }
    size_t Send(int side, Socket& s, size_t bytes) {
      return net.On(side, [&](Context& ctx) {
        std::vector<std::byte> data(bytes, std::byte{7});
        auto sent = SendSocket(ctx, s, UserVector(data.data(), bytes), 0);
        return sent.ok() ? *sent : size_t{0};
      });
    }
    size_t Receive(int side, Socket& s, size_t bytes) {
      return net.On(side, [&](Context& ctx) {
        std::vector<std::byte> data(bytes);
        auto got = ReceiveSocket(ctx, s, UserVector(data.data(), bytes), 0);
        return got.ok() ? *got : size_t{0};
      });
    }
    void Close(int side, Socket& s) {
      net.On(side, [&](Context& ctx) { ReleaseSocket(ctx, s); });
    }
    // As the runtime does when it locks a socket's shard for a call.
    template <typename F>
    void Call(int side, Socket& s, F&& f) {
      net.On(side, [&](Context& ctx) {
        ctx.shard.in_update = s.conn;
        f(ctx);
        ctx.shard.in_update = nullptr;
      });
    }

    TwoHosts net;
    Socket* listening;
    Socket* bystander;
    Socket* bystander_server;
    Socket* client;
    Socket* server;
    EpollSet* set;
  };
  using Step = std::function<void(World&)>;

  // Runs `operation` in a child that dies at each of its places in turn. `prepare` brings the world where it may start.
  void DieEverywhere(const Step& prepare, const Step& operation) {
    constexpr int kMost = 2000;
    for (int n = 0;; ++n) {
      ASSERT_LT(n, kMost) << "an operation with too many places to die at";
      SCOPED_TRACE("fault point " + std::to_string(n));
      World w;
      prepare(w);
      bool died = Kill(w, operation, n);
      Verify(w);
      if (HasFatalFailure() || HasNonfatalFailure()) return;
      if (!died) {
#if defined(USTCP_ASSERTIONS)
        EXPECT_GT(n, 3) << "this operation changes nothing";
#endif
        return;
      }
    }
  }

  // True when the child died before it was through. It always dies with the shard locked.
  static bool Kill(World& w, const Step& operation, int n) {
    pid_t pid = fork();
    if (pid == 0) {
      alarm(20);
      DieAt(n);
      operation(w);
#if defined(USTCP_ASSERTIONS)
      g_fault_hook = nullptr;
#endif
      (void)w.net.side(kServerSide).shard.lock.Lock();
      _exit(0);
    }
    int status = 0;
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status)) {
      EXPECT_EQ(WTERMSIG(status), SIGKILL) << "the child failed by itself";
    } else {
      EXPECT_EQ(WEXITSTATUS(status), 0) << "the child failed by itself";
    }
    return WIFSIGNALED(status);
  }

  static uint64_t Repairs(World& w, int side) {
    return w.net.side(side).shard.counters.Get(Counter::kUstcpShardRepairs);
  }

  static void CheckShards(World& w, const char* when) {
    for (int i = 0; i < 2; ++i) {
      ShardLock lock(w.net.side(i).box.host(), w.net.side(i).shard, w.net.now());
      char why[160] = "";
      EXPECT_EQ(CheckInvariants(lock.ctx, why, sizeof why), 0) << when << ": side " << i << ": " << why;
    }
  }

  // Whoever died may not have come to telling the epoll set: what is ready must be in it all the same.
  static void CheckReadyAreQueued(World& w) {
    epoll_event events[8];
    int count = EpollCollect(*w.set, events, 8);
    for (Socket* s : {w.listening, w.bystander_server, w.server}) {
      bool watched = s->kind == SlotKind::kSocket && s->watchers != nullptr;
      if (!watched || (s->ready.load() & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP)) == 0) continue;
      bool queued = std::any_of(events, events + count, [s](const epoll_event& e) { return e.data.ptr == s; });
      EXPECT_TRUE(queued) << "ready, and its set was never told: "
                          << (s == w.listening ? "the listener"
                              : s == w.server  ? "the connection"
                                               : "the bystander");
    }
  }

  void Verify(World& w) {
    w.net.lose = nullptr;
    // The keeper's part: sockets whose last reference went with the process are closed.
    w.net.On(1, [](Context& ctx) {
      ctx.shard.sockets.ForEachLive([&ctx](Socket& s) {
        if (s.refs.load() == 0) FinishClose(ctx, s);
      });
    });
    // These are repaired by whoever takes their locks next.
    if (Listener* listener = w.listening->listener; w.listening->kind == SlotKind::kSocket && listener != nullptr)
      ListenerLock guard(*listener);
    { EpollSetLock guard(*w.set); }
    CheckShards(w, "after the repair");
    CheckReadyAreQueued(w);
    if (shard_locked_) {
      EXPECT_EQ(Repairs(w, 0) + Repairs(w, 1), 1u);
    }
    w.net.Run(10ms);

    // Another connection goes on.
    EXPECT_EQ(w.Send(0, *w.bystander, 3000), 3000u);
    w.net.Run(2s);
    EXPECT_EQ(w.Receive(1, *w.bystander_server, 5000), 3000u);
    EXPECT_EQ(w.Send(1, *w.bystander_server, 20000), 20000u);
    w.net.Run(2s);
    EXPECT_EQ(w.Receive(0, *w.bystander, 30000), 20000u);
    CheckShards(w, "after a transfer");

    // New connections are accepted, unless it was the listener that was closed.
    if (w.listening->kind == SlotKind::kSocket && w.listening->listener != nullptr) {
      Socket* fresh = w.Connect();
      std::vector<Socket*> accepted;
      while (Socket* s = w.Accept()) accepted.push_back(s);
      bool found = false;
      for (Socket* s : accepted) {
        found |= s->conn != nullptr && s->peer == fresh->local;
        w.Close(1, *s);
      }
      EXPECT_TRUE(found) << "the listener takes no connections any more";
      w.Close(0, *fresh);
    }
    // Readiness still reaches the epoll set.
    epoll_event events[8];
    (void)EpollCollect(*w.set, events, 8);
    EXPECT_EQ(w.Send(0, *w.bystander, 10), 10u);
    w.net.Run(1s);
    bool told = false;
    for (int i = EpollCollect(*w.set, events, 8); i-- > 0;) told |= events[i].data.ptr == w.bystander_server;
    EXPECT_TRUE(told) << "the epoll set hears nothing any more";

    CloseAll(w);
  }

  static void CloseAll(World& w) {
    ReleaseEpollSet(w.net.side(1).box.host(), *w.set, w.net.now());
    for (int i = 1; i >= 0; --i)
      w.net.On(i, [](Context& ctx) {
        // Listeners first: what waits in their queues goes with them.
        for (bool listening : {true, false})
          ctx.shard.sockets.ForEachLive([&](Socket& s) {
            if ((s.listener != nullptr) == listening && s.parent == nullptr) FinishClose(ctx, s);
          });
      });
    // No peer hangs: everything ends by FIN or RST, long before a time-out would have to help.
    w.net.Run(3min);
    for (int i = 0; i < 2; ++i) {
      SCOPED_TRACE("side " + std::to_string(i));
      Shard& shard = w.net.side(i).shard;
      Host& host = w.net.side(i).box.host();
      EXPECT_EQ(shard.connections.live(), 0u);
      EXPECT_EQ(shard.half_opens.live(), 0u);
      EXPECT_EQ(shard.time_waits.live(), 0u);
      EXPECT_EQ(shard.sockets.live(), 0u);
      EXPECT_EQ(shard.listeners.live(), 0u);
      EXPECT_EQ(shard.epoll_items.live(), 0u);
      EXPECT_EQ(shard.epoll_sets.live(), 0u);
      EXPECT_EQ(shard.tx_segments.live(), 0u);
      EXPECT_EQ(shard.bufs.bytes_taken(), 0u);
      EXPECT_EQ(host.orphan_count.load(), 0);
      EXPECT_EQ(host.time_wait_count.load(), 0);
      size_t bound = 0;
      host.ports.ForEach(80, [&bound](BindNode&) { ++bound; });
      EXPECT_EQ(bound, 0u);
    }
    CheckShards(w, "at the end");
  }

  bool shard_locked_ = true;  // by the operation, wherever it may die
};

TEST_F(Repair, OpenBindListen) {
  DieEverywhere([](World&) {},
                [](World& w) {
                  w.net.On(1, [](Context& ctx) {
                    Socket* s = *OpenSocket(ctx, AF_INET, 0, 0, 1);
                    (void)BindSocket(ctx, *s, {IpAddress::AnyV4(), 8080});
                    (void)ListenSocket(ctx, *s, 5);
                  });
                });
}

TEST_F(Repair, Send) {
  DieEverywhere([](World&) {},
                [](World& w) {
                  w.Call(1, *w.server, [&](Context& ctx) {
                    std::vector<std::byte> data(9000);
                    for (int i = 0; i < 3; ++i) {
                      (void)SendSocket(ctx, *w.server, UserVector(data.data(), data.size()), 0);
                    }
                  });
                });
}

TEST_F(Repair, Receive) {
  DieEverywhere(
      [](World& w) {
        w.Send(0, *w.client, 9000);
        w.net.Run(50ms);
      },
      [](World& w) {
        w.Call(1, *w.server, [&](Context& ctx) {
          std::vector<std::byte> data(9000);
          (void)ReceiveSocket(ctx, *w.server, UserVector(data.data(), data.size()), 0);
        });
      });
}

TEST_F(Repair, DataArrivesAndIsAcknowledged) {
  DieEverywhere([](World& w) { w.Send(0, *w.client, 9000); }, [](World& w) { w.net.Run(60ms); });
}

TEST_F(Repair, DataArrivesOutOfOrder) {
  DieEverywhere(
      [](World& w) {
        auto count = std::make_shared<int>(0);
        w.net.lose = [count](int from, ConstBytes f) { return from == 0 && f.size() > 500 && (*count)++ == 0; };
        for (int i = 0; i < 6; ++i) w.Send(0, *w.client, 1448);
        w.net.Run(1ms);
        w.net.lose = nullptr;
      },
      [](World& w) { w.net.Run(400ms); });
}

TEST_F(Repair, AcknowledgmentsArrive) {
  DieEverywhere([](World& w) { w.Send(1, *w.server, 60000); }, [](World& w) { w.net.Run(20ms); });
}

TEST_F(Repair, RetransmissionTimesOut) {
  DieEverywhere(
      [](World& w) {
        w.net.lose = [](int from, ConstBytes f) { return from == 1 && f.size() > 500; };
        w.Send(1, *w.server, 4000);
        w.net.Run(50ms);
      },
      [](World& w) {
        w.net.lose = nullptr;
        w.net.Run(1s);
      });
}

TEST_F(Repair, PassiveOpen) {
  DieEverywhere([](World& w) { w.StartConnect(); }, [](World& w) { w.net.Run(20ms); });
}

TEST_F(Repair, Accept) {
  shard_locked_ = false;
  DieEverywhere(
      [](World& w) {
        w.Connect();
        w.Connect();
      },
      [](World& w) { (void)w.Accept(); });
}

TEST_F(Repair, ActiveOpen) {
  DieEverywhere([](World&) {},
                [](World& w) {
                  Socket* s = w.Open(1);
                  w.Call(1, *s, [&](Context& ctx) { (void)ConnectSocket(ctx, *s, {w.net.side(0).address, 9}); });
                  w.net.Run(20ms);
                });
}

TEST_F(Repair, CloseInOrder) {
  DieEverywhere([](World&) {},
                [](World& w) {
                  w.Close(1, *w.server);
                  w.net.Run(20ms);
                  w.Call(0, *w.client, [&](Context& ctx) { (void)ShutdownSocket(ctx, *w.client, SHUT_WR); });
                  w.net.Run(20ms);
                });
}

TEST_F(Repair, CloseWithUnreadData) {
  DieEverywhere(
      [](World& w) {
        w.Send(0, *w.client, 5000);
        w.net.Run(20ms);
      },
      [](World& w) { w.Close(1, *w.server); });
}

TEST_F(Repair, PeerClosesFirst) {
  DieEverywhere([](World& w) { w.net.On(0, [&](Context& ctx) { (void)ShutdownSocket(ctx, *w.client, SHUT_WR); }); },
                [](World& w) {
                  w.net.Run(20ms);
                  w.Close(1, *w.server);
                  w.net.Run(20ms);
                });
}

TEST_F(Repair, PeerResets) {
  DieEverywhere([](World& w) { w.net.On(0, [&](Context& ctx) { TcpAbort(ctx, *w.client->conn, 0); }); },
                [](World& w) { w.net.Run(20ms); });
}

TEST_F(Repair, TimeWaitEnds) {
  DieEverywhere(
      [](World& w) {
        w.Close(1, *w.server);
        w.net.Run(20ms);
        w.net.On(0, [&](Context& ctx) { (void)ShutdownSocket(ctx, *w.client, SHUT_WR); });
        w.net.Run(20ms);
      },
      [](World& w) { w.net.Run(70s); });
}

TEST_F(Repair, CloseListenerWithQueue) {
  DieEverywhere(
      [](World& w) {
        w.Connect();
        w.Connect();
        w.Connect();
      },
      [](World& w) { w.Close(1, *w.listening); });
}

TEST_F(Repair, EpollAddAndDelete) {
  DieEverywhere([](World&) {},
                [](World& w) {
                  w.net.On(1, [&](Context& ctx) {
                    epoll_event event{.events = EPOLLOUT, .data = {}};
                    (void)EpollAdd(ctx, *w.set, *w.server, 4, event);
                    (void)EpollAdd(ctx, *w.set, *w.server, 5, event);
                    (void)EpollDelete(ctx, *w.set, *w.server, 3);
                    (void)EpollDelete(ctx, *w.set, *w.server, 5);
                  });
                });
}

TEST_F(Repair, EpollCollects) {
  shard_locked_ = false;
  DieEverywhere(
      [](World& w) {
        w.Send(0, *w.client, 10);
        w.Send(0, *w.bystander, 10);
        w.net.Run(20ms);
        EXPECT_EQ(w.Receive(1, *w.bystander_server, 100), 10u);
      },
      [](World& w) {
        epoll_event events[4];
        (void)EpollCollect(*w.set, events, 4);
        (void)EpollCollect(*w.set, events, 4);
      });
}

// T14: one shard hands a frame to another while the holder of the other's lock dies.
class BufsOnTheWay : public ::testing::Test {
 protected:
  BufsOnTheWay() : from(box.NewShard()), to(box.NewShard()) {}
  // What HandToShard does first.
  Buf* Part() {
    ShardLock lock(box.host(), from, TestHost::DefaultStart());
    Buf* b = from.bufs.Take(BufClass::kSmall);
    from.bufs.Part(b, to.index);
    return b;
  }
  void RepairTarget() {
    ShardLock lock(box.host(), to, TestHost::DefaultStart());
    RepairShard(lock.ctx);
  }
  TestHost box;
  Shard& from;
  Shard& to;
};

TEST_F(BufsOnTheWay, RepairOfTheTargetLeavesThemAlone) {
  Buf* b = Part();
  RepairTarget();  // the sender has parted with it, and not pushed it yet
  EXPECT_EQ(b->kind, SlotKind::kBuf);
  to.mailbox.Push(b);
  RepairTarget();
  EXPECT_EQ(b->kind, SlotKind::kBuf);
  ShardLock lock(box.host(), to, TestHost::DefaultStart());
  EXPECT_NE(to.bufs.Take(BufClass::kSmall), b);
}

TEST_F(BufsOnTheWay, ComeBackWhenTheSenderDied) {
  Buf* b = Part();
  ShardLock lock(box.host(), to, TestHost::DefaultStart());
  {
    ShardLock sender(box.host(), from, TestHost::DefaultStart());
    EXPECT_FALSE(ReclaimLostBuf(lock.ctx, *b));  // it may be about to push
  }
  EXPECT_TRUE(ReclaimLostBuf(lock.ctx, *b));
  EXPECT_EQ(b->kind, SlotKind::kFree);
  EXPECT_EQ(to.bufs.bytes_taken(), 0u);
}

TEST_F(BufsOnTheWay, AreNotLostInTheMailbox) {
  Buf* b = Part();
  to.mailbox.Push(b);
  ShardLock lock(box.host(), to, TestHost::DefaultStart());
  EXPECT_TRUE(ReclaimLostBuf(lock.ctx, *b));
  EXPECT_EQ(b->kind, SlotKind::kBuf);
  EXPECT_EQ(to.mailbox.TakeAll(), b);
  // Taken out, and its taker died.
  EXPECT_TRUE(ReclaimLostBuf(lock.ctx, *b));
  EXPECT_EQ(b->kind, SlotKind::kFree);
}

}  // namespace
}  // namespace ustcp::test
