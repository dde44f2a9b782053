// Threads that sleep in the kernel on an epoll set that has no socket of ours, and how they are fetched when it gets its
// first one: from then on the kernel alone does not know all that happens to the set.
#pragma once

#include <sys/epoll.h>

namespace ustcp::runtime {

// Stands for one wait in the kernel for the set `epfd`, from before the last look at what kind of set it is.
class KernelSleep {
 public:
  explicit KernelSleep(int epfd) noexcept;
  ~KernelSleep();
  KernelSleep(const KernelSleep&) = delete;
  KernelSleep& operator=(const KernelSleep&) = delete;

 private:
  int epfd_;
};

// Wakes those that sleep in `epfd` and waits until they have left it. The set is ours already for whoever looks.
void FetchKernelSleepers(int epfd) noexcept;

// Takes what fetches sleepers out of `n` events that the kernel reported; returns how many are left.
int WithoutFetching(epoll_event* events, int n) noexcept;

// In the child of a fork, which has one thread, and that one does not sleep.
void ForgetKernelSleepers() noexcept;

}  // namespace ustcp::runtime
