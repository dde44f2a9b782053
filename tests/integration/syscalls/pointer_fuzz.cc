// Calls with pointers at random: each argument lies well, ends too early, may only be read, or is not there at all. The same
// sequence on the kernel and on ustcp, so that what is looked at first, and what is done before a fault, is compared too.
#include <sys/mman.h>
#include <sys/sendfile.h>

#include <algorithm>
#include <initializer_list>
#include <vector>

#include "transcript.h"

namespace {

constexpr size_t kPage = 4096;
constexpr int kCalls = 20000;

class Random {
 public:
  uint32_t Below(uint32_t n) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(state_ >> 33) % n;
  }
  template <typename T>
  T Of(std::initializer_list<T> values) {
    return values.begin()[Below(static_cast<uint32_t>(values.size()))];
  }

 private:
  uint64_t state_ = 20261129;
};

Random g_random;

char* Map(size_t pages) {
  void* p = mmap(nullptr, pages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  Need(p == MAP_FAILED ? -1 : 0, "map");
  return static_cast<char*>(p);
}

// Places for arguments, one page each with none behind it; all may be written again between two calls.
class Places {
 public:
  static constexpr size_t kPlaces = 16;
  Places() : base_(Map(2 * kPlaces)) {
    for (size_t i = 0; i < kPlaces; ++i) mprotect(base_ + (2 * i + 1) * kPage, kPage, PROT_NONE);
  }
  void Renew() {
    for (size_t i = 0; i < used_; ++i) mprotect(base_ + 2 * i * kPage, kPage, PROT_READ | PROT_WRITE);
    used_ = 0;
    text_.clear();
  }
  // An argument of `n` bytes with this content, put somewhere; what of it is there has the content.
  void* Put(const void* content, size_t n) {
    char* page = base_ + 2 * used_++ * kPage;
    char* end = page + kPage;
    switch (g_random.Below(12)) {
      case 0: return Told("null", nullptr);
      case 1: return Told("none", end + 100);
      case 2: return Told("beyond", reinterpret_cast<char*>(0x8000'0000'0000'0000));
      case 3:
      case 4: {
        size_t there = g_random.Below(static_cast<uint32_t>(n) + 1);
        std::memcpy(end - there, content, there);
        return Told(("short" + std::to_string(there)).c_str(), end - there);
      }
      case 5: {
        std::memcpy(page, content, n);
        mprotect(page, kPage, PROT_READ);
        return Told("const", page);
      }
      default: std::memcpy(end - n, content, n); return Told("good", end - n);
    }
  }
  template <typename T>
  T* Put(const T& value) {
    return static_cast<T*>(Put(&value, sizeof value));
  }
  // Bytes to be written or read, of which there may be none.
  iovec Buffer() {
    static const char kText[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    size_t n = g_random.Below(30);
    return {Put(kText, n), n};
  }
  const std::string& text() const { return text_; }
  void Tell(const std::string& more) { text_ += " " + more; }

 private:
  void* Told(const char* what, char* p) {
    text_ += std::string(" ") + what;
    return p;
  }
  char* base_;
  size_t used_ = 0;
  std::string text_;
};

class Fuzz {
 public:
  explicit Fuzz(Address address) : address_(address) {
    listener_ = Listen(address_);
    pair_ = Connected(listener_, address_);
    epfd_ = epoll_create1(EPOLL_CLOEXEC);
    epoll_event event{};
    event.events = EPOLLOUT;
    epoll_ctl(epfd_, EPOLL_CTL_ADD, pair_.server, &event);
    fcntl(pair_.client, F_SETFL, O_NONBLOCK);
    fcntl(pair_.server, F_SETFL, O_NONBLOCK);
    int on = 1;
    setsockopt(pair_.client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    file_ = memfd_create("file", MFD_CLOEXEC);
    (void)!write(file_, "0123456789012345678901234567890123456789", 40);
  }

  void Step() {
    places_.Renew();
    errno = 0;
    const char* name = "";
    long n = Call(&name);
    int error = errno;
    std::printf("%s%s: %s", name, places_.text().c_str(), n < 0 ? ErrnoName(error) : std::to_string(n).c_str());
    Rest();
    std::printf("\n");
  }

 private:
  long Call(const char** name) {
    int c = pair_.client, s = pair_.server;
    switch (g_random.Below(20)) {
      case 0: {
        *name = "send";
        iovec b = places_.Buffer();
        return send(c, b.iov_base, b.iov_len, 0);
      }
      case 1: {
        *name = "recv";
        Feed();
        iovec b = places_.Buffer();
        return recv(s, b.iov_base, b.iov_len, g_random.Of<int>({0, MSG_PEEK, MSG_TRUNC}));
      }
      case 2: {
        *name = "sendto";
        iovec b = places_.Buffer();
        auto length = g_random.Of<socklen_t>({0, 16, 28, 200});
        return sendto(c, b.iov_base, b.iov_len, 0, Name(), length);
      }
      case 3: {
        *name = "recvfrom";
        Feed();
        iovec b = places_.Buffer();
        sockaddr* from = Name();
        return recvfrom(s, b.iov_base, b.iov_len, 0, from, Length());
      }
      case 4: {
        *name = "writev";
        int count = 0;
        iovec* v = Vector(&count);
        return writev(c, v, count);
      }
      case 5: {
        *name = "readv";
        Feed();
        int count = 0;
        iovec* v = Vector(&count);
        return readv(s, v, count);
      }
      case 6: *name = "sendmsg"; return sendmsg(c, places_.Put(Message()), 0);
      case 7:
        *name = "recvmsg";
        Feed();
        return recvmsg(s, places_.Put(Message()), 0);
      case 8: {
        *name = "sendmmsg";
        mmsghdr two[2] = {{Message(), 0}, {Message(), 0}};
        return sendmmsg(c, static_cast<mmsghdr*>(places_.Put(two, sizeof two)), 2, 0);
      }
      case 9: {
        *name = "recvmmsg";
        Feed();
        mmsghdr two[2] = {{Message(), 0}, {Message(), 0}};
        return recvmmsg(s, static_cast<mmsghdr*>(places_.Put(two, sizeof two)), 2, 0, nullptr);
      }
      case 10: {
        *name = "getsockname";
        sockaddr* to = Name();
        return getsockname(c, to, Length());
      }
      case 11: {
        *name = "getpeername";
        sockaddr* to = Name();
        return getpeername(c, to, Length());
      }
      case 12: {
        *name = "setsockopt";
        int values[4] = {1, 0, 0, 0};
        int option = g_random.Of<int>({SO_KEEPALIVE, SO_LINGER, SO_RCVTIMEO, SO_OOBINLINE});
        places_.Tell(std::to_string(option));
        void* value = places_.Put(values, sizeof values);
        return setsockopt(c, SOL_SOCKET, option, value, g_random.Of<socklen_t>({0, 3, 4, 8, 16, 100}));
      }
      case 13: {
        *name = "getsockopt";
        int values[4] = {};
        int option = g_random.Of<int>({SO_KEEPALIVE, SO_LINGER, SO_RCVTIMEO, SO_ERROR});
        places_.Tell(std::to_string(option));
        void* value = places_.Put(values, sizeof values);
        return getsockopt(c, SOL_SOCKET, option, value, Length());
      }
      case 14: {
        *name = "poll";
        pollfd two[2] = {{c, POLLOUT, 0}, {s, POLLOUT, 0}};
        return poll(static_cast<pollfd*>(places_.Put(two, sizeof two)), 2, 0);
      }
      case 15: {
        *name = "select";
        fd_set set;
        FD_ZERO(&set);
        FD_SET(c, &set);
        timeval now = {};
        auto* in = static_cast<fd_set*>(places_.Put(&set, 8));
        auto* out = static_cast<fd_set*>(places_.Put(&set, 8));
        return select(64, in, out, nullptr, &now);
      }
      case 16: {
        *name = "epoll_ctl";
        epoll_event event{};
        event.events = EPOLLOUT;
        return epoll_ctl(epfd_, g_random.Of<int>({EPOLL_CTL_ADD, EPOLL_CTL_MOD}), s, places_.Put(event));
      }
      case 17: {
        *name = "epoll_wait";
        epoll_event three[3] = {};
        return epoll_wait(epfd_, static_cast<epoll_event*>(places_.Put(three, sizeof three)), 3, 0);
      }
      case 18: {
        *name = "ioctl";
        auto request = g_random.Of<unsigned long>({FIONREAD, TIOCOUTQ, FIONBIO});
        places_.Tell(std::to_string(request));
        return ioctl(c, request, places_.Put(1));
      }
      default: {
        *name = "sendfile";
        return sendfile(c, file_, places_.Put(off_t{3}), 5);
      }
    }
  }

  // What calls that read find.
  void Feed() {
    send(pair_.client, "feedfeedfeedfeedfeed", 20, 0);
    Await(pair_.server, POLLIN);
  }
  sockaddr* Name() { return static_cast<sockaddr*>(places_.Put(address_.get(), address_.size())); }
  socklen_t* Length() {
    return places_.Put(g_random.Of<socklen_t>({0, 3, 4, 16, 28, 100, static_cast<socklen_t>(-1)}));
  }
  iovec* Vector(int* count) {
    iovec v[3];
    *count = static_cast<int>(1 + g_random.Below(3));
    for (int i = 0; i < *count; ++i) v[i] = places_.Buffer();
    return static_cast<iovec*>(places_.Put(v, static_cast<size_t>(*count) * sizeof *v));
  }
  msghdr Message() {
    msghdr m = {};
    int count = 0;
    m.msg_iov = Vector(&count);
    m.msg_iovlen = static_cast<size_t>(count);
    if (g_random.Below(3) == 0) {
      m.msg_name = Name();
      m.msg_namelen = g_random.Of<socklen_t>({0, 16, 28, 200, static_cast<socklen_t>(-1)});
    }
    if (g_random.Below(3) == 0) {
      cmsghdr none = {};
      none.cmsg_len = sizeof none;
      m.msg_control = places_.Put(none);
      m.msg_controllen = sizeof none;
    }
    return m;
  }

  // What arrived, and what the call left unread; the next call finds nothing of it.
  void Rest() {
    send(pair_.client, ".", 1, 0);
    std::string rest;
    char in[256];
    while (rest.empty() || rest.back() != '.') {
      Await(pair_.server, POLLIN);
      long n = recv(pair_.server, in, sizeof in, 0);
      if (n > 0) rest.append(in, static_cast<size_t>(n));
      if (n == 0 || (n < 0 && errno != EAGAIN)) rest += std::string(" ") + ErrnoName(errno);
    }
    std::printf(" rest %s", rest.c_str());
    // An error that was kept for the next call.
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(pair_.server, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) std::printf(" and %s", ErrnoName(error));
  }

  Address address_;
  int listener_;
  Pair pair_;
  int epfd_;
  int file_;
  Places places_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  signal(SIGPIPE, SIG_IGN);
  Fuzz fuzz{Address(argv[1])};
  for (int i = 0; i < kCalls; ++i) fuzz.Step();
}
