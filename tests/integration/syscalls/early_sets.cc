// Epoll sets that were made, and are slept in, before the process has its first socket, which then comes to them.
#include <sys/syscall.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "transcript.h"

namespace {

using WaitCall = int (*)(int epfd, epoll_event* events, int max);

constexpr int kMs = 5000;

int Epoll(int epfd, epoll_event* events, int max) { return epoll_wait(epfd, events, max, kMs); }
int Pwait(int epfd, epoll_event* events, int max) { return epoll_pwait(epfd, events, max, kMs, nullptr); }
int Pwait2(int epfd, epoll_event* events, int max) {
  timespec timeout{kMs / 1000, 0};
  return epoll_pwait2(epfd, events, max, &timeout, nullptr);
}
int Raw(int epfd, epoll_event* events, int max) {
  return static_cast<int>(syscall(SYS_epoll_wait, epfd, events, max, kMs));
}
int RawPwait(int epfd, epoll_event* events, int max) {
  return static_cast<int>(syscall(SYS_epoll_pwait, epfd, events, max, kMs, nullptr, 8));
}
int Soon(int epfd, epoll_event* events, int max) { return epoll_wait(epfd, events, max, 500); }

// A set with a pipe, and threads that wait for its next event.
struct Waited {
  const char* what;
  WaitCall call;
  int threads;
  int epfd = -1;
  int pipe_ends[2] = {-1, -1};
  std::vector<std::thread> running;
  std::vector<std::string> seen;

  void Start(std::atomic<int>& begun) {
    epfd = Need(epoll_create1(0), "make an epoll descriptor");
    Need(pipe(pipe_ends), "make a pipe");
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = 1;
    Need(epoll_ctl(epfd, EPOLL_CTL_ADD, pipe_ends[0], &event), "register the pipe");
    seen.resize(threads);
    for (int i = 0; i < threads; ++i)
      running.emplace_back([this, i, &begun] {
        ++begun;
        epoll_event events[4];
        int n = call(epfd, events, 4);
        seen[i] = std::to_string(n);
        for (int j = 0; j < n; ++j) seen[i] += " [" + std::to_string(events[j].data.u64) + "]";
      });
  }

  void Finish() {
    for (auto& thread : running) thread.join();
    for (auto& text : seen) std::printf("%s: %s\n", what, text.c_str());
    std::fflush(stdout);
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  Waited sets[] = {{"epoll_wait", Epoll, 1},     {"epoll_pwait", Pwait, 1},       {"epoll_pwait2", Pwait2, 1},
                   {"syscall", Raw, 1},          {"syscall, pwait", RawPwait, 1}, {"four threads", Epoll, 4},
                   {"nothing happens", Soon, 1}, {"the pipe", Epoll, 1}};
  std::atomic<int> begun{0};
  int threads = 0;
  for (auto& set : sets) {
    set.Start(begun);
    threads += set.threads;
  }
  while (begun != threads) usleep(1000);
  usleep(100'000);

  Address address(argv[1]);
  int quiet = Listen(address);
  int listener = Listen(address);
  for (auto& set : sets) {
    bool stays_quiet = set.call == Soon || &set == &sets[7];
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = 2;
    Show(set.what, epoll_ctl(set.epfd, EPOLL_CTL_ADD, stays_quiet ? quiet : listener, &event));
  }
  Show("connect", connect(NewSocket(address), address.get(), address.size()));
  Need(static_cast<int>(write(sets[7].pipe_ends[1], "x", 1)), "write to the pipe");
  for (auto& set : sets) set.Finish();
}
