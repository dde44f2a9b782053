#include "tests/support/keeper_fixture.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "io/base/clock.h"
#include "io/device/net_admin.h"
#include "io/device/tap.h"
#include "io/member/keeper_channel.h"

namespace ustcp::keeper_test {

void KeeperTest::SetUp() {
  signal(SIGPIPE, SIG_IGN);  // releasing a child that died
  // TAPs and namespaces are root's; the programs themselves need neither.
  if (geteuid() != 0) GTEST_SKIP() << "needs root to make a network namespace and a TAP";
  ASSERT_EQ(unshare(CLONE_NEWNET), 0) << std::strerror(errno);
  char name[] = "/tmp/ustcp-test-XXXXXX";
  ASSERT_NE(mkdtemp(name), nullptr);
  directory_ = name;
  ASSERT_EQ(chmod(name, 0755), 0);
  SetVariable("USTCP_RUNTIME_DIR=" + directory_);
  SetVariable("USTCP_KEEPER_LOG=" + directory_ + "/log");
  SetVariable("USTCP_ARENA_SIZE=512M");
}

void KeeperTest::TearDown() {
  if (directory_.empty()) return;
  pid_t broker = BrokerPid();
  if (broker > 0) kill(broker, SIGTERM);
  EXPECT_TRUE(Eventually([this] { return BrokerPid() < 0; })) << "the keeper does not end when told";
  if (HasFailure()) {
    std::string command = "cat " + directory_ + "/log >&2";
    [[maybe_unused]] int status = std::system(command.c_str());
  }
  std::filesystem::remove_all(directory_);
}

std::vector<const char*> KeeperTest::Environment() const {
  std::vector<const char*> list;
  for (const std::string& variable : variables_) list.push_back(variable.c_str());
  list.push_back(nullptr);
  return list;
}

void KeeperTest::MakeTap(const char* name, bool up) {
  TapCreateOptions options;
  options.name = name;
  IoError error = CreateTap(options);
  ASSERT_FALSE(error) << error.message;
  std::array<uint8_t, 4> kernel{10, 117, 0, 1};
  error = AddAddress(name, kernel, 24);
  ASSERT_FALSE(error) << error.message;
  if (!up) return;
  error = SetLinkUp(name, true);
  ASSERT_FALSE(error) << error.message;
}

KeeperTest::Child KeeperTest::StartMember(std::function<Report()> act, bool stays) {
  int report[2];
  int hold[2];
  EXPECT_EQ(pipe2(report, O_CLOEXEC), 0);
  EXPECT_EQ(pipe2(hold, O_CLOEXEC), 0);
  Child child;
  child.pid = fork();
  if (child.pid == 0) {
    close(report[0]);
    close(hold[1]);
    Report r = act();
    if (write(report[1], &r, sizeof(r)) != sizeof(r)) _exit(3);
    char unused;
    if (stays && read(hold[0], &unused, 1) < 0) _exit(4);
    _exit(0);
  }
  close(report[1]);
  close(hold[0]);
  child.from = report[0];
  child.to = hold[1];
  return child;
}

Report KeeperTest::Read(const Child& child) {
  Report r;
  if (read(child.from, &r, sizeof(r)) != sizeof(r)) r.code = -1;
  return r;
}

void KeeperTest::Release(Child& child) {
  // A byte: the end of the pipe would not do, later children have copies of it.
  [[maybe_unused]] ssize_t n = write(child.to, "x", 1);
  close(child.to);
  close(child.from);
  waitpid(child.pid, nullptr, 0);
  child.pid = -1;
}

void KeeperTest::Kill(Child& child) {
  kill(child.pid, SIGKILL);
  Release(child);
}

Report KeeperTest::RunMember(std::function<Report()> act) {
  Child child = StartMember(std::move(act), false);
  Report r = Read(child);
  Release(child);
  return r;
}

Member& KeeperTest::ThisMember() {
  static Member member;
  return member;
}

Settings& KeeperTest::ThisSettings() {
  static Settings settings;
  return settings;
}

Report KeeperTest::AttachHere() {
  Report r;
  Instant start = MonotonicNow();
  std::vector<const char*> environment = Environment();
  IoError error = LoadSettings(environment.data(), &ThisSettings());
  if (!error) error = Attach(ThisSettings(), environment.data(), &ThisMember());
  r.micros = ToMicros(MonotonicNow() - start);
  r.code = error.code;
  std::memcpy(r.message, error.message, sizeof(r.message));
  if (error) return r;
  r.keeper_pid = ThisMember().host->keeper_pid.load();
  r.process = ThisMember().process;
  r.resumed = ThisMember().resumed;
  return r;
}

bool KeeperTest::Eventually(const std::function<bool()>& done) {
  Instant end = MonotonicNow() + Duration{5'000'000'000};
  while (!done()) {
    if (MonotonicNow() > end) return false;
    usleep(2000);
  }
  return true;
}

pid_t KeeperTest::BrokerPid() const {
  int fd = ConnectKeeper(SocketPath().c_str());
  if (fd < 0) return -1;
  ucred peer{};
  socklen_t size = sizeof(peer);
  getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size);
  close(fd);
  return peer.pid;
}

}  // namespace ustcp::keeper_test
