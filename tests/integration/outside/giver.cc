// Gives sockets to a program outside of the library in every way there is; run by ../outside_test.py.
//   giver WAY ADDRESS TAKER
#include <aio.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#include "tests/integration/syscalls/transcript.h"

extern char** environ;

namespace {

const char kSecret[] = "of another connection";

int ExitOf(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

std::string Words(const char* taker, std::initializer_list<int> fds) {
  std::string text = taker;
  for (int fd : fds) text += " " + std::to_string(fd);
  return text;
}

// The bare system call, which nothing can interpose.
long Inlined(long number, long a, long b, long c) {
  long result;
  asm volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result;
}

void ShowInlined(const char* what, long result) {
  std::printf("%s: %s\n", what, result < 0 ? ErrnoName(static_cast<int>(-result)) : "ok");
}

struct Sockets {
  int fresh, bound, listener, client, server, other;
};

void PastUs(const Sockets& s, Address address) {
  char room[256] = {};
  for (int fd : {s.fresh, s.bound, s.listener, s.client, s.server}) {
    ShowInlined("read", Inlined(SYS_read, fd, reinterpret_cast<long>(room), sizeof room));
    ShowInlined("write", Inlined(SYS_write, fd, reinterpret_cast<long>(room), 1));
    ShowInlined("connect", Inlined(SYS_connect, fd, reinterpret_cast<long>(address.get()), address.size()));
    ShowInlined("bind", Inlined(SYS_bind, fd, reinterpret_cast<long>(address.get()), address.size()));
    ShowInlined("listen", Inlined(SYS_listen, fd, 5, 0));
    aiocb request{};
    request.aio_fildes = fd;
    request.aio_buf = room;
    request.aio_nbytes = sizeof room;
    Need(aio_read(&request), "start a read");
    const aiocb* list[] = {&request};
    aio_suspend(list, 1, nullptr);
    std::printf("aio_read: %s\n", ErrnoName(aio_error(&request)));
    std::printf("bytes: %zd\n", aio_return(&request));
  }
}

// A message that hands descriptors over.
class Message {
 public:
  explicit Message(std::initializer_list<int> fds) {
    size_t bytes = fds.size() * sizeof(int);
    header_.msg_iov = &vector_;
    header_.msg_iovlen = 1;
    // One that concerns nobody comes first.
    header_.msg_control = room_;
    header_.msg_controllen = CMSG_SPACE(sizeof(ucred)) + CMSG_SPACE(bytes);
    cmsghdr* c = CMSG_FIRSTHDR(&header_);
    *c = {CMSG_LEN(sizeof(ucred)), SOL_SOCKET, SCM_CREDENTIALS};
    ucred self{getpid(), getuid(), getgid()};
    std::memcpy(CMSG_DATA(c), &self, sizeof self);
    c = CMSG_NXTHDR(&header_, c);
    *c = {CMSG_LEN(bytes), SOL_SOCKET, SCM_RIGHTS};
    std::memcpy(CMSG_DATA(c), fds.begin(), bytes);
  }
  const msghdr& header() const { return header_; }
  msghdr* get() { return &header_; }

 private:
  char byte_ = 'm';
  iovec vector_{&byte_, 1};
  msghdr header_{};
  alignas(cmsghdr) char room_[256] = {};
};

void Rights(const Sockets& s) {
  int ends[2], datagrams[2];
  Need(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), "make a pair");
  Need(socketpair(AF_UNIX, SOCK_DGRAM, 0, datagrams), "make a pair");
  int set = epoll_create1(0);
  epoll_event event{EPOLLIN, {}};
  int kernel_set = epoll_create1(0);
  epoll_ctl(set, EPOLL_CTL_ADD, s.server, &event);
  epoll_ctl(kernel_set, EPOLL_CTL_ADD, ends[1], &event);
  for (int to : {ends[0], datagrams[0]}) {
    for (int fd : {s.fresh, s.listener, s.client, s.server, set}) {
      Message message{0, fd};
      Show("sendmsg", sendmsg(to, message.get(), MSG_DONTWAIT));
    }
    Message ours{s.server};
    Message plain{0, datagrams[1]};
    Show("through syscall()", syscall(SYS_sendmsg, to, ours.get(), MSG_DONTWAIT));
    Show("others", sendmsg(to, plain.get(), MSG_DONTWAIT));
    Message theirs{kernel_set};
    Show("an epoll set", sendmsg(to, theirs.get(), MSG_DONTWAIT));
    mmsghdr messages[3] = {{plain.header(), 0}, {plain.header(), 0}, {ours.header(), 0}};
    Show("sendmmsg", sendmmsg(to, messages, 3, MSG_DONTWAIT));
    Show("sendmmsg of the rest", sendmmsg(to, messages + 2, 1, MSG_DONTWAIT));
    Show("sendmmsg of none", sendmmsg(to, messages, 0, MSG_DONTWAIT));
    Show("a bad pointer", syscall(SYS_sendmsg, to, nullptr, MSG_DONTWAIT));
  }
  close(set);
  close(kernel_set);
}

// The system calls between two that mean nothing are what accepting costs.
void Accepts(int listener, Address address) {
  int clients[20];
  for (int& client : clients) {
    client = NewSocket(address);
    Need(connect(client, address.get(), address.size()), "connect");
  }
  pollfd p{listener, POLLIN, 0};
  poll(&p, 1, 2000);
  close(Need(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC), "accept"));
  Inlined(SYS_getpgid, 0, 0, 0);
  for (int i = 1; i < 20; ++i) Need(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC), "accept");
  Inlined(SYS_getpgid, 0, 0, 0);
}

void Run(const std::string& way, Address address, const char* taker) {
  int listener = Listen(address, 64);
  Pair pair = Connected(listener, address);
  Pair second = Connected(listener, address);
  Sockets s{NewSocket(address), NewSocket(address), listener, pair.client, pair.server, second.server};
  Address any = address;
  any.set_port(0);
  Need(bind(s.bound, any.get(), any.size()), "bind");
  Need(static_cast<int>(write(second.client, kSecret, sizeof kSecret)), "write");
  Need(static_cast<int>(write(pair.client, kSecret, sizeof kSecret)), "write");
  fcntl(second.client, F_SETFD, FD_CLOEXEC);  // the only one that is not given
  int copy = dup(s.server);
  int closed = Need(fcntl(s.server, F_DUPFD_CLOEXEC, 0), "duplicate");
  std::initializer_list<int> all = {s.server, copy, s.other, s.client, s.listener, s.bound, s.fresh, closed};
  std::string words = Words(taker, all);
  if (way == "exec") {
    execl("/bin/sh", "sh", "-c", ("exec env -u LD_PRELOAD " + words).c_str(), nullptr);
  } else if (way == "direct" || way == "vfork") {
    std::string n[8];
    const char* list[10] = {taker};
    int count = 1;
    for (int fd : all) {
      n[count - 1] = std::to_string(fd);
      list[count] = n[count - 1].c_str();
      ++count;
    }
    pid_t child = way == "direct" ? fork() : vfork();
    if (child == 0) {
      execv(taker, const_cast<char**>(list));
      _exit(99);
    }
    ExitOf(child);
  } else if (way == "system") {
    Need(system(words.c_str()), "run");
  } else if (way == "popen") {
    FILE* out = popen(words.c_str(), "r");
    char line[1024];
    while (fgets(line, sizeof line, out) != nullptr) std::fputs(line, stdout);
    pclose(out);
  } else if (way == "spawn") {
    for (int fd : all) fcntl(fd, F_SETFD, FD_CLOEXEC);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, closed, 0);
    posix_spawn_file_actions_adddup2(&actions, s.other, 3);
    const char* list[] = {taker, "0", "3", nullptr};
    pid_t child;
    Need(-posix_spawn(&child, taker, &actions, nullptr, const_cast<char**>(list), environ), "spawn");
    ExitOf(child);
    Need(-posix_spawnp(&child, taker, &actions, nullptr, const_cast<char**>(list), environ), "spawn");
    ExitOf(child);
    posix_spawn_file_actions_destroy(&actions);
  } else if (way == "past") {
    PastUs(s, address);
  } else if (way == "lost") {
    // The library's own descriptors, the one that accepting duplicates among them.
    ShowInlined("close_range", Inlined(SYS_close_range, 100, ~0u, 0));
  } else if (way == "rights") {
    Rights(s);
  } else if (way == "accepts") {
    Accepts(listener, address);
  }
  // And all that has not harmed them.
  char in[sizeof kSecret] = {};
  std::printf("still there: %d", read(s.server, in, sizeof in) == sizeof in && std::strcmp(in, kSecret) == 0);
  std::printf("%d", write(s.server, "y", 1) == 1 && read(s.client, in, 1) == 1);
  Pair third = Connected(listener, address);
  std::printf("%d\n", write(third.server, "z", 1) == 1 && read(third.client, in, 1) == 1);
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  alarm(60);
  if (argc != 4) return 2;
  std::setvbuf(stdout, nullptr, _IONBF, 0);
  Run(argv[1], Address(argv[2]), argv[3]);
}
