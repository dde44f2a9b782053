// The same calls through syscall(), as programs make them that go past the C library's names (libuv closes descriptors so,
// vsftpd forks so), in the kernel's forms.
#include <linux/sched.h>
#include <sched.h>
#include <setjmp.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#include "transcript.h"

namespace {

constexpr size_t kSetBytes = 8;  // of the kernel's signal set

void Handled(int) {}

const char* EndOf(int fd) {
  Await(fd, POLLIN);
  char c;
  long n = syscall(SYS_recvfrom, fd, &c, 1, MSG_DONTWAIT, nullptr, nullptr);
  return n == 0 ? "end" : n > 0 ? "data" : ErrnoName(errno);
}

void Connections(Address address) {
  Title("a connection made and used by numbers");
  int listener = ShowFd("socket", static_cast<int>(syscall(SYS_socket, address.family(), SOCK_STREAM, 0)));
  int on = 1;
  Show("setsockopt", syscall(SYS_setsockopt, listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
  Show("bind", syscall(SYS_bind, listener, address.get(), address.size()));
  Show("listen", syscall(SYS_listen, listener, 5));
  socklen_t length = address.size();
  Show("getsockname", syscall(SYS_getsockname, listener, address.get(), &length));
  int client = ShowFd("socket", static_cast<int>(syscall(SYS_socket, address.family(), SOCK_STREAM, 0)));
  Show("connect", syscall(SYS_connect, client, address.get(), address.size()));
  int server = ShowFd("accept4", static_cast<int>(syscall(SYS_accept4, listener, nullptr, nullptr, SOCK_CLOEXEC)));
  Show("its flags", syscall(SYS_fcntl, server, F_GETFD));
  sockaddr_storage peer;
  length = sizeof peer;
  Show("getpeername", syscall(SYS_getpeername, server, &peer, &length));
  int value = 0;
  length = sizeof value;
  Show("getsockopt", syscall(SYS_getsockopt, listener, SOL_SOCKET, SO_ACCEPTCONN, &value, &length));
  Show("its value", value);

  Show("write", syscall(SYS_write, client, "abc", 3));
  char in[64] = {};
  Show("read", syscall(SYS_read, server, in, sizeof in));
  iovec v{in, 4};
  iovec out{const_cast<char*>("defg"), 4};
  Show("writev", syscall(SYS_writev, client, &out, 1));
  Show("readv", syscall(SYS_readv, server, &v, 1));
  Show("pwritev2", syscall(SYS_pwritev2, client, &out, 1, -1L, -1L, 0));
  Show("preadv2", syscall(SYS_preadv2, server, &v, 1, -1L, -1L, 0));
  Show("preadv2 at a position", syscall(SYS_preadv2, server, &v, 1, 0L, 0L, 0));
  Show("preadv", syscall(SYS_preadv, server, &v, 1, 0L, 0L));
  Show("pwritev", syscall(SYS_pwritev, server, &v, 1, 0L, 0L));
  Show("pread64", syscall(SYS_pread64, server, in, 1, 0L));
  Show("pwrite64", syscall(SYS_pwrite64, server, in, 1, 0L));
  Show("lseek", syscall(SYS_lseek, server, 0L, SEEK_SET));
  Show("sendto", syscall(SYS_sendto, client, "hi", 2, MSG_NOSIGNAL, nullptr, 0));
  length = sizeof peer;
  Show("recvfrom", syscall(SYS_recvfrom, server, in, sizeof in, 0, &peer, &length));
  Show("length of its name", length);
  mmsghdr message{};
  message.msg_hdr.msg_iov = &out;
  message.msg_hdr.msg_iovlen = 1;
  Show("sendmsg", syscall(SYS_sendmsg, client, &message.msg_hdr, 0));
  Show("sendmmsg", syscall(SYS_sendmmsg, client, &message, 1, 0));
  message.msg_hdr.msg_iov = &v;
  Show("recvmsg", syscall(SYS_recvmsg, server, &message.msg_hdr, 0));
  Show("recvmmsg", syscall(SYS_recvmmsg, server, &message, 1, 0, nullptr));
  syscall(SYS_write, client, "xyz", 3);
  Await(server, POLLIN);
  Show("ioctl", syscall(SYS_ioctl, server, FIONREAD, &value));
  Show("its value", value);
  Show("read", syscall(SYS_read, server, in, sizeof in));
  Show("O_NONBLOCK", syscall(SYS_fcntl, server, F_SETFL, O_NONBLOCK));
  Show("flags", syscall(SYS_fcntl, server, F_GETFL));
  Show("read of nothing", syscall(SYS_read, server, in, 1));
  Show("accept4 with bad flags", syscall(SYS_accept4, listener, nullptr, nullptr, 1));
  struct stat st {};
  Show("fstat", syscall(SYS_fstat, server, &st));
  Show("says a socket", S_ISSOCK(st.st_mode));

  int file = open("/tmp", O_TMPFILE | O_RDWR, 0600);
  Need(file, "make a file");
  (void)!write(file, "from a file", 11);
  off_t at = 5;
  Show("sendfile", syscall(SYS_sendfile, client, file, &at, 100L));
  Show("position", at);
  Await(server, POLLIN);
  Show("read", syscall(SYS_read, server, in, sizeof in));
  Show("shutdown", syscall(SYS_shutdown, client, SHUT_WR));
  std::printf("the peer: %s\n", EndOf(server));
  Show("sendto after it", syscall(SYS_sendto, client, "x", 1, MSG_NOSIGNAL, nullptr, 0));
  Show("close", syscall(SYS_close, client));
  Show("close again", syscall(SYS_close, client));
  Show("close", syscall(SYS_close, server));
  Show("close", syscall(SYS_close, listener));
  close(file);
}

// The number of a socket that was closed is a file's: what is written to the one must not reach the other.
void UsedAgain(Address address) {
  Title("numbers used again after a close by number");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  syscall(SYS_close, pair.server);
  std::printf("peer: %s\n", EndOf(pair.client));
  int file = open("/tmp", O_TMPFILE | O_RDWR, 0600);
  std::printf("same number: %d\n", file == pair.server);
  Show("write", write(file, "private", 7));
  struct stat st {};
  fstat(file, &st);
  Show("bytes of the file", st.st_size);
  Show("position", lseek(file, 0, SEEK_CUR));
  close(file);
  close(pair.client);
  uint16_t port = address.port();
  syscall(SYS_close, listener);
  int there[2];
  Need(pipe(there), "make a pipe");
  Show("write into a pipe", write(there[1], "x", 1));
  char c;
  Show("read from it", read(there[0], &c, 1));
  close(there[0]);
  close(there[1]);
  int again = NewSocket(address);
  int on = 1;
  setsockopt(again, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  address.set_port(port);
  Show("bind to the port", bind(again, address.get(), address.size()));
  Show("listen", listen(again, 5));

  pair = Connected(again, address);
  int copy = ShowFd("dup", static_cast<int>(syscall(SYS_dup, pair.server)));
  Show("close", syscall(SYS_close, pair.server));
  Show("write to the copy's peer", write(pair.client, "x", 1));
  Show("read by the copy", read(copy, &c, 1));
  Show("dup2", syscall(SYS_dup2, copy, 300) == 300);
  Show("dup3", syscall(SYS_dup3, copy, 301, O_CLOEXEC) == 301);
  Show("F_DUPFD", syscall(SYS_fcntl, copy, F_DUPFD, 302) == 302);
  Show("close_range", syscall(SYS_close_range, 300, 302, 0));
  Show("dup2 of a file over it", dup2(there[0] = open("/dev/null", O_RDONLY), copy) == copy);
  std::printf("peer: %s\n", EndOf(pair.client));
  close(copy);
  close(there[0]);
  close(pair.client);
  close(again);
}

void Waiting(Address address) {
  Title("waiting by numbers");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  char c;
  pollfd p{pair.server, POLLIN, 0};
  Show("poll", syscall(SYS_poll, &p, 1, 10));
  timespec time{0, 20'000'000};
  uint64_t none = 0;
  Show("ppoll", syscall(SYS_ppoll, &p, 1, &time, &none, kSetBytes));
  std::printf("time left: %ld.%09ld\n", static_cast<long>(time.tv_sec), time.tv_nsec);
  Show("ppoll, size of the set", syscall(SYS_ppoll, &p, 1, &time, &none, 128));
  time = {0, -1};
  Show("ppoll, time", syscall(SYS_ppoll, &p, 1, &time, nullptr, 0));
  std::printf("stays: %ld\n", time.tv_nsec);
  fd_set in;
  FD_ZERO(&in);
  FD_SET(pair.server, &in);
  timeval tv{0, 10'000};
  Show("select", syscall(SYS_select, pair.server + 1, &in, nullptr, nullptr, &tv));
  std::printf("time left: %ld.%06ld\n", static_cast<long>(tv.tv_sec), static_cast<long>(tv.tv_usec));
  struct {
    const uint64_t* set;
    size_t bytes;
  } mask{&none, kSetBytes};
  FD_SET(pair.server, &in);
  time = {0, 10'000'000};
  Show("pselect6", syscall(SYS_pselect6, pair.server + 1, &in, nullptr, nullptr, &time, &mask));
  std::printf("time left: %ld.%09ld\n", static_cast<long>(time.tv_sec), time.tv_nsec);
  FD_SET(pair.server, &in);
  mask.bytes = 4;
  Show("pselect6, size of the set", syscall(SYS_pselect6, pair.server + 1, &in, nullptr, nullptr, &time, &mask));
  time = {0, -1};
  Show("pselect6, time and set", syscall(SYS_pselect6, pair.server + 1, &in, nullptr, nullptr, &time, &mask));
  std::printf("stays: %ld\n", time.tv_nsec);

  int set = ShowFd("epoll_create1", static_cast<int>(syscall(SYS_epoll_create1, EPOLL_CLOEXEC)));
  epoll_event event{EPOLLIN, {.u64 = 7}};
  Show("epoll_ctl", syscall(SYS_epoll_ctl, set, EPOLL_CTL_ADD, pair.server, &event));
  Show("epoll_ctl again", syscall(SYS_epoll_ctl, set, EPOLL_CTL_ADD, pair.server, &event));
  int wake = eventfd(0, 0);
  event.data.u64 = 8;
  Show("epoll_ctl of an eventfd", syscall(SYS_epoll_ctl, set, EPOLL_CTL_ADD, wake, &event));
  epoll_event got[4];
  Show("epoll_wait", syscall(SYS_epoll_wait, set, got, 4, 10));
  syscall(SYS_write, pair.client, "x", 1);
  Await(pair.server, POLLIN);
  Show("epoll_pwait", syscall(SYS_epoll_pwait, set, got, 4, 1000, &none, kSetBytes));
  std::printf("of %lu\n", static_cast<unsigned long>(got[0].data.u64));
  Show("epoll_pwait, size of the set", syscall(SYS_epoll_pwait, set, got, 4, 1000, &none, 4));
  time = {1, 0};
  Show("epoll_pwait2", syscall(SYS_epoll_pwait2, set, got, 4, &time, nullptr, 0));
  syscall(SYS_read, pair.server, &c, 1);
  uint64_t one = 1;
  syscall(SYS_write, wake, &one, sizeof one);
  Show("epoll_wait", syscall(SYS_epoll_wait, set, got, 4, 1000));
  std::printf("of %lu\n", static_cast<unsigned long>(got[0].data.u64));
  Show("close", syscall(SYS_close, set));
  close(wake);
  ClosePair(pair);
  close(listener);
}

struct KernelAction {
  void (*handler)(int);
  unsigned long flags;
  void (*restorer)();
  uint64_t mask;
};

void Signals(Address address) {
  Title("handlers installed by number");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  struct sigaction libc_action = {};
  libc_action.sa_handler = Handled;
  sigaction(SIGALRM, &libc_action, nullptr);
  KernelAction action{}, old{};
  Show("rt_sigaction asks", syscall(SYS_rt_sigaction, SIGALRM, nullptr, &old, kSetBytes));
  std::printf("the handler: %d\n", old.handler == Handled);
  action = old;
  action.flags |= SA_RESTART;
  Show("rt_sigaction", syscall(SYS_rt_sigaction, SIGUSR1, &action, nullptr, kSetBytes));
  sigaction(SIGUSR1, nullptr, &libc_action);
  std::printf("seen by the other: %d %d\n", libc_action.sa_handler == Handled, libc_action.sa_flags == SA_RESTART);
  action.flags &= ~static_cast<unsigned long>(SA_RESTART);
  Show("rt_sigaction", syscall(SYS_rt_sigaction, SIGALRM, &action, &old, kSetBytes));
  Show("size of the set", syscall(SYS_rt_sigaction, SIGALRM, &action, nullptr, 128));
  Show("no signal", syscall(SYS_rt_sigaction, 65, &action, nullptr, kSetBytes));
  Show("SIGKILL", syscall(SYS_rt_sigaction, SIGKILL, &action, nullptr, kSetBytes));
  itimerval soon{{}, {0, 50'000}};
  setitimer(ITIMER_REAL, &soon, nullptr);
  char c;
  Show("read, interrupted", syscall(SYS_read, pair.server, &c, 1));
  ClosePair(pair);
  close(listener);
}

template <typename Make>
void Child(const char* what, Address address, Make&& make) {
  std::printf("-- %s\n", what);
  std::fflush(stdout);
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  Pair other = Connected(listener, address);
  long child = make();
  if (child == 0) {
    // Its closes are its own, and so are the sockets that it makes.
    close(listener);
    close(pair.client);
    syscall(SYS_close, other.client);
    char c;
    bool good = read(pair.server, &c, 1) == 1 && write(pair.server, &c, 1) == 1;
    Address own = address;
    int mine = Listen(own);
    Pair next = Connected(mine, own);
    good &= write(next.client, "x", 1) == 1 && read(next.server, &c, 1) == 1;
    syscall(SYS_exit_group, good ? 0 : 1);
  }
  std::printf("made: %d\n", child > 0);
  write(pair.client, "p", 1);
  char c = 0;
  Show("answer", read(pair.client, &c, 1));
  int status = -1;
  Show("wait", waitpid(static_cast<pid_t>(child), &status, __WALL) == child);
  std::printf("status %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status));
  int value = 0;
  socklen_t length = sizeof value;
  getsockopt(listener, SOL_SOCKET, SO_ACCEPTCONN, &value, &length);
  std::printf("the parent's listener listens: %d\n", value);
  Pair more = Connected(listener, address);
  Show("and is reached", write(more.client, "x", 1));
  Show("send on the parent's other", write(other.client, "x", 1));
  Show("recv", read(other.server, &c, 1));
  ClosePair(more);
  ClosePair(pair);
  ClosePair(other);
  close(listener);
}

void Children(Address address) {
  Title("children made by number");
  Child("fork", address, [] { return syscall(SYS_fork); });
  Child("clone", address, [] { return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); });
  Child("clone with a namespace", address, [] { return syscall(SYS_clone, CLONE_NEWIPC | SIGCHLD, 0, 0, 0, 0); });
  Child("clone without a signal", address, [] { return syscall(SYS_clone, 0, 0, 0, 0, 0); });
  Child("clone3", address, [] {
    clone_args how{};
    how.exit_signal = SIGCHLD;
    return syscall(SYS_clone3, &how, sizeof how);
  });
  Child("clone of the C library", address, [] {
    static char stack[1 << 16];
    static jmp_buf to_child;
    // The child goes on as those of the others do, on its copy of the parent's stack.
    if (setjmp(to_child) != 0) return 0L;
    return static_cast<long>(clone(
        [](void*) {
          longjmp(to_child, 1);
          return 0;
        },
        stack + sizeof stack, SIGCHLD, nullptr));
  });
  Show("clone with flags that exclude each other", syscall(SYS_clone, CLONE_NEWNS | CLONE_FS | SIGCHLD, 0, 0, 0, 0));
  clone_args how{};
  Show("clone3 of no size", syscall(SYS_clone3, &how, 8L));
  // What the failed one prepared is undone.
  Child("clone", address, [] { return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); });
}

// By number into another program, with a socket at a number that it is told.
void Exec(Address address, const char* self) {
  Title("exec by number");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  long child = syscall(SYS_fork);
  if (child == 0) {
    syscall(SYS_dup2, pair.server, 60);
    const char* words[] = {self, "--child", nullptr};
    syscall(SYS_execve, self, words, environ);
    syscall(SYS_exit_group, 99);
  }
  close(pair.server);
  char in[6] = {};
  Show("from the child", recv(pair.client, in, 5, MSG_WAITALL));
  Show("and its end", recv(pair.client, in, 1, 0));
  int status = 0;
  waitpid(static_cast<pid_t>(child), &status, 0);
  std::printf("status %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status));
  close(pair.client);
  close(listener);
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  if (argc == 2 && std::strcmp(argv[1], "--child") == 0) return write(60, "child", 5) == 5 ? 0 : 1;
  if (argc != 2) return 2;
  alarm(60);
  Address address(argv[1]);
  Connections(address);
  UsedAgain(address);
  Waiting(address);
  alarm(0);
  Signals(address);
  Children(address);
  Exec(address, argv[0]);
}
