#include "preload/libc/real.h"

#include <dlfcn.h>

namespace ustcp::real {

namespace {

constexpr const char* kNames[] = {
#define USTCP_CALL(result, name, parameters, exception, number) #name,
#define USTCP_VARIADIC(result, name, parameters, exception, number) #name,
#define USTCP_EXEC(result, name, parameters, exception)
#define USTCP_ALIAS(target, name)
#include "preload/calls/calls.def"
#undef USTCP_CALL
#undef USTCP_VARIADIC
#undef USTCP_EXEC
#undef USTCP_ALIAS
};

// dlsym may come back to us: through an allocator of the program's that reads or maps a file.
thread_local bool t_resolving = false;

}  // namespace

std::atomic<void*> g_pointers[static_cast<size_t>(Symbol::kCount)];

void* Resolve(Symbol symbol) noexcept {
  if (t_resolving) return nullptr;
  t_resolving = true;
  int saved_errno = errno;
  void* p = dlsym(RTLD_NEXT, kNames[static_cast<size_t>(symbol)]);
  errno = saved_errno;
  t_resolving = false;
  if (p != nullptr) g_pointers[static_cast<size_t>(symbol)].store(p, std::memory_order_relaxed);
  return p;
}

}  // namespace ustcp::real
