#include "preload/keeper/confine.h"

#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <iterator>

namespace ustcp::keeper {

namespace {

constexpr rlim_t kDescriptors = 16'384;

int SetCapabilities(uint64_t keep) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  for (int i = 0; i < 2; ++i) data[i].effective = data[i].permitted = static_cast<uint32_t>(keep >> (32 * i));
  return syscall(SYS_capset, &header, data) == 0 ? 0 : errno;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
// The sanitizers' own system calls are nobody's list to keep.
int InstallFilter() { return 0; }
#else
// What a driver needs: frames, waiting, its clock, its memory, looking at /proc, and ending.
constexpr int kAllowed[] = {
    SYS_read,
    SYS_write,
    SYS_readv,
    SYS_writev,
    SYS_close,
    SYS_ppoll,
    SYS_poll,
    SYS_futex,
    SYS_epoll_wait,
    SYS_epoll_pwait,
    SYS_epoll_ctl,
    SYS_recvmsg,
    SYS_sendmsg,
    SYS_pidfd_open,
    SYS_clock_gettime,
    SYS_clock_nanosleep,
    SYS_nanosleep,
    SYS_brk,
    SYS_mmap,
    SYS_munmap,
    SYS_madvise,
    SYS_mremap,
    SYS_fcntl,
    SYS_fstat,
    SYS_newfstatat,
    SYS_getpid,
    SYS_gettid,
    SYS_getrandom,
    SYS_sched_yield,
    SYS_restart_syscall,
    SYS_rt_sigreturn,
    SYS_rt_sigprocmask,
    SYS_rt_sigaction,
    SYS_tgkill,
    SYS_exit,
    SYS_exit_group,
    SYS_set_robust_list,
    SYS_rseq,
    SYS_prctl,
    SYS_getdents64,
};

int InstallFilter() {
  constexpr auto kCount = std::size(kAllowed);
  // Architecture, then opening files for reading only, then the list.
  sock_filter program[kCount + 24];
  size_t n = 0;
  auto add = [&](sock_filter f) { program[n++] = f; };
  add(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)));
  add(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0));
  add(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
  add(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
  add(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 4));
  add(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])));
  add(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 03 | 0100 | 01000 | 02000, 0,
               1));  // write modes, O_CREAT, O_TRUNC, O_APPEND
  add(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM));
  add(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  // Of ioctl, what detaches a queue.
  add(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 4));
  add(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[1])));
  add(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(TUNSETQUEUE), 1, 0));
  add(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM));
  add(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  for (size_t i = 0; i < kCount; ++i)
    add(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(kAllowed[i]), static_cast<uint8_t>(kCount - i), 0));
  add(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM));
  add(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  sock_fprog filter{static_cast<unsigned short>(n), program};
  // TSYNC: for every thread of the driver.
  long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter);
  // A kernel without seccomp: the driver has no rights to misuse all the same.
  return result == 0 || errno == ENOSYS || errno == EINVAL ? 0 : errno;
}
#endif

}  // namespace

int ConfineBroker() {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);  // nobody of the same user takes its descriptors
  if (geteuid() != 0) return 0;        // has no capabilities to give up
  return SetCapabilities(uint64_t{1} << CAP_NET_ADMIN | uint64_t{1} << CAP_SETUID | uint64_t{1} << CAP_SETGID);
}

int ConfineDriver(uint32_t uid, uint32_t gid) {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
  if (geteuid() == 0) {
    if (setgroups(0, nullptr) != 0 || setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0) return errno;
  }
  if (int error = SetCapabilities(0)) return error;
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  return InstallFilter();
}

void RaiseLimits() {
  for (int resource : {RLIMIT_NOFILE, RLIMIT_AS, RLIMIT_FSIZE, RLIMIT_DATA, RLIMIT_CPU}) {
    rlimit limit{};
    if (getrlimit(resource, &limit) != 0) continue;
    // The hard limit of descriptors too, where the right to is there: one for every connection, process and queue.
    if (resource == RLIMIT_NOFILE && limit.rlim_max < kDescriptors) {
      rlimit wanted{kDescriptors, kDescriptors};
      if (setrlimit(resource, &wanted) == 0) continue;
    }
    if (limit.rlim_cur == limit.rlim_max) continue;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(resource, &limit);
  }
}

}  // namespace ustcp::keeper
