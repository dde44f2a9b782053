#include "preload/keeper/broker.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <net/if.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "io/base/clock.h"
#include "io/base/parse.h"
#include "io/base/report.h"
#include "io/member/arena_map.h"
#include "io/member/keeper_channel.h"
#include "preload/keeper/abandoned.h"
#include "preload/keeper/confine.h"
#include "preload/keeper/driver.h"
#include "preload/keeper/haste.h"
#include "preload/keeper/log.h"
#include "preload/keeper/names.h"
#include "preload/keeper/setup.h"
#include "stack/create.h"
#include "stack/host/host.h"

namespace ustcp::keeper {

namespace {

constexpr auto kGrace = 1s;  // between the last member and the end: the next one often follows at once

// A driver that dies is replaced at once; one that dies again and again over the same arena after a pause that doubles,
// and not for ever: then the host is beyond help.
constexpr int kFreeDriverStarts = 3;
constexpr int kMaxDriverStarts = 7;
constexpr auto kLongLife = 30s;  // of a driver that was no failure

volatile sig_atomic_t g_stop = 0;

size_t DescriptorLimit() {
  rlimit limit{};
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 1024;
}

DeviceInfo DeviceOf(const BrokerOptions& options) {
  DeviceInfo device = options.settings.host.device;  // the MAC address is the host's own
  const TapQueue& queue = options.spare;
  device.mtu = options.settings.mtu != 0 ? options.settings.mtu : queue.mtu;
  device.checksum_offload = queue.vnet && queue.checksum_offload;
  device.tso4 = queue.vnet && queue.tso4;
  device.tso6 = queue.vnet && queue.tso6;
  return device;
}

// Leaves open 0 to 2 and what `keep` names.
void CloseOthers(std::vector<int> keep) {
  keep.erase(std::remove_if(keep.begin(), keep.end(), [](int fd) { return fd < 3; }), keep.end());
  std::sort(keep.begin(), keep.end());
  unsigned from = 3;
  for (int fd : keep) {
    if (static_cast<unsigned>(fd) > from) close_range(from, static_cast<unsigned>(fd) - 1, 0);
    from = static_cast<unsigned>(fd) + 1;
  }
  close_range(from, ~0u, 0);
}

}  // namespace

void InstallStopSignals() {
  struct sigaction action {};
  action.sa_handler = [](int) { g_stop = 1; };
  for (int number : {SIGTERM, SIGINT}) sigaction(number, &action, nullptr);
  action.sa_handler = SIG_IGN;
  for (int number : {SIGPIPE, SIGHUP, SIGUSR1, SIGUSR2}) sigaction(number, &action, nullptr);
  action.sa_handler = [](int) {};  // what is ignored ends no wait (haste.h)
  sigaction(SIGALRM, &action, nullptr);
  action.sa_handler = SIG_DFL;
  sigaction(SIGCHLD, &action, nullptr);  // a program may have had it ignored, and waitpid would find nobody
}

bool StopRequested() { return g_stop != 0; }

Broker::Broker(const BrokerOptions& options)
    : options_(options), joining_(options_.settings, options.owner), quotas_(DescriptorLimit()) {}

IoError Broker::StartDriver(int arena_fd) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
    return MakeError(ENETDOWN, "no socket pair for the keeper's driver; raise RLIMIT_NOFILE");
  pid_t pid = fork();
  if (pid < 0) {
    close(pair[0]);
    close(pair[1]);
    return MakeError(ENETDOWN, "no process for the keeper's driver; raise RLIMIT_NPROC");
  }
  if (pid == 0) {
    CloseOthers({pair[1], arena_fd, LogDescriptor()});
    _exit(RunDriver(options_.settings, DeviceOf(options_), options_.driver_user, pair[1], arena_fd));
  }
  close(pair[1]);
  driver_fd_ = pair[0];
  driver_pid_ = pid;
  driver_started_ = MonotonicNow();
  driver_due_ = kNever;
  ++driver_starts_;
  InternalMessage message;
  int fd = -1;
  ssize_t n = ReceiveMessage(driver_fd_, &message, sizeof(message), &fd, 5000);
  if (n != sizeof(message) || (message.kind != InternalKind::kReady && message.kind != InternalKind::kFailed))
    return MakeError(ENETDOWN, "the keeper's driver ended while starting; see its log (USTCP_KEEPER_LOG)");
  if (message.kind == InternalKind::kFailed) {
    IoError error;
    error.code = message.error;
    std::memcpy(error.message, message.message, sizeof(error.message));
    return error;
  }
  if (arena_fd_ >= 0) {
    close(fd);  // a driver started again gives back what it was given
  } else {
    ArenaFile file;
    if (IoError error = InspectArenaFile(fd, &file)) return error;
    arena_fd_ = fd;
    arena_bytes_ = file.bytes;
    joining_.SetArena(file.identity);
  }
  idle_ = false;
  return {};
}

void Broker::LoseDriver() {
  int status = 0;
  close(driver_fd_);
  driver_fd_ = -1;
  kill(driver_pid_, SIGKILL);
  waitpid(driver_pid_, &status, 0);
  Log("driver %d ended with status %#x", static_cast<int>(driver_pid_), status);
  driver_pid_ = -1;
  Instant now = MonotonicNow();
  if (now - driver_started_ > kLongLife) driver_starts_ = 0;
  driver_due_ = driver_starts_ < kFreeDriverStarts ? now : now + 1s * (1 << (driver_starts_ - kFreeDriverStarts));
}

// False: no more of them.
bool Broker::TryDriverAgain() {
  if (driver_starts_ >= kMaxDriverStarts) {
    Log("the host's memory is beyond repair: %d drivers died of it", driver_starts_);
    return false;
  }
  if (IoError error = StartDriver(arena_fd_)) {
    Log("no new driver: %s", error.message);
    if (driver_fd_ >= 0) LoseDriver();
    if (driver_due_ == kNever) driver_due_ = MonotonicNow() + 1s;
    return true;
  }
  for (uint16_t shard = 0; shard < kMaxShards; ++shard)
    if (queues_[shard].fd >= 0 || (only_.fd >= 0 && told_[shard] != 0)) TellQueue(shard);
  return true;
}

void Broker::TellDriver(const InternalMessage& message, int fd) {
  if (driver_fd_ < 0) return;  // the next one is told of the queues, and looks for itself
  int result = SendMessage(driver_fd_, &message, sizeof(message), fd);
  if (result < 0) Log("driver does not hear: errno %d", -result);
}

IoError Broker::Publish() {
  const std::string& path = options_.socket_path;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return MakeError(ENETDOWN, "no descriptor left for the keeper's socket; raise RLIMIT_NOFILE");
  unlink(path.c_str());  // of a keeper that was killed: the lock says that none is alive
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 || listen(fd, 512) != 0) {
    close(fd);
    return MakeError(ENETDOWN, "cannot make the keeper's socket %s; set USTCP_RUNTIME_DIR", path.c_str());
  }
  // Who may connect is decided by the peer's credentials; the directory keeps strangers out where it is private.
  chmod(path.c_str(), 0666);
  listen_fd_ = fd;
  return {};
}

void Broker::Unpublish() { unlink(options_.socket_path.c_str()); }

void Broker::Hear(const InternalMessage& message) {
  switch (message.kind) {
    case InternalKind::kQueueFreed: {
      if (message.shard >= kMaxShards) break;
      // Given to the shard's next process meanwhile: then it stays.
      if (message.number != told_[message.shard]) break;
      CloseQueue(message.shard);
      InternalMessage closed = message;
      closed.kind = InternalKind::kQueueClosed;
      TellDriver(closed, -1);
      break;
    }
    case InternalKind::kNeedQueue: {
      if (message.shard >= kMaxShards) break;
      const TapQueue* queue = nullptr;
      QueueShare share;
      if (IoError error = GiveQueue(message.shard, false, &queue, &share))
        Log("shard %d: %s", message.shard, error.message);
      break;
    }
    case InternalKind::kIdle: idle_ = true; break;
    case InternalKind::kBusy: idle_ = false; break;
    default: break;
  }
}

void Broker::HearDriver() {
  for (;;) {
    InternalMessage message;
    int fd = -1;
    ssize_t n = ReceiveMessage(driver_fd_, &message, sizeof(message), &fd, -1);
    if (fd >= 0) close(fd);
    if (n == -EAGAIN) return;
    if (n <= 0) return LoseDriver();
    if (n == sizeof(message)) Hear(message);
  }
}

IoError Broker::Start() {
  if (options_.spare.fd >= 0 && (options_.tap_handed_in || !options_.spare.multi_queue)) {
    only_ = options_.spare;
    options_.spare.fd = -1;
  }
  if (!options_.tap_handed_in) interface_ = if_nametoindex(options_.settings.host.interface);
  if (IoError error = StartDriver(options_.adopt_fd)) return error;
  // A descriptor of the same file that cannot write, whatever its holder does to it.
  char link[32];
  TextBuilder(link) << "/proc/self/fd/" << arena_fd_;
  arena_look_fd_ = open(link, O_RDONLY | O_CLOEXEC);
  if (IoError error = Publish()) return error;
  RecordArena(options_.arena_record_path.c_str(), joining_.arena());
  if (int code = ConfineBroker()) return MakeError(ENETDOWN, "cannot give up rights; %s", ErrnoText(code));
  return {};
}

// When there is something to do without anybody's asking.
Instant Broker::NextEvent(Instant now) {
  bool unused = !options_.stay && idle_ && Members() == 0;
  if (!unused) idle_since_ = kNever;
  if (unused && idle_since_ == kNever) idle_since_ = now;
  Instant next = unused ? idle_since_ + kGrace : kNever;
  next = std::min(next, driver_due_);
  if (now < accept_again_) next = std::min(next, accept_again_);
  for (const Client& client : clients_)
    if (!client.introduced) next = std::min<Instant>(next, client.since + kIntroductionTime);
  return next;
}

void Broker::Poll() {
  Instant now = MonotonicNow();
  Instant next = NextEvent(now);
  std::vector<pollfd> polls;
  // A negative number is passed over.
  polls.push_back({now < accept_again_ ? -1 : listen_fd_, POLLIN, 0});
  polls.push_back({driver_fd_, POLLIN, 0});
  for (const Client& client : clients_) polls.push_back({client.fd, POLLIN, 0});
  for (int fd : options_.name_fds) polls.push_back({fd, POLLIN, 0});
  timespec left{};
  if (next != kNever) left = TimeLeft(next, now);
  int n = ppoll(polls.data(), polls.size(), next == kNever ? nullptr : &left, nullptr);
  if (n < 0 && errno != EINTR) g_stop = 1;
  size_t known = clients_.size();
  if (n > 0) {
    for (size_t i = 0; i < known; ++i)
      if (polls[i + 2].revents != 0) Serve(clients_[i]);
    for (size_t i = known + 2; i < polls.size(); ++i)
      if (polls[i].revents != 0) AnswerNameQuestion(polls[i].fd);
    if (polls[1].revents != 0) HearDriver();
  }
  DropClients(MonotonicNow());
  if (n > 0 && polls[0].revents != 0) {
    if (Deserted())
      g_stop = 1;  // who waits to be let in finds the next keeper
    else
      AcceptClients();
  }
  if (driver_due_ <= MonotonicNow() && !TryDriverAgain()) g_stop = 1;
}

// Nobody has been here for a while.
bool Broker::EndWhenUnused() {
  if (options_.stay || !idle_ || Members() != 0 || idle_since_ == kNever || MonotonicNow() - idle_since_ < kGrace)
    return false;
  // Nobody new can find us once the name is gone; whoever found us before is served.
  Unpublish();
  size_t before = clients_.size();
  AcceptClients();
  if (clients_.size() == before && driver_fd_ >= 0) return true;
  CloseHastily(listen_fd_);
  if (Publish()) return true;
  idle_since_ = kNever;
  return false;
}

// Be there one of the same name or not.
bool Broker::InterfaceGone() const {
  return interface_ != 0 && if_nametoindex(options_.settings.host.interface) != interface_;
}

// Then all that is left is connections and neighbours of a link that is no more. Whoever comes next starts the host anew.
bool Broker::Deserted() const {
  bool service = options_.stay && !options_.of_net_up;
  return !service && Members() == 0 && InterfaceGone();
}

int Broker::Run() {
  IoError error = Start();
  KeeperReply ready;
  TextBuilder(ready.message) << options_.warnings;
  if (error) Refuse(error, &ready);
  if (options_.ready_fd >= 0) {
    if (write(options_.ready_fd, &ready, sizeof(ready)) < 0) Log("nobody waits for this keeper");
    close(options_.ready_fd);
  } else if (error) {
    dprintf(2, "ustcp-keeper: %s\n", error.message);
  }
  if (error) {
    Log("not started: %s", error.message);
    return 1;
  }
  if (!options_.warnings.empty()) Log("%s", options_.warnings.c_str());
  Log("host %s on %s, of user %u", options_.settings.host.name, options_.settings.host.interface, options_.owner);
  do Poll();
  while (!StopRequested() && !EndWhenUnused());
  Log("ends");
  Unpublish();
  // Members that outlive the interface are found by the keeper of the next one.
  const bool gone = InterfaceGone();
  if (!gone || Members() == 0) unlink(options_.arena_record_path.c_str());
  if (driver_fd_ >= 0) {
    InternalMessage end;
    end.kind = InternalKind::kEnd;
    if (gone) TellDriver(end, -1);
    shutdown(driver_fd_, SHUT_RDWR);
    close(driver_fd_);
    if (driver_pid_ > 0) waitpid(driver_pid_, nullptr, 0);
  }
  return 0;
}

}  // namespace ustcp::keeper
