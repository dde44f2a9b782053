// Connections that come and go, and connections that only lie there: what accepting one and keeping one costs.
//   ustcp_connections accept PORT                   accepts and closes, for ever
//   ustcp_connections open ADDRESS PORT SECONDS     opens, waits for the end of each; prints "connections per second"
//   ustcp_connections hold PORT COUNT               accepts COUNT connections, says "holding" and keeps them
//   ustcp_connections idle ADDRESS PORT COUNT       opens COUNT connections, says "open" and keeps them
// Knows nothing of ustcp: run with or without the library preloaded.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kInFlight = 64;
constexpr int kBacklog = 4096;

[[noreturn]] void Fail(const char* what) {
  perror(what);
  exit(1);
}

sockaddr_in Address(const char* address, const char* port) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(static_cast<uint16_t>(atoi(port)));
  if (inet_pton(AF_INET, address, &a.sin_addr) != 1) {
    fprintf(stderr, "%s is no IPv4 address\n", address);
    exit(2);
  }
  return a;
}

int Listen(const char* port) {
  int listening = socket(AF_INET, SOCK_STREAM, 0);
  int one = 1;
  setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  sockaddr_in a = Address("0.0.0.0", port);
  if (bind(listening, reinterpret_cast<sockaddr*>(&a), sizeof a) != 0) Fail("bind");
  if (listen(listening, kBacklog) != 0) Fail("listen");
  return listening;
}

int Accept(int listening) {
  int fd = accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
  if (fd < 0) Fail("accept4");
  return fd;
}

[[noreturn]] void AcceptAndClose(const char* port) {
  int listening = Listen(port);
  for (;;) close(Accept(listening));
}

// Keeps as many connections as it needs descriptors for.
void AllowDescriptors(int count) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  auto wanted = static_cast<rlim_t>(count) + 64;
  if (limit.rlim_cur >= wanted) return;
  limit.rlim_cur = wanted;
  if (limit.rlim_max < wanted) limit.rlim_max = wanted;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) Fail("RLIMIT_NOFILE");
}

[[noreturn]] void Keep(const char* word) {
  puts(word);
  fflush(stdout);
  for (;;) pause();
}

[[noreturn]] void Hold(const char* port, int count) {
  AllowDescriptors(count);
  int listening = Listen(port);
  for (int i = 0; i < count; ++i) Accept(listening);
  Keep("holding");
}

[[noreturn]] void Idle(const sockaddr_in& to, int count) {
  AllowDescriptors(count);
  for (int i = 0; i < count; ++i) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) Fail("socket");
    if (connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) Fail("connect");
  }
  Keep("open");
}

// A connection on its way: its end is the next event.
void Start(int epoll, const sockaddr_in& to) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) Fail("socket");
  if (connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0 && errno != EINPROGRESS) Fail("connect");
  epoll_event event{EPOLLIN | EPOLLRDHUP, {.fd = fd}};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) Fail("epoll_ctl");
}

int Open(const sockaddr_in& to, double seconds) {
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  for (int i = 0; i < kInFlight; ++i) Start(epoll, to);
  auto begun = Clock::now();
  Clock::duration spent{};
  int64_t ended = 0;
  while ((spent = Clock::now() - begun) < std::chrono::duration<double>(seconds)) {
    epoll_event events[kInFlight];
    int n = epoll_wait(epoll, events, kInFlight, 10'000);
    if (n < 0) Fail("epoll_wait");
    if (n == 0) {
      fprintf(stderr, "no connection came to an end in 10 s\n");
      return 1;
    }
    for (int i = 0; i < n; ++i) {
      char byte;
      errno = 0;
      if (read(events[i].data.fd, &byte, 1) != 0) Fail("read of a connection that was to end");
      close(events[i].data.fd);
      ++ended;
      Start(epoll, to);
    }
  }
  printf("%.1f\n", static_cast<double>(ended) / std::chrono::duration<double>(spent).count());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  auto is = [&](const char* mode, int words) { return argc == words && strcmp(argv[1], mode) == 0; };
  if (is("accept", 3)) AcceptAndClose(argv[2]);
  if (is("open", 5)) return Open(Address(argv[2], argv[3]), atof(argv[4]));
  if (is("hold", 4)) Hold(argv[2], atoi(argv[3]));
  if (is("idle", 5)) Idle(Address(argv[2], argv[3]), atoi(argv[4]));
  fprintf(stderr, "usage: %s accept PORT | open ADDRESS PORT SECONDS | hold PORT COUNT | idle ADDRESS PORT COUNT\n",
          argv[0]);
  return 2;
}
