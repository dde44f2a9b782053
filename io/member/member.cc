#include "io/member/member.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "io/base/clock.h"
#include "io/base/owned_fds.h"
#include "io/base/parse.h"
#include "io/base/report.h"
#include "io/base/sys.h"
#include "io/device/net_admin.h"
#include "io/member/arena_map.h"
#include "io/member/keeper_channel.h"
#include "io/member/keeper_start.h"
#include "stack/create.h"

namespace ustcp {

namespace {

constexpr int kReplyTimeoutMs = 5000;
constexpr int kConnectAttempts = 600;  // of 5 ms each: another program is starting the keeper
constexpr int64_t kConnectPauseNs = 5'000'000;

IoError Fail(int code, const char* what, const char* detail, const char* remedy) {
  IoError error;
  error.code = code;
  TextBuilder text(error.message);
  text << what << detail;
  if (*remedy != '\0') text << "; " << remedy;
  return error;
}

IoError VersionsDiffer() {
  return Fail(ENETDOWN, "program and keeper are of different versions", "",
              "restart the host's programs, or use another USTCP_HOST");
}

// A keeper that root started for this user, or for the one to whom root gave the interface.
bool RootsPath(const Settings& settings, char (&out)[kMaxSettingPath]) {
  if (settings.runtime_dir[0] != '\0') return false;
  auto uid = static_cast<uint32_t>(sys::Call(SYS_geteuid));
  TapOwner owner;
  if (uid == 0 && ReadTapOwner(settings.host.interface, &owner)) uid = owner.user;
  char directory[kMaxSettingPath];
  UserDirectory(uid, directory);
  return uid != 0 && KeeperPath(directory, settings.host.name, ".sock", out) &&
         !CheckRuntimeDirectory(directory, false);
}

// Where this process's keepers are.
IoError FindDirectory(const Settings& settings, const char* const* environment, Member* member) {
  if (member->directory[0] != '\0') return {};
  char directory[kMaxSettingPath];
  RuntimeDirectory(settings, environment, directory);
  char path[kMaxSettingPath];
  if (!KeeperPath(directory, settings.host.name, ".sock", path))
    return Fail(EINVAL, "path of the keeper's socket is too long: ", directory,
                "set USTCP_RUNTIME_DIR to a shorter one");
  IoError error = CheckRuntimeDirectory(directory, false);
  if (error && error.code != ENOENT) return error;
  std::memcpy(member->directory, directory, sizeof(directory));
  return {};
}

// One request and its reply. A negative result is the connection's failure; the keeper's refusals are in reply->error.
int Exchange(int socket, const KeeperRequest& request, int send_fd, KeeperReply* reply, int* received_fd) {
  *received_fd = -1;
  int sent = SendMessage(socket, &request, sizeof(request), send_fd);
  if (sent < 0 && sent != -EPIPE) return sent;
  ssize_t n = ReceiveMessage(socket, reply, sizeof(*reply), received_fd, kReplyTimeoutMs);
  // It closed without having read the request: why is what it sent before.
  if (n == -ECONNRESET) n = ReceiveMessage(socket, reply, sizeof(*reply), received_fd, kReplyTimeoutMs);
  if (n == 0) return -EPIPE;
  if (n < 0) return static_cast<int>(n);
  // A reply of another version may have another size; its first fields say so.
  if (n < 16 ||
      (static_cast<size_t>(n) < sizeof(*reply) && reply->magic == kKeeperMagic && reply->version == kKeeperVersion)) {
    if (*received_fd >= 0) sys::Close(*received_fd);
    *received_fd = -1;
    return -EPROTO;
  }
  return 0;
}

IoError RefusalOf(const KeeperReply& reply) {
  if (reply.magic != kKeeperMagic || reply.version != kKeeperVersion) return VersionsDiffer();
  IoError error;
  error.code = reply.error;
  if (reply.error != 0) {
    std::memcpy(error.message, reply.message, sizeof(error.message));
    error.message[sizeof(error.message) - 1] = '\0';
  }
  return error;
}

IoError Lost(int result) {
  char detail[96];
  TextBuilder(detail) << ErrnoText(-result) << ", errno " << -result;
  return Fail(ENETDOWN, "no answer from the keeper: ", detail, "try again; `ustcp hosts` shows whether it runs");
}

// A connection that has introduced itself, in member->keeper_fd. When the member has no arena yet, *arena_fd is the
// host's; it is checked against the member's otherwise.
IoError Introduce(Member* member, KeeperRequestKind kind, KeeperReply* reply, int* arena_fd) {
  KeeperRequest request;
  request.kind = kind;
  request.layout_hash = LayoutHash();
  request.process = member->process;
  int result = Exchange(member->keeper_fd, request, member->arena_fd, reply, arena_fd);
  if (result < 0) return Lost(result);
  if (IoError refusal = RefusalOf(*reply)) return refusal;
  if (reply->layout_hash != request.layout_hash) {
    if (*arena_fd >= 0) sys::Close(*arena_fd);
    *arena_fd = -1;
    return VersionsDiffer();
  }
  if (*arena_fd < 0) return Fail(ENETDOWN, "the keeper gave no arena", "", "restart it");
  return {};
}

void Disconnect(Member* member) {
  if (member->keeper_fd >= 0) OwnedFds::Close(member->keeper_fd);
  member->keeper_fd = -1;
}

// Whoever listens there could be told by its name alone, and a name is not proof: the kernel says whose process it is.
// *out: the descriptor, or a negative errno number.
IoError ConnectTo(const char* path, int* out) {
  *out = ConnectKeeper(path);
  if (*out < 0) return {};
  ucred peer{};
  socklen_t size = sizeof(peer);
  long result = sys::Call(SYS_getsockopt, *out, SOL_SOCKET, SO_PEERCRED, sys::Arg(&peer), sys::Arg(&size));
  if (result == 0 && (peer.uid == 0 || static_cast<long>(peer.uid) == sys::Call(SYS_geteuid))) return {};
  sys::Close(*out);
  char detail[kMaxSettingPath + 40];
  TextBuilder(detail) << path << " is process " << peer.pid << " of user " << peer.uid;
  return Fail(EACCES, "the keeper at ", detail, "remove its socket or set USTCP_RUNTIME_DIR");
}

// To the keeper found before, this process's own, or one of root's; *out as above, of the last place looked at.
IoError ConnectAnywhere(const Settings& settings, Member* member, int* out) {
  char paths[3][kMaxSettingPath] = {};
  std::memcpy(paths[0], member->socket_path, sizeof(paths[0]));
  if (member->directory[0] == '\0' || !KeeperPath(member->directory, settings.host.name, ".sock", paths[1]))
    paths[1][0] = '\0';
  // Who has the arena of a host looks for no other.
  if (member->host != nullptr || !RootsPath(settings, paths[2])) paths[2][0] = '\0';
  *out = -ENOENT;
  for (const auto& path : paths) {
    if (path[0] == '\0') continue;
    if (IoError error = ConnectTo(path, out)) return error;
    if (*out >= 0) std::memcpy(member->socket_path, path, sizeof(path));
    if (*out != -ENOENT && *out != -ECONNREFUSED) return {};
  }
  return {};
}

// Of a host whose keepers end again and again, a few starts at once and then ever fewer: all its members together, since
// each of them notices. What stands in the arena may be anything.
constexpr int64_t kSecond = 1'000'000'000;
constexpr uint32_t kFreeStarts = 3;
constexpr uint32_t kMostDoublings = 5;

int64_t PauseAfter(uint32_t starts) {
  if (starts < kFreeStarts) return 0;
  return kSecond << std::min(starts - kFreeStarts, kMostDoublings);
}

bool MayStartKeeper(const Host& host) {
  const int64_t since = NanosOf(MonotonicNow()) - host.keeper_started_ns.load();
  return since < 0 || since >= PauseAfter(host.keeper_starts.load());
}

void CountKeeperStart(Host& host) {
  const int64_t now = NanosOf(MonotonicNow());
  const int64_t since = now - host.keeper_started_ns.exchange(now);
  const bool quick = since >= 0 && since <= kSecond << (kMostDoublings + 1);
  host.keeper_starts.store(quick ? host.keeper_starts.load() + 1 : 1);
}

// Connects, starting a keeper when `start` allows and none is there.
IoError Connect(const Settings& settings, const char* const* environment, Member* member, bool start) {
  // Without a directory of its own it still finds the keeper of the program before it, and starts none.
  if (IoError error = FindDirectory(settings, environment, member); error && member->socket_path[0] == '\0')
    return error;
  start = start && member->directory[0] != '\0';
  char path[kMaxSettingPath];
  if (!KeeperPath(member->directory, settings.host.name, ".sock", path) || member->socket_path[0] != '\0')
    std::memcpy(path, member->socket_path, sizeof(path));
  for (int attempt = 0; attempt < kConnectAttempts; ++attempt) {
    int fd = -1;
    if (IoError error = ConnectAnywhere(settings, member, &fd)) return error;
    if (fd >= 0) {
      fd = OwnedFds::Adopt(fd, OwnedFdKind::kShared);
      if (fd < 0) return Fail(ENETDOWN, "no descriptor left for the keeper's connection", "", "raise RLIMIT_NOFILE");
      member->keeper_fd = fd;
      return {};
    }
    if (fd == -EACCES || fd == -EPERM)
      return Fail(EACCES, "no right to use the keeper's socket ", path,
                  "run as the host's owner or choose another USTCP_HOST");
    if (fd != -ENOENT && fd != -ECONNREFUSED && fd != -EAGAIN) return Lost(fd);
    if (fd != -EAGAIN) {
      if (!start) return Fail(ENETDOWN, "no keeper runs at ", path, "start a program on the host or check USTCP_HOST");
      if (member->host != nullptr && !MayStartKeeper(*member->host))
        return Fail(ENETDOWN, "the host's keepers end again and again", "", "end its programs and start them anew");
      bool ended = false;
      IoError error = StartKeeper(settings, environment, member->directory, member->arena_fd, /*stays=*/false, &ended);
      // What one says that refuses, or that could not be started by this process, says nothing of the host.
      if (member->host != nullptr && (!error || ended)) CountKeeperStart(*member->host);
      if (!error && error.message[0] != '\0') ReportLine("ustcp: %s", error.message);
      if (!error) continue;
      if (error.code != EEXIST) return error;
    }
    sys::NanoSleep(kConnectPauseNs);
  }
  return Fail(ENETDOWN, "the keeper does not come up at ", path, "see its log (USTCP_KEEPER_LOG)");
}

// The settings that a member may not see differently from its host.
IoError CompareWithHost(const Settings& settings, const Host& host) {
  if (settings.Given(SettingId::kInterface) && std::strcmp(settings.host.interface, host.config.interface) != 0)
    return Fail(EINVAL, "the host runs on another interface: ", host.config.interface,
                "correct USTCP_INTERFACE or use another USTCP_HOST");
  if (!settings.Given(SettingId::kAddresses)) return {};
  for (int i = 0; i < settings.host.address_count; ++i) {
    bool there = false;
    for (int j = 0; j < host.config.address_count; ++j)
      there |= host.config.addresses[j].address == settings.host.addresses[i].address;
    if (there) continue;
    char text[64];
    FormatAddress(settings.host.addresses[i].address, text);
    return Fail(EINVAL, "the host runs without the address ", text, "correct USTCP_ADDR or use another USTCP_HOST");
  }
  return {};
}

IoError MapMember(Member* member, int arena_fd, bool writable) {
  ArenaFile file;
  IoError error = InspectArenaFile(arena_fd, &file);
  const uint64_t bytes = file.bytes;
  if (!error && bytes < MinimumArenaBytes()) error = VersionsDiffer();
  if (!error) error = MapArena(arena_fd, bytes, writable);
  if (error) {
    sys::Close(arena_fd);
    return error;
  }
  auto* host = reinterpret_cast<Host*>(kArenaBase);
  if (host->magic != kArenaMagic || host->layout_hash != LayoutHash()) {
    UnmapArena(bytes);
    sys::Close(arena_fd);
    return VersionsDiffer();
  }
  arena_fd = OwnedFds::Adopt(arena_fd, OwnedFdKind::kShared);
  if (arena_fd < 0) {
    UnmapArena(bytes);
    return Fail(ENETDOWN, "no descriptor left for the arena", "", "raise RLIMIT_NOFILE");
  }
  member->host = host;
  member->arena_fd = arena_fd;
  member->arena_bytes = bytes;
  member->arena = file.identity;
  return {};
}

void Unmap(Member* member) {
  if (member->host != nullptr) UnmapArena(member->arena_bytes);
  if (member->arena_fd >= 0) OwnedFds::Close(member->arena_fd);
  member->host = nullptr;
  member->arena_fd = -1;
}

// A connection that the keeper accepted this process on; the arena that it gave is in *arena_fd.
IoError Join(const Settings& settings, const char* const* environment, Member* member, bool start, int* arena_fd) {
  for (int attempt = 0;; ++attempt) {
    Disconnect(member);
    if (IoError error = Connect(settings, environment, member, start)) return error;
    KeeperReply reply;
    IoError error = Introduce(member, KeeperRequestKind::kAttach, &reply, arena_fd);
    if (!error) return {};
    bool lost = !KeeperAlive(*member);
    Disconnect(member);
    // One that was about to end when we came: the next one serves us.
    if (!lost || attempt == 2) return error;
  }
}

// Keeps the connection when it stands, makes one otherwise.
IoError Reconnect(const Settings& settings, const char* const* environment, Member* member, bool start = true) {
  if (member->keeper_fd >= 0 && KeeperAlive(*member)) return {};
  int arena_fd = -1;
  if (IoError error = Join(settings, environment, member, start, &arena_fd)) return error;
  ArenaFile file;
  IoError error = InspectArenaFile(arena_fd, &file);
  if (!error && file.identity != member->arena)
    error = Fail(ENETDOWN, "the host was started anew without this program", "", "restart the program");
  if (!error && member->arena_fd < 0)
    member->arena_fd = OwnedFds::Adopt(arena_fd, OwnedFdKind::kShared);  // RestoreArena's wish
  else
    sys::Close(arena_fd);
  if (error) {
    Disconnect(member);
    return error;
  }
  // A keeper that adopted the arena has no queues of it; one that knows them already loses nothing.
  for (const Member::Queue& queue : member->queues) {
    if (queue.fd < 0) continue;
    KeeperRequest request;
    request.kind = KeeperRequestKind::kOfferQueue;
    request.shard = queue.shard;
    request.process = member->process;
    request.number = static_cast<int32_t>(queue.share);
    if (queue.share == QueueShare::kBorrowed) continue;
    KeeperReply reply;
    int unused = -1;
    if (Exchange(member->keeper_fd, request, queue.fd, &reply, &unused) < 0) break;
  }
  NudgeKeeper(*member->host);
  return {};
}

// A request over a connection that may have to be made again first.
IoError Ask(const Settings& settings, const char* const* environment, Member* member, const KeeperRequest& request,
            int send_fd, KeeperReply* reply, int* received_fd) {
  for (int attempt = 0;; ++attempt) {
    if (IoError error = Reconnect(settings, environment, member)) return error;
    int result = Exchange(member->keeper_fd, request, send_fd, reply, received_fd);
    if (result == 0) return RefusalOf(*reply);
    Disconnect(member);
    if (attempt == 1) return Lost(result);
  }
}

IoError AskQueue(const Settings& settings, const char* const* environment, Member* member, KeeperRequestKind kind,
                 uint16_t shard, TapQueue* out, QueueShare* share) {
  KeeperRequest request;
  request.kind = kind;
  request.shard = shard;
  request.process = member->process;
  KeeperReply reply;
  int fd = -1;
  if (IoError error = Ask(settings, environment, member, request, -1, &reply, &fd)) return error;
  if (fd >= 0) {
    fd = OwnedFds::Adopt(fd, OwnedFdKind::kShared);
    if (fd < 0) return Fail(ENETDOWN, "no descriptor left for a TAP queue", "", "raise RLIMIT_NOFILE");
    Member::Queue* free_entry = nullptr;
    for (Member::Queue& queue : member->queues) {
      if (queue.fd >= 0 && queue.shard == shard) {
        free_entry = &queue;  // the old number is the caller's to close, or gone already
        break;
      }
      if (queue.fd < 0 && free_entry == nullptr) free_entry = &queue;
    }
    if (free_entry != nullptr) *free_entry = {shard, fd, reply.share};
  }
  *out = QueueFromDescription(reply.queue, fd);
  *share = reply.share;
  member->host->shards[shard].has_queue.store(fd >= 0);
  // The first one reads. Whether it still can is the keeper's to see.
  uint32_t nobody = 0;
  if (reply.share == QueueShare::kOnly) member->host->queue_reader.compare_exchange_strong(nobody, shard + 1u);
  return {};
}

}  // namespace

IoError Attach(const Settings& settings, const char* const* environment, Member* member) noexcept {
  if (member->host != nullptr) return {};
  int arena_fd = -1;
  if (IoError error = Join(settings, environment, member, true, &arena_fd)) return error;
  if (IoError error = MapMember(member, arena_fd, true)) {
    Disconnect(member);
    return error;
  }
  IoError error = CompareWithHost(settings, *member->host);
  if (!error) {
    auto pid = static_cast<int32_t>(sys::Call(SYS_getpid));
    member->process = TakeProcessSlot(*member->host, pid, ProcessStartTime(pid),
                                      static_cast<uint32_t>(sys::Call(SYS_geteuid)), &member->resumed);
    if (member->process == kNoProcess)
      error = Fail(ENETDOWN, "the host has no room for another process", "",
                   "at most 1024 may join; use another USTCP_HOST");
  }
  if (error) {
    Disconnect(member);
    Unmap(member);
    return error;
  }
  NudgeKeeper(*member->host);
  return {};
}

IoError RequestQueue(const Settings& settings, const char* const* environment, Member* member, uint16_t shard,
                     TapQueue* out, QueueShare* share) noexcept {
  return AskQueue(settings, environment, member, KeeperRequestKind::kQueue, shard, out, share);
}

IoError ReopenQueue(const Settings& settings, const char* const* environment, Member* member, uint16_t shard,
                    TapQueue* out, QueueShare* share) noexcept {
  return AskQueue(settings, environment, member, KeeperRequestKind::kReopenQueue, shard, out, share);
}

void MoveQueue(Member* member, int from, int to) noexcept {
  for (Member::Queue& queue : member->queues)
    if (queue.fd == from) queue.fd = to;
}

IoError RegisterWakeDescriptor(const Settings& settings, const char* const* environment, Member* member,
                               int fd) noexcept {
  KeeperRequest request;
  request.kind = KeeperRequestKind::kWakeDescriptor;
  request.process = member->process;
  request.number = fd;
  KeeperReply reply;
  int unused = -1;
  return Ask(settings, environment, member, request, fd, &reply, &unused);
}

IoError AttachForked(const Settings&, const char* const*, Member* member, uint16_t process) noexcept {
  Disconnect(member);
  member->queues = {};  // the parent's, whose shard they are
  member->process = process;
  member->resumed = false;
  ProcessSlot& slot = member->host->processes[process];
  slot.pid = static_cast<int32_t>(sys::Call(SYS_getpid));
  slot.start_time = ProcessStartTime(slot.pid);
  slot.uid = static_cast<uint32_t>(sys::Call(SYS_geteuid));
  slot.state.store(ProcessSlot::kLive);
  NudgeKeeper(*member->host);
  return {};
}

bool KeeperAlive(const Member& member) noexcept {
  if (member.keeper_fd < 0) {
    // Never connected (a child of fork): the driver's own word for it.
    int32_t pid = member.host != nullptr ? member.host->keeper_pid.load() : 0;
    return pid != 0 && sys::Call(SYS_kill, pid, 0) != -ESRCH;
  }
  std::byte unused;
  long n = sys::Call(SYS_recvfrom, member.keeper_fd, sys::Arg(&unused), 1, MSG_PEEK | MSG_DONTWAIT);
  return n > 0 || n == -EAGAIN || n == -EINTR;
}

IoError RestoreArena(const Settings& settings, const char* const* environment, Member* member) noexcept {
  ArenaFile file;
  if (!InspectArenaFile(member->arena_fd, &file) && file.identity == member->arena) return {};
  // Whoever closed it closed the others too, most likely: the connection is made anew. The numbers may be somebody
  // else's by now.
  OwnedFds::Forget(member->arena_fd);
  member->arena_fd = -1;
  OwnedFds::Forget(member->keeper_fd);
  member->keeper_fd = -1;
  if (IoError error = Reconnect(settings, environment, member)) return error;
  return member->arena_fd >= 0 ? IoError{}
                               : Fail(ENETDOWN, "no descriptor left for the arena", "", "raise RLIMIT_NOFILE");
}

IoError EnsureKeeper(const Settings& settings, const char* const* environment, Member* member, bool start) noexcept {
  return Reconnect(settings, environment, member, start);
}

void AnnounceExec(const Settings& settings, const char* const* environment, Member* member) noexcept {
  if (member->host == nullptr || Reconnect(settings, environment, member, false)) return;
  KeeperRequest request;
  request.kind = KeeperRequestKind::kExec;
  request.process = member->process;
  KeeperReply reply;
  int unused = -1;
  if (Exchange(member->keeper_fd, request, -1, &reply, &unused) < 0) Disconnect(member);
}

IoError Observe(const Settings& settings, const char* const* environment, Member* member, bool writable) noexcept {
  if (IoError error = Connect(settings, environment, member, false)) return error;
  member->process = kNoProcess;
  KeeperReply reply;
  int arena_fd = -1;
  IoError error =
      Introduce(member, writable ? KeeperRequestKind::kAdjust : KeeperRequestKind::kObserve, &reply, &arena_fd);
  if (!error) error = MapMember(member, arena_fd, writable);
  if (error) Disconnect(member);
  return error;
}

void EndObserve(Member* member) noexcept {
  Disconnect(member);
  Unmap(member);
}

}  // namespace ustcp
