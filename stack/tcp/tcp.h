// TCP's seams: what the socket layer calls (RFC 9293 3.9 user calls), what the driver
// polls (output, timers), and what TCP calls back. What the network layer calls is in stack/net/transport.h. All functions run with the lock of ctx.shard held, and the connection
// belongs to that shard.
#pragma once

#include <linux/tcp.h>  // not netinet/tcp.h: its tcp_info is older

#include <cstddef>
#include <cstdint>

#include "stack/base/frame.h"
#include "stack/base/result.h"
#include "stack/time/time.h"

namespace ustcp {

struct Connection;
struct Context;
struct Host;
struct Listener;
struct Shard;
struct SlotHeader;
struct SocketOptions;
struct TcpUser;
class TcpView;
class UserVector;

// --- from the socket layer ---

// Where bytes come from that are not in memory yet. It writes them where they stay, so they are copied once. Exists for the
// length of one call, and is asked under the shard's lock: it must not wait.
struct SendSource {
  // Puts at most `n` bytes at `to` and returns how many; fewer than `n`: that is all for now.
  size_t (*read)(void* self, std::byte* to, size_t n) = nullptr;
  void* self = nullptr;
  bool ended = false;  // out: it gave fewer than it was asked for
};

// Active open. socket.local and socket.peer are set; registers the tuple. Errors: EADDRNOTAVAIL (tuple taken),
// ENETUNREACH, ENOBUFS. On success socket.conn is in SYN_SENT and the SYN is due.
Error TcpConnect(Context& ctx, TcpUser& socket) noexcept;
// Copies into the send queue; returns the number of bytes taken (0: no room, or a fault). `more`: MSG_MORE. `urgent`:
// MSG_OOB.
size_t TcpSend(Context& ctx, Connection& conn, UserVector& from, bool more, bool urgent) noexcept;
// The same for up to `limit` bytes of a source.
size_t TcpSendFrom(Context& ctx, Connection& conn, SendSource& source, size_t limit, bool more) noexcept;
// Copies received bytes out, up to the urgent mark as Linux does. `peek` leaves them queued. `discard` (MSG_TRUNC) drops
// without copying. Returns the number of bytes; those that could not be copied stay.
size_t TcpReceive(Context& ctx, Connection& conn, UserVector& to, bool peek, bool discard) noexcept;
// MSG_OOB. Errors as Linux: EINVAL (no urgent data or OOBINLINE or already read), EAGAIN (not arrived yet), EFAULT.
Result<size_t> TcpReceiveUrgent(Context& ctx, Connection& conn, UserVector& to, bool peek, bool discard) noexcept;
bool TcpAtMark(const Connection& conn) noexcept;
bool TcpPeerFinished(const Connection& conn) noexcept;  // FIN received and everything before it read: reads return 0
size_t TcpReadable(const Connection& conn) noexcept;    // FIONREAD
size_t TcpUnacked(const Connection& conn) noexcept;     // SIOCOUTQ
size_t TcpUnsent(const Connection& conn) noexcept;      // SIOCOUTQNSD
size_t TcpSendRoom(const Connection& conn) noexcept;    // bytes a send would take now
// The level of readiness (EPOLL bits) that the connection itself shows, as Linux's tcp_poll computes it.
uint32_t TcpPoll(const Connection& conn, const TcpUser& socket) noexcept;
// shutdown(SHUT_WR): FIN after the queued data. Idempotent.
void TcpShutdownWrite(Context& ctx, Connection& conn) noexcept;
void TcpShutdownRead(Context& ctx, Connection& conn) noexcept;
// close(): the socket lets go of the connection. Unread data: RST; linger 0: RST; otherwise FIN and an orphan that ends by
// itself. After this conn.socket is null and `conn` may already be gone.
void TcpClose(Context& ctx, Connection& conn) noexcept;
// Sends RST where the state calls for one and frees the connection (accept-queue clean-up, clean-up after a crash).
void TcpAbort(Context& ctx, Connection& conn, int socket_error) noexcept;
// connect(AF_UNSPEC): back to a fresh socket.
void TcpDisconnect(Context& ctx, Connection& conn) noexcept;
// True while a lingering close() has to wait: unsent or unacknowledged data or FIN.
bool TcpLingering(const Connection& conn) noexcept;
// An option of the socket changed that matters to a running connection.
enum class TcpOptionChange : uint8_t {
  kNodelay,
  kCork,
  kQuickAck,
  kKeepalive,
  kUserTimeout,
  kCongestion,
  kBuffers,
  kWindowClamp,
  kMaxSeg,
  kLinger2
};
void TcpOptionChanged(Context& ctx, Connection& conn, TcpOptionChange what, int value) noexcept;
// SO_RCVBUF and SO_SNDBUF as they are right now (automatic tuning); the initial values without a connection.
int TcpReceiveBuffer(const Context& ctx, const Connection* conn) noexcept;
int TcpSendBuffer(const Context& ctx, const Connection* conn) noexcept;
// TCP_QUICKACK and TCP_MAXSEG as getsockopt shows them; `conn` may be null.
bool TcpQuickAck(const Connection* conn, const SocketOptions& options) noexcept;
int TcpMaxSegment(const Connection* conn, const SocketOptions& options) noexcept;
void TcpFillInfo(const Connection& conn, Instant now, tcp_info& info) noexcept;
// All half-open connections of a listener that is being closed vanish lazily: their timers and ACKs find it gone.

// --- from the driver ---

// Produces the connection's next segment in `frame`. kNothing: no more now; the connection leaves the transmit list.
enum class PollResult : uint8_t { kFrame, kConsumed, kNothing };
PollResult TcpPollSegment(Context& ctx, Connection& conn, TxFrame& frame) noexcept;
// A deadline passed: `owner` is a Connection, HalfOpen or TimeWait of this shard.
void TcpOnTimer(Context& ctx, SlotHeader& owner) noexcept;
// --- TCP calls back (socket/events.cc) ---

// A handshake completed: makes the child socket and puts it in the listener's accept queue. False when the queue
// or memory is full (the caller then behaves as tcp_abort_on_overflow says). conn.socket is set on success.
bool SocketForAccepted(Context& ctx, Listener& listener, Connection& conn) noexcept;
// The connection's level may have changed, and `events` (EPOLL bits) just happened: stores the level, tells watchers.
void SocketEvents(Context& ctx, Connection& conn, uint32_t events) noexcept;
// The connection failed or was reset: stores SO_ERROR, tells watchers.
void SocketError(Context& ctx, Connection& conn, int error) noexcept;
// The connection is about to be freed while a socket still refers to it.
void SocketDetach(Context& ctx, Connection& conn) noexcept;

}  // namespace ustcp
