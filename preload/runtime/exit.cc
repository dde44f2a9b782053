// The end of the process by exit(), _exit() or exec. Descriptors are left to the keeper, which closes them as the kernel
// would; but frames that this thread's ring has read, or would still read while it is torn down, would be lost with it: a
// SYN among them costs its sender a second.
#include "io/base/clock.h"
#include "preload/runtime/process.h"

namespace ustcp::runtime {

void LeaveQueue() noexcept {
  Host* host = AttachedHost();
  ThreadState& t = CurrentThread();
  if (host == nullptr || t.engine == nullptr || t.lock_depth != 0) return;
  QueueRef queue = KnownQueue();
  if (queue.fd < 0) return;
  Turn(t, true);
  {
    ShardLock lock(*host, HomeShard(), MonotonicNow());
    t.engine->ReleaseQueue(queue, lock.ctx.shard.bufs);
  }
  LeaveLead(t);
}

namespace {

__attribute__((destructor)) void LeaveAtExit() { LeaveQueue(); }

}  // namespace
}  // namespace ustcp::runtime
