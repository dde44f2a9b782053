// The broker's connections: who may have one, what may be asked over it.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <thread>

#include "io/base/clock.h"
#include "io/base/parse.h"
#include "io/base/report.h"
#include "io/member/keeper_channel.h"
#include "preload/keeper/broker.h"
#include "preload/keeper/haste.h"
#include "preload/keeper/log.h"
#include "stack/create.h"
#include "stack/host/host.h"

namespace ustcp::keeper {

namespace {

constexpr auto kAcceptPause = 100ms;  // after running out of descriptors
constexpr auto kRefusalPause = 1s;    // between lines in the log
constexpr int kMessagesAtOnce = 16;   // of one client before the next one's turn
constexpr int kMaxSlowCloses = 8;
constexpr int kAcceptsAtOnce = 1024;  // more than ever wait: who keeps connecting does not keep others waiting

std::atomic<int> g_slow_closes{0};

// What a member sleeps on; anything else could keep the driver waiting.
bool IsWakeDescriptor(int fd) {
  char link[32];
  char target[32];
  TextBuilder(link) << "/proc/self/fd/" << fd;
  ssize_t n = readlink(link, target, sizeof(target));
  constexpr std::string_view kEventfd = "anon_inode:[eventfd]";
  int flags = fcntl(fd, F_GETFL);
  return n > 0 && std::string_view(target, static_cast<size_t>(n)) == kEventfd && flags >= 0 &&
         (flags & O_NONBLOCK) != 0;
}

IoError VersionsDiffer() {
  return MakeError(ENETDOWN,
                   "program and keeper are of different versions; restart the host's programs, or use another "
                   "USTCP_HOST");
}

}  // namespace

void Refuse(const IoError& error, KeeperReply* reply) {
  reply->error = error.code;
  std::memcpy(reply->message, error.message, std::min(sizeof(reply->message), sizeof(error.message)));
}

size_t Broker::Members() const {
  return static_cast<size_t>(std::count_if(clients_.begin(), clients_.end(), [](const Client& c) { return c.member; }));
}

void Broker::LogRefusal(const Peer& peer, const char* line) {
  Instant now = MonotonicNow();
  if (now < log_refusal_) {
    ++refusals_unlogged_;
    return;
  }
  log_refusal_ = now + kRefusalPause;
  if (refusals_unlogged_ > 0) Log("%d refusals were not logged", refusals_unlogged_);
  refusals_unlogged_ = 0;
  Log("process %d of user %u: %s", static_cast<int>(peer.pid), peer.uid, line);
}

void Broker::AcceptClients() {
  for (int i = 0; i < kAcceptsAtOnce; ++i) {
    int fd = accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
      // The connection stays where it is and would be reported again at once.
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        accept_again_ = MonotonicNow() + kAcceptPause;
        LogRefusal({}, "no descriptor left for a connection; raise RLIMIT_NOFILE");
      }
      return;
    }
    ucred credentials{};
    socklen_t size = sizeof(credentials);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
      close(fd);
      continue;
    }
    Peer peer{credentials.pid, credentials.uid};
    if (const char* reason = quotas_.Connect(peer.uid, joining_.Trusted(peer.uid))) {
      LogRefusal(peer, reason);
      KeeperReply reply;
      Refuse(MakeError(ENETDOWN, "%s; end some of them, or use another USTCP_HOST", reason), &reply);
      SendMessage(fd, &reply, sizeof(reply), -1);
      CloseHastily(fd);
      continue;
    }
    Client client;
    client.fd = fd;
    client.peer = peer;
    client.since = MonotonicNow();
    clients_.push_back(client);
  }
}

void Broker::Leave(Client& client) {
  if (client.fd < 0) return;
  Haste haste(!joining_.Trusted(client.peer.uid));
  close(client.fd);
  client.fd = -1;
  if (client.pidfd >= 0) close(client.pidfd);
  client.pidfd = -1;
  quotas_.Disconnect(client.peer.uid, client.introduced);
  if (!client.member) return;
  client.member = false;
  InternalMessage look;
  look.kind = InternalKind::kLook;
  TellDriver(look, -1);
}

// Those that left, and those that do not say what they want.
void Broker::DropClients(Instant now) {
  for (Client& client : clients_)
    if (!client.introduced && now - client.since >= kIntroductionTime) Leave(client);
  clients_.erase(std::remove_if(clients_.begin(), clients_.end(), [](const Client& c) { return c.fd < 0; }),
                 clients_.end());
}

// Closing a file of a file system that is a program (FUSE) waits for that program, whatever the haste. So what strangers
// show is closed by somebody who has the time, unless it is a memory file or a socket.
void Broker::CloseShown(const Peer& peer, int fd) {
  int type;
  socklen_t size = sizeof(type);
  if (joining_.Trusted(peer.uid) || fcntl(fd, F_GET_SEALS) >= 0 ||
      getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0) {
    CloseHastily(fd);
    return;
  }
  g_slow_closes.fetch_add(1);
  std::thread([fd] {
    close(fd);
    g_slow_closes.fetch_sub(1);
  }).detach();
}

void Broker::FillStatus(KeeperReply* reply) const {
  size_t queues = static_cast<size_t>(
      std::count_if(queues_.begin(), queues_.end(), [](const TapQueue& q) { return q.fd >= 0; }) + (only_.fd >= 0));
  TextBuilder text(reply->message);
  text << "broker " << static_cast<int>(getpid()) << ", ";
  if (driver_pid_ > 0)
    text << "driver " << static_cast<int>(driver_pid_);
  else
    text << "no driver";
  text << ", " << static_cast<int64_t>(Members()) << " connections, " << static_cast<int64_t>(queues) << " queues, "
       << (idle_ ? "idle" : "in use");
  reply->stays = options_.of_net_up;
  std::memcpy(reply->queue.name, options_.settings.host.interface, sizeof(reply->queue.name));
}

IoError Broker::Introduce(Client& client, const KeeperRequest& request, int fd, int* reply_fd) {
  Purpose purpose = request.kind == KeeperRequestKind::kAttach   ? Purpose::kJoin
                    : request.kind == KeeperRequestKind::kAdjust ? Purpose::kChange
                                                                 : Purpose::kLook;
  if (IoError error = joining_.Admit(client.peer, purpose, fd)) return error;
  if (request.layout_hash != LayoutHash()) return VersionsDiffer();
  if (!client.introduced) quotas_.Introduced(client.peer.uid);
  client.introduced = true;
  if (purpose == Purpose::kJoin && !client.member) {
    client.member = true;
    client.pidfd = PeerPidfd(client.fd, client.peer.pid);
  }
  *reply_fd = purpose == Purpose::kLook && arena_look_fd_ >= 0 ? arena_look_fd_ : arena_fd_;
  return {};
}

IoError Broker::AnswerMember(Client& client, const KeeperRequest& request, int fd, KeeperReply* reply, int* reply_fd) {
  if (!client.member || request.shard >= kMaxShards || (request.process >= kMaxProcesses))
    return MakeError(EACCES, "request of a program that has not joined the host; restart the program");
  switch (request.kind) {
    case KeeperRequestKind::kQueue:
    case KeeperRequestKind::kReopenQueue: {
      const TapQueue* queue = nullptr;
      bool reopen = request.kind == KeeperRequestKind::kReopenQueue;
      if (IoError error = GiveQueue(request.shard, reopen, &queue, &reply->share)) return error;
      reply->queue = DescribeQueue(*queue);
      *reply_fd = queue->fd;
      return {};
    }
    case KeeperRequestKind::kOfferQueue:
      if (fd < 0) return MakeError(EINVAL, "a queue was offered without its descriptor; restart the program");
      return AdoptOffer(request.shard, fd, request.number);
    case KeeperRequestKind::kWakeDescriptor: {
      if (fd < 0 || !IsWakeDescriptor(fd))
        return MakeError(EINVAL, "what was shown to wake sleepers by is no eventfd; restart the program");
      InternalMessage message;
      message.kind = InternalKind::kWakeDescriptor;
      message.process = request.process;
      message.number = request.number;
      TellDriver(message, fd);
      return {};
    }
    case KeeperRequestKind::kExec: joining_.ExpectReturn(client.peer, client.pidfd); return {};
    default: return MakeError(EINVAL, "unknown request; install program and keeper from one build");
  }
}

void Broker::Answer(Client& client, const KeeperRequest& request, int fd, KeeperReply* reply, int* reply_fd) {
  *reply_fd = -1;
  reply->keeper_pid = getpid();
  reply->layout_hash = LayoutHash();
  reply->arena_bytes = arena_bytes_;
  IoError error;
  if (request.magic != kKeeperMagic || request.version != kKeeperVersion) {
    error = VersionsDiffer();
  } else if (request.kind == KeeperRequestKind::kAttach || request.kind == KeeperRequestKind::kObserve ||
             request.kind == KeeperRequestKind::kAdjust) {
    error = Introduce(client, request, fd, reply_fd);
  } else if (request.kind == KeeperRequestKind::kStatus) {
    error = joining_.Admit(client.peer, Purpose::kLook, -1);
    if (!error) FillStatus(reply);
  } else {
    error = AnswerMember(client, request, fd, reply, reply_fd);
  }
  if (error) Refuse(error, reply);
}

void Broker::Serve(Client& client) {
  for (int i = 0; i < kMessagesAtOnce; ++i) {
    KeeperRequest request;
    int fd = -1;
    // Too many of what strangers showed wait to be closed: the kernel drops what comes with this message.
    bool trusted = joining_.Trusted(client.peer.uid);
    bool take = trusted || g_slow_closes.load() < kMaxSlowCloses;
    ssize_t n;
    {
      Haste haste(!trusted);
      n = ReceiveMessage(client.fd, &request, sizeof(request), take ? &fd : nullptr, -1);
    }
    if (n == -EAGAIN) return;
    if (n <= 0) return Leave(client);
    KeeperReply reply;
    int reply_fd = -1;
    if (n != sizeof(request)) request.magic = 0;
    Answer(client, request, fd, &reply, &reply_fd);
    if (reply.error != 0) LogRefusal(client.peer, reply.message);
    if (fd >= 0) CloseShown(client.peer, fd);
    reply.has_descriptor = reply_fd >= 0;
    // The other end may be gone, or never read: it then hears nothing. Who was not let in has no more to say.
    if (SendMessage(client.fd, &reply, sizeof(reply), reply_fd) < 0 || (reply.error != 0 && !client.introduced))
      return Leave(client);
  }
}

}  // namespace ustcp::keeper
