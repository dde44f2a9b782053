#include <algorithm>
#include <cerrno>

#include "io/base/clock.h"
#include "preload/runtime/capture_hook.h"
#include "preload/runtime/process.h"
#include "stack/stack.h"
#include "stack/sync/futex.h"

namespace ustcp::runtime {

void (*g_after_unlock)() noexcept = nullptr;
thread_local constinit int64_t t_clock_ns = 0;

namespace {

// Frames of one turn: enough to keep batches large, few enough that a program gets its events in time.
constexpr uint32_t kFramesPerTurn = 128;
// And few enough bytes that the program finds in the cache what it reads next: buffers are reused last in, first out.
constexpr size_t kBytesPerTurn = 128 * 1024;
constexpr uint32_t kFramesPerLook = 8;

void WakeSleeper(Waiter& w) {
  FutexWake(w.word);
  // A sleeper without FUTEX_WAIT in its ring waits on a descriptor: reachable from its own process only, and through the
  // keeper from others.
  if (w.mode == Waiter::kDescriptor) WakeByDescriptor(w);
}

// Sleepers that were signalled under a lock and are woken after it: known to whoever cleans up after this process, should
// it die in between. Made before the lock is dropped.
class Waking {
 public:
  explicit Waking(WakeSet& wakes) : wakes_(wakes), process_(wakes.empty() ? nullptr : OwnProcess()) {
    if (process_ != nullptr) process_->waking.fetch_add(1);
  }
  ~Waking() {
    wakes_.Flush(WakeSleeper);
    if (process_ != nullptr) process_->waking.fetch_sub(1);
  }
  Waking(const Waking&) = delete;
  Waking& operator=(const Waking&) = delete;

 private:
  WakeSet& wakes_;
  ProcessSlot* process_;
};

// Drops the lock, and does what has to be done once it is dropped.
void Release(ShardLock& lock) {
  Context& ctx = lock.ctx;
  PublishDeadline(ctx);
  {
    Waking waking(ctx.wakes);
    lock.Unlock();
  }
  if (ctx.nudge_keeper) NudgeKeeper(ctx.host);
}

void TakeIn(Context& ctx, RxFrame& frame) {
  if (__builtin_expect(Capturing(), 0)) CaptureIn(frame, ctx.now);
  OnFrame(ctx, frame);
}

// Takes in what has arrived, within the limits of a turn.
void Receive(ThreadState& t, Context& ctx, QueueRef queue) {
  size_t bytes = 0;
  auto sink = [&ctx, &bytes](RxFrame& frame) {
    bytes += frame.bytes.size();
    TakeIn(ctx, frame);
  };
  for (uint32_t frames = 0; frames < kFramesPerTurn && bytes < kBytesPerTurn;) {
    ReceiveResult received = t.engine->Receive(queue, ctx.shard.bufs, sink, kFramesPerLook);
    if (received.error != 0) ReopenHomeQueue();
    if (!received.more) break;
    frames += received.frames;
  }
}

// What is read now only its reader can hand out, and that is to be who waits for frames.
bool AnotherLeads(const ThreadState& t) {
  const Waiter* leader = HomeShard().leader_waiter.load(std::memory_order_relaxed);
  return leader != nullptr && leader != t.waiter;
}

}  // namespace

bool InsideStack() noexcept { return CurrentThread().lock_depth != 0; }

void Flush(ThreadState& t, Context& ctx) noexcept {
  if (!HasOutput(ctx.shard) || !PrepareToSend(t)) return;
  QueueRef queue = HomeQueue();
  bool more = true;
  while (more) {
    more = PollTransmit(ctx, *t.batch);
    if (Capturing()) CaptureOut(*t.batch, ctx.now);
    if (t.batch->count > 0 && queue.fd >= 0) t.engine->Transmit(queue, *t.batch, !AnotherLeads(t));
    ReleaseTransmitted(ctx, *t.batch);
  }
}

void AfterUnlock(ThreadState& t, Context& ctx) noexcept {
  for (size_t word = 0; word < ctx.touched.size(); ++word)
    while (ctx.touched[word] != 0) {
      int bit = std::countr_zero(ctx.touched[word]);
      ctx.touched[word] &= ctx.touched[word] - 1;
      Shard& shard = ctx.host.shards[word * 64 + static_cast<size_t>(bit)];
      if (&shard == &ctx.shard) continue;
      ShardLock lock(ctx.host, shard, ctx.now);
      Flush(t, lock.ctx);
      Release(lock);
    }
  // Somebody may have put a frame into the mailbox after we looked and before we unlocked.
  while (HasMail(ctx.shard)) {
    ShardLock lock(ctx.host, ctx.shard, MonotonicNow());
    DrainMailbox(lock.ctx);
    Flush(t, lock.ctx);
    Release(lock);
  }
}

void TakeInHeldFrames(ThreadState& t) noexcept {
  if (t.engine == nullptr || !t.engine_waits) return;
  const QueueRef queue = KnownQueue();
  if (queue.fd < 0 || t.engine->HeldFrames(queue) == 0) return;
  ++t.lock_depth;
  // Answers may be sent by an enter that picks up more.
  while (const uint32_t held = t.engine->HeldFrames(queue)) {
    ShardLock lock(*AttachedHost(), HomeShard(), MonotonicNow());
    Context& ctx = lock.ctx;
    t.engine->Receive(
        queue, ctx.shard.bufs, [&ctx](RxFrame& frame) { TakeIn(ctx, frame); }, held);
    Flush(t, ctx);
    Release(lock);
    AfterUnlock(t, ctx);
  }
  --t.lock_depth;
  if (t.lock_depth == 0 && g_after_unlock != nullptr) g_after_unlock();
}

void Turn(ThreadState& t, bool flush_answers) noexcept {
  Host& host = *AttachedHost();
  Shard& home = HomeShard();
  QueueRef queue = ReadQueue();
  ++t.lock_depth;
  {
    ShardLock lock(host, home, MonotonicNow());
    Context& ctx = lock.ctx;
    t_clock_ns = NanosOf(ctx.now);
    Flush(t, ctx);
    DrainMailbox(ctx);
    if (queue.fd >= 0) Receive(t, ctx, queue);
    if (NextDeadline(ctx) <= ctx.now) OnDeadline(ctx);
    if (flush_answers) Flush(t, ctx);
    CountEngine(t, home);
    home.last_turn_ns.store(NanosOf(ctx.now), std::memory_order_relaxed);
    home.turns.fetch_add(1, std::memory_order_relaxed);
    Release(lock);
    AfterUnlock(t, ctx);
    if (Capturing()) FlushCapture();
  }
  --t.lock_depth;
  if (t.lock_depth == 0 && g_after_unlock != nullptr) g_after_unlock();
}

Locked::Locked(Socket& socket) noexcept : Locked(AttachedHost()->shard(socket)) {
  lock_.ctx.shard.in_update = socket.conn;
}

Locked::Locked(Shard& shard) noexcept
    : depth_((++CurrentThread().lock_depth, 0)), lock_(*AttachedHost(), shard, MonotonicNow()) {
  (void)depth_;
  t_clock_ns = NanosOf(lock_.ctx.now);
}

bool Locked::MayWait(const ThreadState& t, const Context& ctx) const noexcept {
  return (t.handing_out || (leave_ && t.wait_follows)) && &ctx.shard == &HomeShard();
}

Locked::~Locked() {
  ThreadState& t = CurrentThread();
  Context& ctx = lock_.ctx;
  ctx.shard.in_update = nullptr;
  if (HasOutput(ctx.shard) && (at_once_ || !MayWait(t, ctx))) Flush(t, ctx);
  Release(lock_);
  AfterUnlock(t, ctx);
  TakeInHeldFrames(t);
  --t.lock_depth;
  if (t.lock_depth == 0 && g_after_unlock != nullptr) g_after_unlock();
}

}  // namespace ustcp::runtime
