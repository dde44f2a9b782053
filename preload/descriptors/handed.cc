#include "preload/descriptors/handed.h"

#include <algorithm>
#include <atomic>

#include "io/base/report.h"
#include "io/base/sys.h"
#include "preload/descriptors/fd_table.h"
#include "stack/base/user_copy.h"

namespace ustcp {

namespace {

constexpr size_t kMaxHanded = 253;  // of one message (the kernel's SCM_MAX_FD)

bool IsOurs(int fd) {
  if (EpollSet* set = FindEpollSet(fd)) return set->item_count > 0;
  return static_cast<bool>(FindSocket(fd));
}

bool AnyOurs(const char* at, size_t bytes) {
  int fds[kMaxHanded];
  size_t count = std::min(bytes / sizeof(int), kMaxHanded);
  // What cannot be read is for the kernel to refuse.
  if (CopyFromUser(fds, at, count * sizeof(int)) != 0) return false;
  return std::any_of(fds, fds + count, IsOurs);
}

bool NamesOurs(const msghdr& m) {
  const auto* control = static_cast<const char*>(m.msg_control);
  cmsghdr h;
  for (size_t at = 0; at + sizeof h <= m.msg_controllen; at += CMSG_ALIGN(h.cmsg_len)) {
    if (CopyFromUser(&h, control + at, sizeof h) != 0) return false;
    if (h.cmsg_len < sizeof h || h.cmsg_len > m.msg_controllen - at) return false;
    if (h.cmsg_level == SOL_SOCKET && h.cmsg_type == SCM_RIGHTS &&
        AnyOurs(control + at + sizeof h, h.cmsg_len - sizeof h))
      return true;
  }
  return false;
}

bool IsUnix(int fd) {
  int domain = 0;
  socklen_t length = sizeof domain;
  return sys::Call(SYS_getsockopt, fd, SOL_SOCKET, SO_DOMAIN, sys::Arg(&domain), sys::Arg(&length)) == 0 &&
         domain == AF_UNIX;
}

}  // namespace

bool HandsOverOurs(int fd, const msghdr* message) noexcept {
  if (g_own_process.load(std::memory_order_relaxed) == nullptr) return false;
  msghdr m;
  if (CopyFromUser(&m, message, sizeof m) != 0 || m.msg_controllen < sizeof(cmsghdr)) return false;
  if (!NamesOurs(m) || !IsUnix(fd)) return false;
  static std::atomic_flag told = ATOMIC_FLAG_INIT;
  if (!told.test_and_set())
    ReportLine("ustcp: a TCP socket cannot be sent to another process (SCM_RIGHTS): sendmsg fails with EOPNOTSUPP");
  return true;
}

}  // namespace ustcp
