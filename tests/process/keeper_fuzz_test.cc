// Nonsense over the broker's socket, of members and of strangers, with descriptors of every kind: the keeper serves on.
// USTCP_FUZZ_SECONDS says for how long (scripts/fuzz).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <random>

#include "io/base/clock.h"
#include "io/member/arena_map.h"
#include "io/member/keeper_channel.h"
#include "stack/create.h"
#include "tests/support/keeper_fixture.h"

namespace ustcp::keeper_test {
namespace {

constexpr uid_t kStranger = 4321;
constexpr int kShortRounds = 300;
constexpr int kMessages = 20;  // over one connection

class KeeperFuzz : public KeeperTest {
 protected:
  using Random = std::mt19937;
  static uint32_t Below(Random& random, uint32_t n) { return static_cast<uint32_t>(random() % n); }

  static int AnyDescriptor(Random& random) {
    int fds[2] = {-1, -1};
    switch (Below(random, 14)) {
      case 0: return open("/dev/null", O_RDWR | O_CLOEXEC);
      case 1: return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
      case 2: return eventfd(0, EFD_CLOEXEC);
      case 3: return memfd_create("ustcp-default", MFD_CLOEXEC);
      case 4: {
        int fd = -1;
        return CreateArenaFile("default", 1 << 20, &fd) ? -1 : fd;
      }
      case 5: return pipe2(fds, O_CLOEXEC) == 0 ? (close(fds[0]), fds[1]) : -1;
      case 6: return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0 ? (close(fds[0]), fds[1]) : -1;
      case 7: return epoll_create1(EPOLL_CLOEXEC);
      case 8: return static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0));
      case 9: return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      case 10: return open("/proc/self/exe", O_PATH | O_CLOEXEC);
      case 11: return open("/dev/net/tun", O_RDWR | O_CLOEXEC);  // without an interface
      case 12: return socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
      default: return -1;
    }
  }

  // Mostly what might pass.
  static void Compose(Random& random, KeeperRequest* request) {
    request->kind = static_cast<KeeperRequestKind>(Below(random, 12));
    request->layout_hash = Below(random, 8) != 0 ? LayoutHash() : random();
    request->shard = static_cast<uint16_t>(Below(random, 4) != 0 ? Below(random, 4) : random());
    request->process = static_cast<uint16_t>(Below(random, 4) != 0 ? Below(random, 8) : random());
    request->number =
        Below(random, 2) != 0 ? static_cast<int32_t>(Below(random, 6)) - 2 : static_cast<int32_t>(random());
    if (Below(random, 16) == 0) request->version = static_cast<uint16_t>(random());
    if (Below(random, 16) == 0) request->magic = static_cast<uint32_t>(random());
  }

  void Talk(Random& random, bool joins) {
    int fd = ConnectKeeper(SocketPath().c_str());
    if (fd < 0) return;
    for (int i = 0; i < kMessages; ++i) {
      KeeperRequest request;
      Compose(random, &request);
      if (i == 0 && joins) {
        request = {};
        request.kind = KeeperRequestKind::kAttach;
        request.layout_hash = LayoutHash();
      }
      std::byte bytes[64] = {};
      std::memcpy(bytes, &request, sizeof(request));
      size_t size = Below(random, 16) == 0 ? 1 + Below(random, sizeof(bytes)) : sizeof(request);
      int shown = Below(random, 2) != 0 ? AnyDescriptor(random) : -1;
      int sent = SendMessage(fd, bytes, size, shown);
      if (shown >= 0) close(shown);
      if (sent < 0) break;
      if (Below(random, 8) == 0) continue;  // never reads the answer
      KeeperReply reply;
      int received = -1;
      if (ReceiveMessage(fd, &reply, sizeof(reply), &received, 2000) <= 0) break;
      if (received >= 0) close(received);
    }
    close(fd);
  }
};

TEST_F(KeeperFuzz, NonsenseIsAnswered) {
  MakeTap();
  Child first = StartMember([this] { return AttachHere(); }, true);
  Report r = Read(first);
  ASSERT_EQ(r.code, 0);
  pid_t broker = BrokerPid();
  const char* wanted = std::getenv("USTCP_FUZZ_SECONDS");
  const int64_t seconds = wanted != nullptr ? std::atoll(wanted) : 0;
  uint32_t seed = seconds != 0 ? std::random_device{}() : 1;
  SCOPED_TRACE("seed " + std::to_string(seed));
  for (uid_t uid : {uid_t{0}, kStranger}) {
    Report report = RunMember([&] {
      if (uid != 0 && setuid(uid) != 0) return Report{.code = -2};
      Random random(seed + uid);
      const int64_t end = NanosOf(MonotonicNow()) + seconds * 500'000'000;
      for (int i = 0; i < kShortRounds || NanosOf(MonotonicNow()) < end; ++i) Talk(random, Below(random, 3) != 0);
      return Report{};
    });
    ASSERT_EQ(report.code, 0);
    Report later = RunMember([this] { return AttachHere(); });
    EXPECT_EQ(later.code, 0) << later.message;
    EXPECT_EQ(later.keeper_pid, r.keeper_pid) << "the driver died";
    EXPECT_EQ(BrokerPid(), broker);
  }
  Release(first);
}

}  // namespace
}  // namespace ustcp::keeper_test
