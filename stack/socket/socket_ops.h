// The socket calls, as values in and out: what preload/ and the packet scripts call. None of them blocks: kWouldBlock-like
// results are EAGAIN or EINPROGRESS, and waiting is the caller's job. Every errno is the one Linux returns.
//
// "Locked" means: ctx holds the lock of the socket's shard.
#pragma once

#include <netinet/in.h>

#include <cstddef>
#include <cstdint>

#include "stack/base/address.h"
#include "stack/base/result.h"
#include "stack/base/user_vector.h"
#include "stack/time/time.h"

namespace ustcp {

struct Context;
struct Host;
struct SendSource;
struct Socket;
struct EpollSet;

// A new TCP socket with one reference, in ctx.shard. Errors: ENOBUFS, EAFNOSUPPORT.
Result<Socket*> OpenSocket(Context& ctx, uint16_t family, uint32_t status_flags, uint32_t uid, int32_t pid) noexcept;

// Converts a user sockaddr. Errors: EINVAL (length), EAFNOSUPPORT (family), as bind() and connect() return them.
Result<Endpoint> ParseSockaddr(const Socket& s, const sockaddr* address, socklen_t length, bool for_connect) noexcept;
// Writes an endpoint in the socket's family, truncating as the kernel does; *length becomes the full size.
void WriteSockaddr(uint16_t family, const Endpoint& endpoint, sockaddr* address, socklen_t* length) noexcept;

Error BindSocket(Context& ctx, Socket& s, const Endpoint& local) noexcept;  // locked
Error ListenSocket(Context& ctx, Socket& s, int backlog) noexcept;          // locked
// First call starts the handshake and returns EINPROGRESS; later ones EALREADY, 0 once (or EISCONN), or the failure.
Error ConnectSocket(Context& ctx, Socket& s, const Endpoint& peer) noexcept;  // locked
Error DisconnectSocket(Context& ctx, Socket& s) noexcept;                     // locked; AF_UNSPEC
// Takes the next connection, those of `prefer_shard` first. The socket comes with one reference. No shard lock is needed
// (the caller may hold none). Errors: EAGAIN, EINVAL (not listening).
Result<Socket*> AcceptSocket(Host& host, Socket& listening, uint16_t prefer_shard) noexcept;

// MSG_ flags as the kernel takes them for TCP. EAGAIN when nothing could be done (MSG_DONTWAIT or not: the caller blocks).
// What was done has moved the vector on. EFAULT only when nothing was; after a fault, who did something goes on no more.
Result<size_t> SendSocket(Context& ctx, Socket& s, UserVector& from, int flags) noexcept;
// The same for at most `limit` bytes (not 0) of a source (stack/tcp/tcp.h). 0: the source has none now.
Result<size_t> SendSocketFrom(Context& ctx, Socket& s, SendSource& source, size_t limit, int flags) noexcept;
Result<size_t> ReceiveSocket(Context& ctx, Socket& s, UserVector& to, int flags) noexcept;
// For one attempt.
inline Result<size_t> SendSocket(Context& ctx, Socket& s, UserVector&& from, int flags) noexcept {
  return SendSocket(ctx, s, from, flags);
}
inline Result<size_t> ReceiveSocket(Context& ctx, Socket& s, UserVector&& to, int flags) noexcept {
  return ReceiveSocket(ctx, s, to, flags);
}
Error ShutdownSocket(Context& ctx, Socket& s, int how) noexcept;  // locked

void SetPendingError(Socket& s, int error) noexcept;                // locked; what the next call is told
Error GetName(const Socket& s, bool peer, Endpoint& out) noexcept;  // ENOTCONN
// `value` lies in the program's memory (EFAULT), `length` does not.
Error SetOption(Context& ctx, Socket& s, int level, int name, const void* value, socklen_t length) noexcept;  // locked
Error GetOption(Context& ctx, Socket& s, int level, int name, void* value, socklen_t* length) noexcept;       // locked
// FIONREAD, SIOCOUTQ, SIOCOUTQNSD, SIOCATMARK. Errors: EINVAL, ENOTTY.
Error IoctlSocket(Context& ctx, Socket& s, unsigned long request, int* value) noexcept;  // locked

// References: one per descriptor and one per call in progress. Release of the last one closes the socket as close() does.
void RetainSocket(Socket& s) noexcept;
// Locked. Returns true when the socket is gone.
bool ReleaseSocket(Context& ctx, Socket& s) noexcept;
// For fork and crash clean-up: true when this was the last reference and the caller must now lock and call FinishClose.
bool DropReference(Socket& s) noexcept;
void FinishClose(Context& ctx, Socket& s) noexcept;  // locked

Result<EpollSet*> OpenEpollSet(Context& ctx, uint16_t process) noexcept;
// Drops one reference; the last one frees the set. The caller holds no lock: members' shards are locked in turn.
void ReleaseEpollSet(Host& host, EpollSet& set, Instant now) noexcept;

}  // namespace ustcp
