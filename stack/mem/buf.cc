#include "stack/mem/buf.h"

#include <new>

#include "stack/base/check.h"
#include "stack/base/fault.h"

namespace ustcp {

void BufPool::Init(SpanAllocator* spans, uint32_t owner) noexcept {
  span_source_ = spans;
  spans_ = nullptr;
  for (auto& head : free_) head = nullptr;
  bytes_taken_ = 0;
  owner_ = owner;
}

BufClass BufPool::ClassFor(size_t bytes) noexcept {
  for (size_t c = 0; c + 1 < kBufClassCount; ++c)
    if (bytes <= kBufBytes[c] - sizeof(Buf)) return static_cast<BufClass>(c);
  return BufClass::kFrame;
}

bool BufPool::Grow(BufClass c) noexcept {
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
    b->next = free_[static_cast<size_t>(c)];
    free_[static_cast<size_t>(c)] = b;
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
  b->next = free_[i];
  free_[i] = b;
  bytes_taken_ -= kBufBytes[i];
}

void BufPool::ForgetAll() noexcept {
  for (auto& head : free_) head = nullptr;
  bytes_taken_ = 0;
}

void BufPool::Adopt(Buf* b) noexcept {
  auto i = static_cast<size_t>(b->buf_class);
  if (b->kind == SlotKind::kBuf) {
    bytes_taken_ += kBufBytes[i];
    return;
  }
  b->next = free_[i];
  free_[i] = b;
}

void BufPool::GiveChain(Buf* b) noexcept {
  while (b != nullptr) {
    Buf* next = b->next;
    Give(b);
    b = next;
  }
}

}  // namespace ustcp
