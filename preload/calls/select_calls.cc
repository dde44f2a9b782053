// select and pselect, by way of poll's form. Sets may be larger than FD_SETSIZE, as with the kernel: they are read and
// written in words of 64 bits as far as the program's first argument says, and has descriptors for (see Reach).
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "preload/calls/interpose.h"
#include "preload/calls/parts.h"
#include "preload/transfer/wait_sets.h"

using namespace ustcp;

namespace {

constexpr int kWordBits = 64;
constexpr int kMaxDescriptors = 1 << 20;  // the kernel has its own, lower limit
constexpr uint32_t kInEvents = POLLIN | POLLRDNORM | POLLRDBAND;
constexpr uint32_t kOutEvents = POLLOUT | POLLWRNORM | POLLWRBAND;
constexpr uint32_t kInReady = kInEvents | POLLHUP | POLLERR;
constexpr uint32_t kOutReady = kOutEvents | POLLERR;

bool Attached() { return g_own_process.load(std::memory_order_relaxed) != nullptr; }

bool IsOpen(int fd) { return sys::Fcntl(fd, F_GETFD) >= 0 && !runtime::IsOwnDescriptor(fd); }

// How many descriptors the kernel has made room for in the process; `most` where that is more or /proc does not tell.
int TableSize(int most) {
  int fd = sys::Open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return most;
  char text[1024];
  long n = sys::Call(SYS_read, fd, sys::Arg(text), sizeof text - 1);
  sys::Close(fd);
  text[std::max(n, 0L)] = 0;
  const char* line = std::strstr(text, "FDSize:");
  int size = line != nullptr ? std::atoi(line + std::strlen("FDSize:")) : 0;
  return size > 0 ? std::min(size, most) : most;
}

// How far the kernel would look into the sets. Old programs give getdtablesize() and sets of FD_SETSIZE: the kernel stops at
// the end of the descriptor table, which is small in them. Here it is large, for the library's own descriptors have high
// numbers; so beyond FD_SETSIZE what is open counts, unless `n` is one more than something that is.
int Reach(int n, fd_set* in, fd_set* out, fd_set* except) {
  if (n <= FD_SETSIZE || IsOpen(n - 1)) return n;
  const int end = TableSize(std::min(n, kMaxDescriptors));
  int reach = FD_SETSIZE;
  for (fd_set* set : {in, out, except}) {
    const auto* words = reinterpret_cast<const uint64_t*>(set);
    for (int at = FD_SETSIZE; set != nullptr && at < end; at += kWordBits) {
      uint64_t word;
      if (!GetUser(word, words + at / kWordBits)) break;
      for (; word != 0; word &= word - 1) {
        int fd = at + __builtin_ctzll(word);
        if (fd >= reach && fd < end && IsOpen(fd)) reach = fd + 1;
      }
    }
  }
  return reach;
}

// Copies of the three sets of one call, in words; none of one that the program left out.
class Sets {
 public:
  Sets(int n, fd_set* in, fd_set* out, fd_set* except) : program_{in, out, except}, count_(n), memory_(Words() * 3) {}
  bool ok() { return memory_.ok(); }
  // False: a fault.
  bool Get() {
    for (int set = 0; set < 3; ++set)
      if (program_[set] != nullptr && CopyFromUser(Copy(set), program_[set], Bytes()) != 0) return false;
    return true;
  }
  bool Put() {
    for (int set = 0; set < 3; ++set)
      if (program_[set] != nullptr && CopyToUser(program_[set], Copy(set), Bytes()) != 0) return false;
    return true;
  }
  void Clear() { std::memset(memory_.data(), 0, 3 * Bytes()); }
  void Add(int set, int fd) { Copy(set)[fd / kWordBits] |= uint64_t{1} << (fd % kWordBits); }
  uint64_t Word(int set, size_t i) {
    if (program_[set] == nullptr) return 0;
    uint64_t word = Copy(set)[i];
    int beyond = static_cast<int>(i + 1) * kWordBits - count_;
    return beyond > 0 ? word & (~uint64_t{0} >> beyond) : word;
  }
  // Calls visit(fd, events) for every descriptor in any set.
  template <typename Visit>
  void ForEach(Visit&& visit) {
    for (size_t i = 0; i < Words(); ++i) {
      uint64_t in = Word(0, i);
      uint64_t out = Word(1, i);
      uint64_t except = Word(2, i);
      for (uint64_t all = in | out | except; all != 0; all &= all - 1) {
        int bit = __builtin_ctzll(all);
        uint64_t one = uint64_t{1} << bit;
        uint32_t events = ((in & one) != 0 ? kInEvents : 0) | ((out & one) != 0 ? kOutEvents : 0) |
                          ((except & one) != 0 ? POLLPRI : 0);
        visit(static_cast<int>(i) * kWordBits + bit, events);
      }
    }
  }
  bool AnySocket() {
    bool any = false;
    ForEach([&any](int fd, uint32_t) { any |= FdEntry::KindOf(fd_table::Load(fd)) == FdEntry::kSocket; });
    return any;
  }

 private:
  static constexpr size_t kInlineWords = 3 * FD_SETSIZE / kWordBits;
  size_t Words() const { return static_cast<size_t>(count_ + kWordBits - 1) / kWordBits; }
  size_t Bytes() const { return Words() * sizeof(uint64_t); }
  uint64_t* Copy(int set) { return memory_.data() + static_cast<size_t>(set) * Words(); }

  fd_set* program_[3];
  int count_;  // the program's nfds
  Scratch<uint64_t, kInlineWords> memory_;
};

int WaitForSets(Sets& sets, Instant deadline, const sigset_t* mask) {
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
  sets.Clear();
  int bits = 0;
  for (size_t i = 0; i < n; ++i) {
    const pollfd& e = entries[i];
    auto ready = static_cast<uint32_t>(static_cast<uint16_t>(e.revents));
    auto wanted = static_cast<uint32_t>(static_cast<uint16_t>(e.events));
    const uint32_t asked[3] = {kInEvents, kOutEvents, POLLPRI};
    const uint32_t shows[3] = {kInReady, kOutReady, POLLPRI};
    for (int set = 0; set < 3; ++set) {
      if ((wanted & asked[set]) == 0 || (ready & shows[set]) == 0) continue;
      sets.Add(set, e.fd);
      ++bits;
    }
  }
  return sets.Put() ? bits : -EFAULT;
}

bool MayBeOurs(int n) { return Attached() && n > 0 && n <= kMaxDescriptors; }

constexpr int kForKernel = -1 << 16;  // outside the errno numbers

// Sets without ustcp sockets, or wrong in any way, are the kernel's. `deadline_and_mask` reads the other arguments: 0 or a
// negative errno. `n` becomes what the kernel is to be told.
template <typename Rest>
int Select(int& n, fd_set* in, fd_set* out, fd_set* except, Rest&& deadline_and_mask) {
  if (Attached()) n = Reach(n, in, out, except);
  if (!MayBeOurs(n)) return kForKernel;
  Sets sets(n, in, out, except);
  if (!sets.ok()) return -ENOMEM;
  if (!sets.Get() || !sets.AnySocket()) return kForKernel;
  Instant deadline = kNever;
  const sigset_t* mask = nullptr;
  if (int error = deadline_and_mask(&deadline, &mask)) return error;
  return WaitForSets(sets, deadline, mask);
}

}  // namespace

bool ustcp::SelectIsForKernel(int n, fd_set* in, fd_set* out, fd_set* except) noexcept {
  if (Attached() && n > FD_SETSIZE) return false;  // see Reach
  if (!MayBeOurs(n)) return true;
  Sets sets(n, in, out, except);
  return sets.ok() && (!sets.Get() || !sets.AnySocket());
}

USTCP_EXPORT int select(int n, fd_set* in, fd_set* out, fd_set* except, timeval* timeout) {
  Instant deadline = kNever;
  int result = Select(n, in, out, except, [&](Instant* until, const sigset_t**) {
    timeval time;
    if (timeout == nullptr) return 0;
    if (!GetUser(time, timeout)) return -EFAULT;
    if (time.tv_sec < 0 || time.tv_usec < 0) return -EINVAL;
    deadline = *until = DeadlineAfter({time.tv_sec + time.tv_usec / 1'000'000, time.tv_usec % 1'000'000 * 1000});
    return 0;
  });
  if (result == kForKernel) return real::select(n, in, out, except, timeout);
  // Linux leaves the time that remains, and does not mind if it cannot.
  if (timeout != nullptr && deadline != kNever) {
    Instant now = runtime::Now();
    int64_t left_us = deadline > now ? ToMicros(deadline - now) : 0;
    (void)PutUser(timeout, timeval{left_us / 1'000'000, left_us % 1'000'000});
  }
  return ToErrno(result);
}
USTCP_ALIAS_OF(select, __select);

USTCP_EXPORT int pselect(int n, fd_set* in, fd_set* out, fd_set* except, const timespec* timeout,
                         const sigset_t* mask) {
  SignalMask own_mask;
  int result = Select(n, in, out, except, [&](Instant* until, const sigset_t** own) {
    if (int error = DeadlineOf(timeout, until)) return error;
    if (!own_mask.Get(mask)) return -EFAULT;
    *own = own_mask.get();
    return 0;
  });
  return result == kForKernel ? real::pselect(n, in, out, except, timeout, mask) : ToErrno(result);
}
