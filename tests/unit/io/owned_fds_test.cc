// The list of our own descriptors (design, hazard "Our own descriptors").
#include "io/owned_fds.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/engine.h"

namespace ustcp {
namespace {

int NewFd() {
  return open("/dev/null", O_RDONLY);
}

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

TEST(OwnedFds, NoRoomAboveKeepsTheNumberWhereItIs) {
  rlimit before, tight;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  int low = NewFd();
  tight = before;
  tight.rlim_cur = static_cast<rlim_t>(low) + 1;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
  int fd = OwnedFds::Adopt(low, OwnedFdKind::kShared);
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_EQ(fd, low);
  EXPECT_TRUE(OwnedFds::Contains(fd));
  OwnedFds::Close(fd);
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
