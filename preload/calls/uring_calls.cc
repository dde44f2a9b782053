// The calls of a shared liburing that set a ring up; it enters the kernel by instructions of its own.
#include <dlfcn.h>

#include "preload/calls/interpose.h"
#include "preload/runtime/program_uring.h"

using namespace ustcp;

namespace {

// liburing's own call. It may have been loaded for the caller alone, where looking for the next one does not find it.
void* Own(real::Symbol symbol, const char* name, const void* caller) {
  if (void* p = real::Pointer(symbol)) return p;
  Dl_info info;
  if (dladdr(caller, &info) == 0 || info.dli_fname == nullptr) return nullptr;
  void* object = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  if (object == nullptr) return nullptr;
  void* p = dlsym(object, name);
  dlclose(object);
  return p;
}

// As liburing: a negative errno number.
template <typename... A>
int SetUp(real::Symbol symbol, const char* name, const void* caller, int (*self)(A...), A... arguments) {
  if (!program_uring::Allowed(caller)) return -ENOSYS;
  auto own = reinterpret_cast<int (*)(A...)>(Own(symbol, name, caller));
  if (own == nullptr || own == self) return -ENOSYS;
  int result = own(arguments...);
  if (result >= 0) program_uring::Made();
  return result;
}

}  // namespace

#define USTCP_SET_UP(name, ...) SetUp(real::Symbol::k_##name, #name, __builtin_return_address(0), ::name, __VA_ARGS__)

USTCP_EXPORT int io_uring_queue_init(unsigned entries, io_uring* ring, unsigned flags) {
  return USTCP_SET_UP(io_uring_queue_init, entries, ring, flags);
}

USTCP_EXPORT int io_uring_queue_init_params(unsigned entries, io_uring* ring, io_uring_params* params) {
  return USTCP_SET_UP(io_uring_queue_init_params, entries, ring, params);
}

USTCP_EXPORT int io_uring_queue_init_mem(unsigned entries, io_uring* ring, io_uring_params* params, void* memory,
                                         size_t bytes) {
  return USTCP_SET_UP(io_uring_queue_init_mem, entries, ring, params, memory, bytes);
}

USTCP_EXPORT int io_uring_setup(unsigned entries, io_uring_params* params) {
  return USTCP_SET_UP(io_uring_setup, entries, params);
}
