#include "preload/descriptors/kernel_socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cstring>

#include "io/base/sys.h"
#include "preload/runtime/runtime.h"

namespace ustcp {

namespace {

void Set(int fd, int level, int name, const void* value, size_t bytes) {
  sys::Call(SYS_setsockopt, fd, level, name, sys::Arg(value), sys::Arg(bytes));
}

void SetTimeout(int fd, int name, int64_t micros) {
  timeval tv{micros / 1'000'000, micros % 1'000'000};
  if (micros != 0) Set(fd, SOL_SOCKET, name, &tv, sizeof tv);
}

// What the program has set is what differs from a new socket. What the kernel refuses stays as it is there.
void CopyOptions(int fd, const Socket& socket) {
  const SocketOptions& o = socket.options;
  const SocketOptions fresh;
  const Sysctls& sysctls = runtime::AttachedHost()->sysctls;
  const bool v6 = socket.family == AF_INET6;
  const struct {
    int level, name;
    int64_t value, when_fresh;
  } options[] = {
      {SOL_SOCKET, SO_REUSEADDR, o.reuse_addr, fresh.reuse_addr},
      {SOL_SOCKET, SO_REUSEPORT, o.reuse_port, fresh.reuse_port},
      {SOL_SOCKET, SO_KEEPALIVE, o.keepalive, fresh.keepalive},
      {SOL_SOCKET, SO_OOBINLINE, o.oob_inline, fresh.oob_inline},
      {SOL_SOCKET, SO_RCVBUF, o.rcvbuf / 2, fresh.rcvbuf},  // the kernel doubles it, as we did
      {SOL_SOCKET, SO_SNDBUF, o.sndbuf / 2, fresh.sndbuf},
      {SOL_SOCKET, SO_RCVLOWAT, o.rcvlowat, fresh.rcvlowat},
      {SOL_SOCKET, SO_MARK, o.mark, fresh.mark},
      {SOL_SOCKET, SO_PRIORITY, o.priority, fresh.priority},
      {SOL_SOCKET, SO_BUSY_POLL, o.busy_poll_us, fresh.busy_poll_us},
      {IPPROTO_IP, IP_TOS, o.tos, fresh.tos},
      {IPPROTO_IP, IP_TTL, o.ttl, fresh.ttl},
      {IPPROTO_IP, IP_MTU_DISCOVER, o.pmtu_discover, fresh.pmtu_discover},
      {IPPROTO_IP, IP_FREEBIND, o.freebind, fresh.freebind},
      {IPPROTO_IPV6, IPV6_V6ONLY, o.v6only, v6 ? -1 : fresh.v6only},  // the kernel's default is not ours
      {IPPROTO_IPV6, IPV6_TCLASS, o.tclass, fresh.tclass},
      {IPPROTO_IPV6, IPV6_UNICAST_HOPS, o.hop_limit, fresh.hop_limit},
      {IPPROTO_TCP, TCP_NODELAY, o.nodelay, fresh.nodelay},
      {IPPROTO_TCP, TCP_CORK, o.cork, fresh.cork},
      {IPPROTO_TCP, TCP_QUICKACK, !o.quickack_locked, !fresh.quickack_locked},
      {IPPROTO_TCP, TCP_MAXSEG, o.maxseg, fresh.maxseg},
      {IPPROTO_TCP, TCP_SYNCNT, o.syncnt, fresh.syncnt},
      {IPPROTO_TCP, TCP_KEEPCNT, o.keepcnt, fresh.keepcnt},
      {IPPROTO_TCP, TCP_KEEPIDLE, o.keepidle_s, fresh.keepidle_s},
      {IPPROTO_TCP, TCP_KEEPINTVL, o.keepintvl_s, fresh.keepintvl_s},
      {IPPROTO_TCP, TCP_LINGER2, o.linger2_s, fresh.linger2_s},
      {IPPROTO_TCP, TCP_DEFER_ACCEPT, o.defer_accept_s, fresh.defer_accept_s},
      {IPPROTO_TCP, TCP_USER_TIMEOUT, o.user_timeout_ms, fresh.user_timeout_ms},
      {IPPROTO_TCP, TCP_WINDOW_CLAMP, o.window_clamp, fresh.window_clamp},
      {IPPROTO_TCP, TCP_NOTSENT_LOWAT, o.notsent_lowat, fresh.notsent_lowat},
      {IPPROTO_TCP, TCP_FASTOPEN, o.fastopen_queue, fresh.fastopen_queue},
  };
  for (const auto& option : options) {
    if (option.value == option.when_fresh || (option.level == IPPROTO_IPV6 && !v6)) continue;
    auto value = static_cast<int>(option.value);
    Set(fd, option.level, option.name, &value, sizeof value);
  }
  if (o.linger_on) {
    linger l{1, o.linger_seconds};
    Set(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
  }
  SetTimeout(fd, SO_RCVTIMEO, o.rcvtimeo_us);
  SetTimeout(fd, SO_SNDTIMEO, o.sndtimeo_us);
  if (static_cast<int>(o.congestion) != sysctls.tcp_congestion_control) {
    const char* name = kCcNames[static_cast<size_t>(o.congestion)];
    Set(fd, IPPROTO_TCP, TCP_CONGESTION, name, std::strlen(name));
  }
}

// Whom a signal tells of readiness, and which signal: what lies under the number knows.
void CopyOwner(int fd, int from) {
  f_owner_ex owner{};
  if (sys::Call(SYS_fcntl, from, F_GETOWN_EX, sys::Arg(&owner)) == 0 && owner.pid != 0)
    sys::Call(SYS_fcntl, fd, F_SETOWN_EX, sys::Arg(&owner));
  int signal = sys::Fcntl(from, F_GETSIG);
  if (signal > 0) sys::Fcntl(fd, F_SETSIG, signal);
}

}  // namespace

int OpenKernelSocket(const Socket& socket, int placeholder) noexcept {
  int fd = sys::Socket(socket.family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fd;
  CopyOptions(fd, socket);
  CopyOwner(fd, placeholder);
  uint32_t flags = socket.status_flags.load();
  if (flags != 0) sys::Fcntl(fd, F_SETFL, flags);
  return fd;
}

}  // namespace ustcp
