#include "preload/descriptors/stale.h"

#include <poll.h>

#include "io/base/clock.h"
#include "io/base/sys.h"
#include "preload/descriptors/fd_table.h"

namespace ustcp::stale {

std::atomic<int64_t> g_looked_ns{0};

namespace {

constexpr int kBatch = 64;
constexpr int kBatchesInOneGo = 4;

std::atomic<int> g_next{0};  // the number to go on with
std::atomic<uint32_t> g_count{0};

// What is under a number, by what the kernel says of it.
bool LooksLike(FdEntry::Kind kind, short revents) {
  if (kind == FdEntry::kSocket) return (revents & POLLHUP) != 0;
  return (revents & (POLLNVAL | POLLHUP | POLLERR)) == 0;
}

// Is asked with the table locked, so that nobody closes or opens in between by a call that is seen.
bool Gone(int fd, FdEntry::Kind kind) {
  pollfd entry{fd, 0, 0};
  timespec zero{};
  return sys::Ppoll(&entry, 1, &zero, nullptr) >= 0 && !LooksLike(kind, entry.revents);
}

// Entries that are looked at together.
class Batch {
 public:
  bool full() const { return count_ == kBatch; }
  void Add(int fd, FdEntry::Kind kind) {
    entries_[count_] = {fd, 0, 0};
    kinds_[count_++] = kind;
  }
  void Look() {
    if (count_ == 0) return;
    timespec zero{};
    // Fails for more entries than the program may have descriptors: then one by one.
    bool together = sys::Ppoll(entries_, static_cast<size_t>(count_), &zero, nullptr) >= 0;
    for (int i = 0; i < count_; ++i)
      if ((!together || !LooksLike(kinds_[i], entries_[i].revents)) && fd_table::RemoveIf(entries_[i].fd, Gone))
        g_count.fetch_add(1);
    count_ = 0;
  }

 private:
  pollfd entries_[kBatch];
  FdEntry::Kind kinds_[kBatch];
  int count_ = 0;
};

// Looks at a batch of entries from `from` on; returns the number to go on with, -1 after the last one.
int LookAtBatch(int from, bool sets_too) {
  Batch batch;
  int fd = from;
  for (; !batch.full() && (fd = fd_table::NextEntry(fd)) >= 0; ++fd) {
    FdEntry::Kind kind = FdEntry::KindOf(fd_table::Load(fd));
    if (kind == FdEntry::kSocket || (kind == FdEntry::kEpoll && sets_too)) batch.Add(fd, kind);
  }
  batch.Look();
  return fd;
}

// Takes the right to look, for this interval.
bool TakeTurn() {
  int64_t last = g_looked_ns.load(std::memory_order_relaxed);
  int64_t now = runtime::t_clock_ns;
  return now - last >= ToNanos(kInterval) && g_looked_ns.compare_exchange_strong(last, now);
}

// Returns how many numbers that covered.
unsigned LookOn() {
  unsigned covered = 0;
  int at = g_next.load(std::memory_order_relaxed);
  for (int i = 0; i < kBatchesInOneGo && at >= 0; ++i) {
    int next = LookAtBatch(at, false);
    covered += next >= 0 ? static_cast<unsigned>(next - at) : fd_table::Extent();
    at = next;
  }
  g_next.store(at >= 0 ? at : 0, std::memory_order_relaxed);
  return covered;
}

}  // namespace

uint32_t Count() noexcept { return g_count.load(std::memory_order_relaxed); }

void LookAtSome() noexcept {
  if (TakeTurn()) LookOn();
}

void LookAt(std::span<const pollfd> reported) noexcept {
  Batch batch;
  for (const pollfd& e : reported) {
    if (e.revents == 0 || FdEntry::KindOf(fd_table::Load(e.fd)) != FdEntry::kSocket) continue;
    batch.Add(e.fd, FdEntry::kSocket);
    if (batch.full()) batch.Look();
  }
  batch.Look();
}

void LookAtAll() noexcept {
  if (g_own_process.load(std::memory_order_relaxed) == nullptr) return;
  for (int at = 0; at >= 0;) at = LookAtBatch(at, true);
}

bool BeforeSleep::Look() noexcept {
  if (all_) return false;
  Instant now = MonotonicNow();
  runtime::t_clock_ns = NanosOf(now);
  if (!TakeTurn()) {
    // Late enough that the kernel's clock need not be set anew for each of the short sleeps of a busy thread.
    wake_at_ = now + kAsleep;
    return false;
  }
  uint32_t before = Count();
  bool from_the_start = g_next.load(std::memory_order_relaxed) == 0;
  unsigned covered = LookOn();
  covered_ += covered;
  all_ = covered_ >= fd_table::Extent() || (from_the_start && g_next.load(std::memory_order_relaxed) == 0);
  wake_at_ = all_ ? kNever : now + kInterval;
  return Count() != before;
}

}  // namespace ustcp::stale
