#include "stack/base/check.h"

#include <cstdio>
#include <cstdlib>

#include "stack/base/fault.h"

namespace ustcp {

std::atomic<uint64_t> g_bug_count{0};
#if defined(USTCP_ASSERTIONS)
void (*g_fault_hook)() noexcept = nullptr;
#endif

void CheckFailed(const char* file, int line, const char* what) noexcept {
  std::fprintf(stderr, "ustcp: internal error: %s (%s:%d)\n", what, file, line);
  std::abort();
}

void ReportBug(const char* file, int line, const char* what) noexcept {
#if defined(USTCP_ASSERTIONS)
  CheckFailed(file, line, what);
#else
  (void)file;
  (void)line;
  (void)what;
  g_bug_count.fetch_add(1, std::memory_order_relaxed);
#endif
}

}  // namespace ustcp
