// What the programs of this folder share. Each makes a fixed sequence of calls and prints what came back; the output of a
// run on the kernel's TCP and of one on ustcp must be the same line by line (../syscalls_test.py). So nothing is printed
// that may differ between two runs on the kernel: no numbers of descriptors, no times, no addresses.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

// The address under test, from the command line: one of the machine the program runs on.
class Address {
 public:
  explicit Address(const char* text) {
    if (std::strchr(text, ':') != nullptr) {
      in6_.sin6_family = AF_INET6;
      inet_pton(AF_INET6, text, &in6_.sin6_addr);
    } else {
      in4_.sin_family = AF_INET;
      inet_pton(AF_INET, text, &in4_.sin_addr);
    }
  }
  int family() const { return in4_.sin_family; }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&in6_); }
  socklen_t size() const { return family() == AF_INET ? sizeof in4_ : sizeof in6_; }
  void set_port(uint16_t port) { (family() == AF_INET ? in4_.sin_port : in6_.sin6_port) = htons(port); }
  uint16_t port() const { return ntohs(family() == AF_INET ? in4_.sin_port : in6_.sin6_port); }

 private:
  union {
    sockaddr_in in4_;
    sockaddr_in6 in6_{};
  };
};

inline const char* ErrnoName(int code) {
  const char* name = strerrorname_np(code);
  return name != nullptr ? name : "?";
}

// Prints a call's outcome: its value, or the name of its errno. Returns the outcome.
inline long Show(const char* what, long result) {
  int code = errno;
  if (result < 0)
    std::printf("%s: %s\n", what, ErrnoName(code));
  else
    std::printf("%s: %ld\n", what, result);
  std::fflush(stdout);
  return result;
}

// The same for calls whose value is a descriptor.
inline int ShowFd(const char* what, int fd) {
  int code = errno;
  std::printf("%s: %s\n", what, fd < 0 ? ErrnoName(code) : "descriptor");
  std::fflush(stdout);
  return fd;
}

inline void Title(const char* text) {
  std::printf("== %s\n", text);
  std::fflush(stdout);
}

// Ends the program when the set-up itself fails: nothing after it would mean anything.
inline int Need(int result, const char* what) {
  if (result >= 0) return result;
  std::printf("cannot %s: %s\n", what, ErrnoName(errno));
  std::fflush(stdout);
  std::_Exit(2);
}

inline std::string Bits(uint32_t bits) {
  static constexpr struct {
    uint32_t bit;
    const char* name;
  } kNames[] = {{EPOLLIN, "IN"},         {EPOLLPRI, "PRI"},     {EPOLLOUT, "OUT"},
                {EPOLLERR, "ERR"},       {EPOLLHUP, "HUP"},     {EPOLLRDNORM, "RDNORM"},
                {EPOLLWRNORM, "WRNORM"}, {EPOLLRDHUP, "RDHUP"}, {POLLNVAL, "NVAL"}};
  std::string text;
  for (auto& n : kNames)
    if ((bits & n.bit) != 0) text += (text.empty() ? "" : "|") + std::string(n.name);
  return text.empty() ? "nothing" : text;
}

// The level that poll shows within `timeout_ms`.
inline void ShowPoll(const char* what, int fd, int timeout_ms = 0) {
  pollfd p{fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDNORM | POLLWRNORM, 0};
  int n = poll(&p, 1, timeout_ms);
  std::printf("%s: poll %d %s\n", what, n, Bits(static_cast<uint16_t>(p.revents)).c_str());
  std::fflush(stdout);
}

// Waits up to two seconds until the descriptor shows any of the bits: what another thread of execution (the network) has
// to bring about first.
inline void Await(int fd, short events) {
  pollfd p{fd, events, 0};
  poll(&p, 1, 2000);
}

inline int NewSocket(Address& address, int flags = 0) {
  return Need(socket(address.family(), SOCK_STREAM | flags, 0), "make a socket");
}

// A listener on a free port, which is put into `address`.
inline int Listen(Address& address, int backlog = 16) {
  int fd = NewSocket(address);
  int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  address.set_port(0);
  Need(bind(fd, address.get(), address.size()), "bind");
  Need(listen(fd, backlog), "listen");
  socklen_t length = address.size();
  Need(getsockname(fd, address.get(), &length), "getsockname");
  return fd;
}

struct Pair {
  int client;
  int server;
};

// A connection within the program.
inline Pair Connected(int listener, Address& address) {
  Pair pair;
  pair.client = NewSocket(address);
  Need(connect(pair.client, address.get(), address.size()), "connect");
  pair.server = Need(accept(listener, nullptr, nullptr), "accept");
  return pair;
}

inline void ClosePair(const Pair& pair) {
  close(pair.client);
  close(pair.server);
}

inline void SetTimeout(int fd, int option, int ms) {
  timeval t{ms / 1000, ms % 1000 * 1000};
  setsockopt(fd, SOL_SOCKET, option, &t, sizeof t);
}
