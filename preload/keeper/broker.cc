#include "preload/keeper/broker.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
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
#include "io/member/arena_map.h"
#include "io/member/keeper_channel.h"
#include "preload/keeper/confine.h"
#include "preload/keeper/driver.h"
#include "preload/keeper/log.h"
#include "preload/keeper/setup.h"
#include "stack/create.h"
#include "stack/host/host.h"

namespace ustcp::keeper {

namespace {

constexpr auto kGrace = 1s;  // between the last member and the end: the next one often follows at once
constexpr size_t kMaxClients = 4096;
constexpr int kMaxDriverStarts = 4;  // a driver that keeps dying over the same arena is not helped by another

volatile sig_atomic_t g_stop = 0;

IoError Fail(int code, const char* what, const char* detail, const char* remedy) {
  IoError error;
  error.code = code;
  TextBuilder(error.message) << what << detail << "; " << remedy;
  return error;
}

// The errno number that a socket call shall show for a failure of the device.
int CallError(int code) { return code == EPERM || code == EACCES ? EACCES : code == EINVAL ? EINVAL : ENETDOWN; }

void Refuse(const IoError& error, KeeperReply* reply) {
  reply->error = error.code;
  std::memcpy(reply->message, error.message, std::min(sizeof(reply->message), sizeof(error.message)));
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
  for (int number : {SIGPIPE, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM}) sigaction(number, &action, nullptr);
  action.sa_handler = SIG_DFL;
  sigaction(SIGCHLD, &action, nullptr);  // a program may have had it ignored, and waitpid would find nobody
}

bool StopRequested() { return g_stop != 0; }

uint32_t Broker::geteuid_at_start() { return geteuid(); }

IoError Broker::StartDriver(int arena_fd) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
    return Fail(ENETDOWN, "no socket pair for the keeper's driver", "", "raise RLIMIT_NOFILE");
  pid_t pid = fork();
  if (pid < 0) {
    close(pair[0]);
    close(pair[1]);
    return Fail(ENETDOWN, "no process for the keeper's driver", "", "raise RLIMIT_NPROC");
  }
  if (pid == 0) {
    CloseOthers({pair[1], arena_fd, LogDescriptor()});
    _exit(RunDriver(options_.settings, DeviceOf(options_), pair[1], arena_fd));
  }
  close(pair[1]);
  driver_fd_ = pair[0];
  driver_pid_ = pid;
  ++driver_starts_;
  InternalMessage message;
  int fd = -1;
  ssize_t n = ReceiveMessage(driver_fd_, &message, sizeof(message), &fd, 5000);
  if (n != sizeof(message) || (message.kind != InternalKind::kReady && message.kind != InternalKind::kFailed))
    return Fail(ENETDOWN, "the keeper's driver ended while starting", "", "see its log (USTCP_KEEPER_LOG)");
  if (message.kind == InternalKind::kFailed) {
    IoError error;
    error.code = message.error;
    std::memcpy(error.message, message.message, sizeof(error.message));
    return error;
  }
  if (arena_fd_ >= 0) {
    close(fd);  // a driver started again gives back what it was given
  } else {
    arena_fd_ = fd;
    arena_bytes_ = message.arena_bytes;
    arena_inode_ = message.arena_inode;
  }
  idle_ = false;
  return {};
}

bool Broker::RestartDriver() {
  int status = 0;
  waitpid(driver_pid_, &status, 0);
  close(driver_fd_);
  driver_fd_ = -1;
  Log("driver %d ended with status %#x", static_cast<int>(driver_pid_), status);
  if (StopRequested() || driver_starts_ >= kMaxDriverStarts) return false;
  if (IoError error = StartDriver(arena_fd_)) {
    Log("no new driver: %s", error.message);
    return false;
  }
  for (uint16_t shard = 0; shard < kMaxShards; ++shard)
    if (queues_[shard].fd >= 0 || (only_.fd >= 0 && told_[shard] != 0)) TellQueue(shard);
  return true;
}

IoError Broker::Publish() {
  const std::string& path = options_.socket_path;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return Fail(ENETDOWN, "no descriptor left for the keeper's socket", "", "raise RLIMIT_NOFILE");
  unlink(path.c_str());  // of a keeper that was killed: the lock says that none is alive
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 || listen(fd, 512) != 0) {
    close(fd);
    return Fail(ENETDOWN, "cannot make the keeper's socket ", path.c_str(), "set USTCP_RUNTIME_DIR");
  }
  // Who may connect is decided by the peer's credentials; the directory keeps strangers out where it is private.
  chmod(path.c_str(), 0666);
  listen_fd_ = fd;
  return {};
}

void Broker::Unpublish() { unlink(options_.socket_path.c_str()); }

size_t Broker::Members() const {
  return static_cast<size_t>(std::count_if(clients_.begin(), clients_.end(), [](const Client& c) { return c.member; }));
}

void Broker::AcceptClients() {
  for (;;) {
    int fd = accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return;
    ucred peer{};
    socklen_t size = sizeof(peer);
    if (clients_.size() >= kMaxClients || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
      close(fd);
      continue;
    }
    clients_.push_back({fd, peer.pid, peer.uid, false});
  }
}

IoError Broker::CheckMember(const Client& client, bool observe, int shown_fd) const {
  if (client.uid == 0 || client.uid == owner_) return {};
  if (!observe) {
    const auto& allowed = options_.settings.allowed_users;
    for (int i = 0; i < options_.settings.allowed_user_count; ++i)
      if (allowed[static_cast<size_t>(i)] == client.uid) return {};
    // Who has the arena was a member, whatever its user id has become since.
    struct stat status {};
    if (shown_fd >= 0 && fstat(shown_fd, &status) == 0 && status.st_ino == arena_inode_) return {};
  }
  char detail[160];
  TextBuilder(detail) << options_.settings.host.name << "' belongs to user " << owner_ << ", user " << client.uid
                      << " may not join";
  return Fail(EACCES, "host '", detail, "add the user to `allow` or choose another USTCP_HOST");
}

IoError Broker::OpenQueue(TapQueue* out) {
  if (options_.spare.fd >= 0) {
    *out = options_.spare;
    options_.spare.fd = -1;
    return {};
  }
  TapOpenOptions options;
  options.name = options_.settings.host.interface;
  IoError error = OpenTapQueue(options, out);
  if (error) error.code = CallError(error.code);
  return error;
}

// The interface's only queue is everybody's to write to; who reads it is in the arena (Host::queue_reader).
IoError Broker::GiveOnlyQueue(uint16_t shard, bool reopen) {
  if (reopen && !options_.tap_handed_in) {
    TapQueue fresh;
    if (IoError error = OpenQueue(&fresh)) return error;
    close(only_.fd);
    only_ = fresh;
  }
  TellQueue(shard, reopen);
  return {};
}

IoError Broker::GiveQueue(uint16_t shard, bool reopen, const TapQueue** out, QueueShare* share) {
  TapQueue& queue = queues_[shard];
  *out = &queue;
  *share = QueueShare::kOwn;
  if (only_.fd < 0) {
    if (reopen) CloseQueue(shard);
    if (queue.fd < 0) {
      TapQueue fresh;
      if (IoError error = OpenQueue(&fresh)) {
        // No further one to be had: what comes in reaches the shard through the others, what goes out leaves by one of theirs.
        auto other = std::find_if(queues_.begin(), queues_.end(), [](const TapQueue& q) { return q.fd >= 0; });
        if (other == queues_.end()) return error;
        *out = &*other;
        *share = QueueShare::kBorrowed;
        return {};
      }
      (fresh.multi_queue ? queue : only_) = fresh;
    }
    if (only_.fd < 0) {
      TellQueue(shard, reopen);
      return {};
    }
    reopen = false;
  }
  *out = &only_;
  *share = QueueShare::kOnly;
  return GiveOnlyQueue(shard, reopen);
}

IoError Broker::AdoptOffer(uint16_t shard, int fd, QueueShare share) {
  int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) return Fail(ENETDOWN, "no descriptor left for a TAP queue", "", "raise RLIMIT_NOFILE");
  TapQueue queue;
  if (IoError error = AdoptTapQueue(copy, &queue)) {
    close(copy);
    return error;
  }
  // What the member has is what it reads. One that we opened for the shard meanwhile would be read by nobody.
  TapQueue& known = share == QueueShare::kOnly ? only_ : queues_[shard];
  if (known.fd >= 0) close(known.fd);
  known = queue;
  TellQueue(shard);
  return {};
}

void Broker::CloseQueue(uint16_t shard) {
  if (queues_[shard].fd >= 0) close(queues_[shard].fd);
  queues_[shard] = {};
}

void Broker::TellDriver(const InternalMessage& message, int fd) {
  int result = SendMessage(driver_fd_, &message, sizeof(message), fd);
  if (result < 0) Log("driver does not hear: errno %d", -result);
}

void Broker::TellQueue(uint16_t shard, bool announce) {
  InternalMessage message;
  message.kind = InternalKind::kQueue;
  message.shard = shard;
  message.number = ++told_[shard];
  message.only = only_.fd >= 0;
  message.announce = announce;
  const TapQueue& queue = message.only ? only_ : queues_[shard];
  message.queue = DescribeQueue(queue);
  TellDriver(message, queue.fd);
}

void Broker::FillStatus(KeeperReply* reply) const {
  size_t queues = static_cast<size_t>(
      std::count_if(queues_.begin(), queues_.end(), [](const TapQueue& q) { return q.fd >= 0; }) + (only_.fd >= 0));
  TextBuilder(reply->message) << "broker " << static_cast<int>(getpid()) << ", driver " << static_cast<int>(driver_pid_)
                              << ", " << static_cast<int64_t>(Members()) << " connections, "
                              << static_cast<int64_t>(queues) << " queues, " << (idle_ ? "idle" : "in use");
}

void Broker::Answer(Client& client, const KeeperRequest& request, int fd, KeeperReply* reply, int* reply_fd) {
  *reply_fd = -1;
  reply->keeper_pid = getpid();
  reply->layout_hash = LayoutHash();
  reply->arena_bytes = arena_bytes_;
  if (request.magic != kKeeperMagic || request.version != kKeeperVersion) {
    return Refuse(Fail(ENETDOWN, "program and keeper are of different versions", "",
                       "restart the host's programs, or use another USTCP_HOST"),
                  reply);
  }
  bool introduces = request.kind == KeeperRequestKind::kAttach || request.kind == KeeperRequestKind::kObserve;
  if (introduces) {
    bool observe = request.kind == KeeperRequestKind::kObserve;
    if (IoError error = CheckMember(client, observe, fd)) return Refuse(error, reply);
    if (request.layout_hash != LayoutHash()) {
      return Refuse(Fail(ENETDOWN, "program and keeper are of different versions", "",
                         "restart the host's programs, or use another USTCP_HOST"),
                    reply);
    }
    client.member |= !observe;
    *reply_fd = arena_fd_;
    return;
  }
  if (request.kind == KeeperRequestKind::kStatus) {
    if (IoError error = CheckMember(client, true, -1)) return Refuse(error, reply);
    return FillStatus(reply);
  }
  if (!client.member || request.shard >= kMaxShards || request.process >= kMaxProcesses)
    return Refuse(Fail(EACCES, "request of a program that has not joined the host", "", "restart the program"), reply);

  switch (request.kind) {
    case KeeperRequestKind::kQueue:
    case KeeperRequestKind::kReopenQueue: {
      const TapQueue* queue = nullptr;
      if (IoError error =
              GiveQueue(request.shard, request.kind == KeeperRequestKind::kReopenQueue, &queue, &reply->share))
        return Refuse(error, reply);
      reply->queue = DescribeQueue(*queue);
      *reply_fd = queue->fd;
      return;
    }
    case KeeperRequestKind::kOfferQueue: {
      IoError error = fd < 0 ? Fail(EINVAL, "a queue was offered without its descriptor", "", "restart the program")
                             : AdoptOffer(request.shard, fd, static_cast<QueueShare>(request.number));
      if (error) Refuse(error, reply);
      return;
    }
    case KeeperRequestKind::kWakeDescriptor: {
      if (fd < 0) return;
      InternalMessage message;
      message.kind = InternalKind::kWakeDescriptor;
      message.process = request.process;
      message.number = request.number;
      TellDriver(message, fd);
      return;
    }
    default: return Refuse(Fail(EINVAL, "unknown request", "", "install program and keeper from one build"), reply);
  }
}

void Broker::Serve(Client& client) {
  for (;;) {
    KeeperRequest request;
    int fd = -1;
    ssize_t n = ReceiveMessage(client.fd, &request, sizeof(request), &fd, -1);
    if (n == -EAGAIN) return;
    if (n <= 0) {
      close(client.fd);
      client.fd = -1;
      if (client.member) {
        InternalMessage look;
        look.kind = InternalKind::kLook;
        TellDriver(look, -1);
      }
      return;
    }
    KeeperReply reply;
    int reply_fd = -1;
    if (n != sizeof(request)) request.magic = 0;
    Answer(client, request, fd, &reply, &reply_fd);
    if (reply.error != 0) Log("process %d: %s", static_cast<int>(client.pid), reply.message);
    if (fd >= 0) close(fd);
    reply.has_descriptor = reply_fd >= 0;
    // The other end may be gone, or never read: it then hears nothing.
    if (SendMessage(client.fd, &reply, sizeof(reply), reply_fd) < 0) {
      close(client.fd);
      client.fd = -1;
      return;
    }
  }
}

void Broker::Hear(const InternalMessage& message) {
  switch (message.kind) {
    case InternalKind::kQueueFreed: {
      // Given to the shard's next process meanwhile: then it stays.
      if (message.number != told_[message.shard]) break;
      CloseQueue(message.shard);
      InternalMessage closed = message;
      closed.kind = InternalKind::kQueueClosed;
      TellDriver(closed, -1);
      break;
    }
    case InternalKind::kNeedQueue: {
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
    if (n <= 0) {
      if (!RestartDriver()) g_stop = 1;
      return;
    }
    if (n == sizeof(message)) Hear(message);
  }
}

int Broker::Run() {
  if (options_.spare.fd >= 0 && (options_.tap_handed_in || !options_.spare.multi_queue)) {
    only_ = options_.spare;
    options_.spare.fd = -1;
  }
  KeeperReply ready;
  IoError error = StartDriver(options_.adopt_fd);
  if (!error) error = Publish();
  if (!error) {
    RecordArena(options_.arena_record_path.c_str(), arena_inode_);
    if (int code = ConfineBroker()) error = Fail(ENETDOWN, "cannot give up rights", "", ErrnoText(code));
  }
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
  Log("host %s on %s", options_.settings.host.name, options_.settings.host.interface);

  Instant idle_since = kNever;
  while (!StopRequested()) {
    std::vector<pollfd> polls;
    polls.push_back({listen_fd_, POLLIN, 0});
    polls.push_back({driver_fd_, POLLIN, 0});
    for (const Client& client : clients_) polls.push_back({client.fd, POLLIN, 0});
    for (int fd : options_.name_fds) polls.push_back({fd, POLLIN, 0});
    bool unused = !options_.stay && idle_ && Members() == 0;
    if (!unused) idle_since = kNever;
    if (unused && idle_since == kNever) idle_since = MonotonicNow();
    int timeout = unused ? static_cast<int>(ToMillis(kGrace)) : -1;
    int n = poll(polls.data(), polls.size(), timeout);
    if (n < 0 && errno != EINTR) break;
    size_t known = clients_.size();
    if (n > 0) {
      for (size_t i = 0; i < known; ++i)
        if (polls[i + 2].revents != 0) Serve(clients_[i]);
      for (size_t i = known + 2; i < polls.size(); ++i)
        if (polls[i].revents != 0) AnswerNameQuestion(polls[i].fd);
      clients_.erase(std::remove_if(clients_.begin(), clients_.end(), [](const Client& c) { return c.fd < 0; }),
                     clients_.end());
      if (polls[1].revents != 0) HearDriver();
      if (polls[0].revents != 0) AcceptClients();
    }
    if (!unused || !idle_ || Members() != 0 || MonotonicNow() - idle_since < kGrace) continue;
    // Nobody new can find us once the name is gone; whoever found us before is served.
    Unpublish();
    size_t before = clients_.size();
    AcceptClients();
    if (clients_.size() == before && driver_fd_ >= 0) break;
    close(listen_fd_);
    if (Publish()) break;
    idle_since = kNever;
  }
  Log("ends");
  Unpublish();
  unlink(options_.arena_record_path.c_str());
  if (driver_fd_ >= 0) {
    shutdown(driver_fd_, SHUT_RDWR);
    close(driver_fd_);
    if (driver_pid_ > 0) waitpid(driver_pid_, nullptr, 0);
  }
  return 0;
}

}  // namespace ustcp::keeper
