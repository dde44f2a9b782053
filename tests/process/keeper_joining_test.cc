// Who may join (docs/decisions/0006-who-may-join.md): each way in, and what looks like it.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "io/member/arena_map.h"
#include "io/member/keeper_channel.h"
#include "stack/create.h"
#include "tests/support/keeper_fixture.h"

namespace ustcp::keeper_test {
namespace {

using ::testing::HasSubstr;

constexpr uid_t kStranger = 4321;

class KeeperJoining : public KeeperTest {
 protected:
  void SetUp() override {
    KeeperTest::SetUp();
    if (IsSkipped()) return;
    MakeTap();
    first_ = StartMember([this] { return AttachHere(); }, true);
    ASSERT_EQ(Read(first_).code, 0);
  }
  void TearDown() override {
    if (first_.pid > 0) Release(first_);
    KeeperTest::TearDown();
  }

  // One request over a connection of its own, answered: the refusal's number, or 0 with what came in *received (closed
  // when null).
  int Ask(KeeperRequestKind kind, int shown, int* received = nullptr) {
    int fd = ConnectKeeper(SocketPath().c_str());
    if (fd < 0) return -fd;
    KeeperRequest request;
    request.kind = kind;
    request.layout_hash = LayoutHash();
    KeeperReply reply;
    int got = -1;
    int error = -SendMessage(fd, &request, sizeof(request), shown);
    if (error == 0 && ReceiveMessage(fd, &reply, sizeof(reply), &got, 5000) != sizeof(reply)) error = EPROTO;
    if (error == 0) error = reply.error;
    close(fd);
    if (received != nullptr)
      *received = got;
    else if (got >= 0)
      close(got);
    return error;
  }

  // In a member that is to become another user: a descriptor of the arena.
  static int ArenaFd() { return ThisMember().arena_fd; }

  // What a stranger is told who shows `shown`.
  int AskAsStranger(int shown) {
    if (setuid(kStranger) != 0) return errno;
    return Ask(KeeperRequestKind::kAttach, shown);
  }

  Child first_;
};

TEST_F(KeeperJoining, TheArenaItselfIsShownByAMemberWhoseUserHasChanged) {
  Report r = RunMember([this] {
    Report report = AttachHere();
    if (report.code == 0) report.code = AskAsStranger(ArenaFd());
    return report;
  });
  EXPECT_EQ(r.code, 0) << r.message;
}

TEST_F(KeeperJoining, AChildOfForkShowsTheArenaItInherited) {
  Report r = RunMember([this] {
    Report report = AttachHere();
    if (report.code != 0) return report;
    auto slot = static_cast<uint16_t>(report.process + 1);
    pid_t child = fork();
    if (child == 0) {
      std::vector<const char*> environment = Environment();
      IoError error = AttachForked(ThisSettings(), environment.data(), &ThisMember(), slot);
      if (!error && setuid(kStranger) != 0) _exit(1);
      if (!error) error = EnsureKeeper(ThisSettings(), environment.data(), &ThisMember(), false);
      _exit(error ? error.code : 0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    report.code = WEXITSTATUS(status);
    return report;
  });
  EXPECT_EQ(r.code, 0);
}

// Not what was given to its holder: a look at it, or what is called like it.
TEST_F(KeeperJoining, ADescriptorThatOnlyReadsIsNotTheArena) {
  Report r = RunMember([this] {
    Report report = AttachHere();
    if (report.code != 0) return report;
    std::string link = "/proc/self/fd/" + std::to_string(ArenaFd());
    report.code = AskAsStranger(open(link.c_str(), O_RDONLY | O_CLOEXEC));
    return report;
  });
  EXPECT_EQ(r.code, EACCES);
}

TEST_F(KeeperJoining, AnotherMemoryFileIsNotTheArena) {
  Report r = RunMember([this] {
    int fd = -1;
    IoError error = CreateArenaFile("default", 1 << 20, &fd);
    if (error) return Report{.code = -2};
    return Report{.code = AskAsStranger(fd)};
  });
  EXPECT_EQ(r.code, EACCES);
}

// Inode numbers are unique on one file system only, and a fresh tmpfs numbers its files from the beginning.
TEST_F(KeeperJoining, AnInodeNumberIsNotTheArena) {
  Report r = RunMember([this] {
    Report report = AttachHere();
    if (report.code != 0) return report;
    const uint64_t wanted = ThisMember().arena.inode;
    std::string folder = directory() + "/tmpfs";
    if (unshare(CLONE_NEWNS) != 0 || mkdir(folder.c_str(), 0700) != 0 ||
        mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("none", folder.c_str(), "tmpfs", 0, nullptr) != 0)
      return Report{.code = -2};
    int fd = -1;
    struct stat status {};
    for (int i = 0; i < 200'000 && status.st_ino != wanted; ++i) {
      if (fd >= 0) close(fd);
      fd = open(folder.c_str(), O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
      if (fd < 0 || fstat(fd, &status) != 0) return Report{.code = -3};
    }
    // Elsewhere the number is too large to be reached by counting.
    if (status.st_ino != wanted) return Report{.code = EACCES};
    report.code = AskAsStranger(fd);
    return report;
  });
  EXPECT_EQ(r.code, EACCES);
}

// Becomes another user and another program: what is left of the member is the process.
TEST_F(KeeperJoining, AnnouncedExecReturnsOnce) {
  Report r = RunMember([this] {
    Report report = AttachHere();
    if (report.code != 0) return report;
    std::vector<const char*> environment = Environment();
    AnnounceExec(ThisSettings(), environment.data(), &ThisMember());
    close(ThisMember().keeper_fd);
    if (setuid(kStranger) != 0) return Report{.code = -2};
    report.code = Ask(KeeperRequestKind::kAttach, -1);
    report.value = Ask(KeeperRequestKind::kAttach, -1);
    return report;
  });
  EXPECT_EQ(r.code, 0);
  EXPECT_EQ(r.value, EACCES);
}

TEST_F(KeeperJoining, ExecWithoutAnnouncementDoesNotReturn) {
  Report r = RunMember([this] {
    Report report = AttachHere();
    if (report.code != 0) return report;
    close(ThisMember().keeper_fd);
    if (setuid(kStranger) != 0) return Report{.code = -2};
    report.code = Ask(KeeperRequestKind::kAttach, -1);
    return report;
  });
  EXPECT_EQ(r.code, EACCES);
}

TEST_F(KeeperJoining, AnnouncementIsForTheProcessAndNotItsChildren) {
  Report r = RunMember([this] {
    Report report = AttachHere();
    if (report.code != 0) return report;
    std::vector<const char*> environment = Environment();
    AnnounceExec(ThisSettings(), environment.data(), &ThisMember());
    pid_t child = fork();
    if (child == 0) _exit(AskAsStranger(-1));
    int status = 0;
    waitpid(child, &status, 0);
    report.code = WEXITSTATUS(status);
    return report;
  });
  EXPECT_EQ(r.code, EACCES);
}

// The member is gone, and its number has passed to a stranger.
TEST_F(KeeperJoining, AnnouncementEndsWithTheProcess) {
  Child member = StartMember(
      [this] {
        Report report = AttachHere();
        std::vector<const char*> environment = Environment();
        if (report.code == 0) AnnounceExec(ThisSettings(), environment.data(), &ThisMember());
        return report;
      },
      true);
  const pid_t number = member.pid;
  ASSERT_EQ(Read(member).code, 0);
  Kill(member);
  clone_args how{};
  pid_t wanted[] = {number};
  how.exit_signal = SIGCHLD;
  how.set_tid = reinterpret_cast<uint64_t>(wanted);
  how.set_tid_size = 1;
  auto child = static_cast<pid_t>(syscall(SYS_clone3, &how, sizeof(how)));
  if (child == 0) _exit(AskAsStranger(-1));
  ASSERT_EQ(child, number) << std::strerror(errno);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), EACCES);
}

TEST_F(KeeperJoining, WhoLooksGetsADescriptorThatCannotWrite) {
  int fd = -1;
  ASSERT_EQ(Ask(KeeperRequestKind::kObserve, -1, &fd), 0);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
  EXPECT_EQ(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
  close(fd);
  ASSERT_EQ(Ask(KeeperRequestKind::kAdjust, -1, &fd), 0);
  EXPECT_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
  close(fd);
}

TEST_F(KeeperJoining, OnlyTheOwnerAndRootLook) {
  Report r = RunMember([this] {
    Report report = AttachHere();
    int arena = ArenaFd();
    if (setuid(kStranger) != 0) return Report{.code = -2};
    report.code = Ask(KeeperRequestKind::kObserve, arena);
    report.value = Ask(KeeperRequestKind::kAdjust, arena);
    return report;
  });
  EXPECT_EQ(r.code, EACCES);
  EXPECT_EQ(r.value, EACCES);
}

// The file is its user's alone: who gets hold of a descriptor that only reads makes no other of it.
TEST_F(KeeperJoining, ArenaIsClosedToOtherUsers) {
  Report r = RunMember([this] {
    Report report = AttachHere();
    std::string link = "/proc/self/fd/" + std::to_string(ArenaFd());
    int look = open(link.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat status {};
    if (fstat(look, &status) != 0 || (status.st_mode & 07777) != 0600) return Report{.code = -2};
    report.value = status.st_uid;
    link = "/proc/self/fd/" + std::to_string(look);
    if (setuid(kStranger) != 0) return Report{.code = -3};
    report.code = open(link.c_str(), O_RDWR) < 0 ? errno : 0;
    return report;
  });
  EXPECT_EQ(r.code, EACCES);
  EXPECT_NE(r.value, 0);
  EXPECT_NE(r.value, 65534);
}

// Neither half can be signalled, traced or opened by `nobody`, nor by others of the driver's user.
TEST_F(KeeperJoining, KeeperIsOutOfReach) {
  pid_t broker = BrokerPid();
  Report driver = RunMember([this] { return AttachHere(); });
  ASSERT_EQ(driver.code, 0);
  struct stat status {};
  ASSERT_EQ(stat(("/proc/" + std::to_string(driver.keeper_pid) + "/fd").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, 0u) << "it can be traced";
  auto reach = [&](uid_t uid, pid_t pid) {
    Report r = RunMember([&] {
      if (setgroups(0, nullptr) != 0 || setuid(uid) != 0) return Report{.code = -2};
      Report report;
      report.value = kill(pid, 0) == 0;
      for (int fd = 0; fd < 64; ++fd)
        report.value += open(("/proc/" + std::to_string(pid) + "/fd/" + std::to_string(fd)).c_str(), O_RDONLY) >= 0;
      report.value += open(("/proc/" + std::to_string(pid) + "/mem").c_str(), O_RDONLY) >= 0;
      return report;
    });
    return r.code == 0 ? r.value : -1;
  };
  EXPECT_EQ(reach(65534, broker), 0);
  EXPECT_EQ(reach(65534, driver.keeper_pid), 0);
}

}  // namespace
}  // namespace ustcp::keeper_test
