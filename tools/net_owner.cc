#include "tools/net_owner.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "io/member/keeper_channel.h"
#include "io/member/keeper_start.h"
#include "tools/commands.h"

namespace ustcp::tool {

namespace {

constexpr int kEndPatienceMs = 3000;
constexpr char kNode[] = "/dev/net/tun";

// Where the sockets of a keeper that root runs for the user are.
std::string DirectoryFor(const Settings& settings, uid_t user) {
  if (settings.runtime_dir[0] != '\0') return settings.runtime_dir;
  char directory[kMaxSettingPath];
  UserDirectory(user, directory);
  return directory;
}

bool BecomeUser(uid_t user) {
  const passwd* entry = getpwuid(user);
  gid_t group = entry != nullptr ? entry->pw_gid : user;
  bool groups = entry != nullptr ? initgroups(entry->pw_name, group) == 0 : setgroups(0, nullptr) == 0;
  return groups && setresgid(group, group, group) == 0 && setresuid(user, user, user) == 0;
}

// access() of each path, asked by the user: 0 or an errno number.
std::vector<int> AccessAs(uid_t user, const std::vector<std::pair<std::string, int>>& wanted) {
  std::vector<int> result(wanted.size(), EPERM);
  int pipe_fds[2];
  if (pipe2(pipe_fds, O_CLOEXEC) != 0) return result;
  pid_t child = fork();
  if (child == 0) {
    for (const auto& [path, mode] : wanted) {
      static bool changed = BecomeUser(user);
      int code = !changed ? EPERM : access(path.c_str(), mode) == 0 ? 0 : errno;
      if (write(pipe_fds[1], &code, sizeof(code)) != sizeof(code)) _exit(1);
    }
    _exit(0);
  }
  close(pipe_fds[1]);
  for (int& code : result)
    if (child < 0 || read(pipe_fds[0], &code, sizeof(code)) != sizeof(code)) break;
  close(pipe_fds[0]);
  if (child > 0) waitpid(child, nullptr, 0);
  return result;
}

// The process that listens at the other end of a connection; -1 when it is gone.
int ListenerPidfd(int fd) {
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.uid != geteuid()) return -1;
  int pidfd = static_cast<int>(syscall(SYS_pidfd_open, peer.pid, 0));
  pollfd state{fd, POLLIN, 0};
  if (pidfd >= 0 && poll(&state, 1, 0) >= 0 && (state.revents & POLLHUP) == 0) return pidfd;
  if (pidfd >= 0) close(pidfd);
  return -1;
}

}  // namespace

UserAccess LookAs(const Settings& settings, uid_t user) {
  const std::string object = FindObject();
  const std::string directory = DirectoryFor(settings, user);
  std::vector<int> codes = AccessAs(user, {{kNode, R_OK | W_OK}, {object, R_OK}, {directory, X_OK}});
  UserAccess access;
  access.node = codes[0] == 0;
  auto miss = [&](const std::string& path, int code, const char* remedy) {
    access.missing.push_back(fmt::format("user {} cannot use {} ({}); {}", user, path, std::strerror(code), remedy));
  };
  if (codes[1] != 0) miss(object, codes[1], "install it where every user can read it");
  // One that is not there yet is made readable to all.
  if (!access.node && codes[2] != 0 && codes[2] != ENOENT)
    miss(directory, codes[2], "make it and the folders above accessible (chmod a+x)");
  return access;
}

void StartKeeperOf(const Settings& settings, uid_t user) {
  umask(022);
  if (settings.runtime_dir[0] == '\0') {
    char parent[kMaxSettingPath];
    RuntimeDirectory(settings, environ, parent);
    if (IoError error = CheckRuntimeDirectory(parent, true)) throw CommandError(error.message);
  }
  IoError error = StartKeeper(settings, environ, DirectoryFor(settings, user).c_str(), -1, /*stays=*/true);
  if (error && error.code != EEXIST) throw CommandError(error.message);
  if (!error && error.message[0] != '\0') fmt::print(stderr, "ustcp: {}\n", error.message);
}

void EndKeeperOf(const Settings& settings, uid_t user) {
  char directory[kMaxSettingPath];
  RuntimeDirectory(settings, environ, directory);
  char path[kMaxSettingPath];
  if (!KeeperPath(user == 0 ? directory : DirectoryFor(settings, user).c_str(), settings.host.name, ".sock", path))
    return;
  int fd = ConnectKeeper(path);
  if (fd < 0) return;
  int pidfd = ListenerPidfd(fd);
  KeeperRequest request;
  KeeperReply reply;
  int unused = -1;
  bool answered = SendMessage(fd, &request, sizeof(request), -1) == 0 &&
                  ReceiveMessage(fd, &reply, sizeof(reply), &unused, kEndPatienceMs) == sizeof(reply);
  bool ours = answered && reply.error == 0 && reply.stays != 0 &&
              std::strncmp(reply.queue.name, settings.host.interface, sizeof(reply.queue.name)) == 0;
  close(fd);
  if (pidfd < 0) return;
  if (ours) syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, nullptr, 0);
  pollfd ended{pidfd, POLLIN, 0};
  if (ours || !answered) poll(&ended, 1, kEndPatienceMs);
  close(pidfd);
}

}  // namespace ustcp::tool
