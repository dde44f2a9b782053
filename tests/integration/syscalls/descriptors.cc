// What happens to descriptors: duplicates, numbers taken over, everything closed at once, no number left.
#include <dirent.h>
#include <linux/close_range.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <vector>

#include "transcript.h"

namespace {

// "end" when the peer has closed, "data", or the errno; waits up to two seconds.
const char* EndOf(int fd) {
  Await(fd, POLLIN);
  char c;
  long n = recv(fd, &c, 1, MSG_DONTWAIT);
  return n == 0 ? "end" : n > 0 ? "data" : ErrnoName(errno);
}

void Duplicates(Address address) {
  Title("duplicates stand for one socket");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  int copy = ShowFd("dup", dup(pair.server));
  int copy2 = ShowFd("F_DUPFD", fcntl(pair.server, F_DUPFD, 100));
  std::printf("at least 100: %d\n", copy2 >= 100);
  int copy3 = ShowFd("F_DUPFD_CLOEXEC", fcntl(copy2, F_DUPFD_CLOEXEC, 0));
  Show("its flags", fcntl(copy3, F_GETFD));
  Show("the other's flags", fcntl(copy2, F_GETFD));
  fcntl(copy, F_SETFL, O_NONBLOCK);
  char c;
  Show("recv through the first, made non-blocking through the second", recv(pair.server, &c, 1, 0));
  send(pair.client, "abc", 3, 0);
  Await(copy2, POLLIN);
  Show("recv through one", recv(copy, &c, 1, 0));
  Show("recv through another", recv(copy3, &c, 1, 0));
  close(pair.server);
  close(copy2);
  Show("recv through the rest", recv(copy, &c, 1, 0));
  Show("recv through a closed one", recv(pair.server, &c, 1, 0));
  int one = 1;
  setsockopt(copy, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  int value = 0;
  socklen_t length = sizeof value;
  getsockopt(copy3, IPPROTO_TCP, TCP_NODELAY, &value, &length);
  Show("an option set through one", value != 0);
  close(copy);
  Show("the peer hears nothing yet", recv(pair.client, &c, 1, MSG_DONTWAIT));
  close(copy3);
  std::printf("and then: %s\n", EndOf(pair.client));
  close(pair.client);
  Show("dup of nothing", dup(900));
  Show("dup2 of nothing", dup2(900, 901));
  Show("F_DUPFD beyond the limit", fcntl(listener, F_DUPFD, 1 << 30));
  Show("dup2 beyond the limit", dup2(listener, 1 << 30));
  Show("dup2 to -1", dup2(listener, -1));
  Show("dup3 onto itself", dup3(listener, listener, 0));
  Show("dup3 with bad flags", dup3(listener, 300, O_NONBLOCK));
  std::printf("dup2 onto itself: %d\n", dup2(listener, listener) == listener);
  close(listener);
}

void TakenNumbers(Address address) {
  Title("numbers that change hands");
  int listener = Listen(address);
  Pair first = Connected(listener, address);
  Pair second = Connected(listener, address);
  Show("dup2 onto a socket", dup2(first.server, second.server) == second.server);
  std::printf("its peer: %s\n", EndOf(second.client));
  send(first.client, "x", 1, 0);
  char c = 0;
  Show("recv by the new number", recv(second.server, &c, 1, 0));
  close(second.server);
  close(second.client);
  int file = open("/dev/null", O_RDWR);
  Pair third = Connected(listener, address);
  Show("dup2 of a file onto a socket", dup2(file, third.server) == third.server);
  std::printf("its peer: %s\n", EndOf(third.client));
  Show("read from the number", read(third.server, &c, 1));
  Show("getsockname of the number", getsockname(third.server, address.get(), nullptr));
  Show("dup2 of a socket onto a file", dup2(first.server, file) == file);
  send(first.client, "y", 1, 0);
  Show("recv by that number", recv(file, &c, 1, 0));
  close(file);
  close(third.server);
  close(third.client);
  Show("dup3 with O_CLOEXEC", dup3(first.server, 200, O_CLOEXEC));
  Show("its flags", fcntl(200, F_GETFD));
  close(200);
  // A number of one connection's is the next one's.
  bool same = true;
  for (int i = 0; i < 20; ++i) {
    int old = first.server;
    ClosePair(first);
    first = Connected(listener, address);
    same &= send(first.client, "z", 1, 0) == 1 && recv(first.server, &c, 1, 0) == 1 && old == first.server;
  }
  std::printf("numbers used again: %d\n", same);
  ClosePair(first);
  close(listener);
}

// Programs that close what they do not know, in a child that goes on as a server of its own.
template <typename Close>
void Everything(const char* what, Address address, Close&& close_them, bool by_calls = true) {
  std::fflush(stdout);
  int listener = Listen(address);
  int there[2];
  Need(pipe(there), "make a pipe");
  pid_t child = Need(fork(), "fork");
  if (child == 0) {
    alarm(20);
    // Everything from 3 up goes; then the child is a server of its own.
    Pair pair = Connected(listener, address);
    send(pair.server, "bye", 3, 0);
    dup2(there[1], 2);
    close_them();
    char c;
    // Who closes past the C library is not asked what became of the number until it is used again.
    bool gone = !by_calls || (recv(pair.server, &c, 1, 0) < 0 && errno == EBADF);
    Address own = address;
    int again = Listen(own);
    Pair next = Connected(again, own);
    bool works = send(next.client, "x", 1, 0) == 1 && recv(next.server, &c, 1, 0) == 1;
    std::string text = std::string(gone ? "gone " : "there ") + (works ? "works" : "broken");
    (void)!write(2, text.data(), text.size());
    std::_Exit(0);
  }
  close(there[1]);
  char text[64] = {};
  (void)!read(there[0], text, sizeof text - 1);
  int status = 0;
  waitpid(child, &status, 0);
  std::printf("%s: %s, status %d\n", what, text, WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status));
  close(there[0]);
  // The parent's own copy is untouched.
  Pair pair = Connected(listener, address);
  char c;
  send(pair.client, "x", 1, 0);
  Show("the parent's listener", recv(pair.server, &c, 1, 0));
  ClosePair(pair);
  close(listener);
}

void CloseEverything(Address address) {
  Title("everything closed");
  Everything("closefrom", address, [] { closefrom(3); });
  Everything("close_range", address, [] { close_range(3, ~0u, 0); });
  Everything("one by one", address, [] {
    for (int fd = 3; fd < 2048; ++fd) close(fd);
  });
  Everything("what /proc lists", address, [] {
    std::vector<int> open_ones;
    DIR* directory = opendir("/proc/self/fd");
    while (dirent* entry = readdir(directory))
      if (int fd = std::atoi(entry->d_name); fd > 2 && fd != dirfd(directory)) open_ones.push_back(fd);
    closedir(directory);
    for (int fd : open_ones) close(fd);
  });
  Everything(
      "system calls past the C library", address, [] { syscall(SYS_close_range, 3, ~0u, 0); }, false);

  Title("close_range of some");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  dup2(pair.client, 400);
  dup2(pair.server, 500);
  ClosePair(pair);
  Show("CLOEXEC", close_range(400, 450, CLOSE_RANGE_CLOEXEC));
  Show("flags inside", fcntl(400, F_GETFD));
  Show("flags outside", fcntl(500, F_GETFD));
  Show("close", close_range(450, 550, 0));
  std::printf("its peer: %s\n", EndOf(400));
  Show("backwards", close_range(10, 5, 0));
  Show("bad flags", close_range(10, 15, 64));
  close(400);
  close(listener);
}

void NoNumberLeft(Address address) {
  Title("no descriptor left");
  int listener = Listen(address);
  int waiting = NewSocket(address);
  Need(connect(waiting, address.get(), address.size()), "connect");
  int highest = dup(listener);
  close(highest);
  rlimit before;
  getrlimit(RLIMIT_NOFILE, &before);
  rlimit limit{static_cast<rlim_t>(highest), before.rlim_max};
  setrlimit(RLIMIT_NOFILE, &limit);
  ShowFd("socket", socket(address.family(), SOCK_STREAM, 0));
  ShowFd("accept", accept(listener, nullptr, nullptr));
  ShowFd("dup", dup(listener));
  Show("F_DUPFD", fcntl(listener, F_DUPFD, 0));
  ShowFd("epoll_create1", epoll_create1(0));
  // What is there goes on.
  char c;
  Show("send", send(waiting, "abc", 3, 0));
  ShowPoll("level of the listener", listener);
  Show("recv with nothing there", recv(waiting, &c, 1, MSG_DONTWAIT));
  setrlimit(RLIMIT_NOFILE, &before);
  int fd = ShowFd("accept later", accept(listener, nullptr, nullptr));
  Show("recv", recv(fd, &c, 1, 0));
  close(fd);
  close(waiting);
  close(listener);
}

// The first socket of a program that may have few descriptors.
void FewNumbers(Address address) {
  Title("a low limit from the start");
  int listener = Listen(address);
  std::vector<int> clients, servers;
  rlimit before;
  getrlimit(RLIMIT_NOFILE, &before);
  rlimit limit{24, before.rlim_max};
  setrlimit(RLIMIT_NOFILE, &limit);
  int code = 0;
  for (int i = 0; i < 20 && code == 0; ++i) {
    int client = socket(address.family(), SOCK_STREAM, 0);
    if (client < 0) {
      code = errno;
      break;
    }
    Need(connect(client, address.get(), address.size()), "connect");
    int server = accept(listener, nullptr, nullptr);
    if (server < 0) code = errno;
    clients.push_back(client);
    if (server >= 0) servers.push_back(server);
  }
  std::printf("until %s: %zu and %zu\n", ErrnoName(code), clients.size(), servers.size());
  bool works = true;
  for (size_t i = 0; i < servers.size(); ++i) {
    char c = 0;
    works &= send(clients[i], "x", 1, 0) == 1 && recv(servers[i], &c, 1, 0) == 1;
  }
  std::printf("all of them work: %d\n", works);
  for (int fd : clients) close(fd);
  for (int fd : servers) close(fd);
  setrlimit(RLIMIT_NOFILE, &before);
  close(listener);
}

// Open numbers below the usual limit.
int CountOpen() {
  int n = 0;
  for (int fd = 0; fd < 1024; ++fd) n += fcntl(fd, F_GETFD) >= 0;
  return n;
}

void NothingLeaks(Address address) {
  Title("nothing is left over");
  int listener = Listen(address);
  int before = CountOpen();
  for (int i = 0; i < 50; ++i) {
    Pair pair = Connected(listener, address);
    int copy = dup(pair.client);
    close(copy);
    ClosePair(pair);
  }
  std::printf("as many as before: %d\n", CountOpen() == before);
  close(listener);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  signal(SIGPIPE, SIG_IGN);
  Address address(argv[1]);
  FewNumbers(address);
  Duplicates(address);
  TakenNumbers(address);
  CloseEverything(address);
  NoNumberLeft(address);
  NothingLeaks(address);
}
