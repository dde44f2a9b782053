#include "io/member/address_limit.h"

#include <algorithm>

#include "io/base/sys.h"

namespace ustcp::address_limit {
namespace {

rlim_t Plus(rlim_t limit, uint64_t bytes) {
  return limit == RLIM_INFINITY || limit > RLIM_INFINITY - bytes ? RLIM_INFINITY : limit + bytes;
}

rlim_t Minus(rlim_t limit, uint64_t bytes) {
  return limit == RLIM_INFINITY ? RLIM_INFINITY : limit - std::min<rlim_t>(limit, bytes);
}

bool Get(rlimit* limit) { return sys::Call(SYS_prlimit64, 0, RLIMIT_AS, 0, sys::Arg(limit)) == 0; }
bool Set(const rlimit& limit) { return sys::Call(SYS_prlimit64, 0, RLIMIT_AS, sys::Arg(&limit), 0) == 0; }

}  // namespace

rlimit ForKernel(const rlimit& programs, uint64_t arena_bytes) noexcept {
  return {Plus(programs.rlim_cur, arena_bytes), Plus(programs.rlim_max, arena_bytes)};
}

rlimit ForProgram(const rlimit& kernels, uint64_t arena_bytes) noexcept {
  return {Minus(kernels.rlim_cur, arena_bytes), Minus(kernels.rlim_max, arena_bytes)};
}

rlimit Raise(uint64_t arena_bytes) noexcept {
  rlimit own{RLIM_INFINITY, RLIM_INFINITY};
  if (!Get(&own) || own.rlim_cur == RLIM_INFINITY) return own;
  const rlimit raised = ForKernel(own, arena_bytes);
  if (!Set(raised)) Set({std::min(raised.rlim_cur, own.rlim_max), own.rlim_max});
  return own;
}

void Restore(const rlimit& before) noexcept {
  if (before.rlim_cur != RLIM_INFINITY) Set(before);
}

void Lower(uint64_t arena_bytes) noexcept {
  rlimit limit;
  if (Get(&limit) && limit.rlim_cur != RLIM_INFINITY) Set(ForProgram(limit, arena_bytes));
}

AsOfProgram::AsOfProgram(uint64_t arena_bytes) noexcept {
  if (arena_bytes == 0 || !Get(&before_) || before_.rlim_cur == RLIM_INFINITY) return;
  lowered_ = Set({Minus(before_.rlim_cur, arena_bytes), before_.rlim_max});
}

AsOfProgram::~AsOfProgram() {
  if (lowered_) Set(before_);
}

}  // namespace ustcp::address_limit
