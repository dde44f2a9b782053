#include "stack/host/transmit_list.h"

#include "stack/base/fault.h"

namespace ustcp {

void TransmitList::Add(TransmitNode& node) noexcept {
  if (node.tx_listed) return;
  node.tx_listed = true;
  node.tx_next = nullptr;
  USTCP_FAULT_POINT();
  if (tail_ != nullptr)
    tail_->tx_next = &node;
  else
    head_ = &node;
  tail_ = &node;
}

void TransmitList::RemoveFirst() noexcept {
  TransmitNode& node = *head_;
  head_ = node.tx_next;
  if (head_ == nullptr) tail_ = nullptr;
  node.tx_next = nullptr;
  node.tx_listed = false;
}

void TransmitList::Remove(TransmitNode& node) noexcept {
  if (!node.tx_listed) return;
  TransmitNode* before = nullptr;
  for (TransmitNode* n = head_; n != nullptr; before = n, n = n->tx_next) {
    if (n != &node) continue;
    if (before != nullptr)
      before->tx_next = node.tx_next;
    else
      head_ = node.tx_next;
    USTCP_FAULT_POINT();
    if (tail_ == &node) tail_ = before;
    break;
  }
  node.tx_listed = false;
  node.tx_next = nullptr;
}

}  // namespace ustcp
