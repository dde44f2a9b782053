// Pages that another thread fills in when somebody asks for them, and that uses sockets before it does.
#include <linux/userfaultfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "transcript.h"

namespace {

constexpr size_t kPage = 4096;

class Filler {
 public:
  Filler(Pair pair, size_t pages) : pair_(pair), pages_(pages) {
    fd_ = Need(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)), "make a userfaultfd");
    uffdio_api api = {};
    api.api = UFFD_API;
    Need(ioctl(fd_, UFFDIO_API, &api), "agree on the userfaultfd");
    void* p = mmap(nullptr, pages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    at_ = static_cast<char*>(p);
    uffdio_register range = {};
    range.range.start = reinterpret_cast<uintptr_t>(at_);
    range.range.len = pages * kPage;
    range.mode = UFFDIO_REGISTER_MODE_MISSING;
    Need(ioctl(fd_, UFFDIO_REGISTER, &range), "register");
    thread_ = std::thread([this] { Fill(); });
  }
  ~Filler() {
    stop_ = true;
    thread_.join();
    munmap(at_, pages_ * kPage);
    close(fd_);
  }
  // Memory that is not there yet.
  char* Fresh(size_t pages = 1) {
    used_ += pages;
    return at_ + (used_ - pages) * kPage;
  }
  int filled() const { return filled_; }

 private:
  void Fill() {
    alignas(kPage) static char content[kPage];
    std::memset(content, 0, sizeof content);
    while (!stop_) {
      pollfd p{fd_, POLLIN, 0};
      if (poll(&p, 1, 20) <= 0) continue;
      uffd_msg message;
      if (read(fd_, &message, sizeof message) != sizeof message) continue;
      // What a lazy migration does: fetches the page from elsewhere.
      char c = 'p';
      send(pair_.client, &c, 1, 0);
      recv(pair_.server, &c, 1, 0);
      std::memset(content, c, 100);
      uffdio_copy copy = {};
      copy.dst = message.arg.pagefault.address & ~(kPage - 1);
      copy.src = reinterpret_cast<uintptr_t>(content);
      copy.len = kPage;
      ++filled_;
      ioctl(fd_, UFFDIO_COPY, &copy);
    }
  }

  Pair pair_;
  size_t pages_;
  size_t used_ = 0;
  int fd_;
  char* at_;
  std::atomic<bool> stop_{false};
  std::atomic<int> filled_{0};
  std::thread thread_;
};

void Waited(const char* what, const Filler& filler) {
  static int before = 0;
  int now = filler.filled();
  std::printf("  %s: pages were waited for: %d\n", what, now > before);
  std::fflush(stdout);
  before = now;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  int probe = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC));
  if (probe < 0) {
    // A container may not allow it: nothing to compare then.
    std::printf("no userfaultfd here\n");
    return 0;
  }
  close(probe);
  alarm(20);
  Address address(argv[1]);
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  Pair own = Connected(listener, address);
  {
    Filler filler(own, 2000);
    char in[64];
    Show("send", send(pair.client, filler.Fresh(), 10, 0));
    Show("recv", recv(pair.server, in, sizeof in, 0));
    std::printf("%.10s\n", in);
    Waited("send", filler);
    send(pair.client, "0123456789", 10, 0);
    Await(pair.server, POLLIN);
    char* to = filler.Fresh();
    Show("recv", recv(pair.server, to, 20, 0));
    std::printf("%.10s\n", to);
    Waited("recv", filler);
    send(pair.client, "0123456789", 10, 0);
    Await(pair.server, POLLIN);
    Show("MSG_PEEK", recv(pair.server, filler.Fresh(), 20, MSG_PEEK));
    Waited("MSG_PEEK", filler);
    iovec v[2];
    v[0] = {filler.Fresh(), 5};
    v[1] = {filler.Fresh(), 5};
    Show("readv", readv(pair.server, v, 2));
    Waited("readv", filler);
    Show("setsockopt", setsockopt(pair.client, SOL_SOCKET, SO_KEEPALIVE, filler.Fresh(), 4));
    Waited("setsockopt", filler);
    socklen_t length = 4;
    Show("getsockopt", getsockopt(pair.client, SOL_SOCKET, SO_KEEPALIVE, filler.Fresh(), &length));
    Waited("getsockopt", filler);
    int epfd = epoll_create1(0);
    epoll_event event{};
    event.events = EPOLLOUT;
    epoll_ctl(epfd, EPOLL_CTL_ADD, pair.client, &event);
    Show("epoll_wait", epoll_wait(epfd, reinterpret_cast<epoll_event*>(filler.Fresh()), 8, 1000));
    Waited("epoll_wait", filler);
    Show("getsockname", getsockname(pair.client, reinterpret_cast<sockaddr*>(filler.Fresh()), &(length = 4)));
    Waited("getsockname", filler);

    constexpr size_t kMuch = 600 * kPage;
    char* all = filler.Fresh(600);
    std::thread reader([&] {
      size_t sum = 0;
      while (sum < kMuch) {
        long n = recv(pair.server, all + sum, kMuch - sum, MSG_WAITALL);
        if (n <= 0) break;
        sum += static_cast<size_t>(n);
      }
      bool right = true;
      for (size_t i = 0; i < sum; ++i) right &= all[i] == (i % kPage < 100 ? 'p' : 0);
      std::printf("read: %zu as sent: %d\n", sum, right);
    });
    char* much = filler.Fresh(600);
    long n = send(pair.client, much, kMuch, 0);
    reader.join();
    Show("send of much", n);
    Waited("much", filler);
    fcntl(pair.client, F_SETFL, O_NONBLOCK);
    n = send(pair.client, filler.Fresh(400), 20 * kPage, 0);
    Show("send that does not block", n);
  }
  close(listener);
}
