// Shared by the files of the socket layer only.
#pragma once

#include <sys/epoll.h>

#include "stack/socket/socket.h"

namespace ustcp {

struct Context;

// What poll shows of a TCP socket in state CLOSE that was never connected.
inline constexpr uint32_t kClosedLevel = EPOLLOUT | EPOLLWRNORM | EPOLLHUP;

// Recomputes Socket::ready. `conn` is the socket's connection or null.
void StoreLevel(Socket& s, const Connection* conn) noexcept;

// The last reference of a socket of another shard is gone: leaves the closing to that shard's next driver.
void HandOverForClose(Context& ctx, Socket& s) noexcept;

// The listening socket stops: its queue is emptied, everything in it is reset, the port is free.
void CloseListener(Context& ctx, Socket& s) noexcept;

// A connect() that failed leaves the socket as it was before, ready for another one.
void BackToFresh(Context& ctx, Socket& s) noexcept;

// Part of RepairShard, once the shard's lists stand again: sockets, listeners and epoll items that were left half-way.
void RepairSockets(Context& ctx) noexcept;
void RepairEpollItems(Context& ctx) noexcept;

// SO_ERROR semantics: returns the pending error and clears it.
inline int TakeError(Socket& s) noexcept {
  int error = s.error;
  s.error = 0;
  return error;
}

}  // namespace ustcp
