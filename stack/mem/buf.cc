#include "stack/mem/buf.h"

#include <new>

#include "stack/base/check.h"
#include "stack/base/fault.h"

namespace ustcp {

namespace {

constexpr uint64_t kAddressMask = (uint64_t{1} << 48) - 1;

uint64_t NextHead(uint64_t head, const Buf* first) {
  return ((head & ~kAddressMask) + (uint64_t{1} << 48)) | reinterpret_cast<uintptr_t>(first);
}

}  // namespace

void BufExchange::Put(Buf* b) noexcept {
  auto& at = heads_[static_cast<size_t>(b->buf_class)];
  uint64_t head = at.load(std::memory_order_relaxed);
  do {
    // Others may look at it while it is on top.
    std::atomic_ref<Buf*>(b->next).store(reinterpret_cast<Buf*>(head & kAddressMask), std::memory_order_relaxed);
  } while (!at.compare_exchange_weak(head, NextHead(head, b), std::memory_order_release, std::memory_order_relaxed));
}

Buf* BufExchange::Take(BufClass c) noexcept {
  auto& at = heads_[static_cast<size_t>(c)];
  uint64_t head = at.load(std::memory_order_acquire);
  for (;;) {
    auto* first = reinterpret_cast<Buf*>(head & kAddressMask);
    if (first == nullptr) return nullptr;
    // Taken by another meanwhile, its `next` means something else: then the head has changed too.
    Buf* next = std::atomic_ref<Buf*>(first->next).load(std::memory_order_relaxed);
    if (at.compare_exchange_weak(head, NextHead(head, next), std::memory_order_acquire)) return first;
  }
}

void BufPool::Init(SpanAllocator* spans, uint32_t owner, BufExchange* exchange) noexcept {
  span_source_ = spans;
  exchange_ = exchange;
  spans_ = nullptr;
  for (auto& head : free_) head = nullptr;
  for (auto& count : free_count_) count = 0;
  bytes_taken_ = 0;
  owner_ = owner;
}

BufClass BufPool::ClassFor(size_t bytes) noexcept {
  for (size_t c = 0; c + 1 < kBufClassCount; ++c)
    if (bytes <= kBufBytes[c] - sizeof(Buf)) return static_cast<BufClass>(c);
  return BufClass::kFrame;
}

void BufPool::Keep(Buf* b) noexcept {
  auto i = static_cast<size_t>(b->buf_class);
  b->next = free_[i];
  free_[i] = b;
  ++free_count_[i];
}

bool BufPool::Grow(BufClass c) noexcept {
  if (exchange_ != nullptr) {
    if (Buf* b = exchange_->Take(c)) {
      b->pool = owner_;
      Keep(b);
      return true;
    }
  }
  SpanHeader* span = span_source_->Take();
  if (span == nullptr) return false;
  size_t stride = kBufBytes[static_cast<size_t>(c)];
  auto count = static_cast<uint32_t>((kSpanBytes - kSpanHeaderBytes) / stride);
  span->kind = SlotKind::kBuf;
  span->slot_bytes = static_cast<uint32_t>(stride);
  span->owner = owner_;
  for (uint32_t i = count; i-- > 0;) {
    auto* b = new (reinterpret_cast<std::byte*>(span) + kSpanHeaderBytes + i * stride) Buf{};
    b->kind = SlotKind::kFree;
    b->buf_class = c;
    b->pool = owner_;
    Keep(b);
  }
  span->slot_count = count;
  span->next = spans_;
  spans_ = span;
  return true;
}

Buf* BufPool::Take(BufClass c) noexcept {
  auto i = static_cast<size_t>(c);
  if (free_[i] == nullptr && !Grow(c)) return nullptr;
  Buf* b = free_[i];
  free_[i] = b->next;
  --free_count_[i];
  USTCP_FAULT_POINT();
  b->kind = SlotKind::kBuf;
  USTCP_FAULT_POINT();
  b->flags = 0;
  b->pool = owner_;
  b->offset = 0;
  b->length = 0;
  b->next = nullptr;
  bytes_taken_ += kBufBytes[i];
  return b;
}

void BufPool::Give(Buf* b) noexcept {
  USTCP_DCHECK(b->kind == SlotKind::kBuf);
  auto i = static_cast<size_t>(b->buf_class);
  b->pool = owner_;
  USTCP_FAULT_POINT();
  b->kind = SlotKind::kFree;
  USTCP_FAULT_POINT();
  bytes_taken_ -= kBufBytes[i];
  if (exchange_ == nullptr || free_count_[i] < kFreeBufsKept[i]) return Keep(b);
  b->pool = kHostOwner;  // no repair of a shard may find it free and keep it
  exchange_->Put(b);
}

void BufPool::ForgetAll() noexcept {
  for (auto& head : free_) head = nullptr;
  for (auto& count : free_count_) count = 0;
  bytes_taken_ = 0;
}

void BufPool::Adopt(Buf* b) noexcept {
  auto i = static_cast<size_t>(b->buf_class);
  if (b->kind == SlotKind::kBuf) {
    bytes_taken_ += kBufBytes[i];
    return;
  }
  Keep(b);
}

void BufPool::GiveChain(Buf* b) noexcept {
  while (b != nullptr) {
    Buf* next = b->next;
    Give(b);
    b = next;
  }
}

}  // namespace ustcp
