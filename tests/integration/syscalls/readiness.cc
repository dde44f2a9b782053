// What poll, select and epoll show through the life of sockets, and the modes of epoll, alone and mixed with pipes.
#include <sys/mman.h>

#include <algorithm>
#include <climits>
#include <vector>

#include "transcript.h"

namespace {

void ShowSelect(const char* what, int fd, int wait_ms) {
  fd_set in, out, except;
  FD_ZERO(&in);
  FD_ZERO(&out);
  FD_ZERO(&except);
  FD_SET(fd, &in);
  FD_SET(fd, &out);
  FD_SET(fd, &except);
  timeval t{wait_ms / 1000, wait_ms % 1000 * 1000};
  int n = select(fd + 1, &in, &out, &except, &t);
  std::printf("%s: select %d%s%s%s\n", what, n, FD_ISSET(fd, &in) ? " in" : "", FD_ISSET(fd, &out) ? " out" : "",
              FD_ISSET(fd, &except) ? " except" : "");
  std::fflush(stdout);
}

// Events sorted by their data, so that the order of unrelated descriptors does not matter.
void ShowEpoll(const char* what, int epfd, int wait_ms, int max = 8) {
  epoll_event events[8];
  int n = epoll_wait(epfd, events, max, wait_ms);
  std::vector<std::pair<uint64_t, uint32_t>> sorted;
  for (int i = 0; i < n; ++i) sorted.emplace_back(uint64_t{events[i].data.u64}, uint32_t{events[i].events});
  std::sort(sorted.begin(), sorted.end());
  std::printf("%s: epoll %d", what, n);
  for (auto& [data, bits] : sorted)
    std::printf(" [%llu %s]", static_cast<unsigned long long>(data), Bits(bits).c_str());
  std::printf("\n");
  std::fflush(stdout);
}

// The sum of the different data of members that some of `waits` waits report.
unsigned SeenWithin(int epfd, int max, int waits) {
  uint64_t seen = 0;
  for (int i = 0; i < waits; ++i) {
    epoll_event events[8];
    int n = epoll_wait(epfd, events, max, 1000);
    for (int j = 0; j < n; ++j) seen |= uint64_t{1} << events[j].data.u64;
  }
  unsigned sum = 0;
  for (unsigned data = 0; data < 64; ++data) sum += (seen >> data & 1) != 0 ? data : 0;
  return sum;
}

int Control(int epfd, int operation, int fd, uint32_t events, uint64_t data) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = data;
  return epoll_ctl(epfd, operation, fd, &event);
}

constexpr uint32_t kAll = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP;

void Levels(Address address) {
  Title("levels");
  int listener = Listen(address);
  int fd = NewSocket(address, SOCK_NONBLOCK);
  ShowPoll("fresh", fd);
  ShowSelect("fresh", fd, 0);
  ShowPoll("listening", listener);
  ShowSelect("listening", listener, 0);
  (void)connect(fd, address.get(), address.size());
  Await(listener, POLLIN);
  ShowPoll("listener with a connection", listener);
  ShowSelect("listener with a connection", listener, 0);
  int server = accept(listener, nullptr, nullptr);
  ShowPoll("listener without", listener);
  Await(fd, POLLOUT);
  ShowPoll("connected", fd);
  ShowSelect("connected", fd, 0);
  send(server, "x", 1, 0);
  Await(fd, POLLIN);
  ShowPoll("with data", fd);
  ShowSelect("with data", fd, 0);
  shutdown(server, SHUT_WR);
  Await(fd, POLLRDHUP);
  ShowPoll("half closed", fd);
  char c;
  (void)!read(fd, &c, 1);
  ShowPoll("half closed, read", fd);
  shutdown(fd, SHUT_WR);
  Await(fd, POLLHUP);
  ShowPoll("closed both ways", fd);
  ShowSelect("closed both ways", fd, 0);
  close(fd);
  close(server);
  close(listener);
  ShowPoll("closed descriptor", fd);
  pollfd ignored{-1, POLLIN, 77};
  Show("poll of a negative one", poll(&ignored, 1, 0));
  std::printf("revents %d\n", ignored.revents);
}

void Mixed(Address address) {
  Title("sockets and pipes in one poll");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  int ends[2];
  Need(pipe(ends), "make a pipe");
  pollfd p[4] = {{pair.server, POLLIN, 0}, {ends[0], POLLIN, 0}, {-1, POLLIN, 0}, {listener, POLLIN, 0}};
  Show("nothing", poll(p, 4, 20));
  (void)!write(ends[1], "x", 1);
  Show("pipe", poll(p, 4, 1000));
  std::printf("%s %s\n", Bits(static_cast<uint16_t>(p[0].revents)).c_str(),
              Bits(static_cast<uint16_t>(p[1].revents)).c_str());
  send(pair.client, "x", 1, 0);
  Await(pair.server, POLLIN);
  Show("both", poll(p, 4, 1000));
  char c;
  (void)!read(ends[0], &c, 1);
  Show("socket", poll(p, 4, 1000));
  timespec limit{0, 20'000'000};
  sigset_t mask;
  sigemptyset(&mask);
  Show("ppoll", ppoll(p, 4, &limit, &mask));
  limit.tv_nsec = -1;
  Show("ppoll, bad time", ppoll(p, 4, &limit, &mask));
  (void)!read(pair.server, &c, 1);
  limit.tv_nsec = 20'000'000;
  Show("ppoll of nothing", ppoll(p, 4, &limit, &mask));
  fd_set in;
  FD_ZERO(&in);
  FD_SET(pair.server, &in);
  FD_SET(ends[0], &in);
  timeval t{0, 20'000};
  Show("select of nothing", select(std::max(pair.server, ends[0]) + 1, &in, nullptr, nullptr, &t));
  std::printf("time left: %d\n", t.tv_sec != 0 || t.tv_usec != 0);
  FD_SET(pair.server, &in);
  t = {0, -1};
  Show("select, bad time", select(pair.server + 1, &in, nullptr, nullptr, &t));
  close(ends[0]);
  close(ends[1]);
  ClosePair(pair);
  close(listener);
}

// As programs from before poll() have it: the first argument is what getdtablesize() says, the sets are of FD_SETSIZE.
void TableSized(Address address) {
  Title("select with the size of the table");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  int ends[2];
  Need(pipe(ends), "pipe");
  (void)!write(ends[1], "x", 1);
  struct {
    fd_set in, out, except;
    unsigned char beyond[16384];
  } memory;
  for (int fd : {pair.server, ends[0]}) {
    for (int n : {100'000, INT_MAX}) {
      std::memset(&memory, 0, sizeof memory);
      std::memset(memory.beyond, 0xff, sizeof memory.beyond);
      FD_SET(fd, &memory.in);
      FD_SET(fd, &memory.out);
      FD_SET(fd, &memory.except);
      timeval t{1, 0};
      Show("select", select(n, &memory.in, &memory.out, &memory.except, &t));
      std::printf("in %d out %d except %d\n", FD_ISSET(fd, &memory.in), FD_ISSET(fd, &memory.out),
                  FD_ISSET(fd, &memory.except));
      long changed = std::count_if(std::begin(memory.beyond), std::end(memory.beyond), [](int c) { return c != 0xff; });
      std::printf("changed beyond: %ld\n", changed);
    }
    // The set is the last thing in memory.
    const long page = sysconf(_SC_PAGESIZE);
    auto* two = static_cast<char*>(mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(two + page, page, PROT_NONE);
    auto* last = reinterpret_cast<fd_set*>(two + page - sizeof(fd_set));
    FD_SET(fd, last);
    timeval t{0, 10'000};
    Show("select at the edge", select(100'000, last, nullptr, nullptr, &t));
    FD_SET(fd, last);
    timespec time{0, 10'000'000};
    Show("pselect at the edge", pselect(100'000, last, nullptr, nullptr, &time, nullptr));
    munmap(two, 2 * page);
  }
  close(ends[0]);
  close(ends[1]);
  ClosePair(pair);
  close(listener);
}

void EpollModes(Address address) {
  Title("epoll");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  int epfd = Need(epoll_create1(EPOLL_CLOEXEC), "make an epoll descriptor");
  char in[64];
  ShowEpoll("empty", epfd, 0);
  Show("max 0", epoll_wait(epfd, nullptr, 0, 0));
  Show("add", Control(epfd, EPOLL_CTL_ADD, pair.server, kAll, 1));
  Show("add again", Control(epfd, EPOLL_CTL_ADD, pair.server, kAll, 1));
  Show("modify another", Control(epfd, EPOLL_CTL_MOD, pair.client, kAll, 1));
  Show("delete another", Control(epfd, EPOLL_CTL_DEL, pair.client, 0, 0));
  Show("add itself", Control(epfd, EPOLL_CTL_ADD, epfd, EPOLLIN, 0));
  Show("add to a socket", Control(pair.client, EPOLL_CTL_ADD, pair.server, EPOLLIN, 0));
  Show("add to a pipe or such", Control(STDOUT_FILENO, EPOLL_CTL_ADD, pair.server, EPOLLIN, 0));
  Show("add to a closed one", Control(999, EPOLL_CTL_ADD, pair.server, EPOLLIN, 0));
  Show("add a closed one", Control(epfd, EPOLL_CTL_ADD, 999, EPOLLIN, 0));
  Show("bad operation", Control(epfd, 77, pair.server, EPOLLIN, 0));
  Show("exclusive modify", Control(epfd, EPOLL_CTL_MOD, pair.server, EPOLLIN | EPOLLEXCLUSIVE, 0));
  Show("exclusive oneshot", Control(epfd, EPOLL_CTL_ADD, pair.client, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT, 0));
  ShowEpoll("level", epfd, 0);
  ShowEpoll("level again", epfd, 0);
  Show("modify", Control(epfd, EPOLL_CTL_MOD, pair.server, EPOLLIN, 2));
  ShowEpoll("nothing", epfd, 10);
  send(pair.client, "ab", 2, 0);
  ShowEpoll("data", epfd, 2000);
  recv(pair.server, in, 1, 0);
  ShowEpoll("some left", epfd, 0);
  recv(pair.server, in, 1, 0);
  ShowEpoll("none left", epfd, 0);

  Title("edge");
  Show("modify", Control(epfd, EPOLL_CTL_MOD, pair.server, EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP, 3));
  ShowEpoll("first", epfd, 0);
  ShowEpoll("then", epfd, 10);
  send(pair.client, "ab", 2, 0);
  ShowEpoll("data", epfd, 2000);
  ShowEpoll("unread", epfd, 10);
  send(pair.client, "c", 1, 0);
  ShowEpoll("more data", epfd, 2000);
  Show("modify", Control(epfd, EPOLL_CTL_MOD, pair.server, EPOLLIN | EPOLLET, 4));
  ShowEpoll("armed anew", epfd, 0);
  recv(pair.server, in, sizeof in, 0);

  Title("oneshot");
  Show("modify", Control(epfd, EPOLL_CTL_MOD, pair.server, EPOLLIN | EPOLLONESHOT, 5));
  send(pair.client, "a", 1, 0);
  ShowEpoll("data", epfd, 2000);
  ShowEpoll("disabled", epfd, 10);
  send(pair.client, "b", 1, 0);
  ShowEpoll("still", epfd, 10);
  Show("modify", Control(epfd, EPOLL_CTL_MOD, pair.server, EPOLLIN | EPOLLONESHOT, 6));
  ShowEpoll("armed again", epfd, 0);

  Title("kernel members");
  int ends[2];
  Need(pipe(ends), "make a pipe");
  Show("add a pipe", Control(epfd, EPOLL_CTL_ADD, ends[0], EPOLLIN, 7));
  ShowEpoll("nothing", epfd, 10);
  (void)!write(ends[1], "x", 1);
  ShowEpoll("pipe", epfd, 2000);
  Show("modify", Control(epfd, EPOLL_CTL_MOD, pair.server, EPOLLIN, 8));
  // A wait may return some of what is ready, but none may be left out for ever.
  std::printf("both, together or in turn: %d\n", SeenWithin(epfd, 8, 64));
  std::printf("one at a time, each comes: %d\n", SeenWithin(epfd, 1, 64));
  recv(pair.server, in, sizeof in, 0);
  Show("delete", Control(epfd, EPOLL_CTL_DEL, pair.server, 0, 0));
  send(pair.client, "x", 1, 0);
  Await(pair.server, POLLIN);
  ShowEpoll("only the pipe", epfd, 0);
  Show("add", Control(epfd, EPOLL_CTL_ADD, pair.server, EPOLLIN, 9));
  std::printf("both again: %d\n", SeenWithin(epfd, 8, 64));

  Title("close");
  int copy = dup(pair.server);
  close(pair.server);
  std::printf("a copy is left: %d\n", SeenWithin(epfd, 8, 64));
  close(copy);
  ShowEpoll("none is left", epfd, 0);
  (void)!read(ends[0], in, 1);
  int second = dup(epfd);
  close(epfd);
  Show("add a listener", Control(second, EPOLL_CTL_ADD, listener, EPOLLIN | EPOLLEXCLUSIVE, 10));
  int fd = NewSocket(address);
  Need(connect(fd, address.get(), address.size()), "connect");
  ShowEpoll("connection", second, 2000);
  ShowEpoll("still there", second, 0);
  close(accept(listener, nullptr, nullptr));
  ShowEpoll("taken", second, 10);
  close(fd);
  close(pair.client);
  close(second);
  close(ends[0]);
  close(ends[1]);
  close(listener);
}

void EpollRegistersBeforeRouting(Address address) {
  Title("registered before connect");
  int epfd = Need(epoll_create(5), "make an epoll descriptor");
  int listener = Listen(address);
  int fd = NewSocket(address, SOCK_NONBLOCK);
  Show("add", Control(epfd, EPOLL_CTL_ADD, fd, EPOLLOUT | EPOLLONESHOT, 1));
  ShowEpoll("fresh", epfd, 0);
  Show("modify", Control(epfd, EPOLL_CTL_MOD, fd, EPOLLOUT, 2));
  (void)connect(fd, address.get(), address.size());
  Await(fd, POLLOUT);
  ShowEpoll("connected", epfd, 2000);
  close(fd);
  close(listener);
  close(epfd);

  // The loopback address stays with the kernel, wherever the rest goes.
  Address loopback(address.family() == AF_INET ? "127.0.0.1" : "::1");
  epfd = Need(epoll_create1(0), "make an epoll descriptor");
  listener = Listen(loopback);
  fd = NewSocket(loopback, SOCK_NONBLOCK);
  int on = 1;
  Show("option before", setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
  Show("add", Control(epfd, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT, 3));
  (void)connect(fd, loopback.get(), loopback.size());
  Await(fd, POLLOUT);
  ShowEpoll("loopback", epfd, 2000);
  int value = 0;
  socklen_t length = sizeof value;
  Show("option after", getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &length));
  std::printf("value %d, flags %d\n", value, fcntl(fd, F_GETFL));
  int server = accept(listener, nullptr, nullptr);
  send(server, "x", 1, 0);
  Await(fd, POLLIN);
  ShowEpoll("data over loopback", epfd, 2000);
  close(server);
  close(fd);
  close(listener);
  close(epfd);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  signal(SIGPIPE, SIG_IGN);
  Address address(argv[1]);
  Levels(address);
  Mixed(address);
  TableSized(address);
  EpollModes(address);
  EpollRegistersBeforeRouting(address);
}
