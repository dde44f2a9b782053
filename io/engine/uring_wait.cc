// The sleeping half of UringEngine: one io_uring_enter waits for frames, for kernel descriptors, for the futex word,
// for the deadline and for signals. What is armed for a wait and what may stay armed after it:
//   reads on queues       stay: they take frames only when this thread enters the ring
//   polls of queues       stay (they hold nothing but the queue), and go when the next wait does not name the queue
//   polls with identity   stay, until the number comes with another identity or the table is full
//   other polls           never outlive the wait: a poll holds the file open behind the program's close()
//   the futex wait        stays when the word is this thread's own: otherwise it would swallow somebody else's wake-up
#include <linux/futex.h>

#include <cerrno>

#include "io/base/clock.h"
#include "io/base/sys.h"
#include "io/engine/uring_engine.h"

namespace ustcp {
namespace {

constexpr uint32_t kFutexShared32 = 2;  // FUTEX2_SIZE_U32, not private (linux/futex.h of 6.7)

bool WordChanged(const WaitRequest& r) noexcept {
  return r.futex != nullptr && r.futex->load(std::memory_order_acquire) != r.futex_expected;
}

void PreparePoll(io_uring_sqe* sqe, int fd, short events) noexcept {
  sqe->opcode = IORING_OP_POLL_ADD;
  sqe->fd = fd;
  sqe->poll32_events = static_cast<uint16_t>(events);
}

// revents as poll would have given them for this completion.
short ReventsFrom(int32_t result) noexcept {
  if (result == -EBADF) return POLLNVAL;
  if (result < 0) return POLLERR;
  return static_cast<short>(result);
}

// Whether any of the queues has something to read, without a ring's help.
bool LookAtQueues(const WaitRequest& request) noexcept {
  for (QueueRef queue : request.queues) {
    pollfd fd{queue.fd, POLLIN, 0};
    timespec none{};
    if (sys::Ppoll(&fd, 1, &none, nullptr) > 0) return true;
  }
  return false;
}

}  // namespace

struct UringEngine::Waiting {
  const WaitRequest& request;
  WaitResult result{};
  uint32_t serial = 0;
  bool polls_armed = false;
};

void UringEngine::OnWaitCompletion(RingToken token, int32_t result) noexcept {
  switch (token.tag) {
    case RingTag::kQueuePoll:
      queues_[token.serial].poll_armed = false;
      if (result != -ECANCELED) queues_[token.serial].poll_fired = true;
      break;
    case RingTag::kPoll:
      --polls_pending_;
      if (waiting_ != nullptr && token.serial == waiting_->serial && result != -ECANCELED)
        waiting_->request.polls[token.index].revents = ReventsFrom(result);
      break;
    case RingTag::kKeptPoll:
      kept_[token.index].armed = false;
      if (result != -ECANCELED) kept_[token.index].revents = ReventsFrom(result);
      break;
    case RingTag::kFutex:
      if (token.serial == futex_serial_) futex_ = nullptr;
      break;
    case RingTag::kWakePoll:
      wake_poll_armed_ = false;
      wake_poll_fired_ = result != -ECANCELED;
      break;
    default: break;
  }
}

// Collects what the completions so far mean for the wait. True when they end it.
bool UringEngine::Satisfied(Waiting& w) noexcept {
  const WaitRequest& request = w.request;
  for (QueueRef queue : request.queues) {
    const QueueSlot* slot = FindSlot(queue);
    if (slot != nullptr && (slot->starved || slot->poll_fired || slot->error != 0)) w.result.frames = true;
  }
  // What was read, be it before a read was disarmed, is for this thread to hand out.
  for (const QueueSlot& slot : queues_)
    if (slot.used && slot.ready_count > 0) w.result.frames = true;
  if (wake_poll_fired_) {
    wake_poll_fired_ = false;
    plain_->DrainWakeFd();
    w.result.woken = true;
  }
  if (WordChanged(request)) w.result.woken = true;
  if (w.polls_armed) {
    w.result.ready_polls = 0;
    for (WaitPoll& poll : request.polls) {
      if (poll.identity != 0 && poll.fd >= 0)
        if (KeptPoll* kept = KeptFor(poll); kept != nullptr && kept->revents != 0) poll.revents = kept->revents;
      w.result.ready_polls += poll.revents != 0;
    }
  }
  return w.result.frames || w.result.woken || w.result.ready_polls != 0;
}

// The entry that is armed, or may be armed, for this descriptor; null when there is none.
UringEngine::KeptPoll* UringEngine::KeptFor(const WaitPoll& poll) noexcept {
  for (KeptPoll& kept : kept_)
    if (kept.fd == poll.fd && kept.identity == poll.identity && kept.events == poll.events) return &kept;
  return nullptr;
}

// Where the poll may be kept: its own entry, or else the one of the number's earlier meaning, or else the one unused
// for longest. Null when this wait needs them all for other descriptors.
UringEngine::KeptPoll* UringEngine::PlaceFor(const WaitPoll& poll) noexcept {
  if (KeptPoll* own = KeptFor(poll)) return own;
  KeptPoll* oldest = nullptr;
  for (KeptPoll& kept : kept_) {
    if (kept.last_wait == wait_count_) continue;
    if (kept.fd == poll.fd) return &kept;
    if (oldest == nullptr || kept.last_wait < oldest->last_wait) oldest = &kept;
  }
  return oldest;
}

void UringEngine::ArmQueues(const WaitRequest& request) noexcept {
  for (QueueSlot& slot : queues_) {
    if (!slot.used) continue;
    bool named = false;
    for (QueueRef queue : request.queues) named |= slot.ref == queue;
    if (named) continue;
    // Frames of that queue are for another thread to wait for.
    if (slot.reads_armed > 0) CancelRead(slot);
    if (slot.poll_armed) CancelQueuePoll(slot);
  }
  for (QueueRef queue : request.queues) {
    QueueSlot* slot = SlotFor(queue);
    if (slot == nullptr || slot->reads_armed > 0 || slot->poll_armed) continue;
    if (ring_.has(kFeatureMultishotRead) && slot->provided > 0) {
      ArmRead(*slot);
      continue;
    }
    io_uring_sqe* sqe = ring_.Sqe({RingTag::kQueuePoll, IndexOf(*slot), 0});
    if (sqe == nullptr) return;
    PreparePoll(sqe, queue.fd, POLLIN);
    slot->poll_armed = true;
  }
}

void UringEngine::ArmFutex(const WaitRequest& request) noexcept {
  if (futex_ != nullptr && futex_ != request.futex) {
    Cancel({RingTag::kFutex, futex_serial_, 0});
    futex_ = nullptr;
  }
  if (request.futex != nullptr && futex_ == nullptr && ring_.has(kFeatureFutexWait)) {
    futex_serial_ = (futex_serial_ + 1) & RingToken::kSerialMask;
    io_uring_sqe* sqe = ring_.Sqe({RingTag::kFutex, futex_serial_, 0});
    if (sqe == nullptr) return;
    sqe->opcode = kOpFutexWait;
    sqe->fd = static_cast<int>(kFutexShared32);
    sqe->addr = reinterpret_cast<uint64_t>(request.futex);
    sqe->addr2 = request.futex_expected;
    sqe->addr3 = FUTEX_BITSET_MATCH_ANY;
    futex_ = request.futex;
  }
  if (plain_->wake_fd() >= 0 && !wake_poll_armed_) {
    io_uring_sqe* sqe = ring_.Sqe({RingTag::kWakePoll, 0, 0});
    if (sqe == nullptr) return;
    PreparePoll(sqe, plain_->wake_fd(), POLLIN);
    wake_poll_armed_ = true;
  }
}

void UringEngine::ArmPolls(Waiting& w) noexcept {
  w.polls_armed = true;
  for (size_t i = 0; i < w.request.polls.size(); ++i) {
    WaitPoll& poll = w.request.polls[i];
    poll.revents = 0;
    if (poll.fd < 0) continue;
    KeptPoll* place = nullptr;
    if (poll.identity != 0) place = PlaceFor(poll);
    RingToken token{RingTag::kPoll, w.serial, static_cast<uint32_t>(i)};
    if (place != nullptr) {
      token = {RingTag::kKeptPoll, 0, static_cast<uint32_t>(place - kept_)};
      bool same = place->fd == poll.fd && place->identity == poll.identity && place->events == poll.events;
      if (!same && place->armed) {
        Cancel(token);
        while (place->armed && !ring_.failed()) {
          ring_.Enter(1);
          ReapAll();
        }
      }
      place->fd = poll.fd;
      place->events = poll.events;
      place->identity = poll.identity;
      place->last_wait = wait_count_;
      place->revents = 0;
      if (place->armed) continue;
      place->armed = true;
    } else {
      ++polls_pending_;
    }
    io_uring_sqe* sqe = ring_.Sqe(token);
    if (sqe == nullptr) return;
    PreparePoll(sqe, poll.fd, poll.events);
  }
}

void UringEngine::Arm(Waiting& w) noexcept {
  ArmQueues(w.request);
  ArmFutex(w.request);
  if (!w.polls_armed) ArmPolls(w);
}

// Cancels what must not outlive the wait, and waits until the kernel has let go of it.
void UringEngine::LetGo(Waiting& w) noexcept {
  bool futex_goes = futex_ != nullptr && !w.request.futex_owned;
  if (polls_pending_ == 0 && !futex_goes) return;
  if (futex_goes) Cancel({RingTag::kFutex, futex_serial_, 0});
  if (polls_pending_ > 0) {
    for (size_t i = 0; i < w.request.polls.size(); ++i) {
      const WaitPoll& poll = w.request.polls[i];
      // Entries with an identity are here too when the table of kept ones was full; a cancellation that finds nothing
      // does no harm.
      if (poll.fd < 0 || poll.revents != 0) continue;
      Cancel({RingTag::kPoll, w.serial, static_cast<uint32_t>(i)});
    }
  }
  ring_.Enter(0);
  ReapAll();
  while ((polls_pending_ > 0 || (futex_goes && futex_ != nullptr)) && !ring_.failed()) {
    ring_.Enter(1);
    ReapAll();
  }
}

// `now` matters when there is a deadline or a time to spin for.
void UringEngine::Sleep(Waiting& w, Instant now) noexcept {
  const WaitRequest& request = w.request;
  Instant spin_end = now + request.spin;
  bool deferred = ring_.has(kFeatureDeferTaskrun);
  while (!ring_.failed()) {
    Arm(w);
    if (now < spin_end) {
      if (ring_.pending() > 0 || !deferred || ring_.WorkPending()) ring_.Enter(0);
      ReapAll();
      if (Satisfied(w)) return;
      now = MonotonicNow();
      if (now < request.deadline) continue;
    }
    if (now >= request.deadline) {
      w.result.timed_out = true;
      return;
    }
    // Where completions may appear outside of Enter, a hidden EINTR could not be told: submit first, then wait.
    if (!deferred && ring_.pending() > 0) {
      ring_.Enter(0);
      ReapAll();
      if (Satisfied(w)) return;
    }
    timespec left{};
    if (request.deadline != kNever) left = TimeLeft(request.deadline, now);
    ++stats_->waits;
    int r = ring_.Enter(1, request.deadline == kNever ? nullptr : &left, request.signal_mask);
    bool nothing = !ring_.HasCompletions();
    ReapAll();
    if (Satisfied(w)) return;
    if (request.deadline != kNever) {
      now = MonotonicNow();
      if (now >= request.deadline) {
        w.result.timed_out = true;
        return;
      }
    }
    // The kernel hides EINTR behind the number of entries it took, but it comes without a completion only then.
    if (r == -EINTR || (r > 0 && nothing)) {
      w.result.interrupted = true;
      return;
    }
  }
}

WaitResult UringEngine::Wait(const WaitRequest& request) noexcept {
  Waiting w{request};
  wait_serial_ = (wait_serial_ + 1) & RingToken::kSerialMask;
  w.serial = wait_serial_;
  ++wait_count_;
  waiting_ = &w;
  ReapAll();
  Instant now = request.deadline == kNever && request.spin.count() == 0 ? Instant{} : MonotonicNow();
  bool over = request.deadline <= now;
  if (over && ring_.WorkPending()) {
    ring_.Enter(0);
    ReapAll();
  }
  if (Satisfied(w) || over) {
    w.result.ready_polls = PollNow(request.polls);
    bool any = w.result.frames || w.result.woken || w.result.ready_polls != 0;
    if (over && !any) any = w.result.frames = LookAtQueues(request);
    w.result.timed_out = over && !any;
  } else {
    Sleep(w, now);
    LetGo(w);
    Satisfied(w);
  }
  waiting_ = nullptr;
  if (ring_.failed()) {
    polls_pending_ = 0;
    futex_ = nullptr;
    return plain_->Wait(request);
  }
  if (w.result.frames || w.result.woken || w.result.ready_polls != 0) w.result.timed_out = false;
  return w.result;
}

}  // namespace ustcp
