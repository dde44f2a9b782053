// The list of our own descriptors (design, hazard "Our own descriptors").
#include "io/base/owned_fds.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/engine/engine.h"

namespace ustcp {
namespace {

int NewFd() { return open("/dev/null", O_RDONLY); }

TEST(OwnedFds, AdoptedDescriptorsAreHighCloseOnExecAndListed) {
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  int low = NewFd();
  int fd = OwnedFds::Adopt(low, OwnedFdKind::kShared);
  ASSERT_GE(fd, 0);
  EXPECT_GE(static_cast<rlim_t>(fd), std::min<rlim_t>(limit.rlim_cur / 10 * 6, 16384));
  EXPECT_EQ(fcntl(low, F_GETFD), -1) << "the low number is still taken";
  EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  EXPECT_TRUE(OwnedFds::Contains(fd));
  EXPECT_FALSE(OwnedFds::Contains(low));
  EXPECT_FALSE(OwnedFds::Contains(-1));
  OwnedFds::Close(fd);
  EXPECT_FALSE(OwnedFds::Contains(fd));
  EXPECT_EQ(fcntl(fd, F_GETFD), -1);
}

TEST(OwnedFds, RelocateMovesTheFileAway) {
  int fd = OwnedFds::Adopt(NewFd(), OwnedFdKind::kEngine);
  int moved = OwnedFds::Relocate(fd);
  ASSERT_GE(moved, 0);
  EXPECT_NE(moved, fd);
  EXPECT_FALSE(OwnedFds::Contains(fd));
  EXPECT_TRUE(OwnedFds::Contains(moved));
  EXPECT_EQ(fcntl(fd, F_GETFD), -1);
  EXPECT_EQ(fcntl(moved, F_GETFD), FD_CLOEXEC);
  OwnedFds::Close(moved);
  EXPECT_EQ(OwnedFds::Relocate(fd), -EBADF);
}

// A program with few numbers keeps them: ours go above its limit.
TEST(OwnedFds, LowLimitsAreLeftToTheProgram) {
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  if (before.rlim_max < 512) GTEST_SKIP() << "the hard limit leaves no room";
  rlimit low{64, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  int fd = OwnedFds::Adopt(NewFd(), OwnedFdKind::kShared);
  rlimit after;
  getrlimit(RLIMIT_NOFILE, &after);
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_GE(fd, 64);
  EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(after.rlim_cur, 64u);
  OwnedFds::Close(fd);
}

// In a child: a hard limit cannot be raised again.
TEST(OwnedFds, NoRoomAboveKeepsTheNumberWhereItIs) {
  pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    int low = NewFd();
    rlimit tight{static_cast<rlim_t>(low) + 1, static_cast<rlim_t>(low) + 1};
    if (setrlimit(RLIMIT_NOFILE, &tight) != 0) _exit(1);
    int fd = OwnedFds::Adopt(low, OwnedFdKind::kShared);
    _exit(fd == low && OwnedFds::Contains(fd) ? 0 : 2);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(OwnedFds, ChildLosesTheEnginesDescriptorsAndKeepsTheOthers) {
  int engine = OwnedFds::Adopt(NewFd(), OwnedFdKind::kEngine);
  int shared = OwnedFds::Adopt(NewFd(), OwnedFdKind::kShared);
  pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    Engine::AbandonInChild();
    bool right = fcntl(engine, F_GETFD) == -1 && fcntl(shared, F_GETFD) != -1 && !OwnedFds::Contains(engine) &&
                 OwnedFds::Contains(shared);
    _exit(right ? 0 : 1);
  }
  int status;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_NE(fcntl(engine, F_GETFD), -1);
  OwnedFds::Close(engine);
  OwnedFds::Close(shared);
}

// An engine on a kernel of today owns no descriptor at all; on older ones each of them is listed.
TEST(OwnedFds, EveryDescriptorOfAnEngineIsListed) {
  for (uint32_t disabled : {0u, uint32_t{kFeatureRegisteredRing}, uint32_t{kFeatureFutexWait}}) {
    auto open_fds = [] {
      int n = 0;
      rlimit limit;
      getrlimit(RLIMIT_NOFILE, &limit);
      for (int fd = 0; fd < static_cast<int>(limit.rlim_cur); ++fd) n += fcntl(fd, F_GETFD) != -1;
      return n;
    };
    auto listed = [] {
      int n = 0;
      OwnedFds::ForEach([&](int, OwnedFdKind) { ++n; });
      return n;
    };
    int before = open_fds();
    ASSERT_EQ(listed(), 0);
    Engine* engine = Engine::Create({.disabled_features = disabled, .quiet = true});
    ASSERT_NE(engine, nullptr);
    EXPECT_EQ(listed(), open_fds() - before);
    bool bare = (engine->features() & kFeatureRegisteredRing) != 0 && (engine->features() & kFeatureFutexWait) != 0;
    if (bare) {
      EXPECT_EQ(listed(), 0);
    }
    Engine::Destroy(engine);
    EXPECT_EQ(listed(), 0);
    EXPECT_EQ(open_fds(), before);
  }
}

}  // namespace
}  // namespace ustcp
