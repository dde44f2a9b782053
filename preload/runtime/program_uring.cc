#include "preload/runtime/program_uring.h"

#include <dlfcn.h>

#include <atomic>
#include <cerrno>

#include "io/base/report.h"
#include "io/settings/settings.h"
#include "preload/descriptors/fd_table.h"
#include "preload/runtime/process.h"

extern char** environ;

namespace ustcp::program_uring {
namespace {

// The first libuv that hands epoll_ctl to a ring in batches. (1.49 does so only on demand, all later ones always.)
constexpr unsigned kLibuvBatches = 1 << 16 | 45 << 8;

std::atomic<bool> g_made{false};
std::atomic<bool> g_told{false};

ProgramUring Setting() {
  if (runtime::AttachedHost() != nullptr) return runtime::CurrentSettings().program_uring;
  static std::atomic<int> known{-1};
  int value = known.load(std::memory_order_relaxed);
  if (value < 0) {
    // What is wrong with them is told when the process attaches.
    Settings settings;
    value = static_cast<int>(LoadSettings(environ, &settings) ? ProgramUring::kAuto : settings.program_uring);
    known.store(value, std::memory_order_relaxed);
  }
  return static_cast<ProgramUring>(value);
}

// libuv tells its version. It is in the program or a library of it; an extension that brings its own is the caller.
bool LibuvBatches(const void* caller) {
  void* version = dlsym(RTLD_DEFAULT, "uv_version");
  Dl_info info;
  if (version == nullptr && dladdr(caller, &info) != 0 && info.dli_fname != nullptr) {
    if (void* object = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD)) {
      version = dlsym(object, "uv_version");
      dlclose(object);
    }
  }
  return version != nullptr && reinterpret_cast<unsigned (*)()>(version)() >= kLibuvBatches;
}

}  // namespace

bool Allowed(const void* caller) noexcept {
  int saved_errno = errno;
  ProgramUring setting = Setting();
  bool allowed = setting == ProgramUring::kOn || (setting == ProgramUring::kAuto && !LibuvBatches(caller));
  errno = saved_errno;
  return allowed;
}

void Made() noexcept {
  g_made.store(true);
  if (g_own_process.load(std::memory_order_relaxed) != nullptr) Attached();
}

void Attached() noexcept {
  if (!g_made.load() || g_told.exchange(true)) return;
  ReportLine(
      "ustcp: the program uses io_uring, which finds ustcp sockets unconnected; if it does more than files, set "
      "USTCP_PROGRAM_URING=off");
}

}  // namespace ustcp::program_uring
