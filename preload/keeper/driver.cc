#include "preload/keeper/driver.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>

#include "io/base/clock.h"
#include "io/base/parse.h"
#include "io/engine/drive_stats.h"
#include "io/member/arena_map.h"
#include "io/member/keeper_channel.h"
#include "io/member/member.h"
#include "preload/keeper/checked.h"
#include "preload/keeper/confine.h"
#include "preload/keeper/log.h"
#include "preload/keeper/setup.h"
#include "stack/create.h"
#include "stack/net/neighbor.h"
#include "stack/stack.h"
#include "stack/sync/futex.h"

namespace ustcp::keeper {

namespace {

constexpr auto kStayAwake = 50ms;  // after nudges in quick succession:
constexpr auto kQuickSuccession = 20ms;
constexpr auto kForkPatience = 5s;      // between a fork's preparation and the child's first instruction
constexpr uint32_t kLeastTickUs = 200;  // the setting's bounds
constexpr uint32_t kMostTickUs = 100'000;
constexpr int kNudge = -1;  // epoll data that is no process slot
constexpr int kBroker = -2;

int OpenPidfd(pid_t pid) { return static_cast<int>(syscall(SYS_pidfd_open, pid, 0)); }

}  // namespace

Driver::Driver(Host& host, int socket, bool adopted)
    : host_(host),
      socket_(socket),
      adopted_(adopted),
      started_(MonotonicNow()),
      awake_until_(started_ + kStayAwake),
      announced_(adopted) {
  pidfds_.fill(-1);
}

Driver::~Driver() {
  if (engine_ != nullptr) Engine::Destroy(engine_);
  for (int fd : pidfds_)
    if (fd >= 0) close(fd);
}

bool Driver::Open() {
  epoll_fd_ = epoll_create1(EPOLL_CLOEXEC);
  nudge_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  EngineOptions options;
  options.kind = EngineKind::kPlain;
  options.owner_tag = kNoProcess;
  options.quiet = true;
  engine_ = Engine::Create(options);
  batch_ = std::make_unique<TxBatch>();
  if (epoll_fd_ < 0 || nudge_fd_ < 0 || engine_ == nullptr) return false;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = static_cast<uint64_t>(kNudge);
  if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, nudge_fd_, &event) != 0) return false;
  event.data.u64 = static_cast<uint64_t>(kBroker);
  if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, socket_, &event) != 0) return false;
  // A futex and descriptors cannot be waited for together everywhere: this thread turns the one into the other. It runs
  // only when somebody wakes the word, which members do only while host.keeper_asleep says so.
  std::thread([this] {
    uint32_t seen = host_.keeper_word.load();
    for (;;) {
      FutexWait(host_.keeper_word, seen, NanosOf(kNever));
      uint32_t word = host_.keeper_word.load();
      if (word == seen) continue;
      seen = word;
      uint64_t one = 1;
      [[maybe_unused]] ssize_t n = write(nudge_fd_, &one, sizeof(one));
    }
  }).detach();
  return true;
}

void Driver::Tell(InternalKind kind, uint16_t shard) {
  InternalMessage message;
  message.kind = kind;
  message.shard = shard;
  message.number = shards_[shard].told;
  if (SendMessage(socket_, &message, sizeof(message), -1) < 0) broker_gone_ = true;
}

void Driver::HearQueue(const InternalMessage& message, int fd) {
  ShardWatch& watch = shards_[message.shard];
  QueueRef& queue = message.only ? only_queue_ : watch.queue;
  if (queue.fd >= 0) close(queue.fd);
  queue = QueueFromDescription(message.queue, fd).ref(queue.generation + 1);
  watch.told = message.number;
  watch.letting_go = false;
  host_.shards[message.shard].has_queue.store(true);
  if (message.announce || !announced_) announce_ = message.shard;
  announced_ = true;
}

void Driver::Hear(const InternalMessage& message, int fd) {
  switch (message.kind) {
    case InternalKind::kQueue:
      if (message.shard >= kMaxShards || fd < 0) break;
      if (LaidOut(host_.shards[message.shard])) return HearQueue(message, fd);
      // A shard that never was: nobody reads its queue.
      Log("a queue for shard %d, which is none", message.shard);
      shards_[message.shard].told = message.number;
      Tell(InternalKind::kQueueFreed, message.shard);
      break;
    case InternalKind::kQueueClosed: {
      if (message.shard >= kMaxShards || !LaidOut(host_.shards[message.shard])) break;
      ShardWatch& watch = shards_[message.shard];
      if (watch.letting_go && watch.told == message.number) CloseQueue(host_.shards[message.shard]);
      break;
    }
    case InternalKind::kWakeDescriptor:
      if (fd < 0 || message.process >= kMaxProcesses ||
          host_.processes[message.process].state.load() == ProcessSlot::kFree)
        break;
      wakes_.Add(message.process, message.number, fd);
      return;
    case InternalKind::kLook: look_ = true; break;
    case InternalKind::kEnd: told_to_end_ = true; break;
    default: break;
  }
  if (fd >= 0) close(fd);
}

void Driver::HearBroker() {
  for (;;) {
    InternalMessage message;
    int fd = -1;
    ssize_t n = ReceiveMessage(socket_, &message, sizeof(message), &fd, -1);
    if (n == -EAGAIN) return;
    if (n <= 0) {
      if (!broker_gone_) epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, socket_, nullptr);
      broker_gone_ = true;
      return;
    }
    Hear(message, fd);
  }
}

// Has the process of a live slot a descriptor of ours that tells its end?
void Driver::WatchProcess(uint16_t slot) {
  ProcessSlot& process = host_.processes[slot];
  int fd = OpenPidfd(process.pid);
  if (fd < 0 && (errno == ESRCH || errno == EINVAL)) return Bury(slot);
  if (fd < 0) {
    Log("process %d cannot be watched: errno %d", process.pid, errno);
    return;
  }
  // The number may have passed to another process before we came; with a hidden /proc we cannot tell.
  uint64_t start = ProcessStartTime(process.pid);
  if (start != 0 && process.start_time != 0 && start != process.start_time) {
    close(fd);
    return Bury(slot);
  }
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = slot;
  if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) != 0) {
    close(fd);
    return;
  }
  pidfds_[slot] = fd;
}

void Driver::Bury(uint16_t slot) {
  if (pidfds_[slot] >= 0) close(pidfds_[slot]);
  pidfds_[slot] = -1;
  host_.processes[slot].state.store(ProcessSlot::kDead);
  for (const Burial& burial : burials_)
    if (burial.slot() == slot) return;
  burials_.emplace_back(slot);
}

void Driver::LookAtProcesses() {
  look_ = false;
  Instant now = MonotonicNow();
  for (uint16_t i = 0; i < kMaxProcesses && !NeverUsed(host_.processes[i]); ++i) {
    ProcessSlot& process = host_.processes[i];
    switch (process.state.load()) {
      case ProcessSlot::kLive:
        if (pidfds_[i] < 0) WatchProcess(i);
        break;
      case ProcessSlot::kForking:
        // A parent that died while it forked leaves a slot that no child ever takes over.
        if (process.creator_pid != 0 && now - started_ > kForkPatience && ProcessStartTime(process.creator_pid) == 0 &&
            process.state.load() == ProcessSlot::kForking) {
          Bury(i);
        } else {
          look_ = true;
        }
        break;
      case ProcessSlot::kDead: Bury(i); break;
      default: break;
    }
  }
}

void Driver::FinishBurials() {
  Instant now = MonotonicNow();
  for (size_t i = 0; i < burials_.size();) {
    if (!burials_[i].Advance(host_, wakes_, now)) {
      ++i;
      continue;
    }
    Log("process slot %d cleaned up", burials_[i].slot());
    burials_.erase(burials_.begin() + static_cast<ptrdiff_t>(i));
  }
}

void Driver::Send(Context& ctx, QueueRef queue) {
  if (!HasOutput(ctx.shard)) return;
  bool more = true;
  while (more) {
    more = PollTransmit(ctx, *batch_);
    if (batch_->count != 0 && queue.fd >= 0) engine_->Transmit(queue, *batch_);
    ReleaseTransmitted(ctx, *batch_);
  }
}

// Shards that our turn gave something to send. One that is held at the moment is flushed by its holder.
void Driver::FlushTouched(Context& ctx) {
  for (size_t word = 0; word < ctx.touched.size(); ++word)
    while (ctx.touched[word] != 0) {
      int bit = std::countr_zero(ctx.touched[word]);
      ctx.touched[word] &= ctx.touched[word] - 1;
      Shard& shard = host_.shards[word * 64 + static_cast<size_t>(bit)];
      if (&shard == &ctx.shard) continue;
      TryShardLock lock(host_, shard, ctx.now);
      if (!lock) continue;
      Send(lock.ctx, QueueOf(shard));
      lock.Unlock();
      lock.ctx.wakes.Flush([this](Waiter& waiter) { wakes_.Wake(waiter); });
    }
}

bool Driver::Drive(Shard& shard) {
  TryShardLock lock(host_, shard, MonotonicNow());
  if (!lock) return false;
  Context& ctx = lock.ctx;
  QueueRef own = ReadQueueOf(shard);
  QueueRef out = QueueOf(shard);
  DrainMailbox(ctx);
  if (own.fd >= 0) {
    auto sink = [&ctx](RxFrame& frame) { OnFrame(ctx, frame); };
    ReceiveResult received = engine_->Receive(own, shard.bufs, sink, kFramesPerTurn);
    if (received.error != 0) {
      Log("queue of shard %d is gone: errno %d", shard.index, received.error);
      engine_->ReleaseQueue(own, shard.bufs);
      close(own.fd);
      (only_queue_.fd >= 0 ? only_queue_ : shards_[shard.index].queue) = QueueRef{-1, true, own.generation};
    }
  }
  if (NextDeadline(ctx) <= ctx.now) OnDeadline(ctx);
  Send(ctx, out);
  shard.last_turn_ns.store(NanosOf(ctx.now), std::memory_order_relaxed);
  shards_[shard.index].turns = shard.turns.fetch_add(1, std::memory_order_relaxed) + 1;
  AddEngineStats(shard, engine_->stats(), &counted_);
  ++shard.drive_stats.keeper_turns;
  lock.Unlock();
  ctx.wakes.Flush([this](Waiter& waiter) { wakes_.Wake(waiter); });
  FlushTouched(ctx);
  return true;
}

void Driver::Announce() {
  Shard& shard = host_.shards[announce_];
  TryShardLock lock(host_, shard, MonotonicNow());
  if (!lock) return;
  AnnounceAddresses(lock.ctx);
  Send(lock.ctx, QueueOf(shard));
  announce_ = -1;
}

// Settings have been scribbled over before: a keeper that never sleeps helps nobody.
Duration Driver::Tick() const {
  return Duration{int64_t{std::clamp<uint32_t>(host_.config.tick_us, kLeastTickUs, kMostTickUs)} * 1000};
}

bool Driver::Replaced() const { return host_.keeper_pid.load() != static_cast<int32_t>(getpid()); }

void Driver::ReportIdle() {
  bool idle = burials_.empty();
  for (int i = 0; i < kMaxProcesses && !NeverUsed(host_.processes[i]); ++i)
    idle &= host_.processes[i].state.load() == ProcessSlot::kFree;
  for (int i = 0; i < kMaxShards && host_.shards[i].random_state != 0; ++i)
    idle &= host_.shards[i].state.load() == Shard::kFree;
  if (idle == reported_idle_) return;
  reported_idle_ = idle;
  Tell(idle ? InternalKind::kIdle : InternalKind::kBusy, 0);
}

void Driver::Sleep(const Plan& plan) {
  Instant now = MonotonicNow();
  Instant until = plan.next;
  if (!burials_.empty()) until = std::min(until, now + kBusyRetry);
  if (look_) until = std::min(until, now + kStuckLook);
  bool ticking = plan.ticking || now < awake_until_;
  if (ticking) until = std::min(until, now + Tick());
  if (broker_gone_ || (adopted_ && now - started_ < kForkPatience)) until = std::min<Instant>(until, now + kStuckLook);

  std::vector<pollfd> polls = plan.queues;
  polls.push_back({epoll_fd_, POLLIN, 0});
  if (!ticking) {
    host_.keeper_asleep.store(1);
    // Who changed the word before it saw this must not be missed.
    if (host_.keeper_word.load() != seen_word_) until = now;
  }
  timespec left{};
  if (until != kNever) left = TimeLeft(until, now);
  int n = ppoll(polls.data(), polls.size(), until == kNever ? nullptr : &left, nullptr);
  host_.keeper_asleep.store(0);
  if (n <= 0 || polls.back().revents == 0) return;

  epoll_event events[64];
  int count = epoll_wait(epoll_fd_, events, 64, 0);
  for (int i = 0; i < count; ++i) {
    auto who = static_cast<int64_t>(events[i].data.u64);
    if (who == kBroker) {
      HearBroker();
    } else if (who == kNudge) {
      uint64_t times;
      [[maybe_unused]] ssize_t r = read(nudge_fd_, &times, sizeof(times));
    } else {
      Bury(static_cast<uint16_t>(who));
    }
  }
}

void Driver::Run() {
  HearBroker();
  for (;;) {
    uint32_t word = host_.keeper_word.load();
    Instant now = MonotonicNow();
    if (word != seen_word_) {
      seen_word_ = word;
      look_ = true;
      if (now - last_nudge_ < kQuickSuccession) awake_until_ = now + kStayAwake;
      last_nudge_ = now;
      wakes_.WakeSignalled(host_);
    }
    if (look_) LookAtProcesses();
    FinishBurials();
    PassReadingOn();
    if (announce_ >= 0) Announce();
    Plan plan;
    for (uint16_t i = 0; i < kMaxShards && LaidOut(host_.shards[i]); ++i) {
      host_.shards[i].index = i;  // what is looked up by it is ours
      if (host_.shards[i].state.load() != Shard::kFree)
        LookAtShard(host_.shards[i], now, &plan);
      else
        LetGoOfQueue(host_.shards[i]);  // asked for while it was orphaned, and come too late
    }
    ReportIdle();
    if (Replaced()) {
      Log("another keeper has the arena");
      return;
    }
    // Without a broker nobody can join any more; those who are here find a new keeper when they need one.
    if (told_to_end_ || (broker_gone_ && reported_idle_)) return;
    Sleep(plan);
  }
}

namespace {

int Refuse(int socket, const IoError& error) {
  InternalMessage message;
  message.kind = InternalKind::kFailed;
  message.error = error.code;
  std::memcpy(message.message, error.message, sizeof(message.message));
  SendMessage(socket, &message, sizeof(message), -1);
  return 1;
}

IoError Fail(const char* what, const char* remedy) {
  IoError error;
  error.code = ENETDOWN;
  TextBuilder(error.message) << what << "; " << remedy;
  return error;
}

}  // namespace

int RunDriver(const Settings& settings, const DeviceInfo& device, const User& user, int socket, int arena_fd) {
  signal(SIGTERM, SIG_DFL);
  signal(SIGINT, SIG_IGN);
  bool adopted = arena_fd >= 0;
  IoError error;
  if (!adopted) error = CreateArenaFile(settings.host.name, settings.arena_bytes, &arena_fd);
  if (!error && !adopted && geteuid() == 0 && fchown(arena_fd, user.uid, user.gid) != 0)
    error = Fail("the arena cannot be given to its user", ErrnoText(errno));
  ArenaFile file;
  if (!error) error = InspectArenaFile(arena_fd, &file);
  const uint64_t bytes = file.bytes;
  if (!error) error = MapArena(arena_fd, bytes, true);
  if (error) return Refuse(socket, error);
  SetArenaBytes(bytes);
  auto* host = reinterpret_cast<Host*>(kArenaBase);
  if (!adopted) {
    std::array<uint8_t, 32> seed;
    if (getrandom(seed.data(), seed.size(), 0) != static_cast<ssize_t>(seed.size()))
      return Refuse(socket, Fail("no random numbers", "see getrandom(2)"));
    HostConfig config = settings.host;
    config.device = device;
    Sysctls sysctls = settings.sysctls;
    if (settings.sysctl_seed != SysctlSeed::kDefault) SeedSysctls(&sysctls, &settings.sysctl_given);
    host = CreateHost(host, bytes, config, sysctls, seed, MonotonicNow());
    if (host == nullptr) return Refuse(socket, Fail("arena_size is too small for a host", "raise USTCP_ARENA_SIZE"));
  } else if (host->magic != kArenaMagic || host->layout_hash != LayoutHash()) {
    return Refuse(socket, Fail("program and keeper are of different versions", "restart the host's programs"));
  }
  host->keeper_pid.store(getpid());
  host->keeper_asleep.store(0);

  Driver driver(*host, socket, adopted);
  if (!driver.Open()) return Refuse(socket, Fail("no descriptors for the keeper", "raise RLIMIT_NOFILE"));
  if (int code = ConfineDriver(user.uid, user.gid))
    return Refuse(socket, Fail("the keeper cannot give up rights", ErrnoText(code)));

  InternalMessage message;
  message.kind = InternalKind::kReady;
  message.pid = getpid();
  if (SendMessage(socket, &message, sizeof(message), arena_fd) < 0) return 1;
  close(arena_fd);
  driver.Run();
  // The futex thread is asleep in the arena: no destructors, no joining.
  _exit(0);
}

}  // namespace ustcp::keeper
