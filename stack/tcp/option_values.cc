// What getsockopt shows of a running connection.
#include <climits>

#include "stack/host/host.h"
#include "stack/tcp/tcp.h"

namespace ustcp {
namespace {

constexpr int kDefaultMss = 536;  // TCP_MSS_DEFAULT

int Clamp(uint32_t v) { return v > INT_MAX ? INT_MAX : static_cast<int>(v); }

}  // namespace

int TcpReceiveBuffer(const Context& ctx, const Connection* conn) noexcept {
  return conn != nullptr ? Clamp(conn->rcvbuf) : ctx.sysctls().tcp_rmem[1];
}

int TcpSendBuffer(const Context& ctx, const Connection* conn) noexcept {
  return conn != nullptr ? Clamp(conn->sndbuf) : ctx.sysctls().tcp_wmem[1];
}

bool TcpQuickAck(const Connection* conn, const SocketOptions& options) noexcept {
  if (options.quickack_locked) return false;
  return conn == nullptr || conn->pingpong == 0;
}

int TcpMaxSegment(const Connection* conn, const SocketOptions& options) noexcept {
  if (conn != nullptr && conn->state != TcpState::kClosed) return conn->snd.mss;
  return options.maxseg != 0 ? options.maxseg : kDefaultMss;
}

}  // namespace ustcp
