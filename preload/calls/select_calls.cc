// select and pselect, by way of poll's form. Sets may be larger than FD_SETSIZE, as with the kernel: they are read and
// written in words of 64 bits as far as the program's first argument says.
#include <cstring>

#include "preload/calls/interpose.h"
#include "preload/calls/parts.h"
#include "preload/transfer/wait_sets.h"

using namespace ustcp;

namespace {

constexpr int kWordBits = 64;
constexpr uint32_t kInEvents = POLLIN | POLLRDNORM | POLLRDBAND;
constexpr uint32_t kOutEvents = POLLOUT | POLLWRNORM | POLLWRBAND;
constexpr uint32_t kInReady = kInEvents | POLLHUP | POLLERR;
constexpr uint32_t kOutReady = kOutEvents | POLLERR;

// The three sets of one call, as arrays of words; null for one that the program left out.
struct Sets {
  uint64_t* words[3];
  int count;  // the program's nfds

  Sets(int n, fd_set* in, fd_set* out, fd_set* except)
      : words{reinterpret_cast<uint64_t*>(in), reinterpret_cast<uint64_t*>(out), reinterpret_cast<uint64_t*>(except)},
        count(n) {}
  int WordCount() const { return (count + kWordBits - 1) / kWordBits; }
  uint64_t Word(int set, int i) const {
    if (words[set] == nullptr) return 0;
    uint64_t word = words[set][i];
    int beyond = (i + 1) * kWordBits - count;
    return beyond > 0 ? word & (~uint64_t{0} >> beyond) : word;
  }
  // Calls visit(fd, events) for every descriptor in any set.
  template <typename Visit>
  void ForEach(Visit&& visit) const {
    for (int i = 0; i < WordCount(); ++i) {
      uint64_t in = Word(0, i);
      uint64_t out = Word(1, i);
      uint64_t except = Word(2, i);
      for (uint64_t all = in | out | except; all != 0; all &= all - 1) {
        int bit = __builtin_ctzll(all);
        uint64_t one = uint64_t{1} << bit;
        uint32_t events = ((in & one) != 0 ? kInEvents : 0) | ((out & one) != 0 ? kOutEvents : 0) |
                          ((except & one) != 0 ? POLLPRI : 0);
        visit(i * kWordBits + bit, events);
      }
    }
  }
  bool AnySocket() const {
    bool any = false;
    ForEach([&any](int fd, uint32_t) { any |= FdEntry::KindOf(fd_table::Load(fd)) == FdEntry::kSocket; });
    return any;
  }
};

bool IsForKernel(const Sets& sets) {
  if (g_own_process.load(std::memory_order_relaxed) == nullptr || sets.count <= 0) return true;
  for (const uint64_t* set : sets.words)
    if (set != nullptr && BadPointer(set)) return true;
  return !sets.AnySocket();
}

int Select(const Sets& sets, Instant deadline, const sigset_t* mask) {
  size_t n = 0;
  sets.ForEach([&n](int, uint32_t) { ++n; });
  Scratch<pollfd, 128> entries(n);
  if (!entries.ok()) return -ENOMEM;
  size_t filled = 0;
  sets.ForEach([&](int fd, uint32_t events) { entries[filled++] = {fd, static_cast<short>(events), 0}; });
  int result = WaitForEntries({entries.data(), n}, deadline, mask);
  if (result < 0) return result;
  for (size_t i = 0; i < n; ++i)
    if ((entries[i].revents & POLLNVAL) != 0) return -EBADF;
  for (uint64_t* set : sets.words)
    if (set != nullptr) std::memset(set, 0, static_cast<size_t>(sets.WordCount()) * sizeof *set);
  int bits = 0;
  for (size_t i = 0; i < n; ++i) {
    const pollfd& e = entries[i];
    auto ready = static_cast<uint32_t>(static_cast<uint16_t>(e.revents));
    auto wanted = static_cast<uint32_t>(static_cast<uint16_t>(e.events));
    const uint32_t asked[3] = {kInEvents, kOutEvents, POLLPRI};
    const uint32_t shows[3] = {kInReady, kOutReady, POLLPRI};
    for (int set = 0; set < 3; ++set) {
      if ((wanted & asked[set]) == 0 || (ready & shows[set]) == 0) continue;
      sets.words[set][e.fd / kWordBits] |= uint64_t{1} << (e.fd % kWordBits);
      ++bits;
    }
  }
  return bits;
}

}  // namespace

bool ustcp::SelectIsForKernel(int n, fd_set* in, fd_set* out, fd_set* except) noexcept {
  return IsForKernel(Sets(n, in, out, except));
}

USTCP_EXPORT int select(int n, fd_set* in, fd_set* out, fd_set* except, timeval* timeout) {
  Sets sets(n, in, out, except);
  if (IsForKernel(sets)) return real::select(n, in, out, except, timeout);
  Instant deadline = kNever;
  if (timeout != nullptr) {
    if (timeout->tv_sec < 0 || timeout->tv_usec < 0) return ToErrno(-EINVAL);
    timespec time{timeout->tv_sec + timeout->tv_usec / 1'000'000, timeout->tv_usec % 1'000'000 * 1000};
    (void)DeadlineOf(&time, &deadline);
  }
  int result = Select(sets, deadline, nullptr);
  // Linux leaves the time that remains.
  if (timeout != nullptr && deadline != kNever) {
    Instant now = runtime::Now();
    int64_t left_us = deadline > now ? ToMicros(deadline - now) : 0;
    *timeout = {left_us / 1'000'000, left_us % 1'000'000};
  }
  return ToErrno(result);
}
USTCP_ALIAS_OF(select, __select);

USTCP_EXPORT int pselect(int n, fd_set* in, fd_set* out, fd_set* except, const timespec* timeout,
                         const sigset_t* mask) {
  Sets sets(n, in, out, except);
  if (IsForKernel(sets)) return real::pselect(n, in, out, except, timeout, mask);
  Instant deadline;
  if (!DeadlineOf(timeout, &deadline)) return ToErrno(-EINVAL);
  return ToErrno(Select(sets, deadline, mask));
}
