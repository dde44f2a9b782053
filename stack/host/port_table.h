// Who uses which local port: bound sockets, listeners, connections and TIME_WAIT entries, one list per port. Decides
// EADDRINUSE as Linux does and chooses ephemeral ports (RFC 6056). Guarded by its own lock.
#pragma once

#include <cstdint>

#include "stack/base/address.h"
#include "stack/sync/robust_mutex.h"

namespace ustcp {

struct SlotHeader;

struct BindNode {
  BindNode* next = nullptr;
  BindNode* prev = nullptr;
  SlotHeader* owner = nullptr;  // Socket, Connection or TimeWait
  IpAddress address;            // local; any-address for wildcards
  uint32_t uid = 0;
  uint16_t port = 0;
  bool linked = false;
  bool v6 = false;  // AF_INET6 socket
  bool v6only = false;
  bool reuse = false;      // SO_REUSEADDR
  bool reuseport = false;  // SO_REUSEPORT
  bool listening = false;
  bool explicitly_bound = false;  // by bind(), not by connect()'s automatic choice
  bool port_given = false;        // bind() named the port: the socket keeps it when it stops listening
};

class PortTable {
  class Guard {
   public:
    explicit Guard(PortTable& table) noexcept;
    ~Guard() { table_.lock_.Unlock(); }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    PortTable& table_;
  };

 public:
  void Init() noexcept;

  // Adds the node under node.port, after the check for conflicts that bind() makes. False: EADDRINUSE.
  bool Bind(BindNode& node) noexcept;
  // Chooses a port in [first, last] for bind() with port 0, sets node.port. False when none is free.
  bool BindAny(BindNode& node, uint16_t first, uint16_t last, uint32_t random) noexcept;
  // Adds without a check (an accepted connection shares its listener's port; TIME_WAIT takes over its connection's place).
  void Add(BindNode& node, uint16_t port) noexcept;
  void Remove(BindNode& node) noexcept;
  // listen(): the check again, now as a listener (two listeners may share a port only with reuseport). Marks the node.
  bool SetListening(BindNode& node) noexcept;
  // May connect() choose this port by itself? False when somebody bound it explicitly.
  bool UsableForConnect(uint16_t port) noexcept;

  // The listener for a SYN to `local`, as Linux scores them: exact address before wildcard, same family before
  // dual-stack; among reuseport equals the one `hash` picks. Returns the owner of its node, or null. `visit` order and
  // lifetime: the owner's slot is type-stable; the caller re-checks it under its lock.
  SlotHeader* FindListener(const Endpoint& local, uint32_t hash) noexcept;

  // Calls visit(BindNode&) for all nodes of a port, under the lock.
  template <typename Visit>
  void ForEach(uint16_t port, Visit&& visit) {
    Guard guard(*this);
    for (BindNode* n = ports_[port]; n != nullptr; n = n->next) visit(*n);
  }

 private:
  bool Conflicts(const BindNode& node, uint16_t port) const noexcept;
  void Link(BindNode& node, uint16_t port) noexcept;
  void Unlink(BindNode& node) noexcept;

  // After the death of a holder: the forward links are the truth, each update of them is one store.
  void Repair() noexcept;

  RobustMutex lock_;
  BindNode* unlinking_;  // node that is being taken out
  // Listening nodes come first: a busy server's port has thousands of others, and every SYN asks for the listener.
  BindNode* ports_[65536];
};

}  // namespace ustcp
