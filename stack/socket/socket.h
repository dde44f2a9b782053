// A socket: what a descriptor stands for. In Linux an open file of a socket and the socket belong together one to one, so
// one object is both: it counts descriptors (of all processes) and keeps the file status flags.
//
// Guarded by the lock of the shard in its header, except: refs, ready, status_flags (atomic) and the watch list (the
// host's watch stripe, see readiness.h).
#pragma once

#include <atomic>
#include <cstdint>

#include "stack/tcp/user.h"

namespace ustcp {

struct WatchNode;

enum class SocketState : uint8_t {
  kFresh,  // neither bound nor connected
  kBound,  // has a local port, not listening
  kListening,
  kConnecting,    // connect() in progress; conn set
  kConnected,     // conn set (it may have been closed or reset since)
  kDisconnected,  // connection gone: error reported or never to be; conn null
};

struct Socket : TcpUser {
  static constexpr SlotKind kSlotKind = SlotKind::kSocket;

  std::atomic<uint32_t> refs{0};          // descriptors and calls in progress that stand for this socket
  std::atomic<uint16_t> taker{0};         // accepted, in no descriptor table yet: home shard of who took it, plus 1
  std::atomic<uint32_t> status_flags{0};  // O_NONBLOCK, O_ASYNC as F_GETFL shows them
  SocketState state = SocketState::kFresh;
  bool shut_rd = false;
  bool shut_wr = false;
  bool connect_reported = false;  // the result of connect() was given to the program
  int32_t owner_pid = 0;          // last process that created, accepted or inherited it
  uint64_t inode = 0;             // a number of its own, as ss prints
  WatchNode* watchers = nullptr;
  Socket* accept_next = nullptr;  // in its listener's queue until accept() takes it
  Listener* parent = nullptr;     // the listener it waits in

  bool nonblocking() const;
};

// The socket that uses a connection or a listener; null when there is none.
inline Socket* SocketOf(TcpUser* user) { return static_cast<Socket*>(user); }
inline const Socket* SocketOf(const TcpUser* user) { return static_cast<const Socket*>(user); }

}  // namespace ustcp
