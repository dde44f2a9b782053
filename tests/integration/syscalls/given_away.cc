// Sockets that turn out to be the kernel's when the program names a loopback address: what was done to them before is done to
// the kernel's socket, and every descriptor that stood for the one stands for the other.
#include <sys/syscall.h>

#include "transcript.h"

namespace {

int Option(int fd, int level, int name) {
  int value = -1;
  socklen_t length = sizeof value;
  return getsockopt(fd, level, name, &value, &length) == 0 ? value : -errno;
}

void SetAll(int fd, int family) {
  auto set = [fd](int level, int name, int value) { setsockopt(fd, level, name, &value, sizeof value); };
  set(SOL_SOCKET, SO_REUSEADDR, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(SOL_SOCKET, SO_OOBINLINE, 1);
  set(SOL_SOCKET, SO_RCVBUF, 30000);
  set(SOL_SOCKET, SO_SNDBUF, 40000);
  set(SOL_SOCKET, SO_RCVLOWAT, 3);
  set(SOL_SOCKET, SO_PRIORITY, 5);
  set(IPPROTO_IP, IP_TOS, 0x10);
  set(IPPROTO_IP, IP_TTL, 77);
  if (family == AF_INET6) {
    set(IPPROTO_IPV6, IPV6_V6ONLY, 1);
    set(IPPROTO_IPV6, IPV6_TCLASS, 0x20);
    set(IPPROTO_IPV6, IPV6_UNICAST_HOPS, 78);
  }
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 101);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 102);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(IPPROTO_TCP, TCP_SYNCNT, 4);
  set(IPPROTO_TCP, TCP_LINGER2, 9);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 5000);
  set(IPPROTO_TCP, TCP_NOTSENT_LOWAT, 20000);
  set(IPPROTO_TCP, TCP_MAXSEG, 1000);
  linger l{1, 7};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
  setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
  SetTimeout(fd, SO_RCVTIMEO, 1500);
  SetTimeout(fd, SO_SNDTIMEO, 2500);
}

void ShowAll(int fd, int family) {
  auto show = [fd](const char* what, int level, int name) { std::printf("%s: %d\n", what, Option(fd, level, name)); };
  show("SO_REUSEADDR", SOL_SOCKET, SO_REUSEADDR);
  show("SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE);
  show("SO_OOBINLINE", SOL_SOCKET, SO_OOBINLINE);
  show("SO_RCVBUF", SOL_SOCKET, SO_RCVBUF);
  show("SO_SNDBUF", SOL_SOCKET, SO_SNDBUF);
  show("SO_RCVLOWAT", SOL_SOCKET, SO_RCVLOWAT);
  show("SO_PRIORITY", SOL_SOCKET, SO_PRIORITY);
  show("IP_TOS", IPPROTO_IP, IP_TOS);
  show("IP_TTL", IPPROTO_IP, IP_TTL);
  if (family == AF_INET6) {
    show("IPV6_V6ONLY", IPPROTO_IPV6, IPV6_V6ONLY);
    show("IPV6_TCLASS", IPPROTO_IPV6, IPV6_TCLASS);
    show("IPV6_UNICAST_HOPS", IPPROTO_IPV6, IPV6_UNICAST_HOPS);
  }
  show("TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY);
  show("TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE);
  show("TCP_KEEPINTVL", IPPROTO_TCP, TCP_KEEPINTVL);
  show("TCP_KEEPCNT", IPPROTO_TCP, TCP_KEEPCNT);
  show("TCP_SYNCNT", IPPROTO_TCP, TCP_SYNCNT);
  show("TCP_LINGER2", IPPROTO_TCP, TCP_LINGER2);
  show("TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT);
  show("TCP_NOTSENT_LOWAT", IPPROTO_TCP, TCP_NOTSENT_LOWAT);
  linger l{};
  socklen_t length = sizeof l;
  getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &length);
  std::printf("SO_LINGER: %d %d\n", l.l_onoff, l.l_linger);
  char name[16] = {};
  length = sizeof name;
  getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &length);
  std::printf("TCP_CONGESTION: %s\n", name);
  for (int which : {SO_RCVTIMEO, SO_SNDTIMEO}) {
    timeval t{};
    length = sizeof t;
    getsockopt(fd, SOL_SOCKET, which, &t, &length);
    std::printf("timeout: %ld.%06ld\n", static_cast<long>(t.tv_sec), static_cast<long>(t.tv_usec));
  }
}

bool Goes(int client, int server) {
  char c;
  return send(client, "x", 1, MSG_NOSIGNAL) == 1 && recv(server, &c, 1, 0) == 1 &&
         send(server, "y", 1, MSG_NOSIGNAL) == 1 && recv(client, &c, 1, 0) == 1;
}

void Options(int listener, Address& loopback) {
  Title("options");
  int fd = NewSocket(loopback);
  SetAll(fd, loopback.family());
  Show("connect", connect(fd, loopback.get(), loopback.size()));
  ShowAll(fd, loopback.family());
  int one = 1;
  setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof one);
  int server = accept(listener, nullptr, nullptr);
  std::printf("goes: %d\n", Goes(fd, server));
  close(fd);
  close(server);
  fd = NewSocket(loopback);
  Show("connect without any", connect(fd, loopback.get(), loopback.size()));
  ShowAll(fd, loopback.family());
  close(fd);
  close(accept(listener, nullptr, nullptr));
}

void Descriptors(int listener, Address& loopback) {
  Title("descriptors");
  int fd = NewSocket(loopback, SOCK_NONBLOCK);
  int copy = Need(fcntl(fd, F_DUPFD_CLOEXEC, 0), "duplicate");
  int set = epoll_create1(0);
  epoll_event event{EPOLLIN | EPOLLOUT | EPOLLRDHUP, {}};
  event.data.u64 = 77;
  Show("epoll_ctl", epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
  Show("F_SETOWN", fcntl(fd, F_SETOWN, getpid()));
  Show("F_SETSIG", fcntl(copy, F_SETSIG, SIGWINCH));
  Show("connect", connect(copy, loopback.get(), loopback.size()) == 0 || errno == EINPROGRESS ? 0 : -1);
  Await(fd, POLLOUT);
  int server = accept(listener, nullptr, nullptr);
  Show("F_GETFD", fcntl(fd, F_GETFD));
  Show("F_GETFD of the copy", fcntl(copy, F_GETFD));
  std::printf("not blocking: %d\n", (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
  std::printf("owner: %d signal: %d\n", fcntl(copy, F_GETOWN) == getpid(), fcntl(fd, F_GETSIG) == SIGWINCH);
  char c;
  Show("recv", recv(fd, &c, 1, 0));
  Show("send by the copy", send(copy, "a", 1, 0));
  Show("arrives", recv(server, &c, 1, 0));
  Show("send", send(server, "b", 1, 0));
  Await(copy, POLLIN);
  int n = epoll_wait(set, &event, 1, 2000);
  std::printf("epoll_wait: %d %s %d\n", n, Bits(event.events).c_str(), static_cast<int>(event.data.u64));
  Show("recv by either", recv(fd, &c, 1, 0));
  close(fd);
  Show("after one close", send(copy, "c", 1, 0));
  Show("arrives", recv(server, &c, 1, 0));
  close(copy);
  Show("after both", recv(server, &c, 1, 0));
  close(set);
  close(server);
}

void Bound(int listener, Address& loopback) {
  Title("bound before");
  Address any(loopback.family() == AF_INET ? "0.0.0.0" : "::");
  int fd = NewSocket(loopback);
  Show("bind to all", bind(fd, any.get(), any.size()));
  socklen_t length = any.size();
  getsockname(fd, any.get(), &length);
  uint16_t port = any.port();
  Show("connect", connect(fd, loopback.get(), loopback.size()));
  Address name = loopback;
  getsockname(fd, name.get(), &length);
  std::printf("keeps its port: %d\n", name.port() == port);
  int server = accept(listener, nullptr, nullptr);
  std::printf("goes: %d\n", Goes(fd, server));
  close(fd);
  close(server);
  fd = NewSocket(loopback);
  name.set_port(0);
  Show("bind to the address", bind(fd, name.get(), name.size()));
  Show("listen", listen(fd, 5));
  getsockname(fd, name.get(), &length);
  Pair pair = Connected(fd, name);
  std::printf("goes: %d\n", Goes(pair.client, pair.server));
  ClosePair(pair);
  close(fd);
}

// One socket, two addresses: the first is the one under test.
void Again(int listener, Address& loopback, Address& address) {
  Title("after another attempt");
  Address nobody = address;
  nobody.set_port(9);
  int fd = NewSocket(loopback);
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  Show("connect to nobody", connect(fd, nobody.get(), nobody.size()));
  Show("connect", connect(fd, loopback.get(), loopback.size()));
  int server = accept(listener, nullptr, nullptr);
  std::printf("goes: %d, option %d\n", Goes(fd, server), Option(fd, IPPROTO_TCP, TCP_NODELAY));
  close(fd);
  close(server);
}

void Ends(int listener, Address& loopback) {
  Title("both ends in two processes");
  pid_t child = fork();
  if (child == 0) {
    int fd = NewSocket(loopback);
    bool ok = connect(fd, loopback.get(), loopback.size()) == 0 && send(fd, "hello", 5, 0) == 5;
    _exit(ok ? 0 : 1);
  }
  int server = accept(listener, nullptr, nullptr);
  char in[5];
  Show("recv", recv(server, in, 5, MSG_WAITALL));
  Show("and its end", recv(server, in, 1, 0));
  int status = 0;
  waitpid(child, &status, 0);
  std::printf("child: %d\n", status);
  close(server);
}

void Run(Address address) {
  Address loopback(address.family() == AF_INET ? "127.0.0.1" : "::1");
  int listener = Listen(loopback);
  Options(listener, loopback);
  Descriptors(listener, loopback);
  Bound(listener, loopback);
  Again(listener, loopback, address);
  Ends(listener, loopback);
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  alarm(60);
  if (argc != 2) return 2;
  Run(Address(argv[1]));
}
