#include "preload/runtime/capture_hook.h"

#include <pthread.h>

#include <atomic>
#include <cstdio>
#include <new>

#include "io/base/report.h"
#include "io/base/sys.h"
#include "io/device/capture.h"

namespace ustcp::runtime {
namespace {

pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER;
std::atomic<bool> g_capturing{false};
alignas(Capture) std::byte g_storage[sizeof(Capture)];
Capture* g_capture = nullptr;  // in g_storage: never destroyed, its file is flushed instead

class CaptureLock {
 public:
  CaptureLock() { pthread_mutex_lock(&g_lock); }
  ~CaptureLock() { pthread_mutex_unlock(&g_lock); }
};

}  // namespace

bool Capturing() noexcept { return g_capturing.load(std::memory_order_relaxed); }

void StartCapture(const char* path) noexcept {
  if (path[0] == '\0') return;
  CaptureLock guard;
  if (g_capture != nullptr) return;
  g_capture = new (g_storage) Capture;
  char name[320];
  std::snprintf(name, sizeof name, "%s.%d", path, static_cast<int>(sys::Call(SYS_getpid)));
  if (IoError e = g_capture->Open(name, CaptureOptions{})) {
    ReportLine("ustcp: %s", e.message);
    return;
  }
  g_capturing.store(true);
}

void CaptureIn(const RxFrame& frame, Instant now) noexcept {
  CaptureLock guard;
  g_capture->OnReceive(frame, now);
}

void CaptureOut(const TxBatch& batch, Instant now) noexcept {
  CaptureLock guard;
  for (size_t i = 0; i < batch.count; ++i) g_capture->OnTransmit(batch.frames[i], now);
}

void FlushCapture() noexcept {
  CaptureLock guard;
  g_capture->Flush();
}

void ForgetCapture() noexcept {
  pthread_mutex_init(&g_lock, nullptr);
  g_capturing.store(false);
  g_capture = nullptr;
}

}  // namespace ustcp::runtime
