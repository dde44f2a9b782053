// Sleeping. Every wait follows the same steps: take the lead of the home shard if it is free, make a turn, look, announce
// the sleep, look again, sleep on everything at once. Whoever does not lead sleeps on its word only and is woken for its
// socket, or to take the lead over.
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

#include "io/base/clock.h"
#include "preload/descriptors/stale.h"
#include "preload/libc/real.h"
#include "preload/libc/signals.h"
#include "preload/runtime/kernel_sleepers.h"
#include "preload/runtime/process.h"
#include "stack/stack.h"

namespace ustcp::runtime {
namespace {

constexpr uint32_t kAlways = EPOLLERR | EPOLLHUP;
constexpr uint8_t kTurnsWithoutKernel = 8;
// Names the keeper's connection to the engine, which may then keep its poll armed; a new connection has a new number.
constexpr uint64_t kKeeperIdentity = 1;

// What a wait ends with.
enum class Sleep { kLook, kTimeout, kInterrupted };

// Holds the lead, or a place among the followers, for the length of one wait.
class Seat {
 public:
  explicit Seat(ThreadState& t) : t_(t) {}
  ~Seat() {
    if (following_) LeaveFollowers(t_);
    LeaveLead(t_);
    TakeInHeldFrames(t_);
  }
  // True when the thread leads.
  bool Take() {
    if (!TakeLead(t_)) return false;
    if (following_) LeaveFollowers(t_);
    following_ = false;
    return true;
  }
  void Follow() {
    if (following_) return;
    JoinFollowers(t_);
    following_ = true;
  }

 private:
  ThreadState& t_;
  bool following_ = false;
};

class SleepWord {
 public:
  explicit SleepWord(std::atomic<uint32_t>& word) { signals::SetSleepWord(&word); }
  ~SleepWord() { signals::SetSleepWord(nullptr); }
};

// While other threads work with the shard, each of their calls may move its deadline. A leader that gets up by itself before
// long need not be woken for the deadlines beyond: retransmissions, delayed ACKs.
constexpr Duration kShortSleep = 4ms;

Instant LeaderSleepsUntil(Shard& shard) {
  shard.leader_until_ns.store(NanosOf(kNever));  // from here on nearer deadlines wake us: see PublishDeadline
  Instant until = InstantFromNanos(shard.next_deadline_ns.load());
  const int64_t others = shard.others_at_ns.load(std::memory_order_relaxed);
  if (others == 0) return until;
  const Instant now = MonotonicNow();
  return now - InstantFromNanos(others) < kShortSleep ? std::min<Instant>(until, now + kShortSleep) : until;
}

// `ready` is asked once more after the sleep was announced. The last entry of `polls` is for the keeper's connection. The
// thread gets up no later than at `wake_at`, which is not the end of its wait.
template <typename Ready>
Sleep SleepUnless(ThreadState& t, Seat& seat, Ready&& ready, std::span<WaitPoll> polls, Instant deadline,
                  Instant wake_at, const sigset_t* mask) {
  Waiter& w = *t.waiter;
  uint32_t word = w.word.load();
  // A handler that runs from here on changes the word, so that no signal is slept through.
  SleepWord sleep_word(w.word);
  if (signals::HandlerRanInCall()) return Sleep::kInterrupted;
  bool leads = seat.Take();
  if (!leads) seat.Follow();
  w.state.store(Waiter::kAsleep);
  if (ready() || w.word.load() != word) {
    w.state.store(Waiter::kAwake);
    return Sleep::kLook;
  }
  // The last follower must not sleep while nobody leads: look at the lead after having joined.
  if (!leads && seat.Take()) leads = true;
  // Mail that came after the last turn and before the word was read: its sender has signalled already.
  if (leads && HasMail(HomeShard())) {
    w.state.store(Waiter::kAwake);
    return Sleep::kLook;
  }
  QueueRef queue = leads ? ReadQueue() : QueueRef{};
  WaitRequest request;
  if (queue.fd >= 0) request.queues = {&queue, 1};
  WaitPoll& keeper = polls.back();
  keeper = WaitPoll{leads ? KeeperDescriptor() : -1, POLLIN, 0, kKeeperIdentity};
  request.polls = polls;
  request.futex = &w.word;
  request.futex_expected = word;
  request.futex_owned = true;
  request.deadline = leads ? std::min({deadline, LeaderSleepsUntil(HomeShard()), KeeperRetry()}) : deadline;
  request.deadline = std::min(request.deadline, wake_at);
  if (leads && QueueMissing()) request.deadline = std::min<Instant>(request.deadline, MonotonicNow() + kQueueRetry);
  if (leads) HomeShard().leader_until_ns.store(NanosOf(request.deadline));
  request.signal_mask = mask;
  if (leads) request.spin = Duration{int64_t{AttachedHost()->config.busy_poll_us} * 1000};
  WaitResult result = t.engine->Wait(request);
  w.state.store(Waiter::kAwake);
  if (leads) HomeShard().leader_until_ns.store(INT64_MIN);
  if (keeper.revents != 0 || (leads && KeeperRetry() != kNever && MonotonicNow() >= KeeperRetry())) CheckKeeper();
  if (result.interrupted || signals::HandlerRanInCall()) return Sleep::kInterrupted;
  return deadline != kNever && MonotonicNow() >= deadline ? Sleep::kTimeout : Sleep::kLook;
}

void HandOut(ThreadState& t, ptrdiff_t events) {
  t.wait_follows = events > 0;
  t.handing_out = events > 1;
}

// One turn if this thread may lead; otherwise only its own unsent data leaves.
void DriveOrFlush(ThreadState& t, Seat& seat) {
  HandOut(t, 0);
  if (seat.Take()) {
    Turn(t, false);
    return;
  }
  Shard& home = HomeShard();
  if (HasOutput(home)) Locked flush(home);
}

// True when a turn would find nothing to do, as far as this thread can tell without a system call and the lock.
bool NothingToDo(const ThreadState& t) {
  const Shard& home = HomeShard();
  QueueRef queue = KnownQueue();
  return queue.fd >= 0 && t.engine->CertainlyIdle(queue) && !HasOutput(home) && !HasMail(home);
}

// Before a sleep, which ends at once when a timer is due.
void DriveBeforeSleep(ThreadState& t, Seat& seat) {
  if (NothingToDo(t) && seat.Take())
    HandOut(t, 0);
  else
    DriveOrFlush(t, seat);
}

void FlushHome() {
  Shard& home = HomeShard();
  if (HasOutput(home)) Locked flush(home);
}

// How long frames may wait while the program has something to read. What a turn takes in before the program has read what
// is there only makes the queue longer and pushes its head out of the cache.
constexpr Duration kFreshTurn = 100us;

bool TurnedLately() {
  return NanosOf(MonotonicNow()) - HomeShard().last_turn_ns.load(std::memory_order_relaxed) < ToNanos(kFreshTurn);
}

class Watching {
 public:
  Watching(Host& host, Socket& s, WaitEntry& entry, uint32_t events, bool exclusive) : host_(host), entry_(entry) {
    entry.watch_kind = WatchNode::kWaitEntry;
    entry.events = events;
    entry.exclusive = exclusive;
    entry.process = AttachedMember()->process;
    Watch(host, s, entry);
  }
  ~Watching() { Unwatch(host_, entry_); }

 private:
  Host& host_;
  WaitEntry& entry_;
};

}  // namespace

void TurnIfFramesWait() noexcept {
  ThreadState& t = CurrentThread();
  if (!t.engine_waits || t.waiter == nullptr) return;
  QueueRef queue = KnownQueue();
  if (queue.fd < 0 || t.engine->CertainlyIdle(queue)) return;
  Seat seat(t);
  if (seat.Take()) Turn(t, true);
}

int WaitSocket(Socket& socket, uint32_t events, Instant deadline) noexcept {
  ThreadState& t = CurrentThread();
  if (!PrepareToWait(t)) return ENOMEM;
  Host& host = *AttachedHost();
  bool listening = socket.state == SocketState::kListening;
  if (listening && socket.listener != nullptr) NoteAcceptor(host, *socket.listener, AttachedMember()->process);
  auto ready = [&] { return (socket.ready.load() & (events | kAlways)) != 0; };
  Seat seat(t);
  if (deadline != InstantFromNanos(0))
    DriveBeforeSleep(t, seat);
  else
    DriveOrFlush(t, seat);
  if (ready()) return 0;
  stale::BeforeSleep others;
  if (deadline != InstantFromNanos(0) && others.Look()) return 0;
  Watching watching(host, socket, *t.entry, events | kAlways, listening);
  WaitPoll keeper_only[1];
  for (;;) {
    FlushHome();
    Sleep why = SleepUnless(t, seat, ready, keeper_only, deadline, others.wake_at(), nullptr);
    DriveOrFlush(t, seat);
    if (ready() || (why == Sleep::kLook && others.Look())) return 0;
    if (why == Sleep::kInterrupted) return EINTR;
    if (why == Sleep::kTimeout) return EAGAIN;
  }
}

namespace {

// The entries of one poll(): taken from the home shard, linked, and given back together.
class ManyWatches {
 public:
  ManyWatches(Host& host, Waiter& waiter) : host_(host), waiter_(waiter) {}
  bool Add(std::span<const PollMember> members) {
    ShardLock lock(host_, HomeShard(), MonotonicNow());
    for (const PollMember& m : members) {
      WaitEntry* entry = lock.ctx.shard.wait_entries.Take();
      if (entry == nullptr) return false;
      entry->waiter = &waiter_;
      entry->events = m.events | kAlways;
      entry->process = AttachedMember()->process;
      entry->next_of_waiter = first_;
      first_ = entry;
      Watch(host_, *m.socket, *entry);
    }
    return true;
  }
  ~ManyWatches() {
    if (first_ == nullptr) return;
    ShardLock lock(host_, HomeShard(), MonotonicNow());
    while (first_ != nullptr) {
      WaitEntry* next = first_->next_of_waiter;
      Unwatch(host_, *first_);
      lock.ctx.shard.wait_entries.Give(first_);
      first_ = next;
    }
  }

 private:
  Host& host_;
  Waiter& waiter_;
  WaitEntry* first_ = nullptr;
};

// Kernel descriptors of one poll() as the engine takes them, and room for the keeper's; a small array on the stack, mapped
// memory for many.
class PollArray {
 public:
  explicit PollArray(std::span<pollfd> from) : from_(from) {
    if (from.size() + 1 > kInline) {
      void* memory = mmap(nullptr, Bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      polls_ = memory == MAP_FAILED ? nullptr : static_cast<WaitPoll*>(memory);
    }
    if (polls_ == nullptr) return;
    for (size_t i = 0; i < from.size(); ++i) polls_[i] = WaitPoll{from[i].fd, from[i].events, 0, 0};
  }
  ~PollArray() {
    if (polls_ != inline_ && polls_ != nullptr) munmap(polls_, Bytes());
  }
  bool ok() const { return polls_ != nullptr; }
  std::span<WaitPoll> span() { return {polls_, from_.size() + 1}; }

 private:
  static constexpr size_t kInline = 64;
  size_t Bytes() const { return (from_.size() + 1) * sizeof(WaitPoll); }
  std::span<pollfd> from_;
  WaitPoll inline_[kInline];
  WaitPoll* polls_ = inline_;
};

// What the kernel's descriptors show right now.
int LookAtKernel(std::span<pollfd> kernel) {
  if (kernel.empty()) return 0;
  timespec zero{};
  return real::ppoll(kernel.data(), kernel.size(), &zero, nullptr);
}

}  // namespace

int WaitMany(std::span<const PollMember> members, std::span<pollfd> kernel, Instant deadline,
             const sigset_t* mask) noexcept {
  ThreadState& t = CurrentThread();
  if (!PrepareToWait(t)) return ENOMEM;
  Host& host = *AttachedHost();
  auto ready = [&] {
    return std::any_of(members.begin(), members.end(),
                       [](const PollMember& m) { return (m.socket->ready.load() & (m.events | kAlways)) != 0; });
  };
  for (const PollMember& m : members)
    if (Listener* l = m.socket->listener; l != nullptr) NoteAcceptor(host, *l, AttachedMember()->process);
  Seat seat(t);
  if (ready() && TurnedLately()) {
    HandOut(t, 0);
    FlushHome();
  } else {
    DriveOrFlush(t, seat);
  }
  bool sockets_ready = ready();
  int kernel_ready = LookAtKernel(kernel);
  if (kernel_ready < 0) return errno;
  auto finish = [&] {
    HandOut(t, std::count_if(members.begin(), members.end(),
                             [](const PollMember& m) { return (m.socket->ready.load() & (m.events | kAlways)) != 0; }));
    return 0;
  };
  if (sockets_ready || kernel_ready > 0) return finish();
  if (MonotonicNow() >= deadline) {
    FlushHome();
    return EAGAIN;
  }
  stale::BeforeSleep others;
  if (others.Look()) return 0;
  ManyWatches watches(host, *t.waiter);
  if (!watches.Add(members)) return ENOMEM;
  PollArray polls(kernel);
  if (!polls.ok()) return ENOMEM;
  for (;;) {
    FlushHome();
    Sleep why = SleepUnless(t, seat, ready, polls.span(), deadline, others.wake_at(), mask);
    DriveOrFlush(t, seat);
    kernel_ready = LookAtKernel(kernel);
    if (kernel_ready < 0) return errno;
    if (ready() || kernel_ready > 0) return finish();
    if (why == Sleep::kLook && others.Look()) return 0;
    if (why == Sleep::kInterrupted) return EINTR;
    if (why == Sleep::kTimeout) return EAGAIN;
  }
}

int WaitEpoll(EpollSet& set, int real_epfd, bool has_kernel_members, epoll_event* events, int max, Instant deadline,
              const sigset_t* mask) noexcept {
  ThreadState& t = CurrentThread();
  if (!PrepareToWait(t)) return -ENOMEM;
  auto ready = [&set] { return set.ready_count.load() != 0; };
  // The kernel's set is asked (a system call) when the sleep found it ready, when the program only polls, and now and then
  // while our own members keep the program busy, then first, so that they cannot starve the others.
  bool ask_kernel =
      has_kernel_members && (MonotonicNow() >= deadline || ++t.turns_without_kernel >= kTurnsWithoutKernel);
  bool kernel_first = ask_kernel;
  auto collect = [&]() -> int {
    int count = 0;
    bool faulted = false;
    auto add = [&](int n) {
      if (n > 0) count += n;
      faulted |= n == -EFAULT;
    };
    auto from_kernel = [&] {
      t.turns_without_kernel = 0;
      if (count >= max) return;
      int n = real::epoll_wait(real_epfd, events + count, max - count, 0);
      add(n < 0 ? -errno : WithoutFetching(events + count, n));
    };
    if (ask_kernel && kernel_first) from_kernel();
    add(EpollCollect(set, events + count, max - count));
    if (ask_kernel && !kernel_first) from_kernel();
    return count == 0 && faulted ? -EFAULT : count;
  };
  // The slot and its generation name the file behind real_epfd for as long as it lives. It is watched in any case: what the
  // program's own io_uring, or a call that was not seen, registers there shows now.
  WaitPoll polls[2] = {{real_epfd, POLLIN, 0, reinterpret_cast<uintptr_t>(&set) << 16 ^ set.generation}, {}};
  WaitPoll& poll = polls[0];
  Seat seat(t);
  bool interrupted = false, timed_out = false;
  stale::BeforeSleep others;
  for (;;) {
    EpollSleep(set, *t.waiter);  // a turn of ours may make members ready: an exclusive event is then ours to take
    DriveOrFlush(t, seat);
    int count = collect();
    if (count != 0 || interrupted || timed_out || MonotonicNow() >= deadline) {
      EpollWake(set, *t.waiter);
      if (count <= 0) FlushHome();
      HandOut(t, count);
      if (count != 0) return count;
      return interrupted ? -EINTR : 0;
    }
    if (others.Look()) continue;
    FlushHome();
    EpollSleep(set, *t.waiter);
    Sleep why = SleepUnless(t, seat, ready, polls, deadline, others.wake_at(), mask);
    if (poll.revents != 0 && !has_kernel_members) {
      has_kernel_members = true;
      set.has_kernel_members.store(true);
    }
    ask_kernel = has_kernel_members && (poll.revents != 0 || why != Sleep::kLook);
    kernel_first = false;
    poll.revents = 0;
    interrupted = why == Sleep::kInterrupted;
    timed_out = why == Sleep::kTimeout;
  }
}

}  // namespace ustcp::runtime
