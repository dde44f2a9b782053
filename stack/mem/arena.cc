#include "stack/mem/arena.h"

namespace ustcp {

void SpanAllocator::Init(void* first, void* end) noexcept {
  first_ = (reinterpret_cast<uintptr_t>(first) + 63) & ~uintptr_t{63};
  end_ = reinterpret_cast<uintptr_t>(end);
  next_.store(first_, std::memory_order_relaxed);
}

SpanHeader* SpanAllocator::Take() noexcept {
  uintptr_t at = next_.load(std::memory_order_relaxed);
  do {
    if (at + kSpanBytes > end_) return nullptr;
  } while (!next_.compare_exchange_weak(at, at + kSpanBytes, std::memory_order_relaxed));
  return reinterpret_cast<SpanHeader*>(at);
}

}  // namespace ustcp
