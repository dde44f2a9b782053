// setsockopt and getsockopt for the levels SOL_SOCKET, IP, IPv6 and TCP: values, bounds and errors are Linux's.
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/time.h>

#include <algorithm>
#include <climits>
#include <cstring>

#include "stack/base/user_copy.h"
#include "stack/host/host.h"
#include "stack/socket/socket.h"
#include "stack/socket/socket_internal.h"
#include "stack/socket/socket_ops.h"
#include "stack/tcp/listener.h"
#include "stack/tcp/tcb.h"
#include "stack/tcp/tcp.h"

namespace ustcp {
namespace {

constexpr int kMinRcvbuf = 2304;  // SOCK_MIN_RCVBUF
constexpr int kMinSndbuf = 4608;  // SOCK_MIN_SNDBUF
constexpr int kMinUserMss = 88;   // TCP_MIN_MSS
constexpr int kMaxFinTimeout = 120;
constexpr size_t kCongestionNameBytes = 16;  // TCP_CA_NAME_MAX
constexpr size_t kInterfaceNameBytes = 16;   // IFNAMSIZ

// What most options are. Requires: `length` suffices.
bool GetInt(int& to, const void* value) { return GetUser(to, static_cast<const int*>(value)); }

// SO_RCVTIMEO and friends. Negative seconds mean "do not wait at all" in Linux: the shortest wait we have.
Error ParseTimeout(const void* value, socklen_t length, int64_t& micros) {
  timeval tv;
  if (length < sizeof tv) return Error{EINVAL};
  if (!GetUser(tv, static_cast<const timeval*>(value))) return Error{EFAULT};
  if (tv.tv_usec < 0 || tv.tv_usec >= 1'000'000) return Error{EDOM};
  if (tv.tv_sec < 0) {
    micros = 1;
    return kOk;
  }
  if (tv.tv_sec > 9'000'000'000)
    micros = 0;
  else
    micros = tv.tv_sec * 1'000'000 + tv.tv_usec;
  return kOk;
}

// TCP_DEFER_ACCEPT counts SYN-ACK retransmissions; the program sees the seconds that they span.
int32_t RoundDeferAccept(int seconds) {
  if (seconds <= 0) return 0;
  int64_t period = 1, timeout = 1;
  for (int count = 1; seconds > period && count < 255; ++count) {
    timeout = std::min<int64_t>(timeout * 2, 120);
    period += timeout;
  }
  return static_cast<int32_t>(period);
}

void Changed(Context& ctx, Socket& s, TcpOptionChange what, int value) {
  if (s.conn != nullptr) TcpOptionChanged(ctx, *s.conn, what, value);
}

Error SetSocketLevel(Context& ctx, Socket& s, int name, const void* value, socklen_t length) {
  SocketOptions& o = s.options;
  if (name == SO_BINDTODEVICE) {
    char device[kInterfaceNameBytes] = {};
    if (CopyFromUser(device, value, std::min<size_t>(length, sizeof device - 1)) != 0) return Error{EFAULT};
    return device[0] == '\0' || std::strcmp(device, ctx.host.config.interface) == 0 ? kOk : Error{ENODEV};
  }
  int v;
  if (length < sizeof v) return Error{EINVAL};
  if (!GetInt(v, value)) return Error{EFAULT};
  if (name == SO_RCVTIMEO || name == SO_RCVTIMEO_NEW) return ParseTimeout(value, length, o.rcvtimeo_us);
  if (name == SO_SNDTIMEO || name == SO_SNDTIMEO_NEW) return ParseTimeout(value, length, o.sndtimeo_us);
  bool on = v != 0;
  switch (name) {
    case SO_REUSEADDR:
      o.reuse_addr = on;
      s.bind.reuse = on;
      return kOk;
    case SO_REUSEPORT:
      o.reuse_port = on;
      s.bind.reuseport = on;
      return kOk;
    case SO_KEEPALIVE:
      o.keepalive = on;
      Changed(ctx, s, TcpOptionChange::kKeepalive, v);
      return kOk;
    case SO_OOBINLINE: o.oob_inline = on; return kOk;
    case SO_LINGER: {
      linger l;
      if (length < sizeof l) return Error{EINVAL};
      if (!GetUser(l, static_cast<const linger*>(value))) return Error{EFAULT};
      o.linger_on = l.l_onoff != 0;
      if (o.linger_on) o.linger_seconds = l.l_linger;
      return kOk;
    }
    case SO_RCVBUF:
    case SO_RCVBUFFORCE: {
      if (name == SO_RCVBUFFORCE && s.uid != 0) return Error{EPERM};
      int64_t bytes = name == SO_RCVBUF
                          ? std::min<uint32_t>(static_cast<uint32_t>(v), static_cast<uint32_t>(ctx.sysctls().rmem_max))
                          : std::max(v, 0);
      o.rcvbuf = static_cast<int32_t>(std::clamp<int64_t>(bytes * 2, kMinRcvbuf, INT_MAX));
      Changed(ctx, s, TcpOptionChange::kBuffers, o.rcvbuf);
      return kOk;
    }
    case SO_SNDBUF:
    case SO_SNDBUFFORCE: {
      if (name == SO_SNDBUFFORCE && s.uid != 0) return Error{EPERM};
      int64_t bytes = name == SO_SNDBUF
                          ? std::min<uint32_t>(static_cast<uint32_t>(v), static_cast<uint32_t>(ctx.sysctls().wmem_max))
                          : std::max(v, 0);
      o.sndbuf = static_cast<int32_t>(std::clamp<int64_t>(bytes * 2, kMinSndbuf, INT_MAX));
      Changed(ctx, s, TcpOptionChange::kBuffers, o.sndbuf);
      StoreLevel(s, s.conn);
      return kOk;
    }
    case SO_RCVLOWAT:
      o.rcvlowat = v < 0 ? INT_MAX : std::max(v, 1);
      if (s.conn != nullptr) StoreLevel(s, s.conn);
      return kOk;
    case SO_PRIORITY:
      if (v < 0 || v > 6) {
        if (s.uid != 0) return Error{EPERM};
      }
      o.priority = v;
      return kOk;
    case SO_MARK:
      if (s.uid != 0) return Error{EPERM};
      o.mark = static_cast<uint32_t>(v);
      return kOk;
    case SO_BUSY_POLL:
      if (v < 0) return Error{EINVAL};
      o.busy_poll_us = v;
      return kOk;
    case SO_DONTROUTE:
    case SO_BROADCAST:
    case SO_TIMESTAMP:
    case SO_TIMESTAMPNS:
    case SO_INCOMING_CPU: return kOk;  // no effect on a TCP stream over one link
    case SO_TYPE:
    case SO_DOMAIN:
    case SO_PROTOCOL:
    case SO_ERROR: return Error{ENOPROTOOPT};
    default: return Error{ENOPROTOOPT};
  }
}

Error SetIpLevel(Socket& s, int name, const void* value, socklen_t length) {
  int v = 0;
  if (length < 1) return Error{EINVAL};
  // One byte does.
  if (CopyFromUser(&v, value, length >= sizeof v ? sizeof v : 1) != 0) return Error{EFAULT};
  SocketOptions& o = s.options;
  switch (name) {
    case IP_TOS:
      // The two ECN bits belong to TCP.
      o.tos = static_cast<uint8_t>((v & ~3) | (o.tos & 3));
      return kOk;
    case IP_TTL:
      if (v != -1 && (v < 1 || v > 255)) return Error{EINVAL};
      o.ttl = static_cast<int16_t>(v);
      return kOk;
    case IP_MTU_DISCOVER:
      if (v < IP_PMTUDISC_DONT || v > IP_PMTUDISC_OMIT) return Error{EINVAL};
      o.pmtu_discover = static_cast<uint8_t>(v);
      return kOk;
    case IP_FREEBIND: o.freebind = v != 0; return kOk;
    case IP_RECVERR:
    case IP_RECVTOS:
    case IP_RECVTTL:
    case IP_PKTINFO:
    case IP_BIND_ADDRESS_NO_PORT: return kOk;  // ancillary data that a TCP stream does not carry
    default: return Error{ENOPROTOOPT};
  }
}

Error SetIpv6Level(Socket& s, int name, const void* value, socklen_t length) {
  int v;
  if (length < sizeof v) return Error{EINVAL};
  if (!GetInt(v, value)) return Error{EFAULT};
  SocketOptions& o = s.options;
  switch (name) {
    case IPV6_V6ONLY:
      if (s.bind.linked || s.state != SocketState::kFresh) return Error{EINVAL};
      o.v6only = v != 0;
      return kOk;
    case IPV6_UNICAST_HOPS:
      if (v < -1 || v > 255) return Error{EINVAL};
      o.hop_limit = static_cast<int16_t>(v);
      return kOk;
    case IPV6_TCLASS:
      if (v < -1 || v > 255) return Error{EINVAL};
      o.tclass = static_cast<uint8_t>(v == -1 ? 0 : (v & ~3));
      return kOk;
    case IPV6_MTU_DISCOVER:
      if (v < IPV6_PMTUDISC_DONT || v > IPV6_PMTUDISC_OMIT) return Error{EINVAL};
      o.pmtu_discover = static_cast<uint8_t>(v);
      return kOk;
    case IPV6_RECVERR:
    case IPV6_RECVTCLASS:
    case IPV6_RECVPKTINFO:
    case IPV6_RECVHOPLIMIT: return kOk;
    default: return Error{ENOPROTOOPT};
  }
}

Error SetCongestion(Context& ctx, Socket& s, const void* value, socklen_t length) {
  if (length < 1) return Error{EINVAL};
  char name[kCongestionNameBytes] = {};
  if (CopyFromUser(name, value, std::min<size_t>(length, sizeof name - 1)) != 0) return Error{EFAULT};
  if (!CcFromName(name, s.options.congestion)) return Error{ENOENT};
  Changed(ctx, s, TcpOptionChange::kCongestion, static_cast<int>(s.options.congestion));
  return kOk;
}

Error SetTcpLevel(Context& ctx, Socket& s, int name, const void* value, socklen_t length) {
  if (name == TCP_CONGESTION) return SetCongestion(ctx, s, value, length);
  int v;
  if (length < sizeof v) return Error{EINVAL};
  if (!GetInt(v, value)) return Error{EFAULT};
  SocketOptions& o = s.options;
  switch (name) {
    case TCP_NODELAY:
      o.nodelay = v != 0;
      Changed(ctx, s, TcpOptionChange::kNodelay, v);
      return kOk;
    case TCP_CORK:
      o.cork = v != 0;
      Changed(ctx, s, TcpOptionChange::kCork, v);
      return kOk;
    case TCP_QUICKACK:
      o.quickack_locked = v == 0;
      Changed(ctx, s, TcpOptionChange::kQuickAck, v);
      return kOk;
    case TCP_MAXSEG:
      if (v != 0 && (v < kMinUserMss || v > 32767)) return Error{EINVAL};
      o.maxseg = static_cast<uint16_t>(v);
      Changed(ctx, s, TcpOptionChange::kMaxSeg, v);
      return kOk;
    case TCP_KEEPIDLE:
      if (v < 1 || v > 32767) return Error{EINVAL};
      o.keepidle_s = v;
      Changed(ctx, s, TcpOptionChange::kKeepalive, o.keepalive);
      return kOk;
    case TCP_KEEPINTVL:
      if (v < 1 || v > 32767) return Error{EINVAL};
      o.keepintvl_s = v;
      return kOk;
    case TCP_KEEPCNT:
      if (v < 1 || v > 127) return Error{EINVAL};
      o.keepcnt = static_cast<uint8_t>(v);
      return kOk;
    case TCP_SYNCNT:
      if (v < 1 || v > 127) return Error{EINVAL};
      o.syncnt = static_cast<uint8_t>(v);
      return kOk;
    case TCP_LINGER2:
      o.linger2_s = v < 0 ? -1 : std::min(v, kMaxFinTimeout);
      Changed(ctx, s, TcpOptionChange::kLinger2, v);
      return kOk;
    case TCP_DEFER_ACCEPT: o.defer_accept_s = RoundDeferAccept(v); return kOk;
    case TCP_USER_TIMEOUT:
      if (v < 0) return Error{EINVAL};
      o.user_timeout_ms = static_cast<uint32_t>(v);
      Changed(ctx, s, TcpOptionChange::kUserTimeout, v);
      return kOk;
    case TCP_WINDOW_CLAMP:
      if (v == 0 && s.state != SocketState::kFresh && s.state != SocketState::kBound) return Error{EINVAL};
      o.window_clamp = static_cast<uint32_t>(v == 0 ? 0 : std::max(v, kMinRcvbuf / 2));
      Changed(ctx, s, TcpOptionChange::kWindowClamp, v);
      return kOk;
    case TCP_NOTSENT_LOWAT:
      o.notsent_lowat = v;
      if (s.conn != nullptr) StoreLevel(s, s.conn);
      return kOk;
    case TCP_FASTOPEN:
      if (v < 0 ||
          (s.state != SocketState::kFresh && s.state != SocketState::kBound && s.state != SocketState::kListening))
        return Error{EINVAL};
      o.fastopen_queue = v;
      return kOk;
    default: return Error{ENOPROTOOPT};
  }
}

// `length`: what the program has room for, and then what was written.
Error PutBytes(const void* from, size_t bytes, void* value, socklen_t* length) {
  auto n = static_cast<socklen_t>(std::min<size_t>(*length, bytes));
  if (CopyToUser(value, from, n) != 0) return Error{EFAULT};
  *length = n;
  return kOk;
}

Error PutInt(int v, void* value, socklen_t* length) { return PutBytes(&v, sizeof v, value, length); }

// IP options may be read into a single byte.
Error PutIpInt(int v, void* value, socklen_t* length) {
  if (*length > 0 && *length < sizeof v && v >= 0 && v <= 255) {
    auto byte = static_cast<uint8_t>(v);
    return PutBytes(&byte, 1, value, length);
  }
  return PutInt(v, value, length);
}

Error PutTimeout(int64_t micros, void* value, socklen_t* length) {
  timeval tv{micros / 1'000'000, micros % 1'000'000};
  return PutBytes(&tv, sizeof tv, value, length);
}

Error GetSocketLevel(Context& ctx, Socket& s, int name, void* value, socklen_t* length) {
  const SocketOptions& o = s.options;
  switch (name) {
    case SO_TYPE: return PutInt(SOCK_STREAM, value, length);
    case SO_DOMAIN: return PutInt(s.family, value, length);
    case SO_PROTOCOL: return PutInt(IPPROTO_TCP, value, length);
    case SO_ACCEPTCONN: return PutInt(s.state == SocketState::kListening, value, length);
    case SO_ERROR: {
      int error = TakeError(s);
      if (s.state != SocketState::kListening) StoreLevel(s, s.conn);
      return PutInt(error, value, length);
    }
    case SO_REUSEADDR: return PutInt(o.reuse_addr, value, length);
    case SO_REUSEPORT: return PutInt(o.reuse_port, value, length);
    case SO_KEEPALIVE: return PutInt(o.keepalive, value, length);
    case SO_OOBINLINE: return PutInt(o.oob_inline, value, length);
    case SO_LINGER: {
      linger l{o.linger_on, o.linger_seconds};
      return PutBytes(&l, sizeof l, value, length);
    }
    case SO_RCVBUF: return PutInt(o.rcvbuf != 0 ? o.rcvbuf : TcpReceiveBuffer(ctx, s.conn), value, length);
    case SO_SNDBUF: return PutInt(o.sndbuf != 0 ? o.sndbuf : TcpSendBuffer(ctx, s.conn), value, length);
    case SO_RCVLOWAT: return PutInt(o.rcvlowat, value, length);
    case SO_SNDLOWAT: return PutInt(1, value, length);
    case SO_RCVTIMEO:
    case SO_RCVTIMEO_NEW: return PutTimeout(o.rcvtimeo_us, value, length);
    case SO_SNDTIMEO:
    case SO_SNDTIMEO_NEW: return PutTimeout(o.sndtimeo_us, value, length);
    case SO_PRIORITY: return PutInt(o.priority, value, length);
    case SO_MARK: return PutInt(static_cast<int>(o.mark), value, length);
    case SO_BUSY_POLL: return PutInt(o.busy_poll_us, value, length);
    case SO_DONTROUTE:
    case SO_BROADCAST:
    case SO_TIMESTAMP:
    case SO_TIMESTAMPNS:
    case SO_PEERCRED: return PutInt(0, value, length);
    case SO_INCOMING_CPU: return PutInt(-1, value, length);
    default: return Error{ENOPROTOOPT};
  }
}

Error GetIpLevel(Context& ctx, Socket& s, int name, void* value, socklen_t* length) {
  const SocketOptions& o = s.options;
  switch (name) {
    case IP_TOS: return PutIpInt(o.tos, value, length);
    case IP_TTL: return PutIpInt(o.ttl < 0 ? int32_t{ctx.sysctls().ip_default_ttl} : o.ttl, value, length);
    case IP_MTU_DISCOVER: return PutIpInt(o.pmtu_discover, value, length);
    case IP_FREEBIND: return PutIpInt(o.freebind, value, length);
    case IP_MTU:
      if (s.conn == nullptr) return Error{ENOTCONN};
      return PutIpInt(s.conn->path.mtu, value, length);
    case IP_RECVERR:
    case IP_RECVTOS:
    case IP_RECVTTL:
    case IP_PKTINFO: return PutIpInt(0, value, length);
    default: return Error{ENOPROTOOPT};
  }
}

Error GetIpv6Level(Context& ctx, Socket& s, int name, void* value, socklen_t* length) {
  const SocketOptions& o = s.options;
  switch (name) {
    case IPV6_V6ONLY: return PutInt(o.v6only, value, length);
    case IPV6_UNICAST_HOPS:
      return PutInt(o.hop_limit < 0 ? int32_t{ctx.sysctls().hop_limit} : o.hop_limit, value, length);
    case IPV6_TCLASS: return PutInt(o.tclass, value, length);
    case IPV6_MTU_DISCOVER: return PutInt(o.pmtu_discover, value, length);
    case IPV6_MTU:
      if (s.conn == nullptr) return Error{ENOTCONN};
      return PutInt(s.conn->path.mtu, value, length);
    default: return Error{ENOPROTOOPT};
  }
}

Error GetInfo(Context& ctx, const Socket& s, void* value, socklen_t* length) {
  tcp_info info{};
  if (s.state == SocketState::kListening) {
    info.tcpi_state = static_cast<uint8_t>(TcpState::kListen);
    info.tcpi_unacked = s.listener->accept_count.load();
    info.tcpi_sacked = s.listener->backlog;
  } else if (s.conn != nullptr) {
    TcpFillInfo(*s.conn, ctx.now, info);
  } else {
    info.tcpi_state = static_cast<uint8_t>(TcpState::kClosed);
  }
  return PutBytes(&info, sizeof info, value, length);
}

Error GetTcpLevel(Context& ctx, Socket& s, int name, void* value, socklen_t* length) {
  const SocketOptions& o = s.options;
  const Sysctls& sys = ctx.sysctls();
  switch (name) {
    case TCP_NODELAY: return PutInt(o.nodelay, value, length);
    case TCP_CORK: return PutInt(o.cork, value, length);
    case TCP_QUICKACK: return PutInt(TcpQuickAck(s.conn, o), value, length);
    case TCP_MAXSEG: return PutInt(TcpMaxSegment(s.conn, o), value, length);
    case TCP_KEEPIDLE: return PutInt(o.keepidle_s != 0 ? o.keepidle_s : sys.tcp_keepalive_time, value, length);
    case TCP_KEEPINTVL: return PutInt(o.keepintvl_s != 0 ? o.keepintvl_s : sys.tcp_keepalive_intvl, value, length);
    case TCP_KEEPCNT: return PutInt(o.keepcnt != 0 ? o.keepcnt : int32_t{sys.tcp_keepalive_probes}, value, length);
    case TCP_SYNCNT: return PutInt(o.syncnt != 0 ? o.syncnt : int32_t{sys.tcp_syn_retries}, value, length);
    case TCP_LINGER2:
      return PutInt(o.linger2_s < 0 ? -1 : o.linger2_s != 0 ? o.linger2_s : sys.tcp_fin_timeout, value, length);
    case TCP_DEFER_ACCEPT: return PutInt(o.defer_accept_s, value, length);
    case TCP_USER_TIMEOUT: return PutInt(static_cast<int>(o.user_timeout_ms), value, length);
    case TCP_WINDOW_CLAMP: return PutInt(static_cast<int>(o.window_clamp), value, length);
    case TCP_NOTSENT_LOWAT: return PutInt(o.notsent_lowat, value, length);
    case TCP_FASTOPEN: return PutInt(o.fastopen_queue, value, length);
    case TCP_INFO: return GetInfo(ctx, s, value, length);
    case TCP_CONGESTION: {
      char cc[kCongestionNameBytes] = {};
      std::strncpy(cc, CcName(o.congestion), sizeof cc - 1);
      return PutBytes(cc, sizeof cc, value, length);
    }
    default: return Error{ENOPROTOOPT};
  }
}

}  // namespace

Error SetOption(Context& ctx, Socket& s, int level, int name, const void* value, socklen_t length) noexcept {
  if (static_cast<int>(length) < 0) return Error{EINVAL};
  switch (level) {
    case SOL_SOCKET: return SetSocketLevel(ctx, s, name, value, length);
    case IPPROTO_IP: return SetIpLevel(s, name, value, length);
    case IPPROTO_IPV6: return s.family == AF_INET6 ? SetIpv6Level(s, name, value, length) : Error{ENOPROTOOPT};
    case IPPROTO_TCP: return SetTcpLevel(ctx, s, name, value, length);
    default: return Error{ENOPROTOOPT};
  }
}

Error GetOption(Context& ctx, Socket& s, int level, int name, void* value, socklen_t* length) noexcept {
  if (static_cast<int>(*length) < 0) return Error{EINVAL};
  switch (level) {
    case SOL_SOCKET: return GetSocketLevel(ctx, s, name, value, length);
    case IPPROTO_IP: return GetIpLevel(ctx, s, name, value, length);
    case IPPROTO_IPV6: return s.family == AF_INET6 ? GetIpv6Level(ctx, s, name, value, length) : Error{EOPNOTSUPP};
    case IPPROTO_TCP: return GetTcpLevel(ctx, s, name, value, length);
    default: return Error{s.family == AF_INET6 ? ENOPROTOOPT : EOPNOTSUPP};
  }
}

}  // namespace ustcp
