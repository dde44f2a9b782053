// Fixed-size slots of one type, carved from spans. Every slot type begins with a SlotHeader; its `kind` says whether the
// slot is live. The free list is an index that Rebuild() makes anew from the slots.
//
// A pool is guarded by the lock of whatever owns it (a shard's pools by the shard's lock).
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>

#include "stack/base/check.h"
#include "stack/base/fault.h"
#include "stack/mem/arena.h"

namespace ustcp {

struct SlotHeader {
  SlotKind kind = SlotKind::kFree;
  uint16_t shard = 0;       // owner's index
  uint32_t generation = 0;  // grows each time the slot is taken: a stale reference shows
};

// T may be incomplete where a pool is only declared: a shard has the pools of layers that it knows by name only.
template <typename T>
class SlotPool {
 public:
  void Init(SpanAllocator* spans, uint32_t owner) noexcept {
    span_source_ = spans;
    spans_ = nullptr;
    free_ = nullptr;
    live_ = 0;
    owner_ = owner;
  }

  // A value-initialised T, or null when the arena is used up.
  T* Take() noexcept {
    if (free_ == nullptr && !Grow()) return nullptr;
    FreeSlot* slot = free_;
    free_ = slot->next;
    uint32_t generation = slot->header.generation + 1;
    USTCP_FAULT_POINT();
    T* object = new (slot) T();
    object->generation = generation;
    object->shard = static_cast<uint16_t>(owner_);
    USTCP_FAULT_POINT();
    object->kind = T::kSlotKind;
    USTCP_FAULT_POINT();
    ++live_;
    return object;
  }

  void Give(T* object) noexcept {
    USTCP_DCHECK(object->kind == T::kSlotKind);
    USTCP_FAULT_POINT();
    object->kind = SlotKind::kFree;
    USTCP_FAULT_POINT();
    auto* slot = reinterpret_cast<FreeSlot*>(object);
    slot->next = free_;
    free_ = slot;
    --live_;
  }

  // Calls visit(T&) for every live slot.
  template <typename Visit>
  void ForEachLive(Visit&& visit) {
    for (SpanHeader* span = spans_; span != nullptr; span = OlderSpan(span))
      for (uint32_t i = 0, slots = SlotsIn(*span, Stride()); i < slots; ++i) {
        T* object = SlotAt(span, i);
        if (object->kind == T::kSlotKind) visit(*object);
      }
  }

  // Makes the free list and the live count anew from the slots.
  void Rebuild() noexcept {
    free_ = nullptr;
    live_ = 0;
    for (SpanHeader* span = spans_; span != nullptr; span = OlderSpan(span))
      for (uint32_t i = 0, slots = SlotsIn(*span, Stride()); i < slots; ++i) {
        auto* slot = reinterpret_cast<FreeSlot*>(SlotAt(span, i));
        if (slot->header.kind == SlotKind::kFree) {
          slot->next = free_;
          free_ = slot;
        } else {
          ++live_;
        }
      }
  }

  size_t live() const noexcept { return live_; }

 private:
  struct FreeSlot {
    SlotHeader header;
    FreeSlot* next;
  };
  static constexpr size_t Stride() {
    static_assert(std::is_base_of_v<SlotHeader, T>);
    static_assert(std::is_trivially_destructible_v<T>);
    static_assert(sizeof(T) >= sizeof(FreeSlot));
    return (sizeof(T) + 63) / 64 * 64;
  }
  static constexpr uint32_t SlotsPerSpan() { return static_cast<uint32_t>((kSpanBytes - kSpanHeaderBytes) / Stride()); }

  static T* SlotAt(SpanHeader* span, uint32_t i) {
    return reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(span) + kSpanHeaderBytes + i * Stride());
  }

  bool Grow() noexcept {
    SpanHeader* span = span_source_->Take();
    if (span == nullptr) return false;
    span->kind = T::kSlotKind;
    span->slot_bytes = static_cast<uint32_t>(Stride());
    span->owner = owner_;
    for (uint32_t i = SlotsPerSpan(); i-- > 0;) {
      auto* slot = new (SlotAt(span, i)) FreeSlot{};
      slot->next = free_;
      free_ = slot;
    }
    span->slot_count = SlotsPerSpan();
    span->next = spans_;
    spans_ = span;
    return true;
  }

  SpanAllocator* span_source_;
  SpanHeader* spans_;
  FreeSlot* free_;
  size_t live_;
  uint32_t owner_;
};

}  // namespace ustcp
