// Sending, receiving and shutting down (socket_ops.h), with the order of checks that Linux's tcp_sendmsg and tcp_recvmsg
// have: it decides which of several possible errors a program sees.
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include <climits>

#include "stack/base/user_vector.h"
#include "stack/host/host.h"
#include "stack/socket/readiness.h"
#include "stack/socket/socket.h"
#include "stack/socket/socket_internal.h"
#include "stack/socket/socket_ops.h"
#include "stack/tcp/tcb.h"
#include "stack/tcp/tcp.h"

namespace ustcp {
namespace {

bool Handshaking(const Connection& conn) {
  return conn.state == TcpState::kSynSent || conn.state == TcpState::kSynRecv;
}

// kOk: there is a connection, and it takes data.
Error MaySend(Socket& s) {
  Connection* conn = s.conn;
  if (conn != nullptr && Handshaking(*conn) && s.error == 0 && !s.shut_wr) return Error{EAGAIN};
  bool can_send = conn != nullptr && (conn->state == TcpState::kEstablished || conn->state == TcpState::kCloseWait);
  if (s.error != 0) {
    int error = TakeError(s);
    StoreLevel(s, conn);
    return Error{error};
  }
  return can_send && !s.shut_wr ? kOk : Error{EPIPE};
}

}  // namespace

Result<size_t> SendSocket(Context& ctx, Socket& s, UserVector& from, int flags) noexcept {
  if (Error error = MaySend(s); error != kOk) return error;
  Connection* conn = s.conn;
  if (from.left() == 0) return size_t{0};
  size_t taken = TcpSend(ctx, *conn, from, (flags & MSG_MORE) != 0, (flags & MSG_OOB) != 0);
  StoreLevel(s, conn);
  if (taken == 0) return Error{from.faulted() ? EFAULT : EAGAIN};
  return taken;
}

Result<size_t> SendSocketFrom(Context& ctx, Socket& s, SendSource& source, size_t limit, int flags) noexcept {
  if (Error error = MaySend(s); error != kOk) return error;
  size_t taken = TcpSendFrom(ctx, *s.conn, source, limit, (flags & MSG_MORE) != 0);
  StoreLevel(s, s.conn);
  if (taken == 0 && !source.ended) return Error{EAGAIN};
  return taken;
}

Result<size_t> ReceiveSocket(Context& ctx, Socket& s, UserVector& to, int flags) noexcept {
  if (s.state == SocketState::kListening) return Error{ENOTCONN};
  Connection* conn = s.conn;
  bool peek = (flags & MSG_PEEK) != 0;
  bool discard = (flags & MSG_TRUNC) != 0;
  if ((flags & MSG_OOB) != 0) {
    if (conn == nullptr) return Error{EINVAL};
    auto result = TcpReceiveUrgent(ctx, *conn, to, peek, discard);
    StoreLevel(s, conn);
    return result;
  }
  if (conn != nullptr && to.left() > 0) {
    size_t got = TcpReceive(ctx, *conn, to, peek, discard);
    if (got > 0) {
      if (!peek) StoreLevel(s, conn);
      return got;
    }
    if (to.faulted()) return Error{EFAULT};
  } else if (conn != nullptr && TcpReadable(*conn) > 0) {
    return size_t{0};  // who asks for nothing waits for it to come, as with Linux
  }
  if (conn != nullptr && TcpPeerFinished(*conn)) return size_t{0};
  if (s.error != 0) {
    int error = TakeError(s);
    StoreLevel(s, conn);
    return Error{error};
  }
  if (s.shut_rd) return size_t{0};
  if (conn == nullptr) return s.state == SocketState::kDisconnected ? Result<size_t>{size_t{0}} : Error{ENOTCONN};
  if (conn->state == TcpState::kClosed) return size_t{0};
  return Error{EAGAIN};
}

Error ShutdownSocket(Context& ctx, Socket& s, int how) noexcept {
  if (how < SHUT_RD || how > SHUT_RDWR) return Error{EINVAL};
  bool rd = how != SHUT_WR, wr = how != SHUT_RD;
  if (s.state == SocketState::kListening) {
    if (!rd) return kOk;
    Error e = DisconnectSocket(ctx, s);
    Notify(ctx, s, s.ready.load());
    return e;
  }
  Connection* conn = s.conn;
  if (conn == nullptr || conn->state == TcpState::kClosed) {
    if (s.state == SocketState::kFresh || s.state == SocketState::kBound) {
      s.shut_rd |= rd;
      s.shut_wr |= wr;
    }
    return Error{ENOTCONN};
  }
  if (conn->state == TcpState::kSynSent) {
    Error e = DisconnectSocket(ctx, s);
    Notify(ctx, s, s.ready.load());
    return e;
  }
  s.shut_rd |= rd;
  s.shut_wr |= wr;
  if (wr) TcpShutdownWrite(ctx, *conn);
  if (rd) TcpShutdownRead(ctx, *conn);
  if (s.conn != nullptr) StoreLevel(s, s.conn);
  Notify(ctx, s, s.ready.load());
  return kOk;
}

void SetPendingError(Socket& s, int error) noexcept {
  s.error = error;
  StoreLevel(s, s.conn);
}

Error GetName(const Socket& s, bool peer, Endpoint& out) noexcept {
  if (!peer) {
    out = s.local;
    return kOk;
  }
  bool connected = s.conn != nullptr && s.conn->state != TcpState::kClosed && s.conn->state != TcpState::kSynSent;
  if (!connected) return Error{ENOTCONN};
  out = s.peer;
  return kOk;
}

Error IoctlSocket(Context& ctx, Socket& s, unsigned long request, int* value) noexcept {
  (void)ctx;
  auto clamp = [](size_t n) { return n > INT_MAX ? INT_MAX : static_cast<int>(n); };
  switch (request) {
    case FIONREAD:  // SIOCINQ
      if (s.state == SocketState::kListening) return Error{EINVAL};
      *value = s.conn != nullptr ? clamp(TcpReadable(*s.conn)) : 0;
      return kOk;
    case SIOCATMARK: *value = s.conn != nullptr && TcpAtMark(*s.conn); return kOk;
    case TIOCOUTQ:  // SIOCOUTQ
      if (s.state == SocketState::kListening) return Error{EINVAL};
      *value = s.conn != nullptr ? clamp(TcpUnacked(*s.conn)) : 0;
      return kOk;
    case SIOCOUTQNSD:
      if (s.state == SocketState::kListening) return Error{EINVAL};
      *value = s.conn != nullptr ? clamp(TcpUnsent(*s.conn)) : 0;
      return kOk;
    default: return Error{ENOTTY};
  }
}

}  // namespace ustcp
