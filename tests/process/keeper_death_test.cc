// Deaths: of members (their references are dropped), of the keeper's halves (another goes on with the arena).
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "io/base/clock.h"
#include "io/base/owned_fds.h"
#include "io/device/frame_io.h"
#include "io/member/arena_map.h"
#include "io/member/keeper_channel.h"
#include "stack/create.h"
#include "stack/socket/readiness.h"
#include "stack/socket/socket.h"
#include "stack/socket/socket_ops.h"
#include "tests/support/keeper_fixture.h"

namespace ustcp::keeper_test {
namespace {

using ::testing::HasSubstr;

class KeeperDeath : public KeeperTest {
 protected:
  // In a member: a home shard with a listener in it, entered as descriptor 7.
  static int ListenHere(uint16_t port) {
    Host& host = *ThisMember().host;
    Instant now = MonotonicNow();
    Shard* shard;
    {
      SimpleLock guard(host.host_lock);
      shard = TakeShard(host, ThisMember().process, now);
      if (shard == nullptr) return ENOBUFS;
      host.processes[ThisMember().process].shard = shard->index;
    }
    FdPage* page;
    {
      SimpleLock guard(host.host_lock);
      page = host.fd_pages.Take();
    }
    if (page == nullptr) return ENOMEM;
    ShardLock lock(host, *shard, now);
    Result<Socket*> socket = OpenSocket(lock.ctx, AF_INET, 0, 0, getpid());
    if (!socket.ok()) return socket.error().code;
    if (Error e = BindSocket(lock.ctx, **socket, Endpoint{IpAddress::AnyV4(), port})) return e.code;
    if (Error e = ListenSocket(lock.ctx, **socket, 16)) return e.code;
    page->entries[7].store(FdEntry::Pack(FdEntry::kSocket, *socket));
    host.processes[ThisMember().process].pages[0].store(page);
    return 0;
  }

  // Counts live things of the host through a look from outside.
  struct Count {
    size_t sockets = 0;
    size_t processes = 0;
    size_t shards = 0;
    size_t buf_bytes[2] = {};  // of the first two pools
    int32_t keeper_pid = 0;
    int32_t marker = 0;
  };
  bool Look(Count* out) {
    Report r = RunMember([this] {
      Report report;
      Settings settings;
      std::vector<const char*> environment = Environment();
      Member member;
      IoError error = LoadSettings(environment.data(), &settings);
      if (!error) error = Observe(settings, environment.data(), &member);
      report.code = error.code;
      if (error) return report;
      Host& host = *member.host;
      Count count;
      for (int i = 0; i < kMaxProcesses && !NeverUsed(host.processes[i]); ++i)
        count.processes += host.processes[i].state.load() != ProcessSlot::kFree;
      for (int i = 0; i < kMaxShards && host.shards[i].random_state != 0; ++i) {
        count.sockets += host.shards[i].sockets.live();
        count.shards += host.shards[i].state.load() != Shard::kFree;
        if (i < 2) count.buf_bytes[i] = host.shards[i].bufs.bytes_taken();
      }
      count.keeper_pid = host.keeper_pid.load();
      count.marker = host.sysctls.tcp_timewait_len;
      static_assert(sizeof(Count) <= sizeof(report.message));
      std::memcpy(report.message, &count, sizeof(count));
      return report;
    });
    std::memcpy(out, r.message, sizeof(*out));
    return r.code == 0;
  }

  // What the broker says of itself.
  std::string Status() const {
    int fd = ConnectKeeper(SocketPath().c_str());
    KeeperRequest request;
    KeeperReply reply;
    int unused = -1;
    if (SendMessage(fd, &request, sizeof(request), -1) != 0 ||
        ReceiveMessage(fd, &reply, sizeof(reply), &unused, 2000) != sizeof(reply))
      reply.message[0] = 0;
    close(fd);
    return reply.message;
  }

  static void KillAndWait(pid_t pid) {
    kill(pid, SIGKILL);
    Eventually([pid] {
      // A zombie whose parent does not collect it is as good as gone.
      return kill(pid, 0) != 0 || ProcessIsZombie(pid);
    });
  }
  static bool ProcessIsZombie(pid_t pid) {
    char path[64];
    std::snprintf(path, sizeof(path), "/proc/%d/stat", static_cast<int>(pid));
    FILE* file = std::fopen(path, "re");
    if (file == nullptr) return true;
    char text[256] = {};
    size_t n = std::fread(text, 1, sizeof(text) - 1, file);
    std::fclose(file);
    const char* bracket = n > 0 ? std::strrchr(text, ')') : nullptr;
    return bracket == nullptr || bracket[2] == 'Z';
  }
};

TEST_F(KeeperDeath, KilledMemberLosesItsReferences) {
  MakeTap();
  Child keeps = StartMember([this] { return AttachHere(); }, true);  // so that the host stays
  ASSERT_EQ(Read(keeps).code, 0);
  Child victim = StartMember(
      [this] {
        Report r = AttachHere();
        if (r.code == 0) r.code = ListenHere(8080);
        return r;
      },
      true);
  Report r = Read(victim);
  ASSERT_EQ(r.code, 0) << r.message;
  Count before;
  ASSERT_TRUE(Look(&before));
  EXPECT_EQ(before.sockets, 1u);
  EXPECT_EQ(before.processes, 2u);
  EXPECT_EQ(before.shards, 1u);
  Kill(victim);
  Count after;
  EXPECT_TRUE(Eventually([&] {
    return Look(&after) && after.sockets == 0 && after.processes == 1 && after.shards == 0;
  })) << after.sockets
      << " sockets, " << after.processes << " processes, " << after.shards << " shards";
  // The port is free again.
  Report again = RunMember([this] {
    Report report = AttachHere();
    if (report.code == 0) report.code = ListenHere(8080);
    return report;
  });
  EXPECT_EQ(again.code, 0);
  Release(keeps);
}

// It died between making the set and noting it in its table.
TEST_F(KeeperDeath, EpollSetThatIsInNoTableGoesWithItsMaker) {
  MakeTap();
  Child keeps = StartMember([this] { return AttachHere(); }, true);
  ASSERT_EQ(Read(keeps).code, 0);
  Child victim = StartMember(
      [this] {
        Report r = AttachHere();
        if (r.code == 0) r.code = ListenHere(8080);
        if (r.code != 0) return r;
        Host& host = *ThisMember().host;
        const uint16_t process = ThisMember().process;
        ShardLock lock(host, host.shards[host.processes[process].shard], MonotonicNow());
        if (!OpenEpollSet(lock.ctx, process)) r.code = ENOMEM;
        return r;
      },
      true);
  ASSERT_EQ(Read(victim).code, 0);
  Kill(victim);
  Count after;
  EXPECT_TRUE(Eventually([&] { return Look(&after) && after.processes == 1 && after.shards == 0; }))
      << after.processes << " processes, " << after.shards << " shards";
  Release(keeps);
}

// A buffer may have come from another shard's span: it goes back to the pool that it belongs to.
TEST_F(KeeperDeath, BuffersOfKilledMembersEngineGoBackToTheirPool) {
  MakeTap();
  Child keeps = StartMember(
      [this] {
        Report r = AttachHere();
        if (r.code == 0) r.code = ListenHere(8081);
        return r;
      },
      true);
  ASSERT_EQ(Read(keeps).code, 0);
  Child victim = StartMember(
      [this] {
        Report r = AttachHere();
        if (r.code == 0) r.code = ListenHere(8080);
        if (r.code != 0) return r;
        Host& host = *ThisMember().host;
        uint16_t process = ThisMember().process;
        Shard& mine = host.shards[host.processes[process].shard];
        Shard& other = host.shards[1 - mine.index];
        Buf* foreign;
        {
          ShardLock lock(host, other, MonotonicNow());
          foreign = other.bufs.Take(BufClass::kFrame);
          other.bufs.Part(foreign, mine.index);
        }
        ShardLock lock(host, mine, MonotonicNow());
        mine.bufs.Join(foreign);
        MarkInEngine(foreign, process);
        MarkInEngine(mine.bufs.Take(BufClass::kFrame), process);
        r.value = mine.index;
        return r;
      },
      true);
  Report r = Read(victim);
  ASSERT_EQ(r.code, 0) << r.message;
  auto mine = static_cast<size_t>(r.value);
  Count before;
  ASSERT_TRUE(Look(&before));
  EXPECT_EQ(before.buf_bytes[mine], 2 * kBufBytes[static_cast<size_t>(BufClass::kFrame)]);
  EXPECT_EQ(before.buf_bytes[1 - mine], 0u);
  Kill(victim);
  Count after;
  EXPECT_TRUE(Eventually([&] { return Look(&after) && after.processes == 1 && after.shards == 1; }));
  EXPECT_EQ(after.buf_bytes[mine], 0u);
  EXPECT_EQ(after.buf_bytes[1 - mine], 0u);
  Release(keeps);
}

// exec: another image of the same process finds its slot by pid and start time.
TEST_F(KeeperDeath, SameProcessFindsItsSlotAgain) {
  MakeTap();
  Report r = RunMember([this] {
    Report first = AttachHere();
    if (first.code != 0) return first;
    // What exec does to a member: mapping and descriptors are gone.
    UnmapArena(ThisMember().arena_bytes);
    OwnedFds::Close(ThisMember().arena_fd);
    OwnedFds::Close(ThisMember().keeper_fd);
    ThisMember() = Member{};
    Report second = AttachHere();
    second.value = first.process;
    return second;
  });
  EXPECT_EQ(r.code, 0) << r.message;
  EXPECT_TRUE(r.resumed);
  EXPECT_EQ(r.process, r.value);
}

TEST_F(KeeperDeath, DriverThatDiesIsReplacedByItsBroker) {
  MakeTap();
  Child member = StartMember(
      [this] {
        Report r = AttachHere();
        if (r.code == 0) ThisMember().host->sysctls.tcp_timewait_len = 17;
        return r;
      },
      true);
  Report r = Read(member);
  ASSERT_EQ(r.code, 0) << r.message;
  pid_t broker = BrokerPid();
  KillAndWait(r.keeper_pid);
  Count count;
  EXPECT_TRUE(Eventually([&] { return Look(&count) && count.keeper_pid != r.keeper_pid; }));
  EXPECT_EQ(count.marker, 17);
  EXPECT_EQ(BrokerPid(), broker);
  // And it works: the member's end is noticed.
  Kill(member);
  EXPECT_TRUE(Eventually([&] { return BrokerPid() < 0 || (Look(&count) && count.processes == 0); }));
}

// Both halves killed: the member asks for a queue, starts a keeper, and that one goes on with the member's arena.
TEST_F(KeeperDeath, MemberStartsAKeeperThatAdoptsTheArena) {
  MakeTap();
  int go[2];
  ASSERT_EQ(pipe(go), 0);
  Child member = StartMember(
      [this, &go] {
        Report r = AttachHere();
        if (r.code != 0) return r;
        Host& host = *ThisMember().host;
        host.sysctls.tcp_timewait_len = 23;
        {
          SimpleLock guard(host.host_lock);
          host.processes[r.process].shard = TakeShard(host, r.process, MonotonicNow())->index;
        }
        std::vector<const char*> environment = Environment();
        TapQueue queue;
        QueueShare share;
        uint16_t shard = host.processes[r.process].shard;
        IoError error = RequestQueue(ThisSettings(), environment.data(), &ThisMember(), shard, &queue, &share);
        if (error) return Report{.code = error.code};
        // Tells the parent which pids to kill, by way of a file; then waits for it.
        std::string path = directory() + "/ready";
        FILE* file = std::fopen(path.c_str(), "we");
        std::fclose(file);
        char unused;
        if (read(go[0], &unused, 1) != 1) return Report{.code = EIO};
        r.value = KeeperAlive(ThisMember());
        error = EnsureKeeper(ThisSettings(), environment.data(), &ThisMember());
        r.code = error.code;
        std::memcpy(r.message, error.message, sizeof(r.message));
        r.keeper_pid = host.keeper_pid.load();
        return r;
      },
      true);
  ASSERT_TRUE(Eventually([this] { return access((directory() + "/ready").c_str(), F_OK) == 0; }));
  Count before;
  ASSERT_TRUE(Look(&before));
  pid_t broker = BrokerPid();
  kill(broker, SIGSTOP);  // or it would start another driver first
  KillAndWait(before.keeper_pid);
  KillAndWait(broker);
  ASSERT_EQ(write(go[1], "g", 1), 1);
  Report r = Read(member);
  EXPECT_EQ(r.code, 0) << r.message;
  EXPECT_EQ(r.value, 0);  // it knew
  EXPECT_NE(r.keeper_pid, before.keeper_pid);
  // A newcomer joins the same arena.
  Report joined = RunMember([this] {
    Report report = AttachHere();
    if (report.code == 0) report.value = ThisMember().host->sysctls.tcp_timewait_len;
    return report;
  });
  EXPECT_EQ(joined.code, 0) << joined.message;
  EXPECT_EQ(joined.value, 23);
  Release(member);
  close(go[0]);
  close(go[1]);
}

// Nobody of the old members has noticed yet: the keeper that a newcomer starts finds the arena through them.
TEST_F(KeeperDeath, NewcomerFindsTheAbandonedArena) {
  MakeTap();
  Child member = StartMember(
      [this] {
        Report r = AttachHere();
        if (r.code == 0) ThisMember().host->sysctls.tcp_timewait_len = 29;
        return r;
      },
      true);
  Report r = Read(member);
  ASSERT_EQ(r.code, 0) << r.message;
  pid_t broker = BrokerPid();
  kill(broker, SIGSTOP);
  KillAndWait(r.keeper_pid);
  KillAndWait(broker);
  Report joined = RunMember([this] {
    Report report = AttachHere();
    if (report.code == 0) report.value = ThisMember().host->sysctls.tcp_timewait_len;
    return report;
  });
  EXPECT_EQ(joined.code, 0) << joined.message;
  EXPECT_EQ(joined.value, 29);
  EXPECT_NE(joined.keeper_pid, r.keeper_pid);
  Release(member);
}

// A child of fork has queues of its own, later: its parent's are not its to offer to a keeper that starts anew.
TEST_F(KeeperDeath, ChildOfForkDoesNotOfferItsParentsQueue) {
  MakeTap();
  Report r = RunMember([this] {
    Report report = AttachHere();
    if (report.code == 0) report.code = ListenHere(8080);
    if (report.code != 0) return report;
    std::vector<const char*> environment = Environment();
    Host& host = *ThisMember().host;
    TapQueue queue;
    QueueShare share;
    IoError error = RequestQueue(ThisSettings(), environment.data(), &ThisMember(),
                                 host.processes[report.process].shard, &queue, &share);
    if (error) return Report{.code = error.code};
    auto slot = static_cast<uint16_t>(report.process + 1);
    host.processes[slot].creator_pid = getpid();
    host.processes[slot].state.store(ProcessSlot::kForking);
    error = AttachForked(ThisSettings(), environment.data(), &ThisMember(), slot);
    report.code = error.code;
    for (const Member::Queue& q : ThisMember().queues) report.value += q.fd >= 0;
    return report;
  });
  EXPECT_EQ(r.code, 0) << r.message;
  EXPECT_EQ(r.value, 0);
}

// A keeper that adopts the arena waits for the queue that the member has: one opened beside it would get a share of the
// interface's frames that nobody reads.
TEST_F(KeeperDeath, AdoptedShardGetsNoSecondQueueBesideItsMembers) {
  MakeTap();
  int go[2];
  ASSERT_EQ(pipe(go), 0);
  Child member = StartMember(
      [this, &go] {
        Report r = AttachHere();
        if (r.code == 0) r.code = ListenHere(8080);
        if (r.code != 0) return r;
        std::vector<const char*> environment = Environment();
        TapQueue queue;
        QueueShare share;
        uint16_t shard = ThisMember().host->processes[r.process].shard;
        IoError error = RequestQueue(ThisSettings(), environment.data(), &ThisMember(), shard, &queue, &share);
        if (error) return Report{.code = error.code};
        std::fclose(std::fopen((directory() + "/ready").c_str(), "we"));
        char unused;
        if (read(go[0], &unused, 1) != 1) return Report{.code = EIO};
        error = EnsureKeeper(ThisSettings(), environment.data(), &ThisMember());
        r.code = error.code;
        return r;
      },
      true);
  ASSERT_TRUE(Eventually([this] { return access((directory() + "/ready").c_str(), F_OK) == 0; }));
  Count before;
  ASSERT_TRUE(Look(&before));
  pid_t broker = BrokerPid();
  kill(broker, SIGSTOP);
  KillAndWait(before.keeper_pid);
  KillAndWait(broker);
  Child newcomer = StartMember([this] { return AttachHere(); }, true);
  ASSERT_EQ(Read(newcomer).code, 0);
  usleep(800'000);  // longer than the keeper waits for offers
  EXPECT_THAT(Status(), HasSubstr(" 0 queues"));
  ASSERT_EQ(write(go[1], "g", 1), 1);
  EXPECT_EQ(Read(member).code, 0);
  EXPECT_THAT(Status(), HasSubstr(" 1 queues"));
  Release(newcomer);
  Release(member);
  close(go[0]);
  close(go[1]);
}

}  // namespace
}  // namespace ustcp::keeper_test
