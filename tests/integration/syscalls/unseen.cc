// Descriptors closed, and opened, by system calls that are inlined and that nobody sees. Each case ends with the one way in
// which the library is to notice.
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#include <ctime>

#include "transcript.h"

namespace {

long Inlined(long number, long a, long b = 0, long c = 0) {
  long result;
  asm volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result;
}

void Close(int fd) { Inlined(SYS_close, fd); }

// A file that nobody saw being opened, with some bytes in it; on the lowest free number.
int OpenFile() {
  int fd = static_cast<int>(Inlined(SYS_open, reinterpret_cast<long>("/tmp"), O_TMPFILE | O_RDWR, 0600));
  Inlined(SYS_write, fd, reinterpret_cast<long>("from the file"), 13);
  Inlined(SYS_lseek, fd, 0, SEEK_SET);
  return fd;
}

const char* EndOf(int fd) {
  Await(fd, POLLIN);
  char c;
  long n = recv(fd, &c, 1, MSG_DONTWAIT);
  return n == 0 ? "end" : n > 0 ? "data" : ErrnoName(errno);
}

// Lets the time pass after which any call looks.
void Pass(int fd) {
  timespec a, b;
  clock_gettime(CLOCK_MONOTONIC, &a);
  char c;
  do {
    recv(fd, &c, 1, MSG_DONTWAIT);
    clock_gettime(CLOCK_MONOTONIC, &b);
  } while ((b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec - a.tv_nsec < 20'000'000);
}

template <typename Open>
void Returned(const char* what, int listener, Address& address, Open&& open_it) {
  Pair pair = Connected(listener, address);
  Close(pair.server);
  int fd = open_it();
  struct stat st {};
  fstat(pair.server, &st);
  std::printf("%s: same number %d, a socket %d, ", what, fd == pair.server, S_ISSOCK(st.st_mode));
  std::printf("peer %s\n", EndOf(pair.client));
  close(fd);
  close(pair.client);
}

void Numbers(Address address) {
  Title("a call returns the number");
  int listener = Listen(address);
  Returned("open", listener, address, [] { return open("/dev/null", O_RDONLY); });
  Returned("openat", listener, address, [] { return openat(AT_FDCWD, "/dev/null", O_RDONLY); });
  Returned("creat", listener, address, [] { return creat("/dev/null", 0600); });
  Returned("memfd_create", listener, address, [] { return memfd_create("x", 0); });
  Returned("eventfd", listener, address, [] { return eventfd(0, 0); });
  Returned("timerfd", listener, address, [] { return timerfd_create(CLOCK_MONOTONIC, 0); });
  Returned("signalfd", listener, address, [] {
    sigset_t none;
    sigemptyset(&none);
    return signalfd(-1, &none, 0);
  });
  Returned("inotify", listener, address, [] { return inotify_init1(0); });
  Returned("epoll_create1", listener, address, [] { return epoll_create1(0); });
  Returned("mkstemp", listener, address, [] {
    char path[] = "/tmp/ustcp-unseen-XXXXXX";
    int fd = mkstemp(path);
    unlink(path);
    return fd;
  });
  Returned("dup", listener, address, [] { return dup(1); });
  Returned("F_DUPFD", listener, address, [] { return fcntl(1, F_DUPFD, 3); });
  Returned("openat by number", listener, address,
           [] { return static_cast<int>(syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY)); });
  Returned("pipe", listener, address, [] {
    int fds[2];
    Need(pipe(fds), "make a pipe");
    close(fds[1]);
    return fds[0];
  });
  int there[2];
  Need(socketpair(AF_UNIX, SOCK_STREAM, 0, there), "make a pair");
  Returned("recvmsg", listener, address, [&] {
    char c = 'x';
    iovec v{&c, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &v;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    int sent = 1;
    std::memcpy(CMSG_DATA(header), &sent, sizeof sent);
    Need(static_cast<int>(sendmsg(there[0], &message, 0)), "send a descriptor");
    Need(static_cast<int>(recvmsg(there[1], &message, 0)), "receive it");
    int got = -1;
    std::memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof got);
    return got;
  });
  close(there[0]);
  close(there[1]);
  Returned("fopen", listener, address, [] {
    FILE* file = fopen("/dev/null", "r");
    int fd = dup(fileno(file));
    int at = fileno(file);
    fclose(file);
    dup2(fd, at);
    close(fd);
    return at;
  });
  // Accepting once more gives the number to another of our own.
  Pair pair = Connected(listener, address);
  int client = NewSocket(address);
  Need(connect(client, address.get(), address.size()), "connect");
  Close(pair.server);
  int again = accept(listener, nullptr, nullptr);
  std::printf("accept: same number %d, peer %s\n", again == pair.server, EndOf(pair.client));
  Show("and a connection", write(client, "x", 1));
  char c;
  Show("of its own", read(again, &c, 1));
  close(again);
  close(client);
  close(pair.client);
  close(listener);
}

void Forks(Address address) {
  Title("fork");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  Pair other = Connected(listener, address);
  Close(pair.server);
  int fd = OpenFile();
  std::printf("same number %d\n", fd == pair.server);
  std::fflush(stdout);
  pid_t child = Need(fork(), "fork");
  if (child == 0) {
    char in[16] = {};
    long n = read(fd, in, sizeof in);
    std::printf("child: read %ld %s\n", n, in);
    std::fflush(stdout);
    std::_Exit(0);
  }
  waitpid(child, nullptr, 0);
  std::printf("peer %s\n", EndOf(pair.client));
  close(fd);
  close(pair.client);
  ClosePair(other);
  close(listener);
}

void Execs(Address address, const char* self) {
  Title("exec");
  int listener = Listen(address);
  std::fflush(stdout);
  pid_t child = Need(fork(), "fork");
  if (child == 0) {
    Pair pair = Connected(listener, address);
    Close(pair.server);
    int fd = OpenFile();
    execl(self, self, "--after-exec", std::to_string(fd).c_str(), std::to_string(pair.client).c_str(), nullptr);
    std::_Exit(99);
  }
  int status = 0;
  waitpid(child, &status, 0);
  std::printf("program: %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
  close(listener);
}

int AfterExec(int file, int client) {
  char in[16] = {};
  long n = read(file, in, sizeof in);
  std::printf("read %ld %s, peer %s\n", n, in, EndOf(client));
  std::fflush(stdout);
  return 0;
}

void Polls(Address address) {
  Title("poll of the number");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  Close(pair.server);
  ShowPoll("nothing there", pair.server, 100);
  pair = Connected(listener, address);
  Close(pair.server);
  fd_set in;
  FD_ZERO(&in);
  FD_SET(pair.server, &in);
  timeval t{0, 100'000};
  Show("select", select(pair.server + 1, &in, nullptr, nullptr, &t));
  pair = Connected(listener, address);
  Close(pair.server);
  int there[2];
  Inlined(SYS_pipe, reinterpret_cast<long>(there));
  std::printf("same number %d\n", there[0] == pair.server);
  ShowPoll("a pipe", there[0], 50);
  Inlined(SYS_write, there[1], reinterpret_cast<long>("x"), 1);
  ShowPoll("a pipe with a byte in it", there[0], 1000);
  close(there[0]);
  close(there[1]);
  close(listener);
}

void Sleeps(Address address) {
  Title("before a sleep");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  char c;
  Close(pair.server);
  Show("recv of the peer", recv(pair.client, &c, 1, 0));
  close(pair.client);

  pair = Connected(listener, address);
  Close(pair.server);
  pollfd p{pair.client, POLLIN | POLLRDHUP, 0};
  Show("poll of the peer", poll(&p, 1, 5000));
  std::printf("%s\n", Bits(static_cast<uint16_t>(p.revents)).c_str());
  close(pair.client);

  pair = Connected(listener, address);
  int set = epoll_create1(0);
  epoll_event event{EPOLLIN | EPOLLRDHUP, {.u64 = 1}};
  epoll_ctl(set, EPOLL_CTL_ADD, pair.client, &event);
  event.data.u64 = 2;
  epoll_ctl(set, EPOLL_CTL_ADD, pair.server, &event);
  Close(pair.server);
  epoll_event got[2];
  int n = epoll_wait(set, got, 2, 5000);
  std::printf("epoll_wait: %d of %lu %s\n", n, static_cast<unsigned long>(got[0].data.u64),
              Bits(got[0].events).c_str());
  close(pair.client);

  // Many others, most of them in front of it.
  Pair many[200];
  for (Pair& each : many) each = Connected(listener, address);
  Close(many[199].server);
  Show("recv of one of many", recv(many[199].client, &c, 1, 0));
  Show("another goes on", write(many[100].client, "x", 1));
  Show("recv", read(many[100].server, &c, 1));
  close(many[199].client);
  for (Pair& each : many)
    if (&each != &many[199]) ClosePair(each);
  close(set);

  // The listener's backlog goes with it.
  int client = NewSocket(address);
  Need(connect(client, address.get(), address.size()), "connect");
  Close(listener);
  pollfd reset{client, POLLIN, 0};
  Show("poll of who waits to be accepted", poll(&reset, 1, 5000));
  Show("recv", recv(client, &c, 1, 0));
  close(client);
  int again = NewSocket(address);
  int on = 1;
  setsockopt(again, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  Show("its port", bind(again, address.get(), address.size()));
  Show("listens again", listen(again, 1));
  close(again);
}

void GoesOn(Address address) {
  Title("a while later");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  Pair other = Connected(listener, address);
  fcntl(other.client, F_SETFL, O_NONBLOCK);
  Close(pair.server);
  int fd = OpenFile();
  std::printf("same number %d\n", fd == pair.server);
  Pass(other.client);
  char in[16] = {};
  Show("read of the file", read(fd, in, sizeof in));
  std::printf("%s\n", in);
  Show("write to it", write(fd, "more", 4));
  Show("and where it ends", lseek(fd, 0, SEEK_END));
  std::printf("peer %s\n", EndOf(pair.client));
  close(fd);
  close(pair.client);
  ClosePair(other);
  close(listener);
}

// socket() too, bound or not, and not one that was seen being closed.
void Others(Address address) {
  Title("sockets that are no connections");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  int fresh = NewSocket(address), bound = NewSocket(address), listening = NewSocket(address);
  Address any = address;
  any.set_port(0);
  Need(bind(bound, any.get(), any.size()), "bind");
  Need(listen(listening, 1), "listen");
  int copy = dup(pair.client);
  Pass(pair.server);
  int value = 0;
  socklen_t length = sizeof value;
  Show("fresh", getsockopt(fresh, SOL_SOCKET, SO_TYPE, &value, &length));
  Show("bound", getsockname(bound, any.get(), &(length = any.size())));
  Show("listening", getsockopt(listening, SOL_SOCKET, SO_ACCEPTCONN, &value, &(length = sizeof value)));
  std::printf("%d\n", value);
  Close(pair.client);
  Pass(pair.server);
  Show("a copy of what was closed", write(copy, "x", 1));
  char c;
  Show("recv", read(pair.server, &c, 1));
  for (int fd : {fresh, bound, listening, copy, pair.server, listener}) close(fd);
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  alarm(60);
  if (argc == 4 && std::strcmp(argv[1], "--after-exec") == 0) return AfterExec(std::atoi(argv[2]), std::atoi(argv[3]));
  if (argc != 2) return 2;
  Address address(argv[1]);
  Numbers(address);
  Forks(address);
  Execs(address, argv[0]);
  Polls(address);
  Sleeps(address);
  GoesOn(address);
  Others(address);
}
