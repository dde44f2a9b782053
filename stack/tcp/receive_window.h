// Buffer limits and the receive window: what is advertised (RFC 9293 3.8.6.2.2: never a silly window, never a shrunk one),
// how it grows with the peer's data, and how both buffers tune themselves. The rules are Linux's (tcp_input.c,
// tcp_output.c), since their effect shows on the wire.
#pragma once

#include <cstdint>

#include "stack/tcp/tcb.h"

namespace ustcp {

struct Context;
struct Segment;
struct SocketOptions;
struct Sysctls;

struct InitialWindow {
  uint32_t rcv_wnd;
  uint32_t window_clamp;
  uint8_t rcv_wscale;
};
// The window and scale to offer in a SYN. `space`: bytes of buffer that may be advertised; `clamp`: 0 for none.
InitialWindow SelectInitialWindow(const Sysctls& sysctls, uint32_t space, uint32_t mss, uint32_t clamp,
                                  bool scaling) noexcept;

// Bytes of window that `space` bytes of buffer are good for.
inline uint32_t WindowFromSpace(uint8_t ratio, uint32_t space) {
  return static_cast<uint32_t>((uint64_t{space} * ratio) >> 8);
}
inline constexpr uint8_t kInitialScalingRatio = 128;

// The receive buffer limit a socket with these options starts with, in bytes as SO_RCVBUF shows it.
uint32_t InitialReceiveBuffer(const Sysctls& sysctls, const SocketOptions& options) noexcept;

// Limits of a new connection from its socket's options and the sysctls.
void InitBuffers(const Sysctls& sysctls, const SocketOptions& options, Connection& conn) noexcept;
// On reaching ESTABLISHED.
void InitBufferSpace(Context& ctx, Connection& conn) noexcept;

// What is left of the window last advertised.
inline uint32_t ReceiveWindow(const Connection& conn) {
  int32_t left = static_cast<int32_t>(conn.rcv_wup.raw() + conn.rcv_wnd - conn.rcv_nxt.raw());
  return left > 0 ? static_cast<uint32_t>(left) : 0;
}
// The window that could be advertised now, in bytes, without regard to what was promised before.
uint32_t ComputeWindow(const Connection& conn) noexcept;
// The value for the header's window field; notes what is promised.
uint16_t AdvertiseWindow(Context& ctx, Connection& conn) noexcept;

// A data segment in order arrived: estimates of the peer's segment size and of the round trip, and a larger window.
void MeasureSegmentSize(Connection& conn, const Segment& seg) noexcept;
void MeasureReceiverRtt(Context& ctx, Connection& conn) noexcept;
void MeasureReceiverRttByTimestamp(Context& ctx, Connection& conn, const Segment& seg) noexcept;
void GrowWindow(Connection& conn, const Segment& seg) noexcept;
// The program took data.
void AdjustReceiveSpace(Context& ctx, Connection& conn) noexcept;

// Raises the send buffer to twice what `cwnd` segments need.
void ExpandSendBuffer(const Sysctls& sysctls, Connection& conn, uint32_t cwnd) noexcept;

}  // namespace ustcp
