#include "stack/tcp/receive_window.h"

#include <algorithm>
#include <bit>

#include "stack/host/host.h"
#include "stack/tcp/mss.h"
#include "stack/tcp/segment.h"
#include "stack/tcp/socket_options.h"
#include "stack/tcp/tcb.h"

namespace ustcp {
namespace {

constexpr uint32_t kMaxUnscaledWindow = 65535;
// Share of buffer memory that full-sized segments put to use, known once some have arrived.
constexpr uint8_t kFullSegmentRatio = 192;

uint32_t FullSpace(const Connection& conn) { return WindowFromSpace(conn.scaling_ratio, conn.rcvbuf); }

uint32_t FreeSpace(const Connection& conn) {
  return conn.rcv_memory < conn.rcvbuf ? WindowFromSpace(conn.scaling_ratio, conn.rcvbuf - conn.rcv_memory) : 0;
}

uint32_t AlignUp(uint32_t value, uint8_t shift) {
  uint32_t mask = (1u << shift) - 1;
  return (value + mask) & ~mask;
}

}  // namespace

InitialWindow SelectInitialWindow(const Sysctls& sysctls, uint32_t space, uint32_t mss, uint32_t clamp,
                                  bool scaling) noexcept {
  InitialWindow w;
  if (clamp == 0) clamp = kMaxUnscaledWindow << kMaxWindowScale;
  space = std::min(space, clamp);
  if (space > mss) space -= space % mss;
  w.rcv_wnd = std::min(space, sysctls.tcp_workaround_signed_windows != 0 ? 32767u : kMaxUnscaledWindow);
  w.rcv_wscale = 0;
  if (scaling) {
    uint32_t largest =
        std::max({space, static_cast<uint32_t>(sysctls.tcp_rmem[2]), static_cast<uint32_t>(sysctls.rmem_max)});
    largest = std::min(largest, clamp);
    int shift = static_cast<int>(std::bit_width(largest)) - 1 - 15;
    w.rcv_wscale = static_cast<uint8_t>(std::clamp(shift, 0, int{kMaxWindowScale}));
  }
  w.window_clamp = std::min(kMaxUnscaledWindow << w.rcv_wscale, clamp);
  return w;
}

uint32_t InitialReceiveBuffer(const Sysctls& sysctls, const SocketOptions& options) noexcept {
  return static_cast<uint32_t>(options.rcvbuf != 0 ? options.rcvbuf : sysctls.tcp_rmem[1]);
}

void InitBuffers(const Sysctls& sysctls, const SocketOptions& options, Connection& conn) noexcept {
  conn.rcvbuf_locked = options.rcvbuf != 0;
  conn.sndbuf_locked = options.sndbuf != 0;
  conn.rcvbuf = InitialReceiveBuffer(sysctls, options);
  conn.sndbuf = static_cast<uint32_t>(options.sndbuf != 0 ? options.sndbuf : sysctls.tcp_wmem[1]);
  conn.scaling_ratio = kInitialScalingRatio;
}

void InitBufferSpace(Context& ctx, Connection& conn) noexcept {
  ExpandSendBuffer(ctx.sysctls(), conn, kInitialCwnd);
  conn.tuning_space = std::min<uint32_t>(conn.rcv_wnd, kInitialCwnd * conn.advmss);
  conn.tuning_seq = conn.copied_seq;
  conn.tuning_time = ctx.now;
  uint32_t full = FullSpace(conn);
  uint32_t advmss = conn.advmss;
  if (conn.window_clamp >= full) conn.window_clamp = full;
  // One segment stays in reserve.
  if (conn.window_clamp > 2 * advmss && conn.window_clamp + advmss > full)
    conn.window_clamp = std::max(2 * advmss, full - std::min(full, advmss));
  conn.rcv_ssthresh = std::min(conn.rcv_ssthresh, conn.window_clamp);
}

uint32_t ComputeWindow(const Connection& conn) noexcept {
  uint32_t mss = conn.rcv_mss;
  uint32_t free = FreeSpace(conn);
  uint32_t allowed = conn.window_clamp;
  uint32_t full = std::min(FullSpace(conn), allowed);
  if (mss > full) mss = full;
  if (mss == 0) return 0;
  if (free < full / 2) {
    free &= ~((1u << conn.rcv_wscale) - 1);
    if (free < allowed / 16 || free < mss) return 0;
  }
  free = std::min(free, conn.rcv_ssthresh);
  if (conn.rcv_wscale != 0) return AlignUp(free, conn.rcv_wscale);
  uint32_t window = conn.rcv_wnd;
  if (window + mss <= free || window > free) return free - free % mss;
  if (mss == full && free > window + full / 2) return free;
  return window;
}

uint16_t AdvertiseWindow(Context& ctx, Connection& conn) noexcept {
  uint32_t old = conn.rcv_wnd;
  uint32_t current = ReceiveWindow(conn);
  uint32_t fresh = ComputeWindow(conn);
  if (fresh < current) {
    // The right edge stays where the peer was told it is (RFC 9293 3.8.6).
    if (fresh == 0) ctx.counters().Add(Counter::kTcpExtTCPWantZeroWindowAdv);
    fresh = AlignUp(current, conn.rcv_wscale);
  }
  conn.rcv_wnd = fresh;
  conn.rcv_wup = conn.rcv_nxt;
  uint32_t limit = conn.rcv_wscale == 0 && ctx.sysctls().tcp_workaround_signed_windows != 0
                       ? 32767u
                       : kMaxUnscaledWindow << conn.rcv_wscale;
  auto field = static_cast<uint16_t>(std::min(fresh, limit) >> conn.rcv_wscale);
  if (field == 0) {
    if (old != 0) ctx.counters().Add(Counter::kTcpExtTCPToZeroWindowAdv);
  } else if (old == 0) {
    ctx.counters().Add(Counter::kTcpExtTCPFromZeroWindowAdv);
  }
  return field;
}

void MeasureSegmentSize(Connection& conn, const Segment& seg) noexcept {
  uint32_t last = conn.last_segment_bytes;
  conn.last_segment_bytes = 0;
  uint32_t length = seg.segment_bytes != 0 ? seg.segment_bytes : seg.length();
  if (length >= conn.rcv_mss) {
    if (length != conn.rcv_mss && conn.scaling_ratio != kFullSegmentRatio) {
      conn.scaling_ratio = kFullSegmentRatio;
      conn.window_clamp = std::min(FullSpace(conn), kMaxUnscaledWindow << conn.rcv_wscale);
      conn.tuning_space = std::min(conn.tuning_space, conn.window_clamp);
    }
    conn.rcv_mss = static_cast<uint16_t>(std::min<uint32_t>(length, conn.advmss));
    // A segment larger than one with few options would be: the last of several bursts (Linux: TCP_MIN_MSS + options).
    if (length > conn.rcv_mss + kMaxTcpOptionBytes) conn.ack_pushed = true;
    return;
  }
  // A short segment. Two equal ones in a row make a new estimate when they are long enough or not marked as an end.
  uint32_t with_header = length + seg.header_bytes;
  bool plain = !seg.flags.HasAny(kTcpFin | kTcpUrg | kTcpSyn | kTcpPsh);
  if (with_header >= kDefaultMss + kTcpHeaderBytes || (with_header >= kMinMss + kTcpHeaderBytes && plain)) {
    uint32_t usual = kTcpHeaderBytes + (conn.snd.timestamps_ok ? kTimestampOptionBytes : 0);
    uint32_t size = with_header - static_cast<uint32_t>(std::min<size_t>(usual, with_header));
    conn.last_segment_bytes = static_cast<uint16_t>(size);
    if (size == last) {
      conn.rcv_mss = static_cast<uint16_t>(size);
      return;
    }
  }
  if (conn.ack_pushed) conn.ack_pushed2 = true;
  conn.ack_pushed = true;
}

namespace {

// Smoothed like SRTT when from timestamps; a sample by window only may lower the estimate (Dynamic Right-Sizing).
void UpdateReceiverRtt(Connection& conn, uint32_t sample_us, bool by_window) {
  uint32_t old = conn.rcv_rtt_us;
  if (old == 0) {
    conn.rcv_rtt_us = sample_us << 3;
  } else if (!by_window) {
    conn.rcv_rtt_us = old + sample_us - (old >> 3);
  } else {
    conn.rcv_rtt_us = std::min(old, sample_us << 3);
  }
}

uint32_t MicrosSince(Instant now, Instant then) {
  return static_cast<uint32_t>(std::clamp<int64_t>(ToMicros(now - then), 1, 100'000'000));
}

}  // namespace

void MeasureReceiverRtt(Context& ctx, Connection& conn) noexcept {
  if (conn.rcv_rtt_time != Instant{}) {
    if (conn.rcv_nxt.Before(conn.rcv_rtt_seq)) return;
    UpdateReceiverRtt(conn, MicrosSince(ctx.now, conn.rcv_rtt_time), true);
  }
  conn.rcv_rtt_seq = conn.rcv_nxt + conn.rcv_wnd;
  conn.rcv_rtt_time = ctx.now;
}

void MeasureReceiverRttByTimestamp(Context& ctx, Connection& conn, const Segment& seg) noexcept {
  if (!seg.options.timestamps || seg.length() < conn.rcv_mss || seg.options.timestamps->echo == 0) return;
  uint32_t clock = static_cast<uint32_t>(static_cast<uint64_t>(ToMillis(ctx.now.time_since_epoch()))) + conn.ts_offset;
  uint32_t delta_ms = clock - seg.options.timestamps->echo;
  if (delta_ms > 60'000) return;
  UpdateReceiverRtt(conn, std::max(delta_ms * 1000, 1000u), false);
}

void GrowWindow(Connection& conn, const Segment& seg) noexcept {
  if (seg.length() < 128) return;
  uint32_t bound = std::min(conn.window_clamp, FreeSpace(conn));
  if (bound <= conn.rcv_ssthresh) return;
  uint32_t step = std::max<uint32_t>(2u * conn.advmss, 2 * seg.length());
  conn.rcv_ssthresh += std::min(bound - conn.rcv_ssthresh, step);
  conn.quick |= 1;
}

void AdjustReceiveSpace(Context& ctx, Connection& conn) noexcept {
  if (conn.rcv_rtt_us == 0) return;
  if (MicrosSince(ctx.now, conn.tuning_time) < (conn.rcv_rtt_us >> 3)) return;
  uint32_t copied = conn.copied_seq.raw() - conn.tuning_seq.raw();
  if (copied > conn.tuning_space) {
    if (ctx.sysctls().tcp_moderate_rcvbuf != 0 && !conn.rcvbuf_locked) {
      // Twice what one round trip brought, some segments on top, and more while the rate is still growing.
      uint64_t window = 2 * uint64_t{copied} + 16u * conn.advmss;
      uint64_t grow = window * (copied - conn.tuning_space) / std::max(conn.tuning_space, 1u);
      window += 2 * grow;
      uint64_t space =
          std::min<uint64_t>((window << 8) / conn.scaling_ratio, static_cast<uint64_t>(ctx.sysctls().tcp_rmem[2]));
      if (space > conn.rcvbuf) {
        conn.rcvbuf = static_cast<uint32_t>(space);
        conn.window_clamp = std::min(FullSpace(conn), kMaxUnscaledWindow << conn.rcv_wscale);
      }
    }
    conn.tuning_space = copied;
  }
  conn.tuning_seq = conn.copied_seq;
  conn.tuning_time = ctx.now;
}

void ExpandSendBuffer(const Sysctls& sysctls, Connection& conn, uint32_t cwnd) noexcept {
  if (conn.sndbuf_locked) return;
  // Linux's cost of one segment: headers and bookkeeping rounded up to a power of two, plus its descriptor.
  constexpr uint32_t kHeadroom = 320 + 320, kDescriptor = 256;
  uint32_t per_mss = std::bit_ceil(std::max<uint32_t>(conn.peer_mss, conn.snd.mss) + kHeadroom) + kDescriptor;
  uint64_t wanted = 2 * uint64_t{per_mss} * std::max(cwnd, kInitialCwnd);
  wanted = std::min<uint64_t>(wanted, static_cast<uint64_t>(sysctls.tcp_wmem[2]));
  conn.sndbuf = std::max(conn.sndbuf, static_cast<uint32_t>(wanted));
}

}  // namespace ustcp
