// Which numbers of syscall() are ours, and what they come down to. scripts/check_raw_calls.py compares this list with
// calls.def: an interposed call whose number is missing here can be made past us.
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>

#include "preload/raw/raw_call.h"

namespace ustcp::raw {
namespace {

struct Table {
  Handler handlers[kNumbers];
};

constexpr Table MakeTable() {
  Table table{};
  auto& t = table.handlers;

  t[SYS_socket] = Invoked<::socket>;
  t[SYS_bind] = WhenOurs<SYS_bind, ::bind>;
  t[SYS_listen] = WhenOurs<SYS_listen, ::listen>;
  t[SYS_accept] = Accept;
  t[SYS_accept4] = Accept4;
  t[SYS_connect] = WhenOurs<SYS_connect, ::connect>;
  t[SYS_shutdown] = WhenOurs<SYS_shutdown, ::shutdown>;
  t[SYS_getsockname] = WhenOurs<SYS_getsockname, ::getsockname>;
  t[SYS_getpeername] = WhenOurs<SYS_getpeername, ::getpeername>;
  t[SYS_getsockopt] = WhenOurs<SYS_getsockopt, ::getsockopt>;
  t[SYS_setsockopt] = WhenOurs<SYS_setsockopt, ::setsockopt>;

  t[SYS_read] = WhenOurs<SYS_read, ::read>;
  t[SYS_readv] = WhenOurs<SYS_readv, ::readv>;
  t[SYS_recvfrom] = WhenOurs<SYS_recvfrom, ::recvfrom>;
  t[SYS_recvmsg] = Recvmsg;
  t[SYS_recvmmsg] = Recvmmsg;
  t[SYS_write] = WhenOurs<SYS_write, ::write>;
  t[SYS_writev] = WhenOurs<SYS_writev, ::writev>;
  t[SYS_sendto] = WhenOurs<SYS_sendto, ::sendto>;
  t[SYS_sendmsg] = WhenAttached<SYS_sendmsg, ::sendmsg>;
  t[SYS_sendmmsg] = WhenAttached<SYS_sendmmsg, ::sendmmsg>;
  t[SYS_sendfile] = WhenOurs<SYS_sendfile, ::sendfile, 0, 1>;
  t[SYS_splice] = WhenOurs<SYS_splice, ::splice, 0, 2>;

  t[SYS_poll] = Poll;
  t[SYS_ppoll] = Ppoll;
  t[SYS_select] = Select;
  t[SYS_pselect6] = Pselect6;
  t[SYS_epoll_create] = WhenAttached<SYS_epoll_create, ::epoll_create>;
  t[SYS_epoll_create1] = WhenAttached<SYS_epoll_create1, ::epoll_create1>;
  t[SYS_epoll_ctl] = WhenOurs<SYS_epoll_ctl, ::epoll_ctl, 0, 2>;
  t[SYS_epoll_wait] = Invoked<::epoll_wait>;
  t[SYS_epoll_pwait] = EpollPwait;
  t[SYS_epoll_pwait2] = EpollPwait2;

  t[SYS_close] = Close;
  t[SYS_close_range] = WhenAttached<SYS_close_range, ::close_range>;
  t[SYS_dup] = WhenAttached<SYS_dup, ::dup>;
  t[SYS_dup2] = WhenAttached<SYS_dup2, ::dup2>;
  t[SYS_dup3] = WhenAttached<SYS_dup3, ::dup3>;
  t[SYS_fcntl] = Fcntl;
  t[SYS_ioctl] = Ioctl;

  t[SYS_open] = ReturnsDescriptor<SYS_open>;
  t[SYS_openat] = ReturnsDescriptor<SYS_openat>;
  t[SYS_openat2] = ReturnsDescriptor<SYS_openat2>;
  t[SYS_creat] = ReturnsDescriptor<SYS_creat>;
  t[SYS_open_by_handle_at] = ReturnsDescriptor<SYS_open_by_handle_at>;
  t[SYS_memfd_create] = ReturnsDescriptor<SYS_memfd_create>;
  t[SYS_memfd_secret] = ReturnsDescriptor<SYS_memfd_secret>;
  t[SYS_mq_open] = ReturnsDescriptor<SYS_mq_open>;
  t[SYS_pipe] = ReturnsPair<SYS_pipe, 0>;
  t[SYS_pipe2] = ReturnsPair<SYS_pipe2, 0>;
  t[SYS_socketpair] = ReturnsPair<SYS_socketpair, 3>;
  t[SYS_eventfd] = ReturnsDescriptor<SYS_eventfd>;
  t[SYS_eventfd2] = ReturnsDescriptor<SYS_eventfd2>;
  t[SYS_timerfd_create] = ReturnsDescriptor<SYS_timerfd_create>;
  t[SYS_signalfd] = ReturnsDescriptor<SYS_signalfd>;
  t[SYS_signalfd4] = ReturnsDescriptor<SYS_signalfd4>;
  t[SYS_inotify_init] = ReturnsDescriptor<SYS_inotify_init>;
  t[SYS_inotify_init1] = ReturnsDescriptor<SYS_inotify_init1>;
  t[SYS_fanotify_init] = ReturnsDescriptor<SYS_fanotify_init>;
  t[SYS_pidfd_open] = ReturnsDescriptor<SYS_pidfd_open>;
  t[SYS_pidfd_getfd] = ReturnsDescriptor<SYS_pidfd_getfd>;
  t[SYS_perf_event_open] = ReturnsDescriptor<SYS_perf_event_open>;
  t[SYS_userfaultfd] = ReturnsDescriptor<SYS_userfaultfd>;
  t[SYS_io_uring_setup] = IoUringSetup;

  t[SYS_fstat] = WhenOurs<SYS_fstat, ::fstat>;
  t[SYS_stat] = WhenAttached<SYS_stat, ::stat>;
  t[SYS_newfstatat] = WhenAttached<SYS_newfstatat, ::fstatat>;
  t[SYS_statx] = WhenAttached<SYS_statx, ::statx>;
  t[SYS_readlink] = WhenAttached<SYS_readlink, ::readlink>;
  t[SYS_readlinkat] = WhenAttached<SYS_readlinkat, ::readlinkat>;
  t[SYS_flock] = WhenOurs<SYS_flock, ::flock>;
  t[SYS_fchmod] = WhenOurs<SYS_fchmod, ::fchmod>;
  t[SYS_fchown] = WhenOurs<SYS_fchown, ::fchown>;
  t[SYS_kcmp] = Kcmp;
  t[SYS_preadv2] = Preadv2;
  t[SYS_pwritev2] = Pwritev2;

  t[SYS_fork] = Fork;
  // The parent's memory would be shared with a child that changes its table.
  t[SYS_vfork] = Fork;
  t[SYS_clone] = Clone;
  t[SYS_clone3] = Clone3;
  t[SYS_exit] = Exit;
  t[SYS_exit_group] = ExitGroup;
  t[SYS_execve] = WhenAttached<SYS_execve, ::execve>;
  t[SYS_execveat] = WhenAttached<SYS_execveat, ::execveat>;

  t[SYS_setuid] = Setuid;
  t[SYS_setreuid] = Setreuid;
  t[SYS_setresuid] = Setresuid;
  t[SYS_chroot] = Invoked<::chroot>;

  t[SYS_getrlimit] = WhenAttached<SYS_getrlimit, ::getrlimit>;
  t[SYS_setrlimit] = WhenAttached<SYS_setrlimit, ::setrlimit>;
  t[SYS_prlimit64] = WhenAttached<SYS_prlimit64, ::prlimit>;

  t[SYS_rt_sigaction] = Sigaction;
  t[SYS_rt_sigprocmask] = ChangeMask;
  return table;
}

}  // namespace
}  // namespace ustcp::raw

// Read by entry.cc.
extern "C" __attribute__((visibility("hidden"), used)) constinit const ustcp::raw::Table ustcp_raw_handlers =
    ustcp::raw::MakeTable();
