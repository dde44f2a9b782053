// What neighbours do who may not join, or members who do wrong: others go on.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "io/base/clock.h"
#include "io/member/keeper_channel.h"
#include "stack/create.h"
#include "tests/support/keeper_fixture.h"

namespace ustcp::keeper_test {
namespace {

using ::testing::HasSubstr;

constexpr uid_t kStranger = 4321;

class KeeperDenial : public KeeperTest {
 protected:
  // What a member says over a connection of its own.
  static KeeperReply Say(int connection, KeeperRequest request, int shown, int* received) {
    request.layout_hash = LayoutHash();
    KeeperReply reply;
    *received = -1;
    if (SendMessage(connection, &request, sizeof(request), shown) < 0 ||
        ReceiveMessage(connection, &reply, sizeof(reply), received, 5000) != sizeof(reply))
      reply.error = EPROTO;
    return reply;
  }

  int JoinedConnection() {
    int fd = ConnectKeeper(SocketPath().c_str());
    int arena = -1;
    KeeperRequest request;
    request.kind = KeeperRequestKind::kAttach;
    EXPECT_EQ(Say(fd, request, -1, &arena).error, 0);
    close(arena);
    return fd;
  }

  static rusage UsageOfChildren() {
    rusage usage{};
    getrusage(RUSAGE_CHILDREN, &usage);
    return usage;
  }

  static int64_t ProcessorMs(pid_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    std::string text((std::istreambuf_iterator<char>(file)), {});
    long user = 0;
    long system = 0;
    std::sscanf(text.c_str() + text.rfind(')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld", &user,
                &system);
    return (user + system) * 1000 / sysconf(_SC_CLK_TCK);
  }

  std::string Log() const {
    std::ifstream file(directory() + "/log");
    return {(std::istreambuf_iterator<char>(file)), {}};
  }
};

// A stranger who connects and says nothing, ever so often: members still join, and the log does not grow with it.
TEST_F(KeeperDenial, ConnectionsOfAStrangerLeaveRoomForMembers) {
  MakeTap();
  Child first = StartMember([this] { return AttachHere(); }, true);
  ASSERT_EQ(Read(first).code, 0);
  Child stranger = StartMember(
      [this] {
        rlimit limit{8192, 8192};
        setrlimit(RLIMIT_NOFILE, &limit);
        if (setuid(kStranger) != 0) return Report{.code = errno};
        Report report;
        for (int i = 0; i < 5000; ++i) report.value += ConnectKeeper(SocketPath().c_str()) >= 0;
        return report;
      },
      true);
  Report r = Read(stranger);
  ASSERT_EQ(r.code, 0);
  EXPECT_EQ(r.value, 5000);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(RunMember([this] { return AttachHere(); }).code, 0);
  std::string log = Log();
  EXPECT_THAT(log, HasSubstr("of user 4321"));
  EXPECT_LT(std::count(log.begin(), log.end(), '\n'), 50);
  Release(stranger);
  Release(first);
}

TEST_F(KeeperDenial, WhoSaysNothingIsLetGo) {
  MakeTap();
  Child first = StartMember([this] { return AttachHere(); }, true);
  ASSERT_EQ(Read(first).code, 0);
  int fd = ConnectKeeper(SocketPath().c_str());
  ASSERT_GE(fd, 0);
  int joined = JoinedConnection();
  char unused;
  EXPECT_TRUE(Eventually([&] { return recv(fd, &unused, 1, MSG_DONTWAIT) == 0; }));
  EXPECT_EQ(recv(joined, &unused, 1, MSG_DONTWAIT), -1);
  EXPECT_EQ(errno, EAGAIN);
  close(fd);
  close(joined);
  Release(first);
}

// The reason comes over the connection that is refused.
TEST_F(KeeperDenial, UserWithTooManyConnectionsIsTold) {
  MakeTap();
  SetVariable("USTCP_ALLOW=4321");
  Child first = StartMember([this] { return AttachHere(); }, true);
  ASSERT_EQ(Read(first).code, 0);
  Report r = RunMember([this] {
    if (setuid(kStranger) != 0) return Report{.code = -2};
    for (int i = 0; i < 64; ++i) ConnectKeeper(SocketPath().c_str());
    return AttachHere();
  });
  EXPECT_EQ(r.code, ENETDOWN);
  EXPECT_THAT(r.message, HasSubstr("too many of the user's connections"));
  Release(first);
}

// The program that starts the keeper has hardly any descriptors, and no say in how many the keeper has.
TEST_F(KeeperDenial, KeeperHasDescriptorsWhateverItsStarterHas) {
  MakeTap();
  Child first = StartMember(
      [this] {
        // The hard limit stays: not every root may raise it again.
        rlimit limit{};
        getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = 32;
        setrlimit(RLIMIT_NOFILE, &limit);
        return AttachHere();
      },
      true);
  ASSERT_EQ(Read(first).code, 0);
  std::vector<Child> members;
  for (int i = 0; i < 40; ++i) {
    members.push_back(StartMember([this] { return AttachHere(); }, true));
    ASSERT_EQ(Read(members.back()).code, 0) << i;
  }
  for (Child& member : members) Release(member);
  Release(first);
}

// One that cannot raise its limit refuses when it is full, and sleeps.
TEST_F(KeeperDenial, KeeperWithoutDescriptorsDoesNotSpin) {
  MakeTap();
  Child first = StartMember([this] { return AttachHere(); }, true);
  ASSERT_EQ(Read(first).code, 0);
  pid_t broker = BrokerPid();
  rlimit enough{};
  ASSERT_EQ(prlimit(broker, RLIMIT_NOFILE, nullptr, &enough), 0);
  rlimit none{8, enough.rlim_max};
  ASSERT_EQ(prlimit(broker, RLIMIT_NOFILE, &none, nullptr), 0);
  int waiting = ConnectKeeper(SocketPath().c_str());
  int64_t before = ProcessorMs(broker);
  usleep(1'000'000);
  EXPECT_LT(ProcessorMs(broker) - before, 300);
  ASSERT_EQ(prlimit(broker, RLIMIT_NOFILE, &enough, nullptr), 0);
  EXPECT_EQ(RunMember([this] { return AttachHere(); }).code, 0);
  close(waiting);
  Release(first);
}

TEST_F(KeeperDenial, NamesThatAStrangerTookArePassedBy) {
  MakeTap();
  auto take = [](const std::string& name) {
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    name.copy(address.sun_path + 1, sizeof(address.sun_path) - 1);
    auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    return bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 && listen(fd, 8) == 0;
  };
  Child stranger = StartMember(
      [&] {
        if (setuid(kStranger) != 0) return Report{.code = errno};
        return Report{.code = take("ustcp-interface/ustcp0") && take("ustcp-address/10.117.0.2") ? 0 : EADDRINUSE};
      },
      true);
  ASSERT_EQ(Read(stranger).code, 0);
  Child first = StartMember([this] { return AttachHere(); }, true);
  Report r = Read(first);
  EXPECT_EQ(r.code, 0) << r.message;
  EXPECT_THAT(Log(), HasSubstr("process " + std::to_string(stranger.pid) +
                               " of user 4321 has taken the name @ustcp-interface/ustcp0"));
  // Honest hosts still see one another, and when the stranger is gone too.
  auto second = [this] {
    SetVariable("USTCP_HOST=second");
    return AttachHere();
  };
  r = RunMember(second);
  EXPECT_EQ(r.code, ENETDOWN);
  EXPECT_THAT(r.message, HasSubstr("another host uses the interface ustcp0 (keeper "));
  Release(stranger);
  r = RunMember(second);
  EXPECT_EQ(r.code, ENETDOWN);
  EXPECT_THAT(r.message, HasSubstr("another host uses the interface ustcp0 (keeper "));
  Release(first);
}

// A member names what never was: the driver lives, and so does everybody's traffic.
TEST_F(KeeperDenial, WhatNeverWasIsNoMatter) {
  MakeTap();
  Child first = StartMember([this] { return AttachHere(); }, true);
  Report r = Read(first);
  ASSERT_EQ(r.code, 0);
  int joined = JoinedConnection();
  int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (auto kind : {KeeperRequestKind::kQueue, KeeperRequestKind::kReopenQueue, KeeperRequestKind::kOfferQueue,
                    KeeperRequestKind::kWakeDescriptor, KeeperRequestKind::kExec})
    for (uint16_t shard : {uint16_t{60}, uint16_t{255}, uint16_t{65535}})
      for (uint16_t process : {uint16_t{0}, uint16_t{1000}, uint16_t{65535}})
        for (int shown : {-1, wake, null}) {
          KeeperRequest request;
          request.kind = kind;
          request.shard = shard;
          request.process = process;
          request.number = -1;
          int received = -1;
          Say(joined, request, shown, &received);
          if (received >= 0) close(received);
        }
  // Its word for a queue comes after all that was said to the driver before.
  usleep(200'000);
  Report later = RunMember([this] { return AttachHere(); });
  EXPECT_EQ(later.code, 0) << later.message;
  EXPECT_EQ(later.keeper_pid, r.keeper_pid) << "the driver died";
  for (int fd : {joined, wake, null}) close(fd);
  Release(first);
}

TEST_F(KeeperDenial, OnlyEventDescriptorsWakeSleepers) {
  MakeTap();
  Child first = StartMember([this] { return AttachHere(); }, true);
  ASSERT_EQ(Read(first).code, 0);
  int joined = JoinedConnection();
  int pipes[2];
  ASSERT_EQ(pipe(pipes), 0);
  KeeperRequest request;
  request.kind = KeeperRequestKind::kWakeDescriptor;
  int received = -1;
  EXPECT_EQ(Say(joined, request, pipes[1], &received).error, EINVAL);
  EXPECT_EQ(Say(joined, request, -1, &received).error, EINVAL);
  for (int fd : {joined, pipes[0], pipes[1]}) close(fd);
  Release(first);
}

// Drivers that die over and over: their broker waits longer each time, and there is one broker for all of it.
TEST_F(KeeperDenial, DriversThatKeepDyingAreReplacedMoreAndMoreSeldom) {
  MakeTap();
  Child first = StartMember([this] { return AttachHere(); }, true);
  Report r = Read(first);
  ASSERT_EQ(r.code, 0);
  pid_t broker = BrokerPid();
  int64_t end = NanosOf(MonotonicNow()) + 3'000'000'000;
  std::vector<pid_t> seen;
  while (NanosOf(MonotonicNow()) < end) {
    Report now = RunMember([this] { return AttachHere(); });
    ASSERT_EQ(now.code, 0) << now.message;
    if (seen.empty() || seen.back() != now.keeper_pid) seen.push_back(now.keeper_pid);
    kill(now.keeper_pid, SIGKILL);
    usleep(20'000);
  }
  EXPECT_EQ(BrokerPid(), broker);
  EXPECT_GE(seen.size(), 3u);
  EXPECT_LE(seen.size(), 6u);
  Release(first);
}

}  // namespace
}  // namespace ustcp::keeper_test
