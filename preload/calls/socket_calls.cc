// socket, bind, listen, connect, shutdown and the names of both ends.
#include <linux/sockios.h>
#include <netinet/in.h>

#include "preload/calls/interpose.h"
#include "preload/calls/parts.h"
#include "preload/descriptors/placeholder.h"
#include "preload/descriptors/routing.h"
#include "preload/runtime/membership.h"
#include "preload/runtime/process.h"
#include "preload/transfer/blocking.h"
#include "stack/socket/socket_ops.h"

using namespace ustcp;

namespace {

constexpr int kTypeMask = 0xf;
constexpr int kProtocolMptcp = 262;

bool IsTcp(int family, int type, int protocol) {
  return (family == AF_INET || family == AF_INET6) && (type & kTypeMask) == SOCK_STREAM &&
         (type & ~(kTypeMask | SOCK_NONBLOCK | SOCK_CLOEXEC)) == 0 &&
         (protocol == 0 || protocol == IPPROTO_TCP || protocol == kProtocolMptcp);
}

int OpenTcp(int family, int type, int protocol) {
  // As a kernel without MPTCP: programs fall back to TCP.
  if (protocol == kProtocolMptcp) return -EPROTONOSUPPORT;
  if (int error = EnsureAttached()) return -error;
  int fd = OpenPlaceholder((type & SOCK_CLOEXEC) != 0);
  if (fd < 0) return fd;
  Host& host = *runtime::AttachedHost();
  const Settings& settings = runtime::CurrentSettings();
  if (settings.sysctl_seed == SysctlSeed::kKernelEachSocket) SeedSysctls(&host.sysctls, &settings.sysctl_given);
  Result<Socket*> socket = Error{ENOBUFS};
  {
    runtime::Locked lock(runtime::HomeShard());
    auto uid = static_cast<uint32_t>(sys::Call(SYS_geteuid));
    socket = OpenSocket(lock.ctx(), static_cast<uint16_t>(family), (type & SOCK_NONBLOCK) != 0 ? O_NONBLOCK : 0u, uid,
                        runtime::OwnProcess()->pid);
  }
  int error = socket.error().code;
  if (socket.ok() && !fd_table::Install(fd, FdEntry::kSocket, socket.value())) {
    runtime::Locked lock(*socket.value());
    (void)ReleaseSocket(lock.ctx(), *socket.value());
    error = ENFILE;
  }
  if (error == 0) return fd;
  ClosePlaceholder(fd);
  return -error;
}

// Names one end into the caller's buffer.
int WriteName(const SocketRef& ref, bool peer, sockaddr* address, socklen_t* length) {
  Endpoint endpoint;
  {
    runtime::Locked lock(*ref);
    if (!Current(ref)) return -EBADF;
    if (Error error = GetName(*ref, peer, endpoint)) return Outcome(error);
  }
  return PutAddress(ref->family, endpoint, address, length);
}

// The result is kGoesToKernel when the route is the kernel's.
constexpr int kGoesToKernel = 1;

int Bind(const SocketRef& ref, const sockaddr* address, socklen_t length) {
  sockaddr_storage given;
  if (int error = GetAddress(given, address, length)) return error;
  runtime::Locked lock(*ref);
  if (!Current(ref)) return -EBADF;
  Result<Endpoint> local = ParseSockaddr(*ref, reinterpret_cast<const sockaddr*>(&given), length, false);
  if (!local) return Outcome(local.error());
  if (Undecided(*ref) && !ref->bind.linked && RouteFor(local.value().address) == Route::kKernel) return kGoesToKernel;
  return Outcome(BindSocket(lock.ctx(), *ref, local.value()));
}

int Connect(const SocketRef& ref, const sockaddr* address, socklen_t length) {
  sockaddr_storage given;
  if (int error = GetAddress(given, address, length)) return error;
  BlockingCall call;
  for (bool first = true;; first = false) {
    {
      runtime::Locked lock(*ref);
      if (!Current(ref)) return -EBADF;
      Context& ctx = lock.ctx();
      sa_family_t family = AF_UNSPEC;
      if (length >= sizeof family) family = given.ss_family;
      if (length >= sizeof family && family == AF_UNSPEC) return Outcome(DisconnectSocket(ctx, *ref));
      Result<Endpoint> peer = ParseSockaddr(*ref, reinterpret_cast<const sockaddr*>(&given), length, true);
      // A socket that has a peer, or listens, says so before it looks at the address.
      if (!peer && (length < sizeof family || Undecided(*ref))) return Outcome(peer.error());
      const Endpoint to = peer ? peer.value() : Endpoint{};
      if (first && Undecided(*ref) && RouteFor(to.address) == Route::kKernel) return kGoesToKernel;
      Error result = ConnectSocket(ctx, *ref, to);
      bool waits = result == Error{EINPROGRESS} || result == Error{EALREADY};
      if (!waits || ref->nonblocking()) return Outcome(result);
      call.Prepare(*ref, ref->options.sndtimeo_us);
    }
    int error = call.Wait(*ref, EPOLLOUT);
    // Time is up: the attempt goes on, as if the socket did not block.
    if (error == -EAGAIN) return -EINPROGRESS;
    if (error != 0) return error;
  }
}

}  // namespace

USTCP_EXPORT int socket(int family, int type, int protocol) noexcept {
  if (!IsTcp(family, type, protocol) || !TakesPart()) return Returned(real::socket(family, type, protocol));
  return ToErrno(OpenTcp(family, type, protocol));
}

USTCP_EXPORT int bind(int fd, const sockaddr* address, socklen_t length) noexcept {
  SocketRef ref = FindSocket(fd);
  if (!ref) return real::bind(fd, address, length);
  int result = Bind(ref, address, length);
  if (result == kGoesToKernel) {
    result = GiveToKernel(fd, ref);
    if (result == 0) return real::bind(fd, address, length);
  }
  return ToErrno(result);
}

USTCP_EXPORT int listen(int fd, int backlog) noexcept {
  SocketRef ref = FindSocket(fd);
  if (!ref) return real::listen(fd, backlog);
  runtime::Locked lock(*ref);
  return ToErrno(Current(ref) ? Outcome(ListenSocket(lock.ctx(), *ref, backlog)) : -EBADF);
}

USTCP_EXPORT int connect(int fd, const sockaddr* address, socklen_t length) {
  SocketRef ref = FindSocket(fd);
  if (!ref) return real::connect(fd, address, length);
  int result = Connect(ref, address, length);
  if (result == kGoesToKernel) {
    result = GiveToKernel(fd, ref);
    if (result == 0) return real::connect(fd, address, length);
  }
  return ToErrno(result);
}
USTCP_ALIAS_OF(connect, __connect);

USTCP_EXPORT int shutdown(int fd, int how) noexcept {
  SocketRef ref = FindSocket(fd);
  if (!ref) return real::shutdown(fd, how);
  runtime::Locked lock(*ref);
  return ToErrno(Current(ref) ? Outcome(ShutdownSocket(lock.ctx(), *ref, how)) : -EBADF);
}

USTCP_EXPORT int getsockname(int fd, sockaddr* address, socklen_t* length) noexcept {
  SocketRef ref = FindSocket(fd);
  if (!ref) return real::getsockname(fd, address, length);
  return ToErrno(WriteName(ref, false, address, length));
}

USTCP_EXPORT int getpeername(int fd, sockaddr* address, socklen_t* length) noexcept {
  SocketRef ref = FindSocket(fd);
  if (!ref) return real::getpeername(fd, address, length);
  return ToErrno(WriteName(ref, true, address, length));
}
