// Several threads that wait on several sockets, or on one; what one thread does to another's wait.
#include <atomic>
#include <thread>
#include <vector>

#include "transcript.h"

namespace {

constexpr useconds_t kAWhile = 60'000;  // long enough for a thread to be asleep

void ManyReaders(Address address) {
  Title("a reader for each socket");
  int listener = Listen(address, 64);
  constexpr int kSockets = 24;
  std::vector<Pair> pairs;
  for (int i = 0; i < kSockets; ++i) pairs.push_back(Connected(listener, address));
  std::atomic<int> right{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < kSockets; ++i)
    readers.emplace_back([&, i] {
      // Ten messages there, ten answers.
      for (int n = 0; n < 10; ++n) {
        char in[4];
        if (recv(pairs[static_cast<size_t>(i)].server, in, 4, MSG_WAITALL) != 4) return;
        right += in[0] == static_cast<char>(i) && in[1] == static_cast<char>(n);
        send(pairs[static_cast<size_t>(i)].server, in, 4, 0);
      }
    });
  usleep(kAWhile);
  int answers = 0;
  for (int n = 0; n < 10; ++n) {
    for (int i = kSockets - 1; i >= 0; --i) {
      char out[4] = {static_cast<char>(i), static_cast<char>(n), 0, 0};
      send(pairs[static_cast<size_t>(i)].client, out, 4, 0);
    }
    for (int i = 0; i < kSockets; ++i) {
      char in[4];
      answers += recv(pairs[static_cast<size_t>(i)].client, in, 4, MSG_WAITALL) == 4 && in[0] == static_cast<char>(i);
    }
  }
  for (std::thread& t : readers) t.join();
  std::printf("read: %d answered: %d\n", right.load(), answers);
  for (Pair& pair : pairs) ClosePair(pair);
  close(listener);
}

void OneSocket(Address address) {
  Title("several readers of one socket");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  constexpr int kBytes = 200;
  std::atomic<int> got{0};
  std::atomic<int> ends{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 4; ++i)
    readers.emplace_back([&] {
      char c;
      while (recv(pair.server, &c, 1, 0) == 1) ++got;
      ++ends;
    });
  usleep(kAWhile);
  for (int i = 0; i < kBytes; ++i) send(pair.client, "x", 1, 0);
  shutdown(pair.client, SHUT_WR);
  for (std::thread& t : readers) t.join();
  std::printf("bytes: %d ends: %d\n", got.load(), ends.load());
  ClosePair(pair);

  Title("a reader and a writer of one socket");
  pair = Connected(listener, address);
  constexpr long kMany = 4 << 20;
  std::atomic<long> sums[2] = {};
  auto write_all = [](int fd) {
    static const std::vector<char> out(65536, 'w');
    for (long sent = 0; sent < kMany;) {
      long n = send(fd, out.data(), static_cast<size_t>(std::min<long>(kMany - sent, 65536)), 0);
      if (n <= 0) return;
      sent += n;
    }
    shutdown(fd, SHUT_WR);
  };
  auto read_all = [](int fd, std::atomic<long>& sum) {
    std::vector<char> in(65536);
    for (long n; (n = recv(fd, in.data(), in.size(), 0)) > 0;) sum += n;
  };
  std::thread threads[] = {std::thread(write_all, pair.client), std::thread(write_all, pair.server),
                           std::thread(read_all, pair.client, std::ref(sums[0])),
                           std::thread(read_all, pair.server, std::ref(sums[1]))};
  for (std::thread& t : threads) t.join();
  std::printf("both ways: %d %d\n", sums[0] == kMany, sums[1] == kMany);
  ClosePair(pair);

  Title("several threads accept");
  std::atomic<int> accepted{0};
  std::vector<std::thread> acceptors;
  for (int i = 0; i < 3; ++i)
    acceptors.emplace_back([&] {
      for (int n = 0; n < 4; ++n) {
        int fd = accept(listener, nullptr, nullptr);
        if (fd < 0) return;
        ++accepted;
        close(fd);
      }
    });
  usleep(kAWhile);
  for (int i = 0; i < 12; ++i) {
    int fd = NewSocket(address);
    Need(connect(fd, address.get(), address.size()), "connect");
    char c;
    Show("end", recv(fd, &c, 1, 0));
    close(fd);
  }
  for (std::thread& t : acceptors) t.join();
  std::printf("accepted: %d\n", accepted.load());
  close(listener);
}

// Runs `waits` in a thread, then `does` while it sleeps.
template <typename Waits, typename Does>
void While(Waits waits, Does does) {
  std::thread waiter(waits);
  usleep(kAWhile);
  does();
  waiter.join();
}

void Interference(Address address) {
  Title("what one thread does to another's wait");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  char c;
  While([&] { Show("recv, shut down for reading", recv(pair.server, &c, 1, 0)); },
        [&] { shutdown(pair.server, SHUT_RD); });
  ClosePair(pair);
  pair = Connected(listener, address);
  While([&] { Show("recv, shut down both ways", recv(pair.server, &c, 1, 0)); },
        [&] { shutdown(pair.server, SHUT_RDWR); });
  ClosePair(pair);
  While([&] { ShowFd("accept, shut down", accept(listener, nullptr, nullptr)); },
        [&] { shutdown(listener, SHUT_RDWR); });
  close(listener);
  listener = Listen(address);

  // A close does not end a call that waits: the call has the socket, the number is only gone.
  pair = Connected(listener, address);
  While([&] { Show("recv on what is closed meanwhile", recv(pair.server, &c, 1, 0)); },
        [&] {
          close(pair.server);
          Show("the peer hears nothing", recv(pair.client, &c, 1, MSG_DONTWAIT));
          send(pair.client, "x", 1, 0);
        });
  Await(pair.client, POLLIN);
  Show("then the peer hears the end", recv(pair.client, &c, 1, MSG_DONTWAIT));
  close(pair.client);

  pair = Connected(listener, address);
  SetTimeout(pair.server, SO_RCVTIMEO, 150);
  While([&] { Show("recv with a limit, closed meanwhile", recv(pair.server, &c, 1, 0)); }, [&] { close(pair.server); });
  close(pair.client);

  pair = Connected(listener, address);
  While([&] { ShowPoll("poll, shut down meanwhile", pair.server, 2000); }, [&] { shutdown(pair.server, SHUT_WR); });
  ClosePair(pair);

  Title("epoll and threads");
  pair = Connected(listener, address);
  int epfd = epoll_create1(0);
  epoll_event event{};
  event.events = EPOLLIN;
  While(
      [&] {
        epoll_event got{};
        Show("a socket added while another thread waits", epoll_wait(epfd, &got, 1, 2000));
      },
      [&] {
        epoll_ctl(epfd, EPOLL_CTL_ADD, pair.server, &event);
        send(pair.client, "x", 1, 0);
      });
  recv(pair.server, &c, 1, 0);
  While(
      [&] {
        epoll_event got{};
        Show("a socket deleted while another thread waits", epoll_wait(epfd, &got, 1, 200));
      },
      [&] {
        epoll_ctl(epfd, EPOLL_CTL_DEL, pair.server, nullptr);
        send(pair.client, "x", 1, 0);
      });
  recv(pair.server, &c, 1, 0);
  event.events = EPOLLIN | EPOLLONESHOT;
  epoll_ctl(epfd, EPOLL_CTL_ADD, pair.server, &event);
  std::atomic<int> woken{0};
  std::vector<std::thread> waiters;
  for (int i = 0; i < 3; ++i)
    waiters.emplace_back([&] {
      epoll_event got{};
      woken += epoll_wait(epfd, &got, 1, 300);
    });
  usleep(kAWhile);
  send(pair.client, "x", 1, 0);
  for (std::thread& t : waiters) t.join();
  std::printf("ONESHOT wakes: %d\n", woken.load());
  // The last descriptor's close takes the socket out of the set.
  close(pair.server);
  epoll_event got{};
  Show("after the close", epoll_wait(epfd, &got, 1, 50));
  close(pair.client);
  close(epfd);
  close(listener);
}

void Threads(Address address) {
  Title("threads come and go");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  int right = 0;
  for (int i = 0; i < 60; ++i) {
    char c = 0;
    std::thread reader([&] { right += recv(pair.server, &c, 1, 0) == 1; });
    char out = static_cast<char>(i);
    send(pair.client, &out, 1, 0);
    reader.join();
    right += c == out;
  }
  std::printf("right: %d\n", right);

  Title("a cancelled reader");
  pthread_t thread;
  pthread_create(
      &thread, nullptr,
      [](void* fd) -> void* {
        char c;
        recv(*static_cast<int*>(fd), &c, 1, 0);
        return nullptr;
      },
      &pair.server);
  usleep(kAWhile);
  pthread_cancel(thread);
  usleep(kAWhile);
  void* result = nullptr;
  timespec limit;
  clock_gettime(CLOCK_REALTIME, &limit);
  limit.tv_sec += 2;
  int joined = pthread_timedjoin_np(thread, &result, &limit);
  std::printf("joined: %d cancelled: %d\n", joined == 0, joined == 0 && result == PTHREAD_CANCELED);
  if (joined != 0) {
    send(pair.client, "y", 1, 0);
    pthread_join(thread, &result);
  }
  send(pair.client, "x", 1, 0);
  char c;
  Show("the socket goes on", recv(pair.server, &c, 1, 0));
  ClosePair(pair);
  close(listener);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  signal(SIGPIPE, SIG_IGN);
  Address address(argv[1]);
  ManyReaders(address);
  OneSocket(address);
  Interference(address);
  Threads(address);
}
