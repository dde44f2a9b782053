// A socket: what a descriptor stands for. In Linux an open file of a socket and the socket belong together one to one, so
// one object is both: it counts descriptors (of all processes) and keeps the file status flags.
//
// Guarded by the lock of the shard in its header, except: refs, ready, status_flags (atomic) and the watch list (the
// host's watch stripe, see readiness.h).
#pragma once

#include <atomic>
#include <cstdint>

#include "stack/host/port_table.h"
#include "stack/mem/slot_pool.h"
#include "stack/net/address.h"
#include "stack/socket/socket_options.h"

namespace ustcp {

struct Connection;
struct Listener;
struct WatchNode;

enum class SocketState : uint8_t {
  kFresh,  // neither bound nor connected
  kBound,  // has a local port, not listening
  kListening,
  kConnecting,    // connect() in progress; conn set
  kConnected,     // conn set (it may have been closed or reset since)
  kDisconnected,  // connection gone: error reported or never to be; conn null
};

struct Socket : SlotHeader {
  static constexpr SlotKind kSlotKind = SlotKind::kSocket;

  std::atomic<uint32_t> refs{0};          // descriptors and calls in progress that stand for this socket
  std::atomic<uint32_t> ready{0};         // EPOLLIN, OUT, RDHUP, HUP, ERR, PRI: the level right now
  std::atomic<uint16_t> taker{0};         // accepted, in no descriptor table yet: home shard of who took it, plus 1
  std::atomic<uint32_t> status_flags{0};  // O_NONBLOCK, O_ASYNC as F_GETFL shows them
  uint16_t family = 0;                    // AF_INET or AF_INET6
  SocketState state = SocketState::kFresh;
  bool shut_rd = false;
  bool shut_wr = false;
  bool connect_reported = false;  // the result of connect() was given to the program
  uint32_t uid = 0;               // creator, for bind conflicts and ss
  int32_t owner_pid = 0;          // last process that created, accepted or inherited it
  uint64_t inode = 0;             // a number of its own, as ss prints
  int32_t error = 0;              // SO_ERROR: pending, cleared when read
  Endpoint local;
  Endpoint peer;
  Connection* conn = nullptr;
  Listener* listener = nullptr;
  BindNode bind;
  SocketOptions options;
  WatchNode* watchers = nullptr;
  Socket* accept_next = nullptr;  // in its listener's queue until accept() takes it
  Listener* parent = nullptr;     // the listener it waits in

  bool nonblocking() const;
};

}  // namespace ustcp
