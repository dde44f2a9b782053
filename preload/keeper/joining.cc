#include "preload/keeper/joining.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "io/base/parse.h"

// Linux 6.5; the C library's headers may be older.
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

namespace ustcp::keeper {

namespace {

constexpr size_t kMaxAnnounced = 1024;

// A pidfd is readable once its process has ended; then the number may belong to another one.
bool Ended(int pidfd) {
  pollfd state{pidfd, POLLIN, 0};
  return poll(&state, 1, 0) != 0;
}

}  // namespace

Joining::~Joining() {
  for (auto& [pid, fd] : announced_) close(fd);
}

bool Joining::Listed(uint32_t uid) const {
  const auto& allowed = settings_.allowed_users;
  return std::find(allowed.begin(), allowed.begin() + settings_.allowed_user_count, uid) !=
         allowed.begin() + settings_.allowed_user_count;
}

// To read and write: who can only read it was not given it by us, and a number alone says nothing.
bool Joining::ShowsArena(int fd) const {
  ArenaFile file;
  return fd >= 0 && !InspectArenaFile(fd, &file) && file.writable && file.identity == arena_;
}

bool Joining::Returns(pid_t pid) {
  auto at = announced_.find(pid);
  if (at == announced_.end()) return false;
  bool same = !Ended(at->second);
  close(at->second);
  announced_.erase(at);
  return same;
}

IoError Joining::Admit(const Peer& peer, Purpose purpose, int shown_fd) {
  // Used up in any case: an announcement is good for the next program and no other.
  bool returns = purpose == Purpose::kJoin && Returns(peer.pid);
  if (Trusted(peer.uid)) return {};
  if (purpose == Purpose::kJoin && (Listed(peer.uid) || returns || ShowsArena(shown_fd))) return {};
  IoError error;
  error.code = EACCES;
  TextBuilder(error.message) << "host '" << settings_.host.name << "' belongs to user " << owner_ << ", user "
                             << peer.uid << " may not join; add the user to `allow` or choose another USTCP_HOST";
  return error;
}

void Joining::ExpectReturn(const Peer& peer, int pidfd) {
  // Who has no number here (another process namespace) shares 0 with strangers, and cannot be found again by it.
  int copy = pidfd >= 0 && peer.pid > 0 ? fcntl(pidfd, F_DUPFD_CLOEXEC, 3) : -1;
  if (copy < 0) return;
  DropEnded();
  if (Ended(copy) || announced_.size() >= kMaxAnnounced) {
    close(copy);
    return;
  }
  auto [at, added] = announced_.try_emplace(peer.pid, copy);
  if (added) return;
  close(at->second);
  at->second = copy;
}

void Joining::DropEnded() {
  for (auto at = announced_.begin(); at != announced_.end();) {
    if (!Ended(at->second)) {
      ++at;
      continue;
    }
    close(at->second);
    at = announced_.erase(at);
  }
}

int PeerPidfd(int socket, pid_t pid) {
  int fd = -1;
  socklen_t size = sizeof(fd);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &fd, &size) == 0) return fd;
  // Of an older kernel: by number, which is still its own while the connection it made is open.
  fd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  pollfd state{socket, POLLIN, 0};
  if (fd >= 0 && poll(&state, 1, 0) >= 0 && (state.revents & POLLHUP) == 0) return fd;
  if (fd >= 0) close(fd);
  return -1;
}

}  // namespace ustcp::keeper
