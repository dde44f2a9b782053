// Memory of the program whose pages another thread of it fills in when they are asked for (userfaultfd). That thread may use
// sockets meanwhile, so nobody may wait for it with a lock: where such memory exists, calls ask for their pages before.
// Known by the registration, which goes through ioctl(); one that another process, or code past the C library, made for this
// process is not seen.
#pragma once

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include <atomic>
#include <cstddef>

#include "stack/base/user_copy.h"
#include "stack/base/user_vector.h"

namespace ustcp {

extern std::atomic<bool> g_pages_may_wait;

// To be told of every ioctl().
inline void NoteIoctl(unsigned long request) noexcept {
  if (request == UFFDIO_REGISTER) [[unlikely]]
    g_pages_may_wait.store(true, std::memory_order_relaxed);
}

inline bool PagesMayWait() noexcept { return __builtin_expect(g_pages_may_wait.load(std::memory_order_relaxed), 0); }

// Before a lock under which the bytes are copied.
inline void AskForPages(const void* p, size_t n, bool to_write) noexcept {
  if (PagesMayWait()) (void)TouchUser(p, n, to_write);
}
// The same for what one hold of the lock copies: the rest, if any, is for the next. True: there is a rest.
inline bool AskForPages(UserVector& bytes, bool to_write) noexcept {
  constexpr size_t kAtOnce = 64 * 1024;
  return PagesMayWait() && bytes.TouchNext(kAtOnce, to_write);
}

}  // namespace ustcp
