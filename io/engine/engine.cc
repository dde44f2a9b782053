#include "io/engine/engine.h"

#include <atomic>
#include <cerrno>
#include <new>

#include "io/base/owned_fds.h"
#include "io/base/report.h"
#include "io/base/sys.h"
#include "io/engine/plain_engine.h"
#include "io/engine/uring_engine.h"

namespace ustcp {
namespace {

struct EngineMemory {
  alignas(Engine) std::byte engine[sizeof(Engine)];
  alignas(PlainEngine) std::byte plain[sizeof(PlainEngine)];
  alignas(UringEngine) std::byte ring[sizeof(UringEngine)];
};

constexpr size_t kMemoryBytes = (sizeof(EngineMemory) + 4095) / 4096 * 4096;

const char* WhyNoRing(int error) noexcept {
  return error == -ENOSYS   ? "this kernel has no usable io_uring"
         : error == -EPERM  ? "io_uring is not permitted here (kernel.io_uring_disabled, or a sandbox)"
         : error == -ENOMEM ? "no memory for io_uring"
                            : "io_uring cannot be set up";
}

// Says once per process why plain calls do the work.
void ReportFallBack(int error) noexcept {
  static std::atomic<bool> reported{false};
  if (reported.exchange(true)) return;
  ReportLine("ustcp: %s (%s); using plain reads and writes", WhyNoRing(error), ErrorName(-error));
}

}  // namespace

Engine* Engine::Create(const EngineOptions& options, int* ring_error) noexcept {
  if (ring_error != nullptr) *ring_error = 0;
  void* p = sys::Map(nullptr, kMemoryBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (sys::MapFailed(p)) return nullptr;
  // A child sees zeroes here, never state that describes the parent's ring.
  sys::Advise(p, kMemoryBytes, MADV_WIPEONFORK);
  auto* memory = static_cast<EngineMemory*>(p);
  auto* engine = new (memory->engine) Engine();
  engine->plain_ = new (memory->plain) PlainEngine(&engine->stats_);
  engine->ring_batch_ = options.ring_batch;
  bool needs_wake_fd = true;
  if (options.kind != EngineKind::kPlain) {
    auto* ring = new (memory->ring) UringEngine(options, engine->plain_, &engine->stats_);
    int r = ring->Open();
    if (r == 0) {
      engine->ring_ = ring;
      needs_wake_fd = (ring->features() & kFeatureFutexWait) == 0;
    } else {
      ring->~UringEngine();
      if (ring_error != nullptr) *ring_error = -r;
      if (options.kind == EngineKind::kUring) {
        Destroy(engine);
        return nullptr;
      }
      if (!options.quiet) ReportFallBack(r);
    }
  }
  // With no descriptor left, waits look at the futex word every few milliseconds instead.
  engine->plain_->Open(options.wake_fd, needs_wake_fd);
  return engine;
}

IoError Engine::CheckRing() noexcept {
  EngineOptions options;
  options.kind = EngineKind::kUring;
  int error = 0;
  Engine* engine = Create(options, &error);
  if (engine != nullptr) {
    Destroy(engine);
    return {};
  }
  if (error == 0) error = ENOMEM;
  return MakeError(error == EPERM ? EACCES : ENETDOWN, "%s (%s); permit it, or set USTCP_ENGINE=auto",
                   WhyNoRing(-error), ErrorName(error));
}

void Engine::Destroy(Engine* engine) noexcept {
  if (engine == nullptr) return;
  if (engine->ring_ != nullptr) engine->ring_->~UringEngine();
  if (engine->plain_ != nullptr) engine->plain_->~PlainEngine();
  sys::Unmap(engine, kMemoryBytes);
}

void Engine::AbandonInChild() noexcept { OwnedFds::CloseInheritedEngines(); }

bool Engine::RingWorks() const noexcept { return ring_ != nullptr && !ring_->failed(); }

TransmitResult Engine::Transmit(QueueRef queue, const TxBatch& batch, bool pick_up) noexcept {
  TransmitResult result;
  if (plain_ == nullptr) {
    result.failed = static_cast<uint32_t>(batch.count);
    result.error = ESTALE;
    return result;
  }
  const bool ring = RingWorks() && (pick_up || !ring_->Reads(queue));
  // With frames to be read pending, the next enter is needed anyway: whatever is written in it saves its own call.
  if (ring && batch.count > 0 && (batch.count >= ring_batch_ || ring_->ReadsPending(queue)))
    ring_->Transmit(queue, batch, &result);
  else
    plain_->Transmit(queue, batch, 0, &result);
  return result;
}

ReceiveResult Engine::Receive(QueueRef queue, BufPool& pool, FrameSink sink, uint32_t max_frames) noexcept {
  if (plain_ == nullptr) return {.frames = 0, .more = false, .error = ESTALE};
  if (RingWorks()) return ring_->Receive(queue, pool, sink, max_frames);
  return plain_->Receive(queue, pool, sink, max_frames);
}

uint32_t Engine::HeldFrames(QueueRef queue) const noexcept { return RingWorks() ? ring_->HeldFrames(queue) : 0; }

bool Engine::CertainlyIdle(QueueRef queue) const noexcept { return RingWorks() && ring_->CertainlyIdle(queue); }

void Engine::ReleaseQueue(QueueRef queue, BufPool& pool) noexcept {
  if (ring_ != nullptr) ring_->ReleaseQueue(queue, pool);
}

WaitResult Engine::Wait(const WaitRequest& request) noexcept {
  if (plain_ == nullptr) {
    WaitResult result;
    result.error = ESTALE;
    return result;
  }
  return RingWorks() ? ring_->Wait(request) : plain_->Wait(request);
}

int Engine::wake_fd() const noexcept { return plain_ != nullptr ? plain_->wake_fd() : -1; }
bool Engine::is_uring() const noexcept { return RingWorks(); }
uint32_t Engine::features() const noexcept { return RingWorks() ? ring_->features() : 0; }

EngineStats Engine::stats() const noexcept {
  EngineStats s = stats_;
  if (ring_ != nullptr) s.ring_enters = ring_->enters();
  return s;
}

}  // namespace ustcp
