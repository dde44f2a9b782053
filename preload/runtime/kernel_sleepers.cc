#include "preload/runtime/kernel_sleepers.h"

#include <sys/eventfd.h>

#include <atomic>
#include <cstdint>

#include "io/base/clock.h"
#include "io/base/sys.h"
#include "stack/base/user_copy.h"

namespace ustcp::runtime {
namespace {

// By the descriptor's last bits. Threads of another set with the same ones, and a sleep that was left by siglongjmp, cost a
// fetch its patience and nothing else.
constexpr unsigned kCounts = 1024;
constinit std::atomic<uint32_t> g_sleepers[kCounts];
std::atomic<uint32_t>& Sleepers(int epfd) { return g_sleepers[static_cast<unsigned>(epfd) % kCounts]; }

constexpr Duration kPatience = 1s;
constexpr int64_t kPause = 50'000;

// From the first fetch on, events may have to be looked through: who gets the one that fetches may get to that after its
// descriptor is gone. Its data is an address of ours, which no program has for its own.
constinit std::atomic<bool> g_fetched{false};
uint64_t FetchingData() { return reinterpret_cast<uintptr_t>(&g_fetched); }

}  // namespace

KernelSleep::KernelSleep(int epfd) noexcept : epfd_(epfd) { Sleepers(epfd).fetch_add(1); }

KernelSleep::~KernelSleep() { Sleepers(epfd_).fetch_sub(1); }

void FetchKernelSleepers(int epfd) noexcept {
  std::atomic<uint32_t>& sleepers = Sleepers(epfd);
  if (sleepers.load() == 0) return;
  const int fd = sys::EventFd(1, EFD_CLOEXEC);
  if (fd < 0) return;
  g_fetched.store(true);
  // Being ready for good it is reported to one sleeper after the other, whatever comes in between.
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = FetchingData();
  if (sys::Call(SYS_epoll_ctl, epfd, EPOLL_CTL_ADD, fd, sys::Arg(&event)) == 0) {
    for (const Instant end = MonotonicNow() + kPatience; sleepers.load() != 0 && MonotonicNow() < end;)
      (void)sys::NanoSleep(kPause);
    (void)sys::Call(SYS_epoll_ctl, epfd, EPOLL_CTL_DEL, fd, sys::Arg(&event));
  }
  sys::Close(fd);
}

int WithoutFetching(epoll_event* events, int n) noexcept {
  if (__builtin_expect(!g_fetched.load(std::memory_order_relaxed), 1)) return n;
  int kept = 0;
  for (int i = 0; i < n; ++i) {
    epoll_event event;
    if (!GetUser(event, events + i)) return n;
    if (event.data.u64 == FetchingData()) continue;
    if (kept != i) (void)PutUser(events + kept, event);
    ++kept;
  }
  return n < 0 ? n : kept;
}

void ForgetKernelSleepers() noexcept {
  for (auto& count : g_sleepers) count.store(0, std::memory_order_relaxed);
}

}  // namespace ustcp::runtime
