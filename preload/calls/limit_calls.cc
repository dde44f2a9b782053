// Limits of the process: the one on its address space is told and set without the arena (io/member/address_limit.h).
#include <sys/resource.h>

#include "io/member/address_limit.h"
#include "preload/calls/interpose.h"
#include "preload/calls/parts.h"
#include "preload/runtime/runtime.h"

using namespace ustcp;

// rlimit64 is the same structure.
static_assert(sizeof(rlimit64) == sizeof(rlimit) && RLIM64_INFINITY == RLIM_INFINITY);

namespace {

bool IsAddressSpace(int resource) { return resource == RLIMIT_AS && ArenaBytes() != 0; }

bool IsSelf(pid_t pid) { return pid == 0 || pid == static_cast<pid_t>(sys::Call(SYS_getpid)); }

// After a call that filled it in.
template <typename Limit>
void TellProgram(Limit* limit) {
  const rlimit own = address_limit::ForProgram({limit->rlim_cur, limit->rlim_max}, ArenaBytes());
  *limit = {own.rlim_cur, own.rlim_max};
}

// `wanted` as the kernel is to have it, in `room`; as it is when it cannot be read, for the kernel to say so.
template <typename Limit>
const Limit* TellKernel(const Limit* wanted, Limit& room) {
  if (wanted == nullptr || !GetUser(room, wanted)) return wanted;
  const rlimit kernels = address_limit::ForKernel({room.rlim_cur, room.rlim_max}, ArenaBytes());
  room = {kernels.rlim_cur, kernels.rlim_max};
  return &room;
}

}  // namespace

uint64_t ustcp::ArenaBytes() noexcept {
  const Member* member = runtime::AttachedMember();
  return member != nullptr ? member->arena_bytes : 0;
}

#define USTCP_LIMIT_CALLS(get, set, both, Limit)                                                       \
  USTCP_EXPORT int get(int resource, Limit* limit) noexcept {                                          \
    int result = real::get(resource, limit);                                                           \
    if (result == 0 && IsAddressSpace(resource)) TellProgram(limit);                                   \
    return result;                                                                                     \
  }                                                                                                    \
  USTCP_EXPORT int set(int resource, const Limit* limit) noexcept {                                    \
    Limit room;                                                                                        \
    return real::set(resource, IsAddressSpace(resource) ? TellKernel(limit, room) : limit);            \
  }                                                                                                    \
  USTCP_EXPORT int both(pid_t pid, __rlimit_resource resource, const Limit* to, Limit* old) noexcept { \
    if (!IsAddressSpace(resource) || !IsSelf(pid)) return real::both(pid, resource, to, old);          \
    Limit room;                                                                                        \
    int result = real::both(pid, resource, TellKernel(to, room), old);                                 \
    if (result == 0 && old != nullptr) TellProgram(old);                                               \
    return result;                                                                                     \
  }                                                                                                    \
  static_assert(true)

USTCP_LIMIT_CALLS(getrlimit, setrlimit, prlimit, rlimit);
USTCP_LIMIT_CALLS(getrlimit64, setrlimit64, prlimit64, rlimit64);
