// What poll() and select() share: one list of descriptors, divided into ustcp sockets and the kernel's, waited for
// together, and put together again.
#pragma once

#include <poll.h>
#include <signal.h>

#include <cstddef>
#include <span>

#include "io/base/sys.h"
#include "preload/descriptors/fd_table.h"
#include "preload/runtime/runtime.h"
#include "stack/base/user_copy.h"
#include "stack/time/time.h"

namespace ustcp {

// Memory for one call: on the stack for a few, mapped for many (poll may be called where malloc may not).
template <typename T, size_t kInline>
class Scratch {
 public:
  explicit Scratch(size_t n) noexcept : n_(n) {
    if (n <= kInline) return;
    void* memory = sys::Map(nullptr, n * sizeof(T), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    data_ = sys::MapFailed(memory) ? nullptr : static_cast<T*>(memory);
  }
  ~Scratch() {
    if (data_ != inline_ && data_ != nullptr) sys::Unmap(data_, n_ * sizeof(T));
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  bool ok() const noexcept { return data_ != nullptr; }
  T* data() noexcept { return data_; }
  T& operator[](size_t i) noexcept { return data_[i]; }

 private:
  size_t n_;
  T inline_[kInline];
  T* data_ = inline_;
};

// The level a socket shows, with the bits that poll knows under a second name.
inline uint32_t PollLevel(const Socket& socket) noexcept {
  uint32_t level = socket.ready.load();
  if ((level & EPOLLIN) != 0) level |= EPOLLRDNORM;
  if ((level & EPOLLOUT) != 0) level |= EPOLLWRNORM;
  return level;
}

// The bits to watch a socket for when the program asks for `events` of poll.
inline uint32_t WatchedEvents(uint32_t events) noexcept {
  if ((events & EPOLLRDNORM) != 0) events |= EPOLLIN;
  if ((events & EPOLLWRNORM) != 0) events |= EPOLLOUT;
  return events;
}

// A copy of the mask that ppoll, pselect and epoll_pwait take; none where the program gave none.
class SignalMask {
 public:
  bool Get(const sigset_t* from) noexcept {
    if (from == nullptr) return true;
    given_ = true;
    return CopyFromUser(&set_, from, sys::kSignalSetBytes) == 0;
  }
  const sigset_t* get() const noexcept { return given_ ? &set_ : nullptr; }

 private:
  bool given_ = false;
  sigset_t set_;
};

// The wait of poll, ppoll, select and pselect over entries in poll's form. Fills revents. Returns the number of entries
// with revents, 0 when the time is up, or a negative errno. Requires: at least one entry is a ustcp socket.
int WaitForEntries(std::span<pollfd> entries, Instant deadline, const sigset_t* mask) noexcept;

// True when any descriptor of the entries is a ustcp socket.
bool AnySocket(std::span<const pollfd> entries) noexcept;

// A relative time of the program's as a deadline. `timeout` may be null: never. 0, -EFAULT, or -EINVAL: not a valid time.
int DeadlineOf(const timespec* timeout, Instant* deadline) noexcept;
// The same with a time that has been looked at.
Instant DeadlineAfter(const timespec& timeout) noexcept;
Instant DeadlineInMs(int timeout_ms) noexcept;

}  // namespace ustcp
