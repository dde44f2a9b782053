#include "preload/runtime/thread.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <new>

#include "io/base/sys.h"
#include "io/engine/drive_stats.h"
#include "preload/runtime/process.h"

namespace ustcp::runtime {
namespace {

thread_local ThreadState t_state;
pthread_key_t g_exit_key;
pthread_once_t g_exit_once = PTHREAD_ONCE_INIT;

void FreeBatch(ThreadState& t) {
  if (t.batch != nullptr) munmap(t.batch, sizeof(TxBatch));
  t.batch = nullptr;
}

// Thread exit: everything in the arena that only this thread used goes back. The engine ends first: until then its ring
// may still wait on the Waiter's word.
void OnThreadExit(void*) {
  ThreadState& t = t_state;
  Host* host = AttachedHost();
  if (host != nullptr && t.waiter != nullptr) LeaveLead(t);
  if (host != nullptr && t.engine != nullptr) {
    if (QueueRef queue = KnownQueue(); queue.fd >= 0) {
      ShardLock lock(*host, HomeShard(), Now());
      t.engine->ReleaseQueue(queue, lock.ctx.shard.bufs);
      CountEngine(t, lock.ctx.shard);
    }
  }
  if (t.engine != nullptr) Engine::Destroy(t.engine);
  if (host != nullptr && t.waiter != nullptr) {
    ShardLock lock(*host, HomeShard(), Now());
    lock.ctx.shard.waiters.Give(t.waiter);
    if (t.entry != nullptr) lock.ctx.shard.wait_entries.Give(t.entry);
  }
  FreeBatch(t);
  t = ThreadState{};
}

void MakeExitKey() { pthread_key_create(&g_exit_key, OnThreadExit); }

EngineOptions OptionsFor(EngineKind kind) {
  EngineOptions options;
  options.kind = kind;
  options.owner_tag = AttachedMember()->process;
  return options;
}

}  // namespace

ThreadState& CurrentThread() noexcept { return t_state; }

void CountEngine(ThreadState& t, Shard& home) noexcept {
  if (t.engine != nullptr) AddEngineStats(home, t.engine->stats(), &t.counted);
}

bool PrepareToSend(ThreadState& t) noexcept {
  if (t.batch == nullptr) {
    void* memory = mmap(nullptr, sizeof(TxBatch), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return false;
    t.batch = new (memory) TxBatch;
    pthread_once(&g_exit_once, MakeExitKey);
    pthread_setspecific(g_exit_key, &t);
  }
  if (t.engine == nullptr) t.engine = Engine::Create(OptionsFor(EngineKind::kPlain));
  return t.engine != nullptr;
}

bool PrepareToWait(ThreadState& t) noexcept {
  if (!t.engine_waits) {
    auto kind = static_cast<EngineKind>(AttachedHost()->config.engine);
    if (kind != EngineKind::kPlain) {
      Engine* better = Engine::Create(OptionsFor(kind));
      if (better == nullptr && (t.engine == nullptr || kind == EngineKind::kUring)) return false;
      if (better != nullptr) {
        if (t.engine != nullptr) {
          ShardLock lock(*AttachedHost(), HomeShard(), Now());
          CountEngine(t, lock.ctx.shard);
        }
        Engine::Destroy(t.engine);
        t.engine = better;
        t.counted = EngineStats{};
      }
    }
    t.engine_waits = true;
  }
  if (!PrepareToSend(t)) return false;
  if (t.waiter == nullptr) {
    int wake_descriptor = t.engine->wake_fd();
    {
      ShardLock lock(*AttachedHost(), HomeShard(), Now());
      t.waiter = lock.ctx.shard.waiters.Take();
      t.entry = lock.ctx.shard.wait_entries.Take();
      if (t.waiter == nullptr || t.entry == nullptr) return false;
      t.waiter->process = AttachedMember()->process;
      t.waiter->thread_id = static_cast<int32_t>(sys::Call(SYS_gettid));
      t.waiter->mode = wake_descriptor >= 0 ? Waiter::kDescriptor : Waiter::kFutex;
      t.waiter->wake_descriptor = wake_descriptor;
      t.entry->waiter = t.waiter;
      t.entry->process = AttachedMember()->process;
    }
    if (wake_descriptor >= 0) AnnounceWakeDescriptor(wake_descriptor);
  }
  return true;
}

void ForgetThread() noexcept {
  ThreadState& t = t_state;
  FreeBatch(t);
  t = ThreadState{};
}

}  // namespace ustcp::runtime
