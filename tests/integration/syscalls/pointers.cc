// Pointers that lead nowhere, in every argument of every call: what is said of them, and that the socket, its neighbours
// and its peer are none the worse for it.
#include <linux/sockios.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <algorithm>
#include <vector>

#include "transcript.h"

namespace {

constexpr size_t kPage = 4096;

char* Map(size_t pages, int protection) {
  void* p = mmap(nullptr, pages * kPage, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  Need(p == MAP_FAILED ? -1 : 0, "map");
  return static_cast<char*>(p);
}

// Two pages that can be used, between two that cannot.
char* Island() {
  char* p = Map(4, PROT_NONE);
  Need(mprotect(p + kPage, 2 * kPage, PROT_READ | PROT_WRITE), "mprotect");
  return p + kPage;
}
char* IslandEnd() {
  static char* island = Island();
  return island + 2 * kPage;
}

// A file that was cut under its mapping: SIGBUS.
char* CutFile() {
  int fd = Need(memfd_create("cut", MFD_CLOEXEC), "make a file");
  Need(ftruncate(fd, kPage), "ftruncate");
  void* p = mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  Need(ftruncate(fd, 0), "ftruncate");
  close(fd);
  return static_cast<char*>(p);
}

struct Nowhere {
  const char* name;
  char* at;
};

std::vector<Nowhere> AllNowhere() {
  return {{"null", nullptr},
          {"8", reinterpret_cast<char*>(8)},
          {"PROT_NONE", Map(1, PROT_NONE)},
          {"a cut file", CutFile()},
          {"no address", reinterpret_cast<char*>(0x8000'0000'0000'0000)},
          {"the kernel's", reinterpret_cast<char*>(0xffff'8880'0000'0000)},
          {"the last page", reinterpret_cast<char*>(0x7fff'ffff'e000)},
          {"the last byte", reinterpret_cast<char*>(UINTPTR_MAX)}};
}

template <typename T>
T* As(char* p) {
  return reinterpret_cast<T*>(p);
}

// The bytes that are there now, without waiting.
void Drain(const char* what, int fd) {
  char in[64];
  long n = recv(fd, in, sizeof in, MSG_DONTWAIT);
  std::printf("%s: %.*s\n", what, n > 0 ? static_cast<int>(n) : 7, n > 0 ? in : "nothing");
  std::fflush(stdout);
}

class Calls {
 public:
  Calls(Address address, char* bad) : address_(address), bad_(bad) {
    listener_ = Listen(address_);
    pair_ = Connected(listener_, address_);
  }
  ~Calls() {
    ClosePair(pair_);
    close(listener_);
  }

  void Data() {
    int c = pair_.client, s = pair_.server;
    Show("send", send(c, bad_, 5, 0));
    Show("send of nothing", send(c, bad_, 0, 0));
    Show("write", write(c, bad_, 5));
    Show("write of nothing", write(c, bad_, 0));
    Show("writev", writev(c, As<iovec>(bad_), 1));
    iovec one{bad_, 3};
    Show("writev of bad bytes", writev(c, &one, 1));
    char good[] = "good";
    iovec two[2] = {{good, 4}, {bad_, 3}};
    Show("writev of good and bad bytes", writev(c, two, 2));
    iovec empty[2] = {{bad_, 0}, {good, 4}};
    Show("writev of no bad bytes and good ones", writev(c, empty, 2));
    Show("sendto", sendto(c, "sendto", 6, 0, As<sockaddr>(bad_), 16));
    Show("sendto with a length of 0", sendto(c, "-", 1, 0, As<sockaddr>(bad_), 0));
    Show("MSG_OOB", send(c, bad_, 1, MSG_OOB));
    Await(s, POLLIN);
    usleep(20'000);
    Drain("arrived", s);
    Show("recv of nothing, of which there is none", recv(s, bad_, 0, MSG_DONTWAIT));
    send(c, "0123456789", 10, 0);
    Await(s, POLLIN);
    Show("recv", recv(s, bad_, 5, 0));
    Show("recv of nothing", recv(s, bad_, 0, MSG_DONTWAIT));
    Show("read", read(s, bad_, 5));
    Show("read of nothing", read(s, bad_, 0));
    Show("MSG_PEEK", recv(s, bad_, 5, MSG_PEEK));
    Show("readv", readv(s, As<iovec>(bad_), 1));
    Show("readv into bad bytes", readv(s, &one, 1));
    Show("readv into good and bad bytes", readv(s, two, 2));
    socklen_t length = 16;
    Show("recvfrom with a bad length", recvfrom(s, good, 1, 0, address_.get(), As<socklen_t>(bad_)));
    Show("recvfrom with a bad address", recvfrom(s, good, 1, 0, As<sockaddr>(bad_), &length));
    Drain("left", s);
    send(c, "trunc", 5, 0);
    Await(s, POLLIN);
    Show("MSG_TRUNC", recv(s, bad_, 5, MSG_TRUNC));
    send(c, "u", 1, MSG_OOB);
    Await(s, POLLPRI);
    Show("recv MSG_OOB", recv(s, bad_, 1, MSG_OOB));
    Show("recv MSG_OOB again", recv(s, good, 1, MSG_OOB));
    Drain("left", s);
  }

  void Messages() {
    int c = pair_.client, s = pair_.server;
    char good[] = "good";
    iovec v{good, 4};
    iovec bad_vector{bad_, 4};
    Show("sendmsg", sendmsg(c, As<msghdr>(bad_), 0));
    msghdr m = {};
    m.msg_iov = As<iovec>(bad_);
    m.msg_iovlen = 1;
    Show("sendmsg with a bad vector", sendmsg(c, &m, 0));
    m.msg_iov = &bad_vector;
    Show("sendmsg of bad bytes", sendmsg(c, &m, 0));
    m.msg_iov = &v;
    m.msg_name = bad_;
    m.msg_namelen = 16;
    Show("sendmsg to a bad name", sendmsg(c, &m, 0));
    m.msg_name = nullptr;
    m.msg_control = bad_;
    m.msg_controllen = 24;
    Show("sendmsg with bad control", sendmsg(c, &m, 0));
    m.msg_control = nullptr;
    m.msg_controllen = 0;
    Show("sendmmsg", sendmmsg(c, As<mmsghdr>(bad_), 1, 0));
    mmsghdr many[2] = {};
    many[0].msg_hdr = m;
    many[1].msg_hdr.msg_iov = As<iovec>(bad_);
    many[1].msg_hdr.msg_iovlen = 1;
    Show("sendmmsg with a bad second", sendmmsg(c, many, 2, 0));
    Await(s, POLLIN);
    usleep(20'000);
    Drain("arrived", s);
    send(c, "0123456789abcdefghijklmnop", 26, 0);
    Await(s, POLLIN);
    Show("recvmsg", recvmsg(s, As<msghdr>(bad_), 0));
    m.msg_iov = As<iovec>(bad_);
    Show("recvmsg with a bad vector", recvmsg(s, &m, 0));
    m.msg_iov = &bad_vector;
    Show("recvmsg into bad bytes", recvmsg(s, &m, 0));
    m.msg_iov = &v;
    m.msg_name = bad_;
    m.msg_namelen = 16;
    Show("recvmsg with a bad name", recvmsg(s, &m, 0));
    m.msg_name = nullptr;
    m.msg_control = bad_;
    m.msg_controllen = 24;
    Show("recvmsg with bad control", recvmsg(s, &m, 0));
    m.msg_control = nullptr;
    Show("recvmmsg", recvmmsg(s, As<mmsghdr>(bad_), 1, 0, nullptr));
    Show("recvmmsg with a bad time", recvmmsg(s, many, 1, 0, As<timespec>(bad_)));
    many[0].msg_hdr = m;
    Show("recvmmsg with a bad second", recvmmsg(s, many, 2, 0, nullptr));
    Drain("left", s);
    Show("and then", recv(s, good, 1, MSG_DONTWAIT));
    Show("and then", recv(s, good, 1, MSG_DONTWAIT));
  }

  void Names() {
    int fresh = NewSocket(address_);
    socklen_t length = 16;
    Show("bind", bind(fresh, As<sockaddr>(bad_), 16));
    Show("bind with a length of 0", bind(fresh, As<sockaddr>(bad_), 0));
    Show("connect", connect(fresh, As<sockaddr>(bad_), 16));
    Show("connect with a length of 200", connect(fresh, As<sockaddr>(bad_), 200));
    Show("getsockname", getsockname(pair_.client, As<sockaddr>(bad_), &length));
    std::printf("length %u\n", length);
    Show("getsockname with a bad length", getsockname(pair_.client, address_.get(), As<socklen_t>(bad_)));
    length = 0;
    Show("getsockname with a length of 0", getsockname(pair_.client, As<sockaddr>(bad_), &length));
    std::printf("length %u\n", length);
    length = 16;
    Show("getpeername", getpeername(pair_.client, As<sockaddr>(bad_), &length));
    Show("getpeername of none", getpeername(fresh, As<sockaddr>(bad_), As<socklen_t>(bad_)));
    close(fresh);
    Accepted("accept", &length);
    Accepted("accept with a bad length", As<socklen_t>(bad_));
  }

  void Options() {
    int fd = pair_.client;
    socklen_t length = sizeof(int);
    static constexpr struct {
      const char* name;
      int level, option;
    } kOptions[] = {{"SO_RCVBUF", SOL_SOCKET, SO_RCVBUF}, {"SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE},
                    {"SO_LINGER", SOL_SOCKET, SO_LINGER}, {"SO_RCVTIMEO", SOL_SOCKET, SO_RCVTIMEO},
                    {"SO_ERROR", SOL_SOCKET, SO_ERROR},   {"TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY},
                    {"TCP_INFO", IPPROTO_TCP, TCP_INFO},  {"TCP_CONGESTION", IPPROTO_TCP, TCP_CONGESTION},
                    {"unknown", IPPROTO_TCP, 4711}};
    for (auto& o : kOptions) {
      std::printf("%s\n", o.name);
      Show("set", setsockopt(fd, o.level, o.option, bad_, 16));
      Show("set a short one", setsockopt(fd, o.level, o.option, bad_, 1));
      Show("set none", setsockopt(fd, o.level, o.option, bad_, 0));
      length = 16;
      Show("get", getsockopt(fd, o.level, o.option, bad_, &length));
      length = 0;
      Show("get none", getsockopt(fd, o.level, o.option, bad_, &length));
      char value[64];
      Show("get with a bad length", getsockopt(fd, o.level, o.option, value, As<socklen_t>(bad_)));
    }
    Show("FIONREAD", ioctl(fd, FIONREAD, bad_));
    Show("SIOCATMARK", ioctl(fd, SIOCATMARK, bad_));
    Show("TIOCOUTQ", ioctl(fd, TIOCOUTQ, bad_));
    Show("FIONBIO", ioctl(fd, FIONBIO, bad_));
    Show("F_GETLK", fcntl(fd, F_GETLK, bad_));
    Show("flags", fcntl(fd, F_GETFL));
    Show("fstat", fstat(fd, As<struct stat>(bad_)));
  }

  void Waiting() {
    int c = pair_.client, s = pair_.server;
    Show("poll", poll(As<pollfd>(bad_), 1, 0));
    Show("poll of many", poll(As<pollfd>(bad_), 500, 0));
    sigset_t* mask = As<sigset_t>(bad_);
    timespec zero = {};
    pollfd p{s, POLLIN, 0};
    Show("ppoll", ppoll(As<pollfd>(bad_), 1, &zero, nullptr));
    if (bad_ != nullptr) Show("ppoll with a bad mask", ppoll(&p, 1, &zero, mask));
    timeval now = {};
    fd_set set;
    FD_ZERO(&set);
    FD_SET(c, &set);
    fd_set* bad_set = As<fd_set>(bad_);
    if (bad_ != nullptr) {
      Show("select", select(c + 1, bad_set, nullptr, nullptr, &now));
      Show("select with a bad second", select(c + 1, &set, bad_set, nullptr, &now));
      Show("pselect", pselect(c + 1, nullptr, nullptr, bad_set, &zero, nullptr));
      Show("pselect with a bad mask", pselect(c + 1, nullptr, &set, nullptr, &zero, mask));
      Show("select of none", select(0, bad_set, nullptr, nullptr, &now));
    }
    int epfd = epoll_create1(EPOLL_CLOEXEC);
    epoll_event event{};
    event.events = EPOLLIN;
    Show("epoll_ctl", epoll_ctl(epfd, EPOLL_CTL_ADD, s, As<epoll_event>(bad_)));
    Show("epoll_ctl with a good one", epoll_ctl(epfd, EPOLL_CTL_ADD, s, &event));
    Show("epoll_ctl MOD", epoll_ctl(epfd, EPOLL_CTL_MOD, s, As<epoll_event>(bad_)));
    Show("epoll_wait, nothing ready", epoll_wait(epfd, As<epoll_event>(bad_), 1, 0));
    send(c, "e", 1, 0);
    Await(s, POLLIN);
    Show("epoll_wait", epoll_wait(epfd, As<epoll_event>(bad_), 1, 1000));
    Show("epoll_wait for no events", epoll_wait(epfd, As<epoll_event>(bad_), 0, 0));
    if (bad_ != nullptr) Show("epoll_pwait with a bad mask", epoll_pwait(epfd, &event, 1, 0, mask));
    if (bad_ != nullptr)
      Show("epoll_pwait2 with a bad time", epoll_pwait2(epfd, &event, 1, As<timespec>(bad_), nullptr));
    Show("epoll_wait with a good one", epoll_wait(epfd, &event, 1, 1000));
    event.events = EPOLLIN | EPOLLET | EPOLLONESHOT;
    Show("once and by edges", epoll_ctl(epfd, EPOLL_CTL_MOD, s, &event));
    Show("epoll_wait", epoll_wait(epfd, As<epoll_event>(bad_), 1, 1000));
    Show("epoll_wait with a good one", epoll_wait(epfd, &event, 1, 0));
    Show("and again", epoll_wait(epfd, &event, 1, 0));
    Show("epoll_ctl DEL", epoll_ctl(epfd, EPOLL_CTL_DEL, s, As<epoll_event>(bad_)));
    close(epfd);
    Drain("left", s);
  }

  void Files() {
    if (bad_ == nullptr) return;
    int file = memfd_create("file", MFD_CLOEXEC);
    (void)!write(file, "0123456789", 10);
    lseek(file, 0, SEEK_SET);
    Show("sendfile", sendfile(pair_.client, file, As<off_t>(bad_), 5));
    Show("position", lseek(file, 0, SEEK_CUR));
    close(file);
    Drain("arrived", pair_.server);
    char* none[] = {nullptr};
    Show("execve with bad arguments", execve("/bin/true", As<char*>(bad_), none));
    Show("execve with a bad environment", execve("/bin/true", none, As<char*>(bad_)));
    char* one[] = {bad_, nullptr};
    Show("execve with a bad variable", execve("/bin/true", none, one));
  }

  void StillUsable() {
    Show("send", send(pair_.client, "fine", 4, 0));
    Await(pair_.server, POLLIN);
    Drain("arrived", pair_.server);
  }

 private:
  void Accepted(const char* what, socklen_t* length) {
    int fd = NewSocket(address_);
    Need(connect(fd, address_.get(), address_.size()), "connect");
    ShowFd(what, accept(listener_, As<sockaddr>(bad_), length));
    SetTimeout(listener_, SO_RCVTIMEO, 30);
    if (bad_ != nullptr) ShowFd("and then", accept(listener_, nullptr, nullptr));
    char c;
    Show("its peer sees", recv(fd, &c, 1, MSG_DONTWAIT));
    close(fd);
  }

  Address address_;
  char* bad_;
  int listener_;
  Pair pair_;
};

// Memory that may only be read: what was received is kept, what was to be told is not.
void OnReadOnly(Address address) {
  Title("memory that may only be read");
  char* page = Map(1, PROT_READ | PROT_WRITE);
  auto* m = As<msghdr>(page);
  auto* length = As<socklen_t>(page + 512);
  auto* p = As<pollfd>(page + 600);
  auto* set = As<fd_set>(page + 1024);
  auto* offset = As<off_t>(page + 2100);
  char good[8];
  iovec v{good, 4};
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  *m = {};
  m->msg_iov = &v;
  m->msg_iovlen = 1;
  *length = 16;
  *p = {pair.client, POLLOUT, 0};
  FD_ZERO(set);
  FD_SET(pair.client, set);
  *offset = 2;
  mprotect(page, kPage, PROT_READ);
  send(pair.client, "01234567", 8, 0);
  Await(pair.server, POLLIN);
  Show("recvmsg", recvmsg(pair.server, m, 0));
  Show("recv into it", recv(pair.server, page, 4, 0));
  Drain("left", pair.server);
  Show("sendmsg", sendmsg(pair.client, m, 0));
  Show("send from it", send(pair.client, page + 3000, 4, 0));
  Await(pair.server, POLLIN);
  Drain("arrived", pair.server);
  Show("getsockname", getsockname(pair.client, address.get(), length));
  Show("poll", poll(p, 1, 0));
  Show("select", select(pair.client + 1, nullptr, set, nullptr, nullptr));
  int file = memfd_create("file", MFD_CLOEXEC);
  (void)!write(file, "0123456789", 10);
  Show("sendfile", sendfile(pair.client, file, offset, 4));
  Await(pair.server, POLLIN);
  usleep(20'000);
  Drain("arrived", pair.server);
  close(file);
  ClosePair(pair);
  close(listener);
}

// Each call with its argument at every distance from the end of what is mapped. Prints how far it went.
template <typename Call>
void AtEdge(const char* what, int most, Call&& call) {
  std::printf("%s:", what);
  for (int distance = 0; distance <= most; ++distance) {
    errno = 0;
    long n = call(IslandEnd() - distance, distance);
    if (n < 0)
      std::printf(" %s", ErrnoName(errno));
    else
      std::printf(" %ld", n);
  }
  std::printf("\n");
  std::fflush(stdout);
}

void OnEdges(Address address) {
  Title("around the end of what is mapped");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  int c = pair.client, s = pair.server;
  std::memset(IslandEnd() - 2 * kPage, 'e', 2 * kPage);
  AtEdge("send of 20", 24, [&](char* p, int) {
    Pair own = Connected(listener, address);
    long n = send(own.client, p, 20, 0);
    int error = errno;
    ClosePair(own);
    errno = error;
    return n;
  });
  AtEdge("recv of 20", 24, [&](char* p, int) {
    send(c, "0123456789abcdefghij", 20, 0);
    Await(s, POLLIN);
    long n = recv(s, p, 20, 0);
    int error = errno;
    if (n < 0 && recv(s, p - 100, 20, MSG_DONTWAIT) != 20) return -2L;
    errno = error;
    return n;
  });
  AtEdge("bytes of a recv that failed", 24, [&](char* p, int distance) {
    if (distance >= 20) return 0L;
    std::memset(p - 1, 'e', static_cast<size_t>(distance) + 1);
    send(c, "0123456789abcdefghij", 20, 0);
    Await(s, POLLIN);
    recv(s, p, 20, 0);
    long before = p[-1] == 'e';
    recv(s, p - 100, 20, 0);
    return before;
  });
  AtEdge("setsockopt", 6, [&](char* p, int distance) {
    std::memset(p, 0, static_cast<size_t>(distance));
    return long{setsockopt(c, SOL_SOCKET, SO_KEEPALIVE, p, 4)};
  });
  AtEdge("setsockopt of much", 6, [&](char* p, int) { return long{setsockopt(c, SOL_SOCKET, SO_KEEPALIVE, p, 400)}; });
  AtEdge("getsockopt", 6, [&](char* p, int) {
    socklen_t length = 400;
    return long{getsockopt(c, SOL_SOCKET, SO_KEEPALIVE, p, &length)};
  });
  AtEdge("length of getsockopt", 6, [&](char* p, int distance) {
    int value;
    if (distance >= 4) std::memcpy(p, "\4\0\0\0", 4);
    return long{getsockopt(c, SOL_SOCKET, SO_KEEPALIVE, &value, As<socklen_t>(p))};
  });
  AtEdge("getsockname", 30, [&](char* p, int) {
    socklen_t length = address.size();
    return long{getsockname(c, As<sockaddr>(p), &length)};
  });
  AtEdge("connect", 30, [&](char* p, int distance) {
    int fd = NewSocket(address);
    std::memcpy(p, address.get(), std::min<size_t>(static_cast<size_t>(distance), address.size()));
    long result = connect(fd, As<sockaddr>(p), address.size());
    int error = errno;
    close(fd);
    if (result == 0) close(accept(listener, nullptr, nullptr));
    errno = error;
    return result;
  });
  AtEdge("FIONREAD", 6, [&](char* p, int) { return long{ioctl(c, FIONREAD, p)}; });
  AtEdge("fstat", 150, [&](char* p, int) { return long{fstat(c, As<struct stat>(p))}; });
  AtEdge("poll of two", 20, [&](char* p, int distance) {
    pollfd two[2] = {{c, POLLOUT, 0}, {s, POLLOUT, 0}};
    std::memcpy(p, two, std::min<size_t>(static_cast<size_t>(distance), sizeof two));
    return long{poll(As<pollfd>(p), 2, 0)};
  });
  AtEdge("select", 20, [&](char* p, int distance) {
    std::memset(p, 0, static_cast<size_t>(distance));
    timeval now = {};
    fd_set out;
    FD_ZERO(&out);
    FD_SET(c, &out);
    return long{select(64, As<fd_set>(p), &out, nullptr, &now)};
  });
  AtEdge("select, the result", 20, [&](char* p, int distance) {
    std::memset(p, 0, static_cast<size_t>(distance));
    if (distance >= 8) As<char>(p)[c / 8] = static_cast<char>(1 << (c % 8));
    timeval now = {};
    return long{select(64, nullptr, As<fd_set>(p), nullptr, &now)};
  });
  AtEdge("writev, the vector", 40, [&](char* p, int distance) {
    iovec two[2] = {{const_cast<char*>("ab"), 2}, {const_cast<char*>("cd"), 2}};
    std::memcpy(p, two, std::min<size_t>(static_cast<size_t>(distance), sizeof two));
    long n = writev(c, As<iovec>(p), 2);
    int error = errno;
    char in[4];
    if (n > 0) recv(s, in, 4, MSG_WAITALL);
    errno = error;
    return n;
  });
  AtEdge("epoll_ctl", 20, [&](char* p, int distance) {
    int epfd = epoll_create1(0);
    std::memset(p, 0, static_cast<size_t>(distance));
    long result = epoll_ctl(epfd, EPOLL_CTL_ADD, c, As<epoll_event>(p));
    int error = errno;
    close(epfd);
    errno = error;
    return result;
  });
  Pair more[3];
  int epfd = epoll_create1(0);
  for (Pair& m : more) {
    m = Connected(listener, address);
    epoll_event event{};
    event.events = EPOLLOUT | EPOLLONESHOT;
    epoll_ctl(epfd, EPOLL_CTL_ADD, m.client, &event);
  }
  AtEdge("epoll_wait of three", 40, [&](char* p, int) {
    long n = epoll_wait(epfd, As<epoll_event>(p), 3, 0);
    int error = errno;
    epoll_event rest[3];
    long left = epoll_wait(epfd, rest, 3, 0);
    for (Pair& m : more) {
      epoll_event event{};
      event.events = EPOLLOUT | EPOLLONESHOT;
      epoll_ctl(epfd, EPOLL_CTL_MOD, m.client, &event);
    }
    errno = error;
    return n < 0 && left == 3 ? n : n * 10 + left;
  });
  for (Pair& m : more) ClosePair(m);
  close(epfd);
  ClosePair(pair);
  close(listener);
}

// The bytes that come until the peer is done.
long ReadAll(int fd) {
  static char in[65536];
  long sum = 0;
  for (long n; (n = recv(fd, in, sizeof in, 0)) > 0;) sum += n;
  return sum;
}

// Much data, of which the end is missing: what is there may go out, and what was told to have gone out did.
void OnMuch(Address address) {
  Title("much data with a hole in it");
  int listener = Listen(address);
  for (size_t good : {size_t{100}, size_t{1} << 20}) {
    size_t pages = (good + kPage - 1) / kPage;
    char* data = Map(pages + 1, PROT_READ | PROT_WRITE);
    char* hole = data + pages * kPage;
    mprotect(hole, kPage, PROT_NONE);
    for (bool vector : {false, true}) {
      Pair pair = Connected(listener, address);
      int told[2];
      Need(pipe(told), "make a pipe");
      pid_t reader = fork();
      if (reader == 0) {
        close(pair.client);
        long sum = ReadAll(pair.server);
        _exit(write(told[1], &sum, sizeof sum) == sizeof sum ? 0 : 1);
      }
      iovec two[2] = {{hole - good, good}, {hole, 100}};
      long n = vector ? writev(pair.client, two, 2) : send(pair.client, hole - good, good + 100, 0);
      std::printf("%zu and a hole: %s\n", good,
                  n < 0                          ? ErrnoName(errno)
                  : n <= static_cast<long>(good) ? "some"
                                                 : "too much");
      ClosePair(pair);
      long sum = 0;
      Need(static_cast<int>(read(told[0], &sum, sizeof sum)), "hear of the reader");
      std::printf("that many arrived: %d\n", sum == std::max(n, 0L));
      std::fflush(stdout);
      close(told[0]);
      close(told[1]);
      waitpid(reader, nullptr, 0);
    }
    munmap(data, (pages + 1) * kPage);
  }
  close(listener);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  signal(SIGPIPE, SIG_IGN);
  Address address(argv[1]);
  for (const Nowhere& bad : AllNowhere()) {
    Title(bad.name);
    Calls calls(address, bad.at);
    calls.Data();
    calls.Messages();
    calls.Names();
    calls.Options();
    calls.Waiting();
    calls.Files();
    calls.StillUsable();
  }
  OnReadOnly(address);
  OnEdges(address);
  OnMuch(address);
}
