// Calls after which a process may no longer be able to reach its host: it has become another user, or sees other files. A
// daemon that drops its privileges before it opens its first socket is to stay on the host of the user who started it,
// as it would stay in its network namespace; so it joins before. What keeps it from joining is told by its first socket.
#include <grp.h>
#include <unistd.h>

#include "io/base/sys.h"
#include "preload/calls/interpose.h"
#include "preload/calls/parts.h"
#include "preload/runtime/membership.h"

using namespace ustcp;

namespace {

constexpr auto kKeep = static_cast<uid_t>(-1);

}  // namespace

void ustcp::BeforeUserChanges(uid_t user) noexcept {
  if (user == kKeep || user == 0 || sys::Call(SYS_geteuid) != 0) return;
  int saved = errno;
  AttachQuietly();
  errno = saved;
}

USTCP_EXPORT int setuid(uid_t user) noexcept {
  BeforeUserChanges(user);
  return real::setuid(user);
}

USTCP_EXPORT int seteuid(uid_t user) noexcept {
  BeforeUserChanges(user);
  return real::seteuid(user);
}

USTCP_EXPORT int setreuid(uid_t real_user, uid_t user) noexcept {
  BeforeUserChanges(user);
  return real::setreuid(real_user, user);
}

USTCP_EXPORT int setresuid(uid_t real_user, uid_t user, uid_t saved_user) noexcept {
  BeforeUserChanges(user);
  return real::setresuid(real_user, user, saved_user);
}

USTCP_EXPORT int chroot(const char* path) noexcept {
  if (sys::Call(SYS_geteuid) == 0) {
    int saved = errno;
    AttachQuietly();
    errno = saved;
  }
  return real::chroot(path);
}
