// The host's memory: one mapping (a sparse memfd in production, anonymous memory in tests) carved into spans of 256 KiB
// that slot pools and buffer pools take and keep. Spans are handed out by a bump pointer and never move; their headers
// are the truth from which every index can be rebuilt after a crash.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace ustcp {

// Where the arena is mapped in every member process. Free under ASan's and the default x86-64 layout; ThreadSanitizer
// allows program memory elsewhere only.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer) && !defined(__SANITIZE_THREAD__)
#define __SANITIZE_THREAD__ 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
inline constexpr uintptr_t kArenaBase = 0x0040'0000'0000;
#else
inline constexpr uintptr_t kArenaBase = 0x2000'0000'0000;
#endif

inline constexpr size_t kSpanBytes = 256 * 1024;

// What the slots of a span are; also the kind in a SlotHeader.
enum class SlotKind : uint16_t {
  kFree = 0,
  kConnection,
  kHalfOpen,
  kTimeWait,
  kSocket,
  kListener,
  kEpollSet,
  kEpollItem,
  kWaiter,
  kTxSegment,
  kWaitEntry,
  kBuf,
  kBufSuspect,  // during a repair: taken, but not yet found in any queue
  kFdPage,
  kReassembly,
  kNeighbor,
};

// First bytes of every span.
struct SpanHeader {
  SlotKind kind;
  uint16_t reserved;
  uint32_t slot_bytes;  // stride
  uint32_t slot_count;  // stored last: slots below it are initialised
  uint32_t owner;       // shard index, or kHostOwner
  SpanHeader* next;     // next span of the same pool
};
inline constexpr uint32_t kHostOwner = 0xffffffff;
inline constexpr size_t kSpanHeaderBytes = 64;
static_assert(sizeof(SpanHeader) <= kSpanHeaderBytes);

// Walks over spans end, whatever is in them. A pool's newest span comes first, and each one lies above those before it.
inline SpanHeader* OlderSpan(const SpanHeader* span) noexcept {
  SpanHeader* next = span->next;
  return next < span ? next : nullptr;
}
// The slots of a span of `stride` bytes each.
inline uint32_t SlotsIn(const SpanHeader& span, size_t stride) noexcept {
  const size_t most = (kSpanBytes - kSpanHeaderBytes) / (stride != 0 ? stride : kSpanBytes);
  return span.slot_count < most ? span.slot_count : static_cast<uint32_t>(most);
}

// Hands out spans. Lives in the arena's first page (inside Host).
class SpanAllocator {
 public:
  // `first` and `end` bound the memory for spans; first is aligned to 64 bytes.
  void Init(void* first, void* end) noexcept;
  // Returns zeroed memory of kSpanBytes, or null when the arena is used up. Never gives the same span twice.
  SpanHeader* Take() noexcept;
  size_t bytes_used() const noexcept { return next_.load(std::memory_order_relaxed) - first_; }
  size_t bytes_total() const noexcept { return end_ - first_; }

 private:
  uintptr_t first_;
  uintptr_t end_;
  std::atomic<uintptr_t> next_;
};

}  // namespace ustcp
