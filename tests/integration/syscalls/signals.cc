// What a signal does to a call that waits, and what a handler may do meanwhile.
#include <setjmp.h>

#include <atomic>
#include <thread>

#include "transcript.h"

namespace {

std::atomic<int> g_handled{0};
int g_close_in_handler = -1;
int g_send_in_handler = -1;

void Count(int) { ++g_handled; }
void CloseAndCount(int) {
  close(g_close_in_handler);
  ++g_handled;
}
void SendAndCount(int) {
  send(g_send_in_handler, "s", 1, MSG_NOSIGNAL);
  ++g_handled;
}

void Install(int flags, void (*handler)(int) = Count) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigaction(SIGUSR1, &action, nullptr);
}

// Sends SIGUSR1 to the calling thread in a moment, and then, a while later, calls `after`.
template <typename After>
class Soon {
 public:
  explicit Soon(After after)
      : thread_([target = pthread_self(), after] {
          usleep(60'000);
          pthread_kill(target, SIGUSR1);
          usleep(60'000);
          after();
        }) {}
  ~Soon() { thread_.join(); }

 private:
  std::thread thread_;
};

void Dispositions() {
  Title("what sigaction says");
  struct sigaction old;
  Install(SA_RESTART);
  sigaction(SIGUSR1, nullptr, &old);
  std::printf("own handler: %d flags: %d %d\n", old.sa_handler == Count, (old.sa_flags & SA_RESTART) != 0,
              (old.sa_flags & SA_SIGINFO) != 0);
  std::printf("signal returns it: %d\n", signal(SIGUSR1, SIG_IGN) == Count);
  std::printf("and then: %d\n", signal(SIGUSR1, SIG_DFL) == SIG_IGN);
  Show("sigaction of SIGKILL", sigaction(SIGKILL, &old, nullptr));
  Show("sigaction of 99", sigaction(99, &old, nullptr));
  std::printf("signal of 99: %d\n", signal(99, Count) == SIG_ERR);
  signal(SIGUSR1, Count);
  raise(SIGUSR1);
  std::printf("handled: %d\n", g_handled.load());
  sigaction(SIGUSR1, nullptr, &old);
  std::printf("restarts: %d\n", (old.sa_flags & SA_RESTART) != 0);
}

void Waiting(Address address) {
  Title("a signal during a call");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  char c;
  Install(0);
  {
    Soon soon([&] { send(pair.client, "a", 1, 0); });
    Show("recv, no SA_RESTART", recv(pair.server, &c, 1, 0));
  }
  recv(pair.server, &c, 1, 0);
  Install(SA_RESTART);
  {
    Soon soon([&] { send(pair.client, "b", 1, 0); });
    Show("recv, SA_RESTART", recv(pair.server, &c, 1, 0));
  }
  SetTimeout(pair.server, SO_RCVTIMEO, 5000);
  {
    Soon soon([&] { send(pair.client, "c", 1, 0); });
    Show("recv, SA_RESTART and a time limit", recv(pair.server, &c, 1, 0));
  }
  recv(pair.server, &c, 1, 0);
  SetTimeout(pair.server, SO_RCVTIMEO, 0);
  {
    Soon soon([&] { send(pair.client, "d", 1, 0); });
    ShowPoll("poll, SA_RESTART", listener, 2000);
  }
  recv(pair.server, &c, 1, 0);
  Install(0);
  int late = -1;
  {
    Soon soon([&] {
      late = socket(address.family(), SOCK_STREAM, 0);
      (void)connect(late, address.get(), address.size());
    });
    ShowFd("accept, no SA_RESTART", accept(listener, nullptr, nullptr));
  }
  close(accept(listener, nullptr, nullptr));
  close(late);
  Install(SA_RESTART);
  {
    Soon soon([&] {
      late = socket(address.family(), SOCK_STREAM, 0);
      (void)connect(late, address.get(), address.size());
    });
    int fd = ShowFd("accept, SA_RESTART", accept(listener, nullptr, nullptr));
    close(fd);
  }
  close(late);
  int epfd = epoll_create1(0);
  epoll_event event{};
  event.events = EPOLLIN;
  epoll_ctl(epfd, EPOLL_CTL_ADD, pair.server, &event);
  {
    Soon soon([] {});
    Show("epoll_wait, SA_RESTART", epoll_wait(epfd, &event, 1, 2000));
  }
  sigset_t blocked, none;
  sigemptyset(&none);
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
  raise(SIGUSR1);
  int before = g_handled.load();
  Show("epoll_wait, signal blocked", epoll_wait(epfd, &event, 1, 20));
  std::printf("handled: %d\n", g_handled.load() - before);
  Show("epoll_pwait with a mask", epoll_pwait(epfd, &event, 1, 2000, &none));
  std::printf("handled: %d\n", g_handled.load() - before);
  raise(SIGUSR1);
  pollfd p{pair.server, POLLIN, 0};
  Show("ppoll with a mask", ppoll(&p, 1, nullptr, &none));
  raise(SIGUSR1);
  fd_set in;
  FD_ZERO(&in);
  FD_SET(pair.server, &in);
  Show("pselect with a mask", pselect(pair.server + 1, &in, nullptr, nullptr, nullptr, &none));
  std::printf("handled: %d\n", g_handled.load() - before);
  pthread_sigmask(SIG_UNBLOCK, &blocked, nullptr);

  Title("a handler that uses sockets");
  Install(SA_RESTART, SendAndCount);
  g_send_in_handler = pair.client;
  {
    Soon soon([] {});
    Show("recv of what the handler sent", recv(pair.server, &c, 1, 0));
  }
  Pair other = Connected(listener, address);
  g_close_in_handler = other.server;
  Install(0, CloseAndCount);
  {
    Soon soon([] {});
    Show("recv on one while another is closed", recv(pair.server, &c, 1, 0));
  }
  Show("the closed one's peer", recv(other.client, &c, 1, 0));
  close(other.client);
  close(epfd);
  ClosePair(pair);
  close(listener);
}

sigjmp_buf g_away;
void LeaveCall(int) { siglongjmp(g_away, 1); }
void LeaveFromNestedCall(int) {
  char c;
  recv(g_send_in_handler, &c, 1, 0);
  siglongjmp(g_away, 1);
}

// Programs without time limits leave a call by an alarm and siglongjmp(): nothing of the call may stay behind. Each socket is
// then closed, and its peer sees that.
template <typename Call>
void Leave(const char* what, Pair& pair, Call&& call) {
  if (sigsetjmp(g_away, 1) == 0) {
    itimerval soon{{0, 0}, {0, 50'000}};
    setitimer(ITIMER_REAL, &soon, nullptr);
    Show(what, call());
  }
  std::printf("left: %s\n", what);
  close(pair.server);
  char c;
  SetTimeout(pair.client, SO_RCVTIMEO, 2000);
  Show("the peer", recv(pair.client, &c, 1, 0));
  close(pair.client);
}

void Leaving(Address address) {
  Title("a handler that leaves the call for good");
  for (void (*handler)(int) : {LeaveCall, LeaveFromNestedCall}) {
    signal(SIGALRM, handler);
    int listener = Listen(address);
    Pair silent = Connected(listener, address);
    SetTimeout(silent.client, SO_RCVTIMEO, 30);
    g_send_in_handler = silent.client;
    for (int round = 0; round < 2; ++round) {
      char c;
      Pair pair = Connected(listener, address);
      Leave("recv", pair, [&] { return recv(pair.server, &c, 1, 0); });
      pair = Connected(listener, address);
      pollfd p{pair.server, POLLIN, 0};
      Leave("poll", pair, [&] { return poll(&p, 1, 2000); });
      pair = Connected(listener, address);
      fd_set in;
      FD_ZERO(&in);
      FD_SET(pair.server, &in);
      Leave("select", pair, [&] { return select(pair.server + 1, &in, nullptr, nullptr, nullptr); });
      pair = Connected(listener, address);
      int epfd = epoll_create1(0);
      epoll_event event{};
      event.events = EPOLLIN;
      epoll_ctl(epfd, EPOLL_CTL_ADD, pair.server, &event);
      Leave("epoll_wait", pair, [&] { return epoll_wait(epfd, &event, 1, 2000); });
      close(epfd);
      pair = Connected(listener, address);
      Leave("accept", pair, [&] { return accept(listener, nullptr, nullptr); });
    }
    ClosePair(silent);
    close(listener);
    // Its port is free.
    int again = socket(address.family(), SOCK_STREAM, 0);
    int on = 1;
    setsockopt(again, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    Show("bind", bind(again, address.get(), address.size()));
    Show("listen", listen(again, 1));
    close(again);
  }
}

// Signals come all the time while data moves; every one must be handled, and no byte lost.
void Storm(Address address) {
  Title("many signals while data moves");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  Pair extra = Connected(listener, address);
  Install(SA_RESTART, SendAndCount);
  fcntl(extra.client, F_SETFL, O_NONBLOCK);
  g_send_in_handler = extra.client;
  constexpr long kBytes = 8 << 20;
  std::atomic<bool> stop{false};
  long handled_before = g_handled.load();
  long received = 0;
  bool intact = true;
  std::thread reader([&] {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    static char in[65536];
    while (received < kBytes) {
      long n = recv(pair.server, in, sizeof in, 0);
      if (n <= 0) break;
      for (long i = 0; i < n; ++i) intact &= in[i] == static_cast<char>((received + i) % 251);
      received += n;
    }
    stop = true;
  });
  std::thread storm([&, target = pthread_self()] {
    while (!stop) {
      pthread_kill(target, SIGUSR1);
      usleep(50);
    }
  });
  static char out[65536];
  long sent = 0;
  while (sent < kBytes) {
    long n = std::min<long>(sizeof out, kBytes - sent);
    for (long i = 0; i < n; ++i) out[i] = static_cast<char>((sent + i) % 251);
    long done = send(pair.client, out, static_cast<size_t>(n), 0);
    if (done <= 0) {
      Show("send", done);
      break;
    }
    sent += done;
  }
  reader.join();
  storm.join();
  std::printf("received all: %d intact: %d signals: %d\n", received == kBytes, intact,
              g_handled.load() > handled_before);
  ClosePair(extra);
  ClosePair(pair);
  close(listener);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  signal(SIGPIPE, SIG_IGN);
  Address address(argv[1]);
  Dispositions();
  Waiting(address);
  Leaving(address);
  Storm(address);
}
