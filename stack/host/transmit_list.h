// A shard's connections with something to say, in the order in which they noted it. Guarded by the shard's lock.
#pragma once

#include "stack/host/tuple_table.h"

namespace ustcp {

struct TransmitNode : TupleNode {
  TransmitNode* tx_next = nullptr;
  bool tx_listed = false;
};

// All-zero memory is an empty list.
class TransmitList {
 public:
  TransmitNode* first() const noexcept { return head_; }
  TransmitNode* last() const noexcept { return tail_; }
  bool empty() const noexcept { return head_ == nullptr; }
  // Puts a node at the end. Idempotent.
  void Add(TransmitNode& node) noexcept;
  // Takes off the first node.
  void RemoveFirst() noexcept;
  // Takes off any node: before it is freed. Idempotent.
  void Remove(TransmitNode& node) noexcept;
  // For a repair, which adds every node again.
  void Forget() noexcept { head_ = tail_ = nullptr; }

 private:
  TransmitNode* head_;
  TransmitNode* tail_;
};

}  // namespace ustcp
