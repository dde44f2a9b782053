#include "stack/host/port_table.h"

#include "stack/base/check.h"
#include "stack/base/fault.h"

namespace ustcp {
namespace {

// Do two local addresses overlap? As Linux's inet_rcv_saddr_equal: a wildcard covers its family, an IPv6 wildcard that is
// not v6-only covers IPv4 too.
bool Overlap(const BindNode& a, const BindNode& b) {
  bool a_any = a.address.is_any(), b_any = b.address.is_any();
  auto covers_v4 = [](const BindNode& n) { return !n.v6 || (!n.v6only && (n.address.is_any() || n.address.is_v4())); };
  auto covers_v6 = [](const BindNode& n) { return n.v6 && !(n.address.is_v4()); };
  if (a_any && b_any) return (covers_v4(a) && covers_v4(b)) || (covers_v6(a) && covers_v6(b));
  if (a_any) return b.address.is_v4() ? covers_v4(a) : covers_v6(a);
  if (b_any) return a.address.is_v4() ? covers_v4(b) : covers_v6(b);
  return a.address == b.address;
}

}  // namespace

PortTable::Guard::Guard(PortTable& table) noexcept : table_(table) {
  if (table.lock_.Lock() != LockResult::kOwnerDied) return;
  table.Repair();
  table.lock_.MarkConsistent();
}

void PortTable::Repair() noexcept {
  bool found = false;
  for (BindNode* head : ports_) {
    BindNode* before = nullptr;
    for (BindNode* n = head; n != nullptr; before = n, n = n->next) {
      n->prev = before;
      n->linked = true;
      if (n == unlinking_) found = true;
    }
  }
  if (unlinking_ != nullptr && !found) {
    unlinking_->next = unlinking_->prev = nullptr;
    unlinking_->linked = false;
  }
  unlinking_ = nullptr;
}

void PortTable::Init() noexcept { lock_.Init(); }

bool PortTable::Conflicts(const BindNode& node, uint16_t port) const noexcept {
  for (const BindNode* other = ports_[port]; other != nullptr; other = other->next) {
    if (other == &node) continue;
    // inet_csk_bind_conflict: SO_REUSEADDR on both and the other not listening, or SO_REUSEPORT on both with one owner.
    if (node.reuse && other->reuse && !other->listening) continue;
    if (node.reuseport && other->reuseport && node.uid == other->uid) continue;
    if (Overlap(node, *other)) return true;
  }
  return false;
}

void PortTable::Link(BindNode& node, uint16_t port) noexcept {
  BindNode* before = nullptr;
  BindNode* after = ports_[port];
  if (!node.listening)
    for (; after != nullptr && after->listening; after = after->next) before = after;
  node.port = port;
  node.prev = before;
  node.next = after;
  USTCP_FAULT_POINT();
  if (before != nullptr)
    before->next = &node;
  else
    ports_[port] = &node;
  USTCP_FAULT_POINT();
  if (after != nullptr) after->prev = &node;
  USTCP_FAULT_POINT();
  node.linked = true;
}

void PortTable::Unlink(BindNode& node) noexcept {
  unlinking_ = &node;
  USTCP_FAULT_POINT();
  if (node.prev != nullptr)
    node.prev->next = node.next;
  else
    ports_[node.port] = node.next;
  USTCP_FAULT_POINT();
  if (node.next != nullptr) node.next->prev = node.prev;
  USTCP_FAULT_POINT();
  node.next = node.prev = nullptr;
  node.linked = false;
  USTCP_FAULT_POINT();
  unlinking_ = nullptr;
}

bool PortTable::Bind(BindNode& node) noexcept {
  Guard guard(*this);
  if (Conflicts(node, node.port)) return false;
  node.explicitly_bound = node.port_given = true;
  Link(node, node.port);
  return true;
}

bool PortTable::BindAny(BindNode& node, uint16_t first, uint16_t last, uint32_t random) noexcept {
  Guard guard(*this);
  uint32_t count = uint32_t{last} - first + 1;
  for (uint32_t i = 0; i < count; ++i) {
    auto port = static_cast<uint16_t>(first + (random + i) % count);
    if (Conflicts(node, port)) continue;
    node.explicitly_bound = true;
    Link(node, port);
    return true;
  }
  return false;
}

void PortTable::Add(BindNode& node, uint16_t port) noexcept {
  Guard guard(*this);
  if (!node.linked) Link(node, port);
}

void PortTable::Remove(BindNode& node) noexcept {
  Guard guard(*this);
  if (node.linked) Unlink(node);
}

bool PortTable::SetListening(BindNode& node) noexcept {
  Guard guard(*this);
  USTCP_DCHECK(node.linked);
  if (Conflicts(node, node.port)) return false;
  Unlink(node);
  node.listening = true;
  Link(node, node.port);
  return true;
}

bool PortTable::UsableForConnect(uint16_t port) noexcept {
  Guard guard(*this);
  for (const BindNode* n = ports_[port]; n != nullptr; n = n->next)
    if (n->explicitly_bound) return false;
  return true;
}

SlotHeader* PortTable::FindListener(const Endpoint& local, uint32_t hash) noexcept {
  Guard guard(*this);
  bool v4 = local.address.is_v4();
  int best_score = 0;
  uint32_t equals = 0;
  SlotHeader* best = nullptr;
  for (BindNode* n = ports_[local.port]; n != nullptr && n->listening; n = n->next) {
    if (v4 ? (n->v6 && n->v6only) : !n->v6) continue;
    int score = 1;
    if (n->address.is_any()) {
      if (!v4 && n->address.is_v4()) continue;
    } else {
      if (n->address != local.address) continue;
      score += 2;
    }
    if (n->v6 != v4) score += 1;  // the socket's family is the packet's
    if (score > best_score) {
      best_score = score;
      best = n->owner;
      equals = 1;
    } else if (score == best_score && n->reuseport) {
      // Reservoir choice by the connection's hash: every equal gets its share, one tuple always the same listener.
      ++equals;
      hash = (hash ^ (hash >> 15)) * 0x2c1b3c6du;
      hash ^= hash >> 12;
      if (((uint64_t{hash} * equals) >> 32) == 0) best = n->owner;
    }
  }
  return best;
}

}  // namespace ustcp
