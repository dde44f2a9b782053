#include "preload/runtime/process.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "io/base/clock.h"
#include "io/base/owned_fds.h"
#include "io/base/parse.h"
#include "io/base/report.h"
#include "io/base/sys.h"
#include "preload/descriptors/fd_table.h"
#include "preload/libc/signals.h"
#include "preload/runtime/capture_hook.h"
#include "stack/create.h"
#include "stack/sync/futex.h"

extern char** environ;

namespace ustcp::runtime {
namespace {

constexpr Duration kKeeperRetry = 500ms;  // without a keeper: looks for one this often ...
constexpr Duration kKeeperStarts = 5s;    // ... and, without the right to, tries to start one this often

struct ProcessState {
  pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;  // attach, queue, leaders
  Settings settings;
  Member member;
  std::atomic<Host*> host{nullptr};
  std::atomic<Shard*> home{nullptr};
  TapQueue queue;
  QueueShare queue_share = QueueShare::kOwn;
  std::atomic<uint32_t> queue_generation{0};
  std::atomic<bool> queue_asked{false};  // and given
  Instant ask_queue_at = Instant{};      // not before, after a refusal
  Instant queue_refused = Instant{};     // the first time in a row
  bool queue_reported = false;
  std::atomic<int64_t> keeper_retry{INT64_MAX};
  Instant keeper_start = Instant{};  // not to try before
  int attach_error = 0;
  Instant attach_failed = Instant{};
  // Threads that sleep without leading, oldest first.
  static constexpr int kMaxFollowers = 256;
  Waiter* followers[kMaxFollowers] = {};
  int follower_count = 0;
};

ProcessState g_process;

// Handlers of the holder wait: one that calls _exit(), or any of our calls, would ask for the lock again.
class ProcessLock {
 public:
  ProcessLock() { pthread_mutex_lock(&g_process.lock); }
  ~ProcessLock() { pthread_mutex_unlock(&g_process.lock); }

 private:
  signals::Section handlers_wait_;  // from before the lock is taken until after it is dropped
};

IoError TryAttach() {
  if (IoError e = LoadSettings(environ, &g_process.settings)) return e;
  // Who insists on a ring is told at the first socket, not by a wait that fails later.
  if (static_cast<EngineKind>(g_process.settings.host.engine) == EngineKind::kUring)
    if (IoError e = Engine::CheckRing()) return e;
  return Attach(g_process.settings, environ, &g_process.member);
}

}  // namespace

Instant Now() noexcept { return MonotonicNow(); }

Host* AttachedHost() noexcept { return g_process.host.load(std::memory_order_acquire); }

const Member* AttachedMember() noexcept { return &g_process.member; }

void UseKeeperAt(const char* socket_path) noexcept {
  ProcessLock guard;
  TextBuilder text(g_process.member.socket_path);
  text << socket_path;
  if (text.cut()) g_process.member.socket_path[0] = '\0';
}

void BeforeExec() noexcept {
  if (AttachedHost() == nullptr || !fd_table::AnyOutlivesExec()) return;
  ProcessLock guard;
  AnnounceExec(g_process.settings, environ, &g_process.member);
}

const Settings& CurrentSettings() noexcept { return g_process.settings; }

ProcessSlot* OwnProcess() noexcept {
  Host* host = AttachedHost();
  return host != nullptr ? &host->processes[g_process.member.process] : nullptr;
}

Host* AttachOrFail(int* error, bool quiet) noexcept {
  if (Host* host = AttachedHost()) return host;
  ProcessLock guard;
  if (Host* host = AttachedHost()) return host;
  // A program that tries again and again gets the errno each time, the line once, and no storm of start attempts.
  if (g_process.attach_error != 0 && Now() - g_process.attach_failed < 1s) {
    *error = g_process.attach_error;
    return nullptr;
  }
  if (IoError e = TryAttach()) {
    *error = e.code;
    if (quiet) return nullptr;
    if (g_process.attach_error == 0) ReportLine("ustcp: %s", e.message);
    g_process.attach_error = e.code;
    g_process.attach_failed = Now();
    return nullptr;
  }
  g_process.attach_error = 0;
  g_process.host.store(g_process.member.host, std::memory_order_release);
  return g_process.member.host;
}

Shard& HomeShard() noexcept {
  if (Shard* shard = g_process.home.load(std::memory_order_acquire)) return *shard;
  ProcessLock guard;
  if (Shard* shard = g_process.home.load(std::memory_order_acquire)) return *shard;
  Host& host = *AttachedHost();
  SimpleLock host_guard(host.host_lock);
  ProcessSlot& slot = *OwnProcess();
  Shard* shard = slot.shard < kMaxShards ? &host.shards[slot.shard] : TakeShard(host, g_process.member.process, Now());
  // All shards are taken: share one. Slower, and right.
  if (shard == nullptr) shard = &host.shards[g_process.member.process % kMaxShards];
  slot.shard = shard->index;
  g_process.home.store(shard, std::memory_order_release);
  return *shard;
}

namespace {

// A keeper that has just adopted the host gets its queues back from the members one after the other: who asks before that
// is refused, and asks again. What does not pass is told once.
constexpr Duration kQueuePatience = 500ms;

void AskForQueue() {
  uint16_t shard = HomeShard().index;
  ProcessLock guard;
  if (g_process.queue_asked.load(std::memory_order_acquire)) return;
  const Instant now = Now();
  if (now < g_process.ask_queue_at) return;
  IoError e =
      RequestQueue(g_process.settings, environ, &g_process.member, shard, &g_process.queue, &g_process.queue_share);
  if (e) {
    g_process.queue.fd = -1;
    g_process.ask_queue_at = now + kQueueRetry;
    if (g_process.queue_refused == Instant{}) g_process.queue_refused = now;
    if (now - g_process.queue_refused < kQueuePatience || g_process.queue_reported) return;
    g_process.queue_reported = true;
    ReportLine("ustcp: %s", e.message);
    return;
  }
  g_process.queue_refused = Instant{};
  StartCapture(g_process.settings.capture_path);
  g_process.queue_asked.store(true, std::memory_order_release);
}

}  // namespace

bool QueueMissing() noexcept { return !g_process.queue_asked.load(std::memory_order_acquire); }

QueueRef HomeQueue() noexcept {
  if (QueueMissing()) {
    AskForQueue();
    if (QueueMissing()) return {};
  }
  return g_process.queue.ref(g_process.queue_generation.load(std::memory_order_relaxed));
}

QueueRef ReadQueue() noexcept {
  QueueRef queue = HomeQueue();
  if (!MayReadQueue(*AttachedHost(), HomeShard().index, g_process.queue_share)) queue.fd = -1;
  return queue;
}

QueueRef KnownQueue() noexcept {
  return g_process.queue_asked.load(std::memory_order_acquire) ? HomeQueue() : QueueRef{};
}

void ReopenHomeQueue() noexcept {
  ProcessLock guard;
  TapQueue fresh;
  if (ReopenQueue(g_process.settings, environ, &g_process.member, g_process.home.load()->index, &fresh,
                  &g_process.queue_share))
    return;
  // In the old one's place: left open, it would go on taking its share of the interface's frames, if it lives.
  int old = g_process.queue.fd;
  if (old >= 0 && old != fresh.fd && sys::Call(SYS_dup3, fresh.fd, old, O_CLOEXEC) == old) {
    MoveQueue(&g_process.member, fresh.fd, old);
    OwnedFds::Close(fresh.fd);
    fresh.fd = old;
  }
  g_process.queue = fresh;
  g_process.queue_generation.fetch_add(1);
}

void CheckKeeper() noexcept {
  ProcessLock guard;
  Instant now = Now();
  if (g_process.member.keeper_fd >= 0 ? KeeperAlive(g_process.member) : KeeperRetry() == kNever) return;
  // Who has no right to start one waits for somebody who does.
  bool start = now >= g_process.keeper_start;
  IoError failed = EnsureKeeper(g_process.settings, environ, &g_process.member, start);
  if (start) g_process.keeper_start = failed.code == EACCES ? now + kKeeperStarts : now;
  g_process.keeper_retry.store(failed ? NanosOf(Now() + kKeeperRetry) : INT64_MAX, std::memory_order_relaxed);
}

bool RestoreArenaDescriptor() noexcept {
  ProcessLock guard;
  return !RestoreArena(g_process.settings, environ, &g_process.member);
}

Instant KeeperRetry() noexcept { return InstantFromNanos(g_process.keeper_retry.load(std::memory_order_relaxed)); }

int KeeperDescriptor() noexcept { return g_process.member.keeper_fd; }

bool Leads(const ThreadState& t) noexcept {
  return t.waiter != nullptr && HomeShard().leader_waiter.load(std::memory_order_relaxed) == t.waiter;
}

bool TakeLead(ThreadState& t) noexcept {
  Shard& home = HomeShard();
  Waiter* nobody = nullptr;
  if (home.leader_waiter.compare_exchange_strong(nobody, t.waiter)) {
    home.leader.store(static_cast<uint32_t>(t.waiter->thread_id));
    return true;
  }
  return nobody == t.waiter;
}

void LeaveLead(ThreadState& t) noexcept {
  Shard& home = HomeShard();
  if (!Leads(t)) return;
  home.leader.store(0);
  home.leader_waiter.store(nullptr);
  Waiter* next = nullptr;
  if (g_process.follower_count > 0) {
    ProcessLock guard;
    if (g_process.follower_count > 0) next = g_process.followers[0];
  }
  if (next != nullptr) {
    if (next->Signal()) FutexWake(next->word);
  } else {
    NudgeKeeper(*AttachedHost());
  }
}

void JoinFollowers(ThreadState& t) noexcept {
  ProcessLock guard;
  if (g_process.follower_count < ProcessState::kMaxFollowers)
    g_process.followers[g_process.follower_count++] = t.waiter;
}

void LeaveFollowers(ThreadState& t) noexcept {
  ProcessLock guard;
  for (int i = 0; i < g_process.follower_count; ++i) {
    if (g_process.followers[i] != t.waiter) continue;
    for (int j = i + 1; j < g_process.follower_count; ++j) g_process.followers[j - 1] = g_process.followers[j];
    --g_process.follower_count;
    return;
  }
}

void AnnounceWakeDescriptor(int fd) noexcept {
  ProcessLock guard;
  IoError e = RegisterWakeDescriptor(g_process.settings, environ, &g_process.member, fd);
  if (e) ReportLine("ustcp: %s", e.message);
}

void WakeByDescriptor(Waiter& w) noexcept {
  if (w.process == g_process.member.process) {
    uint64_t one = 1;
    sys::Write(w.wake_descriptor, &one, sizeof one);
    return;
  }
  NudgeKeeper(*AttachedHost());
}

bool IsOwnDescriptor(int fd) noexcept { return OwnedFds::Contains(fd); }

bool RelocateDescriptor(int fd) noexcept {
  if (!OwnedFds::Contains(fd)) return false;
  ProcessLock guard;
  int moved = OwnedFds::Relocate(fd);
  if (moved < 0) return false;
  if (g_process.member.arena_fd == fd) g_process.member.arena_fd = moved;
  if (g_process.member.keeper_fd == fd) g_process.member.keeper_fd = moved;
  MoveQueue(&g_process.member, fd, moved);
  if (g_process.queue.fd == fd) {
    g_process.queue.fd = moved;
    g_process.queue_generation.fetch_add(1);
  }
  return true;
}

void BeforeFork() noexcept {
  // The parent of a server's processes may never wait for a socket, and be the only one with the right to start a keeper.
  CheckKeeper();
  pthread_mutex_lock(&g_process.lock);
}

void AfterForkParent() noexcept { pthread_mutex_unlock(&g_process.lock); }

void AfterForkChild(int process) noexcept {
  pthread_mutex_init(&g_process.lock, nullptr);
  Engine::AbandonInChild();
  ForgetThread();
  ForgetCapture();
  g_process.follower_count = 0;
  g_process.keeper_retry.store(INT64_MAX);
  g_process.home.store(nullptr);
  g_process.queue_asked.store(false);
  g_process.ask_queue_at = g_process.queue_refused = Instant{};
  if (g_process.queue.fd >= 0) OwnedFds::Close(g_process.queue.fd);
  g_process.queue.fd = -1;
  g_process.queue_generation.fetch_add(1);
  if (process < 0 || AttachedHost() == nullptr) return;
  IoError e = AttachForked(g_process.settings, environ, &g_process.member, static_cast<uint16_t>(process));
  if (e) ReportLine("ustcp: %s", e.message);
}

}  // namespace ustcp::runtime
