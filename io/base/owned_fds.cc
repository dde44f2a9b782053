#include "io/base/owned_fds.h"

#include <atomic>
#include <cerrno>

#include "io/base/sys.h"

namespace ustcp {
namespace {

// An entry: 0 when free, otherwise the descriptor plus one, with the kind above it.
constexpr uint32_t kKindShift = 31;
constexpr uint32_t kFdMask = (1u << kKindShift) - 1;

std::atomic<uint32_t> g_entries[OwnedFds::kCapacity];
// One past the highest entry ever used.
std::atomic<size_t> g_extent;

uint32_t Encode(int fd, OwnedFdKind kind) {
  return (static_cast<uint32_t>(fd) + 1) | (static_cast<uint32_t>(kind) << kKindShift);
}

bool List(int fd, OwnedFdKind kind) {
  for (size_t i = 0; i < OwnedFds::kCapacity; ++i) {
    uint32_t expected = 0;
    if (!g_entries[i].compare_exchange_strong(expected, Encode(fd, kind))) continue;
    size_t extent = g_extent.load();
    while (extent < i + 1 && !g_extent.compare_exchange_weak(extent, i + 1)) {
    }
    return true;
  }
  return false;
}

std::atomic<uint32_t>* Find(int fd) {
  size_t extent = g_extent.load(std::memory_order_acquire);
  for (size_t i = 0; i < extent; ++i)
    if ((g_entries[i].load(std::memory_order_relaxed) & kFdMask) == static_cast<uint32_t>(fd) + 1) return &g_entries[i];
  return nullptr;
}

// The kernel's table of descriptors is as long as the highest one needs and is copied by every fork, so "high" ends
// here: 128 KiB of table, where the 60 % of a limit of a million would be 5 MiB.
constexpr uint64_t kHighestStart = 16384;

int LowestHighFd() {
  rlimit limit{};
  if (sys::NoFileLimit(&limit) < 0) return 64;
  uint64_t start = limit.rlim_cur / 10 * 6;
  return static_cast<int>(start < kHighestStart ? start : kHighestStart);
}

// A program whose limit is this low needs the numbers below it itself.
constexpr uint64_t kFewNumbers = 256;

// A copy of `fd` above the numbers that the program may use, where its hard limit allows that: the soft one is raised for
// a moment, and a descriptor above it stays valid. A negative errno number otherwise.
int DuplicateAboveLimit(int fd) {
  rlimit limit{};
  if (sys::NoFileLimit(&limit) < 0 || limit.rlim_cur >= kFewNumbers || limit.rlim_max <= limit.rlim_cur) return -EINVAL;
  rlimit raised{limit.rlim_max < 2 * kFewNumbers ? limit.rlim_max : 2 * kFewNumbers, limit.rlim_max};
  if (int r = sys::SetNoFileLimit(&raised); r < 0) return r;
  int high = sys::Fcntl(fd, F_DUPFD_CLOEXEC, static_cast<long>(limit.rlim_cur));
  sys::SetNoFileLimit(&limit);
  return high;
}

}  // namespace

int OwnedFds::Adopt(int fd, OwnedFdKind kind) noexcept {
  int start = LowestHighFd();
  int above = DuplicateAboveLimit(fd);
  if (above >= 0) {
    sys::Close(fd);
    fd = above;
  } else if (fd < start) {
    int high = sys::Fcntl(fd, F_DUPFD_CLOEXEC, start);
    if (high >= 0) {
      sys::Close(fd);
      fd = high;
    }
  }
  sys::Fcntl(fd, F_SETFD, FD_CLOEXEC);
  if (!List(fd, kind)) {
    sys::Close(fd);
    return -EMFILE;
  }
  return fd;
}

int OwnedFds::Relocate(int fd) noexcept {
  std::atomic<uint32_t>* entry = Find(fd);
  if (entry == nullptr) return -EBADF;
  auto kind = static_cast<OwnedFdKind>(entry->load() >> kKindShift);
  int start = LowestHighFd();
  int moved = sys::Fcntl(fd, F_DUPFD_CLOEXEC, start);
  if (moved < 0) moved = sys::Fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (moved < 0) return moved;
  entry->store(Encode(moved, kind));
  sys::Close(fd);
  return moved;
}

void OwnedFds::Close(int fd) noexcept {
  if (fd < 0) return;
  Forget(fd);
  sys::Close(fd);
}

void OwnedFds::Forget(int fd) noexcept {
  if (std::atomic<uint32_t>* entry = Find(fd)) entry->store(0);
}

bool OwnedFds::Contains(int fd) noexcept { return fd >= 0 && Find(fd) != nullptr; }

void OwnedFds::CloseInheritedEngines() noexcept {
  ForEach([](int fd, OwnedFdKind kind) {
    if (kind == OwnedFdKind::kEngine) Close(fd);
  });
}

size_t OwnedFds::Extent() noexcept { return g_extent.load(std::memory_order_acquire); }

bool OwnedFds::At(size_t index, int* fd, OwnedFdKind* kind) noexcept {
  uint32_t entry = g_entries[index].load(std::memory_order_acquire);
  if (entry == 0) return false;
  *fd = static_cast<int>((entry & kFdMask) - 1);
  *kind = static_cast<OwnedFdKind>(entry >> kKindShift);
  return true;
}

}  // namespace ustcp
