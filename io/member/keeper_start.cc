#include "io/member/keeper_start.h"

#include <dlfcn.h>
#include <linux/close_range.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstring>

#include "io/base/parse.h"
#include "io/base/sys.h"

// Where `cmake --install` puts the keeper; the build says.
#ifndef USTCP_LIBEXEC_DIR
#define USTCP_LIBEXEC_DIR "/usr/local/libexec/ustcp"
#endif

namespace ustcp {

namespace {

constexpr int kReadyTimeoutMs = 5000;
constexpr size_t kMaxVariables = 96;

IoError Fail(int code, const char* what, const char* detail, int cause, const char* remedy) {
  IoError error;
  error.code = code;
  TextBuilder text(error.message);
  text << what << detail;
  if (cause != 0) text << " (" << ErrnoText(cause) << ", errno " << cause << ")";
  text << "; " << remedy;
  return error;
}

// The object that this code is in, libustcp.so or a program that has it linked in, as it was when it was loaded. Its name
// may be relative to a directory that the program leaves, or mean another file in another root.
struct Object {
  bool known = false;
  char directory[kMaxSettingPath] = {};  // absolute; empty when it has none
  uint32_t owner = 0;
};
constinit Object g_object;

__attribute__((constructor)) void NoteObject() noexcept {
  Dl_info info{};
  if (g_object.known) return;
  g_object.known = true;
  if (dladdr(reinterpret_cast<void*>(&StartKeeper), &info) == 0 || info.dli_fname == nullptr) return;
  const char* slash = std::strrchr(info.dli_fname, '/');
  struct stat status {};
  if (slash == nullptr || sys::Call(SYS_newfstatat, AT_FDCWD, sys::Arg(info.dli_fname), sys::Arg(&status), 0) != 0)
    return;
  char here[kMaxSettingPath] = "";
  if (info.dli_fname[0] != '/' && (sys::Call(SYS_getcwd, sys::Arg(here), sizeof(here)) <= 0 || here[0] != '/')) return;
  TextBuilder text(g_object.directory);
  text << here << (here[0] != '\0' ? "/" : "")
       << std::string_view(info.dli_fname, static_cast<size_t>(slash - info.dli_fname));
  if (text.cut()) g_object.directory[0] = '\0';
  g_object.owner = status.st_uid;
}

// Opens a program that this one may become: of root, of its user, or of whoever made the object, who is believed already.
// Some of the names it is sought under may lie where others make files. -1 otherwise.
int OpenProgram(const char* path) {
  int fd = static_cast<int>(sys::Call(SYS_openat, AT_FDCWD, sys::Arg(path), O_PATH | O_CLOEXEC, 0));
  if (fd < 0) return -1;
  struct stat status {};
  if (sys::Call(SYS_fstat, fd, sys::Arg(&status)) == 0 && S_ISREG(status.st_mode) && (status.st_mode & S_IWOTH) == 0 &&
      (status.st_uid == 0 || status.st_uid == static_cast<uint32_t>(sys::Call(SYS_geteuid)) ||
       status.st_uid == g_object.owner) &&
      sys::Call(SYS_faccessat, AT_FDCWD, sys::Arg(path), 1 /* X_OK */) == 0)
    return fd;
  sys::Close(fd);
  return -1;
}

// The one given; the one that came with this object (so that a build tree uses its own), the installed one. *program: a
// descriptor of what was found; -1 for the one given, which is the user's word.
bool FindKeeper(const Settings& settings, char (&out)[kMaxSettingPath], int* program) {
  *program = -1;
  if (settings.keeper_path[0] != '\0') {
    TextBuilder(out) << settings.keeper_path;
    return true;
  }
  NoteObject();
  if (g_object.directory[0] != '\0') {
    // Beside the object; the build tree (preload/, tools/, tests/); bin/, lib/TRIPLET/ and lib/TRIPLET/ustcp/ of a prefix.
    for (const char* relative :
         {"/ustcp-keeper", "/keeper/ustcp-keeper", "/../preload/keeper/ustcp-keeper", "/../libexec/ustcp/ustcp-keeper",
          "/../../libexec/ustcp/ustcp-keeper", "/../../../libexec/ustcp/ustcp-keeper"}) {
      TextBuilder text(out);
      text << g_object.directory << relative;
      if (!text.cut() && (*program = OpenProgram(out)) >= 0) return true;
    }
  }
  TextBuilder(out) << USTCP_LIBEXEC_DIR "/ustcp-keeper";
  return (*program = OpenProgram(out)) >= 0;
}

// The settings that name the host, as this program has them: its environment may have changed since it read them.
struct Identity {
  char host[96];
  char interface[48];
  char directory[kMaxSettingPath + 24];
  char config[kMaxSettingPath + 16];
};

// What the keeper needs of the program's environment: our settings, and what sanitizers of a test build read.
size_t FilterEnvironment(const Settings& settings, const char* const* environment, const char* directory,
                         Identity* identity, const char** out) {
  size_t n = 0;
  TextBuilder(identity->host) << "USTCP_HOST=" << settings.host.name;
  TextBuilder(identity->interface) << "USTCP_INTERFACE=" << settings.host.interface;
  TextBuilder(identity->directory) << "USTCP_RUNTIME_DIR=" << directory;
  out[n++] = identity->host;
  out[n++] = identity->interface;
  out[n++] = identity->directory;
  if (settings.config_path[0] != '\0') {
    TextBuilder(identity->config) << "USTCP_CONFIG=" << settings.config_path;
    out[n++] = identity->config;
  }
  for (; environment != nullptr && *environment != nullptr && n < kMaxVariables; ++environment) {
    std::string_view variable = *environment;
    bool known = false;
    for (size_t i = 0; i < n && !known; ++i) {
      std::string_view name = out[i];
      known = variable.starts_with(name.substr(0, name.find('=') + 1));
    }
    if (known) continue;
    if (variable.starts_with("USTCP_") || variable.starts_with("XDG_RUNTIME_DIR=") ||
        variable.starts_with("ASAN_OPTIONS=") || variable.starts_with("UBSAN_OPTIONS=") ||
        variable.starts_with("TSAN_OPTIONS="))
      out[n++] = *environment;
  }
  out[n] = nullptr;
  return n;
}

struct Launch {
  const char* path;
  int program;  // a descriptor of it, so that it is the file that was looked at; -1: by its path
  const char* arguments[6];
  const char* environment[kMaxVariables + 1];
  int ready_fd;
  int arena_fd;
  int tap_fd;
};

[[noreturn]] void ReportAndExit(const Launch& launch, const char* what, int cause) {
  KeeperReply reply;
  reply.error = cause == EACCES ? EACCES : ENETDOWN;
  TextBuilder(reply.message) << what << " " << launch.path << " (" << ErrnoText(cause) << ", errno " << cause
                             << "); install it or set USTCP_KEEPER";
  sys::Write(launch.ready_fd, &reply, sizeof(reply));
  for (;;) sys::Call(SYS_exit_group, 127);
}

// In the grandchild: a copy of the program's memory in which only this thread exists. System calls and nothing else.
[[noreturn]] void Become(const Launch& launch) {
  // All three above the numbers they go to, so that none overwrites another.
  int ready = sys::Fcntl(launch.ready_fd, F_DUPFD, 10);
  int arena = launch.arena_fd >= 0 ? sys::Fcntl(launch.arena_fd, F_DUPFD, 10) : -1;
  int tap = launch.tap_fd >= 0 ? sys::Fcntl(launch.tap_fd, F_DUPFD, 10) : -1;
  int program = launch.program >= 0 ? sys::Fcntl(launch.program, F_DUPFD, 10) : -1;
  if (ready < 0) ReportAndExit(launch, "no descriptor left to start", -ready);
  if (program < 0 && launch.program >= 0) ReportAndExit(launch, "no descriptor left to start", -program);
  int null = sys::Open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3; ++fd)
    if (null >= 0) {
      sys::Call(SYS_dup2, null, fd);
    } else {
      sys::Close(fd);
    }
  sys::Call(SYS_dup2, ready, kKeeperReadyFd);
  if (arena >= 0)
    sys::Call(SYS_dup2, arena, kKeeperArenaFd);
  else
    sys::Close(kKeeperArenaFd);
  if (tap >= 0)
    sys::Call(SYS_dup2, tap, kKeeperTapFd);
  else
    sys::Close(kKeeperTapFd);
  // The ready pipe stays open above too until exec, to report its failure, and so does the program.
  sys::Fcntl(ready, F_SETFD, FD_CLOEXEC);
  if (sys::Call(SYS_close_range, kKeeperTapFd + 1, static_cast<long>(~0u), CLOSE_RANGE_CLOEXEC) != 0)
    for (int fd = kKeeperTapFd + 1; fd < 65536; ++fd) sys::Fcntl(fd, F_SETFD, FD_CLOEXEC);
  // A daemon may be somebody else for the moment (seteuid). The keeper is that user's for good: with two identities its
  // environment would count for nothing (StartedWithMoreRights).
  long user = sys::Call(SYS_geteuid);
  long group = sys::Call(SYS_getegid);
  sys::Call(SYS_setresgid, group, group, group);
  sys::Call(SYS_setresuid, user, user, user);
  sigset_t none;
  std::memset(&none, 0, sizeof(none));
  sys::Call(SYS_rt_sigprocmask, SIG_SETMASK, sys::Arg(&none), 0, sys::kSignalSetBytes);
  long result = program >= 0 ? sys::Call(SYS_execveat, program, sys::Arg(""), sys::Arg(launch.arguments),
                                         sys::Arg(launch.environment), AT_EMPTY_PATH)
                             : sys::Call(SYS_execve, sys::Arg(launch.path), sys::Arg(launch.arguments),
                                         sys::Arg(launch.environment));
  Launch report = launch;
  report.ready_fd = kKeeperReadyFd;
  ReportAndExit(report, "cannot start", static_cast<int>(-result));
}

// Forks twice. No signal is sent when the first child ends, and a wait() of the program does not see it: its exit signal
// is 0, which only __WALL or __WCLONE collect.
int Spawn(const Launch& launch) {
  long child = sys::Call(SYS_clone, 0);
  if (child == 0) {
    sys::Call(SYS_setsid);
    long grandchild = sys::Call(SYS_clone, SIGCHLD);
    if (grandchild == 0) Become(launch);
    for (;;) sys::Call(SYS_exit_group, grandchild < 0 ? 1 : 0);
  }
  if (child < 0) return static_cast<int>(child);
  int status = 0;
  long waited;
  do waited = sys::Call(SYS_wait4, child, sys::Arg(&status), __WALL, 0);
  while (waited == -EINTR);
  return waited == child && status != 0 ? -EAGAIN : 0;
}

// Blocks every signal for the calling thread: a handler of the program must not run in the copies, nor between them.
class SignalsBlocked {
 public:
  SignalsBlocked() noexcept {
    sigset_t all;
    std::memset(&all, 0xff, sizeof(all));
    sys::Call(SYS_rt_sigprocmask, SIG_SETMASK, sys::Arg(&all), sys::Arg(&saved_), sys::kSignalSetBytes);
  }
  ~SignalsBlocked() { sys::Call(SYS_rt_sigprocmask, SIG_SETMASK, sys::Arg(&saved_), 0, sys::kSignalSetBytes); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t saved_{};
};

}  // namespace

IoError StartKeeper(const Settings& settings, const char* const* environment, const char* directory, int arena_fd,
                    bool stays, bool* ended) noexcept {
  char path[kMaxSettingPath];
  int program;
  if (!FindKeeper(settings, path, &program))
    return Fail(ENETDOWN, "no keeper at ", path, 0, "install ustcp-keeper or set USTCP_KEEPER");
  int pipe[2];
  long made = sys::Call(SYS_pipe2, sys::Arg(pipe), O_CLOEXEC);
  if (made != 0) {
    if (program >= 0) sys::Close(program);
    return Fail(ENETDOWN, "no pipe to the keeper", "", static_cast<int>(-made), "raise RLIMIT_NOFILE");
  }

  Launch launch{};
  launch.path = path;
  launch.program = program;
  size_t n = 0;
  launch.arguments[n++] = "ustcp-keeper";
  launch.arguments[n++] = "--ready";
  if (arena_fd >= 0) launch.arguments[n++] = "--adopt";
  if (settings.tap_fd >= 0) launch.arguments[n++] = "--tap";
  if (stays) launch.arguments[n++] = "--stay";
  Identity identity;
  FilterEnvironment(settings, environment, directory, &identity, launch.environment);
  launch.ready_fd = pipe[1];
  launch.arena_fd = arena_fd;
  launch.tap_fd = settings.tap_fd;
  int spawned;
  {
    SignalsBlocked blocked;
    spawned = Spawn(launch);
  }
  sys::Close(pipe[1]);
  if (program >= 0) sys::Close(program);
  if (spawned < 0) {
    sys::Close(pipe[0]);
    return Fail(ENETDOWN, "no process for the keeper", "", -spawned,
                "raise RLIMIT_NPROC or start ustcp-keeper beforehand");
  }

  KeeperReply reply;
  size_t got = 0;
  timespec timeout{kReadyTimeoutMs / 1000, 0};
  while (got < sizeof(reply)) {
    pollfd readable{pipe[0], POLLIN, 0};
    int ready = sys::Ppoll(&readable, 1, &timeout, nullptr);
    if (ready == -EINTR) continue;
    if (ready <= 0) break;
    ssize_t r = sys::Read(pipe[0], reinterpret_cast<std::byte*>(&reply) + got, sizeof(reply) - got);
    if (r == -EINTR) continue;
    if (r <= 0) break;
    got += static_cast<size_t>(r);
  }
  sys::Close(pipe[0]);
  if (ended != nullptr) *ended = got != sizeof(reply);
  if (got != sizeof(reply))
    return Fail(ENETDOWN, "the keeper ended while starting: ", path, 0, "run it by hand with --foreground to see why");
  if (reply.magic != kKeeperMagic || reply.version != kKeeperVersion)
    return Fail(ENETDOWN, "program and keeper are of different versions: ", path, 0, "install both from one build");
  IoError error;
  error.code = reply.error;
  std::memcpy(error.message, reply.message, sizeof(error.message));
  return error;
}

IoError CheckRuntimeDirectory(const char* path, bool create) noexcept {
  uint32_t user = static_cast<uint32_t>(sys::Call(SYS_geteuid));
  if (create) {
    // Root's directory is for members of all users (the keeper checks who asks); anybody else's is private.
    long made = sys::Call(SYS_mkdirat, AT_FDCWD, sys::Arg(path), user == 0 ? 0755 : 0700);
    if (made != 0 && made != -EEXIST)
      return Fail(ENETDOWN, "no directory ", path, static_cast<int>(-made), "create it or set USTCP_RUNTIME_DIR");
  }
  struct stat status {};
  long result = sys::Call(SYS_newfstatat, AT_FDCWD, sys::Arg(path), sys::Arg(&status), AT_SYMLINK_NOFOLLOW);
  if (result == -ENOENT) return Fail(ENOENT, "no directory ", path, 0, "start the host or set USTCP_RUNTIME_DIR");
  if (result != 0)
    return Fail(EACCES, "no access to directory ", path, static_cast<int>(-result), "set USTCP_RUNTIME_DIR");
  if (!S_ISDIR(status.st_mode)) return Fail(EACCES, "not a directory: ", path, 0, "remove it or set USTCP_RUNTIME_DIR");
  if ((status.st_uid != user && status.st_uid != 0) || (status.st_mode & 022) != 0)
    return Fail(EACCES, "others can write to directory ", path, 0, "chown and chmod it, or set USTCP_RUNTIME_DIR");
  return {};
}

}  // namespace ustcp
