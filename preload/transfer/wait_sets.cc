#include "preload/transfer/wait_sets.h"

#include <sys/single_threaded.h>

#include "preload/descriptors/stale.h"
#include "preload/libc/real.h"
#include "preload/libc/signals.h"

namespace ustcp {

namespace {

constexpr uint32_t kAlways = EPOLLERR | EPOLLHUP;
constexpr size_t kInlineEntries = 128;
constexpr size_t kInlineHolds = 8;

struct Split {
  Scratch<runtime::PollMember, kInlineEntries> members;
  Scratch<pollfd, kInlineEntries> kernel;
  size_t member_count = 0;
  size_t kernel_count = 0;

  explicit Split(size_t n) : members(n), kernel(n) {}
};

// Which entry is whose is decided once per look: a descriptor that changes sides meanwhile is seen at the next one.
void SplitEntries(std::span<pollfd> entries, Split& split) {
  for (pollfd& e : entries) {
    if (e.fd < 0) continue;
    if (SocketRef ref = FindSocket(e.fd)) {
      split.members[split.member_count++] = {ref.socket, WatchedEvents(static_cast<uint16_t>(e.events))};
    } else {
      split.kernel[split.kernel_count++] = {e.fd, e.events, 0};
    }
  }
}

// Levels and the kernel's answers into revents; returns how many entries have some.
int PutTogether(std::span<pollfd> entries, Split& split) {
  size_t member = 0;
  size_t kernel = 0;
  int ready = 0;
  for (pollfd& e : entries) {
    e.revents = 0;
    if (e.fd < 0) continue;
    if (member < split.member_count && FindSocket(e.fd).socket == split.members[member].socket) {
      uint32_t level = PollLevel(*split.members[member++].socket);
      e.revents = static_cast<short>(level & (static_cast<uint16_t>(e.events) | kAlways));
    } else if (kernel < split.kernel_count && split.kernel[kernel].fd == e.fd) {
      e.revents = split.kernel[kernel++].revents;
    } else {
      // Closed by another thread since the split.
      ++member;
      e.revents = POLLNVAL;
    }
    if (e.revents != 0) ++ready;
  }
  return ready;
}

}  // namespace

bool AnySocket(std::span<const pollfd> entries) noexcept {
  for (const pollfd& e : entries)
    if (FdEntry::KindOf(fd_table::Load(e.fd)) == FdEntry::kSocket) return true;
  return false;
}

Instant DeadlineAfter(const timespec& timeout) noexcept {
  if (timeout.tv_sec == 0 && timeout.tv_nsec == 0) return InstantFromNanos(0);
  if (timeout.tv_sec >= 1'000'000'000) return kNever;
  return runtime::Now() + std::chrono::seconds{timeout.tv_sec} + Duration{timeout.tv_nsec};
}

int DeadlineOf(const timespec* timeout, Instant* deadline) noexcept {
  *deadline = kNever;
  if (timeout == nullptr) return 0;
  timespec time;
  if (!GetUser(time, timeout)) return -EFAULT;
  if (time.tv_sec < 0 || time.tv_nsec < 0 || time.tv_nsec >= 1'000'000'000) return -EINVAL;
  *deadline = DeadlineAfter(time);
  return 0;
}

Instant DeadlineInMs(int timeout_ms) noexcept {
  if (timeout_ms < 0) return kNever;
  if (timeout_ms == 0) return InstantFromNanos(0);  // long past: no need to look at the clock
  return runtime::Now() + std::chrono::milliseconds{timeout_ms};
}

int WaitForEntries(std::span<pollfd> entries, Instant deadline, const sigset_t* mask) noexcept {
  signals::Sleeping sleeping;
  signals::BeginCall();
  Split split(entries.size());
  if (!split.members.ok() || !split.kernel.ok()) return -ENOMEM;
  SplitEntries(entries, split);
  uint32_t found_out = stale::Count();
  Hold holds[kInlineHolds];
  for (size_t i = 0; i < split.member_count && i < kInlineHolds; ++i) {
    // Only other threads can close what this one waits for, and few programs with threads poll more than a few.
    runtime::PollMember& m = split.members[i];
    if (!__libc_single_threaded) holds[i].Take(*m.socket);
  }
  std::span<runtime::PollMember> members{split.members.data(), split.member_count};
  std::span<pollfd> kernel{split.kernel.data(), split.kernel_count};
  for (;;) {
    int result = runtime::WaitMany(members, kernel, deadline, mask);
    if (result == EINTR || result == ENOMEM) return -result;
    int ready = PutTogether(entries, split);
    if (ready > 0) stale::LookAt(entries);
    if (stale::Count() != found_out) {
      // A number may be another file's by now.
      found_out = stale::Count();
      split.member_count = split.kernel_count = 0;
      SplitEntries(entries, split);
      members = {split.members.data(), split.member_count};
      kernel = {split.kernel.data(), split.kernel_count};
      continue;
    }
    if (ready > 0 || result == EAGAIN) return ready;
    if (result != 0) return -result;
  }
}

}  // namespace ustcp
