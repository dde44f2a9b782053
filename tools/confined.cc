#include "tools/confined.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tools/commands.h"

namespace ustcp::tool {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kPatience = 30s;  // with a look: several times what `ss --check` takes at worst
constexpr rlim_t kCpuSeconds = 20;
constexpr rlim_t kHeapBytes = 1u << 30;
constexpr size_t kMostOutput = 64u << 20;

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// Memory, locks, the clock, its own output, and ending.
constexpr int kAllowed[] = {SYS_read,       SYS_write,         SYS_writev,          SYS_close,
                            SYS_futex,      SYS_clock_gettime, SYS_clock_nanosleep, SYS_nanosleep,
                            SYS_brk,        SYS_mmap,          SYS_munmap,          SYS_mremap,
                            SYS_madvise,    SYS_rt_sigreturn,  SYS_rt_sigaction,    SYS_rt_sigprocmask,
                            SYS_getpid,     SYS_gettid,        SYS_getrandom,       SYS_fstat,
                            SYS_newfstatat, SYS_lseek,         SYS_sched_yield,     SYS_restart_syscall,
                            SYS_exit,       SYS_exit_group};

void InstallFilter() {
  constexpr auto kCount = std::size(kAllowed);
  sock_filter program[kCount + 8];
  unsigned short n = 0;
  auto add = [&](sock_filter f) { program[n++] = f; };
  add(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)));
  add(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0));
  add(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
  add(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
  for (size_t i = 0; i < kCount; ++i)
    add(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(kAllowed[i]), static_cast<uint8_t>(kCount - i), 0));
  add(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM));
  add(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  sock_fprog filter{n, program};
  // A kernel without seccomp: no rights are left to misuse all the same.
  syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter);
}
#else
void InstallFilter() {}  // the sanitizers' own system calls are nobody's list to keep
#endif

void Limit(int resource, rlim_t most) {
  rlimit limit{};
  if (getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max = std::min(limit.rlim_max, most);
  setrlimit(static_cast<__rlimit_resource>(resource), &limit);
}

// Gives up what a process can have: other descriptors, user, capabilities, system calls.
void Confine() {
  close_range(3, ~0u, 0);
  Limit(RLIMIT_CORE, 0);
  Limit(RLIMIT_CPU, kCpuSeconds);
  Limit(RLIMIT_DATA, kHeapBytes);
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (geteuid() == 0) {
    constexpr uid_t kNobody = 65534;
    if (setgroups(0, nullptr) != 0 || setresgid(kNobody, kNobody, kNobody) != 0 ||
        setresuid(kNobody, kNobody, kNobody) != 0)
      _exit(3);
  }
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2]{};
  syscall(SYS_capset, &header, none);
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  InstallFilter();
}

// Runs a step of the confined process; what it throws is told, and the process ends.
void Step(const std::function<void()>& step) {
  int status = 0;
  try {
    step();
    return;
  } catch (const CommandError& error) {
    if (*error.what() != '\0') fmt::print(stderr, "ustcp: {}\n", error.what());
    status = error.status;
  }
  std::fflush(nullptr);
  _exit(status);
}

struct Outcome {
  std::string output[2];  // standard output and standard error
  int status = 0;         // of waitpid
  bool cut = false;       // it was ended for taking too long or saying too much
};

Outcome Collect(pid_t child, int (&pipes)[2], std::chrono::milliseconds patience) {
  Outcome outcome;
  auto end = Clock::now() + patience;
  for (int open = 2; open > 0 && !outcome.cut;) {
    pollfd ready[2] = {{pipes[0], POLLIN, 0}, {pipes[1], POLLIN, 0}};
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count();
    if (left <= 0) outcome.cut = true;
    if (left <= 0 || poll(ready, 2, static_cast<int>(left)) <= 0) continue;
    for (int i : {0, 1}) {
      if (ready[i].revents == 0) continue;
      char buffer[65536];
      ssize_t n = read(pipes[i], buffer, sizeof buffer);
      if (n < 0 && errno == EINTR) continue;
      if (n > 0) {
        outcome.output[i].append(buffer, static_cast<size_t>(n));
        outcome.cut |= outcome.output[i].size() > kMostOutput;
        continue;
      }
      close(pipes[i]);
      pipes[i] = -1;
      --open;
    }
  }
  for (int fd : pipes)
    if (fd >= 0) close(fd);
  if (outcome.cut) kill(child, SIGKILL);
  while (waitpid(child, &outcome.status, 0) < 0 && errno == EINTR) continue;
  return outcome;
}

// Processes that have the host's arena mapped, as the kernel knows them: what the arena says about that counts for nothing.
std::string ProgramsOf(const std::string& host) {
  std::string pids;
  std::string wanted = "/memfd:ustcp-" + host + " (deleted)";
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    std::string pid = entry.path().filename();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream maps(entry.path() / "maps");
    for (std::string line; std::getline(maps, line);) {
      if (!line.ends_with(wanted)) continue;
      pids += " " + pid;
      break;
    }
  }
  return pids.empty() ? " none that you may see" : pids;
}

std::string ProgramName(int32_t pid) {
  std::ifstream file(fmt::format("/proc/{}/comm", pid));
  std::string name;
  std::getline(file, name);
  return Printable(name);
}

}  // namespace

void RunConfined(const std::string& about, std::chrono::milliseconds patience, const std::function<void()>& prepare,
                 const std::function<void()>& work) {
  std::fflush(nullptr);
  int out[2];
  int errors[2];
  if (pipe2(out, O_CLOEXEC) != 0 || pipe2(errors, O_CLOEXEC) != 0)
    throw CommandError(fmt::format("no pipe: {}", std::strerror(errno)));
  pid_t parent = getpid();
  pid_t child = fork();
  if (child < 0) throw CommandError(fmt::format("no process: {}", std::strerror(errno)));
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != parent) _exit(3);
    dup2(out[1], 1);
    dup2(errors[1], 2);
    Step(prepare);
    Confine();
    Step(work);
    std::fflush(nullptr);
    _exit(0);
  }
  close(out[1]);
  close(errors[1]);
  int pipes[2] = {out[0], errors[0]};
  Outcome outcome = Collect(child, pipes, patience);
  if (outcome.cut || !WIFEXITED(outcome.status)) {
    std::string how = outcome.cut
                          ? "looking at it found no end"
                          : fmt::format("looking at it ended with SIG{}", sigabbrev_np(WTERMSIG(outcome.status)));
    throw CommandError(fmt::format("{} ({})", about, how));
  }
  fmt::print("{}", Printable(outcome.output[0], true));
  std::fflush(stdout);
  fmt::print(stderr, "{}", Printable(outcome.output[1], true));
  if (int status = WEXITSTATUS(outcome.status); status != 0) throw CommandError("", status);
}

void LookInto(const Settings& settings, Access access, const std::function<void(View&)>& look) {
  Member member;
  std::map<int32_t, std::string> programs;
  auto prepare = [&] {
    if (IoError error = Observe(settings, environ, &member, access == Access::kWrite))
      throw CommandError(error.message);
    for (const ProcessSlot& process : member.host->processes) {
      if (NeverUsed(process)) break;
      if (process.pid > 0) programs.emplace(process.pid, ProgramName(process.pid));
    }
  };
  auto work = [&] {
    View view{*member.host, std::move(programs)};
    look(view);
  };
  try {
    RunConfined("the arena of host " + std::string(settings.host.name) + " is damaged", kPatience, prepare, work);
  } catch (const CommandError& error) {
    if (*error.what() == '\0') throw;
    throw CommandError(
        fmt::format("{}; end what uses it, keeper included:{}", error.what(), ProgramsOf(settings.host.name)));
  }
}

}  // namespace ustcp::tool
