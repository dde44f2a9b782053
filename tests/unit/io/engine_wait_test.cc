// One wait serves frames, kernel descriptors, wake-ups from threads and processes, the deadline and signals (design,
// "Driving and waiting"; hazards "Wake-ups" and "Signals").
#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <thread>

#include "io/base/owned_fds.h"
#include "stack/host/waiter.h"
#include "stack/sync/futex.h"
#include "tests/unit/io/engine_fixture.h"

namespace ustcp {
namespace {

class EngineWait : public EngineTest {
 protected:
  void SetUp() override {
    EngineTest::SetUp();
    if (engine_ == nullptr) return;
    word_ = memory_.word();
    ASSERT_EQ(pipe2(pipe_, O_NONBLOCK | O_CLOEXEC), 0);
  }
  void TearDown() override {
    for (int fd : pipe_)
      if (fd >= 0) close(fd);
    EngineTest::TearDown();
  }
  // What a waker does (WaitRequest::futex).
  void Wake() {
    word_->fetch_add(1);
    FutexWake(*word_);
    if (engine_->wake_fd() >= 0) {
      uint64_t one = 1;
      ASSERT_EQ(write(engine_->wake_fd(), &one, sizeof one), 8);
    }
  }
  WaitRequest FutexRequest() {
    WaitRequest request = Request();
    request.futex = word_;
    request.futex_expected = word_->load();
    return request;
  }
  // Waits until the thread of `engine_` is asleep in the kernel, told by /proc.
  static void AwaitSleep(pid_t tid) {
    std::string path = "/proc/self/task/" + std::to_string(tid) + "/stat";
    for (;;) {
      char text[512] = {};
      int fd = open(path.c_str(), O_RDONLY);
      ASSERT_GE(fd, 0);
      ASSERT_GT(read(fd, text, sizeof text - 1), 0);
      close(fd);
      if (const char* end = strrchr(text, ')'); end != nullptr && end[2] == 'S') return;
      std::this_thread::yield();
    }
  }
  // A wait that must end by an event: one that is noticed only at the deadline was lost.
  WaitResult Promptly(const WaitRequest& request) {
    WaitResult r = engine_->Wait(request);
    EXPECT_LT(MonotonicNow(), request.deadline);
    return r;
  }
  // Runs `act` once this thread sleeps.
  template <typename Act>
  std::thread OnceAsleep(Act act) {
    return std::thread([act, tid = gettid()] {
      AwaitSleep(tid);
      act();
    });
  }

  std::atomic<uint32_t>* word_ = nullptr;
  int pipe_[2] = {-1, -1};
};
INSTANTIATE_TEST_SUITE_P(Variants, EngineWait, ::testing::ValuesIn(kEngineVariants), VariantName);

TEST_P(EngineWait, TimesOutNoEarlierThanTheDeadline) {
  for (int i = 0; i < 3; ++i) {
    WaitRequest request = FutexRequest();
    request.deadline = MonotonicNow() + 3ms;
    WaitResult r = engine_->Wait(request);
    EXPECT_TRUE(r.timed_out);
    EXPECT_FALSE(r.frames || r.woken || r.interrupted || r.ready_polls != 0);
    EXPECT_GE(MonotonicNow(), request.deadline);
  }
  EXPECT_EQ(engine_->stats().waits, 3u) << "woke up for nothing";
}

TEST_P(EngineWait, PastDeadlineLooksOnce) {
  WaitPoll poll{.fd = pipe_[1], .events = POLLOUT};
  WaitRequest request = Request();
  request.deadline = MonotonicNow() - 1s;
  EXPECT_TRUE(engine_->Wait(request).timed_out);
  request.polls = {&poll, 1};
  WaitResult r = engine_->Wait(request);
  EXPECT_FALSE(r.timed_out);
  EXPECT_EQ(r.ready_polls, 1u);
  EXPECT_EQ(poll.revents, POLLOUT);
  poll = {.fd = pipe_[0], .events = POLLIN};
  EXPECT_TRUE(engine_->Wait(request).timed_out);
  ASSERT_TRUE(queue_.Inject(1));
  EXPECT_TRUE(engine_->Wait(request).frames);
}

TEST_P(EngineWait, FrameThatArrivedBeforeTheWaitEndsIt) {
  for (bool armed : {false, true}) {
    if (armed) {
      EXPECT_TRUE(ReceiveNumbers().empty());
    }
    ASSERT_TRUE(queue_.Inject(1));
    EXPECT_TRUE(Promptly(Request()).frames) << armed;
    EXPECT_EQ(ReceiveNumbers().size(), 1u);
  }
}

TEST_P(EngineWait, FrameDuringTheSleepEndsIt) {
  for (int i = 0; i < 5; ++i) {
    std::thread sender = OnceAsleep([this] { EXPECT_TRUE(queue_.Inject(7)); });
    WaitResult r = Promptly(Request());
    sender.join();
    EXPECT_TRUE(r.frames);
    EXPECT_FALSE(r.timed_out);
    EXPECT_EQ(ReceiveNumbers(), std::vector<uint32_t>{7});
  }
}

// More frames than buffers while asleep: the wait ends, and all of them arrive.
TEST_P(EngineWait, BurstDuringTheSleep) {
  EXPECT_TRUE(ReceiveNumbers().empty());
  uint32_t sent = 0;
  std::thread sender = OnceAsleep([&] {
    while (sent < 64 && queue_.Inject(sent)) ++sent;
  });
  EXPECT_TRUE(Promptly(Request()).frames);
  sender.join();
  std::vector<uint32_t> got = ReceiveNumbers();
  ASSERT_EQ(got.size(), sent);
  for (uint32_t i = 0; i < sent; ++i) EXPECT_EQ(got[i], i);
}

TEST_P(EngineWait, WordThatChangedBeforeTheWaitEndsIt) {
  WaitRequest request = FutexRequest();
  word_->fetch_add(1);
  EXPECT_TRUE(Promptly(request).woken);
  EXPECT_EQ(engine_->stats().waits, 0u) << "slept although there was something to do";
}

TEST_P(EngineWait, WakeUpIsConsumed) {
  Wake();
  WaitRequest request = FutexRequest();
  request.deadline = MonotonicNow() + 2ms;
  engine_->Wait(request);  // may report the wake-up, whose word has changed before
  for (int i = 0; i < 2; ++i) {
    request.deadline = MonotonicNow() + 2ms;
    WaitResult r = engine_->Wait(request);
    EXPECT_TRUE(r.timed_out) << "a wake-up is reported again and again";
    EXPECT_FALSE(r.woken);
  }
}

TEST_P(EngineWait, WakeFromAnotherThread) {
  for (bool owned : {false, true}) {
    for (int i = 0; i < 4; ++i) {
      WaitRequest request = FutexRequest();
      request.futex_owned = owned;
      std::thread waker = OnceAsleep([this] { Wake(); });
      WaitResult r = Promptly(request);
      waker.join();
      EXPECT_TRUE(r.woken);
      EXPECT_FALSE(r.timed_out);
    }
  }
}

TEST_P(EngineWait, WakeFromAnotherProcess) {
  WaitRequest request = FutexRequest();
  int wake_fd = engine_->wake_fd();
  int start[2];
  ASSERT_EQ(pipe(start), 0);
  pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    char go;
    if (read(start[0], &go, 1) != 1) _exit(1);
    word_->fetch_add(1);
    FutexWake(*word_);
    // Inherited here; in production such an engine is given a descriptor that other processes can reach.
    uint64_t one = 1;
    if (wake_fd >= 0 && write(wake_fd, &one, sizeof one) != 8) _exit(2);
    _exit(0);
  }
  std::thread go = OnceAsleep([&] { ASSERT_EQ(write(start[1], "g", 1), 1); });
  EXPECT_TRUE(Promptly(request).woken);
  go.join();
  int status;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  close(start[0]);
  close(start[1]);
}

// A forgotten waiter on a word that passed to another thread would swallow the one wake-up meant for that thread.
TEST_P(EngineWait, NoWaiterStaysBehindOnAWordThatIsNotOwned) {
  WaitRequest request = FutexRequest();
  request.deadline = MonotonicNow() + 1ms;
  EXPECT_TRUE(engine_->Wait(request).timed_out);
  EXPECT_EQ(FutexWake(*word_), 0);
}

TEST_P(EngineWait, NoWakeUpIsLostInTenThousandRaces) {
  // The waker runs freely; each round ends only when the sleeper has seen it.
  constexpr uint32_t kRounds = 10000;
  std::atomic<uint32_t> seen{0};
  std::thread waker([&] {
    for (uint32_t i = 1; i <= kRounds; ++i) {
      Wake();
      while (seen.load() < i) std::this_thread::yield();
    }
  });
  for (uint32_t i = 0; i < kRounds; ++i) {
    while (word_->load() == i) {
      WaitRequest request = FutexRequest();
      request.futex_expected = i;
      request.futex_owned = true;
      ASSERT_FALSE(engine_->Wait(request).timed_out) << "round " << i;
    }
    seen.store(i + 1);
  }
  waker.join();
}

TEST_P(EngineWait, NoFrameIsLostInThousandsOfRaces) {
  constexpr uint32_t kFrames = 5000;
  std::atomic<uint32_t> seen{0};
  std::thread sender([&] {
    for (uint32_t i = 0; i < kFrames; ++i) {
      while (!queue_.Inject(i)) std::this_thread::yield();
      if (i % 3 == 0)
        while (seen.load() <= i) std::this_thread::yield();
    }
  });
  while (seen.load() < kFrames) {
    for (uint32_t number : ReceiveNumbers()) {
      ASSERT_EQ(number, seen.load());
      seen.fetch_add(1);
    }
    if (seen.load() < kFrames) {
      ASSERT_FALSE(Promptly(Request()).timed_out);
    }
  }
  sender.join();
}

TEST_P(EngineWait, KernelDescriptorDuringTheSleep) {
  for (uint64_t identity : {0, 42}) {
    WaitPoll polls[] = {{.fd = -1, .events = POLLIN},
                        {.fd = pipe_[0], .events = POLLIN, .identity = identity},
                        {.fd = queue_.peer(), .events = POLLIN}};
    WaitRequest request = FutexRequest();
    request.polls = polls;
    for (int i = 0; i < 3; ++i) {
      std::thread writer = OnceAsleep([this] { ASSERT_EQ(write(pipe_[1], "x", 1), 1); });
      WaitResult r = Promptly(request);
      writer.join();
      EXPECT_EQ(r.ready_polls, 1u);
      EXPECT_EQ(polls[0].revents, 0);
      EXPECT_EQ(polls[1].revents, POLLIN);
      EXPECT_EQ(polls[2].revents, 0);
      char byte;
      ASSERT_EQ(read(pipe_[0], &byte, 1), 1);
      // Read, so no longer ready: the next wait must not report it from memory.
      WaitRequest brief = request;
      brief.deadline = MonotonicNow() + 1ms;
      EXPECT_TRUE(engine_->Wait(brief).timed_out);
    }
  }
}

// revents as poll(2) gives them.
TEST_P(EngineWait, ReportsWhatPollReports) {
  int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  int closed = dup(file);
  close(closed);
  int broken[2];
  ASSERT_EQ(pipe(broken), 0);
  close(broken[0]);
  int ended[2];
  ASSERT_EQ(pipe(ended), 0);
  close(ended[1]);
  WaitPoll polls[] = {{.fd = file, .events = POLLIN | POLLOUT},
                      {.fd = closed, .events = POLLIN},
                      {.fd = broken[1], .events = POLLOUT},
                      {.fd = ended[0], .events = POLLIN},
                      {.fd = ended[0], .events = 0},
                      {.fd = pipe_[0], .events = POLLIN},
                      {.fd = pipe_[1], .events = POLLIN | POLLOUT}};
  std::vector<pollfd> expected;
  for (WaitPoll& p : polls) expected.push_back({p.fd, p.events, 0});
  int n = poll(expected.data(), expected.size(), 0);
  WaitRequest request = Request();
  request.polls = polls;
  WaitResult r = engine_->Wait(request);
  EXPECT_EQ(r.ready_polls, static_cast<uint32_t>(n));
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(polls[i].revents, expected[i].revents) << "entry " << i;
  close(file);
  close(broken[1]);
  close(ended[0]);
}

// A poll in a ring holds the file open: the program's close() must take effect as soon as the wait is over.
TEST_P(EngineWait, NoPollWithoutIdentityOutlivesTheWait) {
  WaitPoll poll{.fd = pipe_[0], .events = POLLIN};
  WaitRequest request = FutexRequest();
  request.polls = {&poll, 1};
  request.deadline = MonotonicNow() + 1ms;
  EXPECT_TRUE(engine_->Wait(request).timed_out);
  close(std::exchange(pipe_[0], -1));
  signal(SIGPIPE, SIG_IGN);
  EXPECT_EQ(write(pipe_[1], "x", 1), -1);
  EXPECT_EQ(errno, EPIPE);
}

// A stale armed poll must never be reported for a new file of the same number.
TEST_P(EngineWait, NumberThatMeansAnotherFileIsPolledAfresh) {
  WaitPoll poll{.fd = pipe_[0], .events = POLLIN, .identity = 1};
  WaitRequest request = FutexRequest();
  request.polls = {&poll, 1};
  request.deadline = MonotonicNow() + 1ms;
  EXPECT_TRUE(engine_->Wait(request).timed_out);
  // The program closes the number and gets it again for something else; then the old file becomes ready.
  int other[2];
  ASSERT_EQ(pipe(other), 0);
  int old_reader = dup(pipe_[0]);  // somebody else has it open still: the write below finds a reader
  ASSERT_EQ(dup2(other[0], pipe_[0]), pipe_[0]);
  ASSERT_EQ(write(pipe_[1], "x", 1), 1);
  poll.identity = 2;
  request.deadline = MonotonicNow() + 3ms;
  EXPECT_TRUE(engine_->Wait(request).timed_out);
  EXPECT_EQ(poll.revents, 0);
  // And the new file's readiness is seen.
  ASSERT_EQ(write(other[1], "y", 1), 1);
  request.deadline = MonotonicNow() + 5s;
  WaitResult r = engine_->Wait(request);
  EXPECT_EQ(r.ready_polls, 1u);
  EXPECT_EQ(poll.revents, POLLIN);
  close(old_reader);
  close(other[0]);
  close(other[1]);
}

TEST_P(EngineWait, KeptPollThatFiredBetweenWaitsIsLookedAtAgain) {
  WaitPoll poll{.fd = pipe_[0], .events = POLLIN, .identity = 9};
  WaitRequest request = FutexRequest();
  request.polls = {&poll, 1};
  request.deadline = MonotonicNow() + 1ms;
  EXPECT_TRUE(engine_->Wait(request).timed_out);
  ASSERT_EQ(write(pipe_[1], "x", 1), 1);
  char byte;
  ASSERT_EQ(read(pipe_[0], &byte, 1), 1);
  EXPECT_TRUE(ReceiveNumbers().empty());
  ASSERT_EQ(write(pipe_[1], "x", 1), 1);
  request.deadline = MonotonicNow() + 5s;
  EXPECT_EQ(engine_->Wait(request).ready_polls, 1u);
}

TEST_P(EngineWait, ManyDescriptorsAtOnce) {
  std::vector<int> fds;
  std::vector<WaitPoll> polls;
  for (int i = 0; i < 700; ++i) {
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    ASSERT_GE(fd, 0);
    fds.push_back(fd);
    polls.push_back({.fd = fd, .events = POLLIN, .identity = i % 2 == 0 ? 0u : 1000u + static_cast<unsigned>(i)});
  }
  WaitRequest request = FutexRequest();
  request.polls = polls;
  for (int round = 0; round < 3; ++round) {
    std::thread writer = OnceAsleep([&] {
      uint64_t one = 1;
      ASSERT_EQ(write(fds[650], &one, 8), 8);
    });
    request.deadline = MonotonicNow() + 5s;
    WaitResult r = Promptly(request);
    writer.join();
    EXPECT_EQ(r.ready_polls, 1u);
    EXPECT_EQ(polls[650].revents, POLLIN);
    uint64_t value;
    ASSERT_EQ(read(fds[650], &value, 8), 8);
  }
  // All of them at once: more completions than the ring's queue takes.
  uint64_t one = 1;
  for (int fd : fds) ASSERT_EQ(write(fd, &one, 8), 8);
  request.deadline = MonotonicNow() + 5s;
  EXPECT_EQ(engine_->Wait(request).ready_polls, 700u);
  for (int fd : fds) close(fd);
}

volatile sig_atomic_t g_signals;
void OnSignal(int) { g_signals = g_signals + 1; }
// How often the handler ran. A thread sanitizer keeps a signal that ended one of our own system calls until the next call of
// the C library.
int Signals() {
  usleep(0);
  return g_signals;
}

TEST_P(EngineWait, SignalHandlerEndsTheWait) {
  struct sigaction action {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;  // what the program asked for is for the layer above to honour
  sigaction(SIGUSR1, &action, nullptr);
  for (int i = 0; i < 4; ++i) {
    g_signals = 0;
    WaitRequest request = FutexRequest();
    pthread_t self = pthread_self();
    std::thread killer = OnceAsleep([self] { pthread_kill(self, SIGUSR1); });
    WaitResult r = Promptly(request);
    killer.join();
    EXPECT_TRUE(r.interrupted);
    EXPECT_FALSE(r.timed_out);
    EXPECT_EQ(Signals(), 1);
  }
}

// As ppoll: the mask holds for the sleep only, and atomically.
TEST_P(EngineWait, SignalMaskIsInForceDuringTheSleepOnly) {
  struct sigaction action {};
  action.sa_handler = OnSignal;
  sigaction(SIGUSR1, &action, nullptr);
  sigset_t blocked, before, open_mask;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &blocked, &before);
  open_mask = before;
  sigdelset(&open_mask, SIGUSR1);
  g_signals = 0;

  WaitRequest request = FutexRequest();
  request.deadline = MonotonicNow() + 2ms;
  raise(SIGUSR1);
  EXPECT_TRUE(engine_->Wait(request).timed_out) << "a blocked signal ended the wait";
  EXPECT_EQ(Signals(), 0);

  request.deadline = MonotonicNow() + 5s;
  request.signal_mask = &open_mask;
  WaitResult r = engine_->Wait(request);
  EXPECT_TRUE(r.interrupted) << "a pending signal was not delivered";
  EXPECT_EQ(Signals(), 1);

  pthread_t self = pthread_self();
  std::thread killer = OnceAsleep([self] { pthread_kill(self, SIGUSR1); });
  r = engine_->Wait(request);
  killer.join();
  EXPECT_TRUE(r.interrupted);
  EXPECT_EQ(Signals(), 2);

  sigset_t now;
  pthread_sigmask(SIG_SETMASK, nullptr, &now);
  EXPECT_TRUE(sigismember(&now, SIGUSR1)) << "the mask of the wait stayed in force";
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

// Leader and follower: frames wake the thread that waits for the queue, not one that waited for it earlier.
TEST_P(EngineWait, QueueThatIsNotNamedDoesNotEndTheWait) {
  EXPECT_TRUE(ReceiveNumbers().empty());
  WaitRequest request = FutexRequest();
  request.deadline = MonotonicNow() + 1ms;
  EXPECT_TRUE(engine_->Wait(request).timed_out);
  ASSERT_TRUE(queue_.Inject(4));
  request.queues = {};
  request.deadline = MonotonicNow() + 3ms;
  WaitResult r = engine_->Wait(request);
  EXPECT_TRUE(r.timed_out);
  EXPECT_FALSE(r.frames);
  // The frame is there for whoever reads the queue next.
  Engine* other = Create();
  uint32_t got = 0;
  other->Receive(
      queue_.ref(), memory_.pool(), [&](RxFrame& f) { got = NumberOf(f); }, 10);
  EXPECT_EQ(got, 4u);
  other->ReleaseQueue(queue_.ref(), memory_.pool());
  Engine::Destroy(other);
}

TEST_P(EngineWait, FollowerBecomesLeader) {
  EXPECT_TRUE(ReceiveNumbers().empty());
  WaitRequest follower = FutexRequest();
  follower.queues = {};
  follower.deadline = MonotonicNow() + 1ms;
  EXPECT_TRUE(engine_->Wait(follower).timed_out);
  std::thread sender = OnceAsleep([this] { EXPECT_TRUE(queue_.Inject(8)); });
  EXPECT_TRUE(Promptly(Request()).frames);
  sender.join();
  EXPECT_EQ(ReceiveNumbers(), std::vector<uint32_t>{8});
}

TEST_P(EngineWait, SpinsBeforeItSleeps) {
  for (int i = 0; i < 3; ++i) {
    WaitRequest request = FutexRequest();
    request.spin = 50ms;
    uint64_t waits = engine_->stats().waits;
    std::thread sender([this] { EXPECT_TRUE(queue_.Inject(1)); });
    WaitResult r = engine_->Wait(request);
    sender.join();
    EXPECT_TRUE(r.frames);
    EXPECT_LE(engine_->stats().waits, waits + 1);
    ReceiveNumbers();
  }
  WaitRequest request = FutexRequest();
  request.spin = 2ms;
  request.deadline = MonotonicNow() + 1ms;
  EXPECT_TRUE(engine_->Wait(request).timed_out);
}

// A turn of an event loop costs one io_uring_enter (design, "Driving and waiting").
TEST_P(EngineWait, TurnCostsOneSystemCall) {
  if ((engine_->features() & kFeatureMultishotRead) == 0 || (engine_->features() & kFeatureFutexWait) == 0) {
    EXPECT_NE(GetParam().disabled != 0 || GetParam().kind == EngineKind::kPlain, false);
    return;
  }
  WaitPoll epoll{.fd = pipe_[0], .events = POLLIN, .identity = 5};
  WaitRequest request = FutexRequest();
  request.futex_owned = true;
  request.polls = {&epoll, 1};
  auto turn = [&] {
    request.deadline = MonotonicNow() + 5s;
    std::thread sender = OnceAsleep([this] { EXPECT_TRUE(queue_.Inject(3)); });
    EXPECT_TRUE(engine_->Wait(request).frames);
    sender.join();
    EXPECT_EQ(ReceiveNumbers().size(), 1u);
  };
  EXPECT_TRUE(ReceiveNumbers().empty());
  turn();
  uint64_t enters = engine_->stats().ring_enters;
  for (int i = 0; i < 10; ++i) turn();
  EXPECT_EQ(engine_->stats().ring_enters, enters + 10);
}

// A process at its limit of open files still gets an engine that works, wake-ups included.
TEST_P(EngineWait, WithoutAnyDescriptorLeft) {
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  int next = dup(0);
  close(next);
  rlimit tight = before;
  tight.rlim_cur = static_cast<rlim_t>(next);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
  Engine* engine = Engine::Create({.disabled_features = GetParam().disabled, .quiet = true});
  setrlimit(RLIMIT_NOFILE, &before);
  ASSERT_NE(engine, nullptr);
  EXPECT_FALSE(engine->is_uring());
  EXPECT_EQ(engine->wake_fd(), -1);
  std::thread waker = OnceAsleep([this] {
    word_->fetch_add(1);
    FutexWake(*word_);
  });
  WaitRequest request = FutexRequest();
  WaitResult r = engine->Wait(request);
  EXPECT_LT(MonotonicNow(), request.deadline);
  waker.join();
  EXPECT_TRUE(r.woken);
  Engine::Destroy(engine);
}

// The program (or a raw system call of its) closed our descriptor: plain calls go on, nothing hangs or is lost.
TEST_P(EngineWait, GoesOnWhenTheRingIsTaken) {
  EXPECT_TRUE(ReceiveNumbers().empty());
  std::vector<int> owned;
  OwnedFds::ForEach([&](int fd, OwnedFdKind kind) {
    if (kind == OwnedFdKind::kEngine && fd != engine_->wake_fd()) owned.push_back(fd);
  });
  for (int fd : owned) {
    OwnedFds::Forget(fd);
    close(fd);
  }
  ASSERT_TRUE(queue_.Inject(6));
  EXPECT_TRUE(Promptly(Request()).frames);
  EXPECT_EQ(ReceiveNumbers(), std::vector<uint32_t>{6});
  std::thread waker = OnceAsleep([this] { Wake(); });
  WaitRequest request = FutexRequest();
  EXPECT_TRUE(Promptly(request).woken);
  waker.join();
  EXPECT_EQ(engine_->is_uring(), GetParam().kind == EngineKind::kUring && owned.empty());
}

}  // namespace
}  // namespace ustcp
