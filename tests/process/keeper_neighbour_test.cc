// A stranger's files that take their time, names that are commands, and process numbers that are none.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "io/device/net_admin.h"
#include "io/member/keeper_channel.h"
#include "stack/create.h"
#include "tests/support/keeper_fixture.h"

namespace ustcp::keeper_test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr uid_t kStranger = 4321;

class KeeperNeighbour : public KeeperTest {
 protected:
  std::string Log() const {
    std::ifstream file(directory() + "/log");
    return {(std::istreambuf_iterator<char>(file)), {}};
  }
};

// The kernel's own: whoever closes it last waits until its peer has read what was sent, and its peer never does.
int LingeringSocket() {
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listener, 1) != 0) return -1;
  getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), size) != 0) return -1;
  if (accept4(listener, nullptr, nullptr, SOCK_CLOEXEC) < 0) return -1;
  char bytes[4096] = {};
  while (send(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0) continue;
  linger long_time{1, 1000};
  return setsockopt(fd, SOL_SOCKET, SO_LINGER, &long_time, sizeof(long_time)) == 0 ? fd : -1;
}

// Sends `count` times /dev/null, then the lingering socket, of which nobody else has a descriptor afterwards.
bool SendFiles(int connection, int count) {
  int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  int last = LingeringSocket();
  char byte = 0;
  iovec piece{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(32 * sizeof(int))] = {};
  const size_t bytes = static_cast<size_t>(count + 1) * sizeof(int);
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = CMSG_SPACE(bytes);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(bytes);
  for (int i = 0; i <= count; ++i)
    std::memcpy(CMSG_DATA(header) + static_cast<size_t>(i) * sizeof(int), i < count ? &null : &last, sizeof(int));
  bool sent = last >= 0 && sendmsg(connection, &message, MSG_NOSIGNAL) == 1;
  close(null);
  close(last);
  return sent;
}

// What has no room in the keeper's buffer, and what waits behind a message that is refused, is closed by the kernel in the
// keeper's name.
TEST_F(KeeperNeighbour, FilesThatTakeTheirTimeToCloseDoNotTakeTheKeepers) {
  MakeTap();
  ASSERT_FALSE(SetLinkUp("lo", true));
  Child first = StartMember([this] { return AttachHere(); }, true);
  ASSERT_EQ(Read(first).code, 0);
  pid_t broker = BrokerPid();
  ASSERT_EQ(kill(broker, SIGSTOP), 0);  // so that it finds all of it at once
  Child stranger = StartMember(
      [this] {
        if (setuid(kStranger) != 0) return Report{.code = errno};
        // One at a time: shown, beyond what is read of a message, and behind one that is refused; more than may be
        // connected too.
        for (int i = 0; i < 48; ++i) {
          int fd = ConnectKeeper(SocketPath().c_str());
          if (fd < 0 || !SendFiles(fd, i % 24) || !SendFiles(fd, 0)) return Report{.code = EPROTO};
        }
        return Report{};
      },
      true);
  Report r = Read(stranger);
  ASSERT_EQ(kill(broker, SIGCONT), 0);
  ASSERT_EQ(r.code, 0);
  for (int i = 0; i < 4; ++i) {
    r = RunMember([this] { return AttachHere(); });
    EXPECT_EQ(r.code, 0) << r.message;
  }
  Release(stranger);
  Release(first);
}

// The same where keepers ask one another for their names.
TEST_F(KeeperNeighbour, FilesSentToANameDoNotTakeTheKeepersTime) {
  MakeTap();
  ASSERT_FALSE(SetLinkUp("lo", true));
  Child first = StartMember([this] { return AttachHere(); }, true);
  ASSERT_EQ(Read(first).code, 0);
  pid_t broker = BrokerPid();
  ASSERT_EQ(kill(broker, SIGSTOP), 0);
  Child stranger = StartMember(
      [] {
        if (setuid(kStranger) != 0) return Report{.code = errno};
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        constexpr std::string_view kName = "ustcp-interface/ustcp0";
        kName.copy(address.sun_path + 1, kName.size());
        auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + kName.size());
        if (connect(fd, reinterpret_cast<sockaddr*>(&address), size) != 0) return Report{.code = errno};
        return Report{.code = SendFiles(fd, 0) ? 0 : EPROTO};
      },
      true);
  Report r = Read(stranger);
  ASSERT_EQ(kill(broker, SIGCONT), 0);
  ASSERT_EQ(r.code, 0);
  r = RunMember([this] { return AttachHere(); });
  EXPECT_EQ(r.code, 0) << r.message;
  Release(stranger);
  Release(first);
}

// The log is read on a terminal.
TEST_F(KeeperNeighbour, NamesOfStrangersAreNoCommandsInTheLog) {
  MakeTap();
  Child stranger = StartMember(
      [] {
        if (setuid(kStranger) != 0) return Report{.code = errno};
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        constexpr std::string_view kName =
            "ustcp-interface/ustcp0/\x1b]0;title\x07\x9b"
            "31m";
        kName.copy(address.sun_path + 1, kName.size());
        auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + kName.size());
        return Report{.code =
                          bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 && listen(fd, 1) == 0 ? 0 : errno};
      },
      true);
  ASSERT_EQ(Read(stranger).code, 0);
  Child first = StartMember([this] { return AttachHere(); }, true);
  ASSERT_EQ(Read(first).code, 0);
  std::string log = Log();
  EXPECT_THAT(log, HasSubstr("has taken the name @ustcp-interface/ustcp0/?]0;title??31m"));
  for (char c : {'\x1b', '\x07', '\x9b'}) EXPECT_EQ(std::count(log.begin(), log.end(), c), 0) << static_cast<int>(c);
  Release(stranger);
  Release(first);
}

// To a keeper in a process namespace everybody outside has number 0: an announcement of one is not another's.
TEST_F(KeeperNeighbour, WhoHasNoProcessNumberDoesNotReturnForAnother) {
  MakeTap();
  Child first = StartMember(
      [this] {
        Report report;
        int pipes[2];
        if (unshare(CLONE_NEWPID) != 0 || pipe2(pipes, O_CLOEXEC) != 0) return Report{.code = errno};
        // The namespace's first process, on which the keeper's life hangs, ends with this one.
        if (fork() == 0) {
          prctl(PR_SET_PDEATHSIG, SIGKILL);
          Report inside = AttachHere();
          if (write(pipes[1], &inside, sizeof(inside)) != sizeof(inside)) _exit(1);
          for (;;) pause();
        }
        if (read(pipes[0], &report, sizeof(report)) != sizeof(report)) report.code = EPROTO;
        return report;
      },
      true);
  ASSERT_EQ(Read(first).code, 0);
  int member = ConnectKeeper(SocketPath().c_str());
  auto say = [](int connection, KeeperRequestKind kind) {
    KeeperRequest request;
    request.kind = kind;
    request.layout_hash = LayoutHash();
    KeeperReply reply;
    int received = -1;
    if (SendMessage(connection, &request, sizeof(request), -1) < 0 ||
        ReceiveMessage(connection, &reply, sizeof(reply), &received, 5000) != sizeof(reply))
      return EPROTO;
    if (received >= 0) close(received);
    return reply.error;
  };
  ASSERT_EQ(say(member, KeeperRequestKind::kAttach), 0);
  ASSERT_EQ(say(member, KeeperRequestKind::kExec), 0);
  Report r = RunMember([&] {
    if (setuid(kStranger) != 0) return Report{.code = errno};
    return Report{.code = say(ConnectKeeper(SocketPath().c_str()), KeeperRequestKind::kAttach)};
  });
  EXPECT_EQ(r.code, EACCES);
  close(member);
  Release(first);
}

// In a container that has numbers up to 65535, the driver is not `nobody` either: processes of that user could stop it.
TEST_F(KeeperNeighbour, DriverIsNotNobodyInAContainer) {
  int ready[2];
  int mapped[2];
  ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
  ASSERT_EQ(pipe2(mapped, O_CLOEXEC), 0);
  Child first = StartMember(
      [&] {
        // Not in a chroot, for one.
        char byte = unshare(CLONE_NEWUSER) == 0;
        const bool made = byte != 0;
        if (write(ready[1], &byte, 1) != 1 || read(mapped[0], &byte, 1) != 1 || !made || unshare(CLONE_NEWNET) != 0)
          return Report{.code = -2};
        MakeTap();
        return AttachHere();
      },
      true);
  close(ready[1]);
  char byte = 0;
  if (read(ready[0], &byte, 1) == 1 && byte != 0)
    for (const char* map : {"/uid_map", "/gid_map"})
      std::ofstream("/proc/" + std::to_string(first.pid) + map) << "0 0 65536\n";
  ASSERT_EQ(write(mapped[1], &byte, 1), 1);
  for (int fd : {ready[0], mapped[0], mapped[1]}) close(fd);
  Report r = Read(first);
  if (r.code == -2) {
    Release(first);
    GTEST_SKIP() << "no user namespaces here";
  }
  ASSERT_EQ(r.code, 0) << r.message;
  std::ifstream status("/proc/" + std::to_string(r.keeper_pid) + "/status");
  std::string word;
  while (status >> word && word != "Uid:") continue;
  uint32_t uid = 0;
  status >> uid;
  EXPECT_NE(uid, 0u);
  EXPECT_NE(uid, 65534u);
  Release(first);
}

}  // namespace
}  // namespace ustcp::keeper_test
