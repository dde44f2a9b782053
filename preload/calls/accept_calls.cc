// accept and accept4. The descriptor comes before the connection is taken from the queue: a process that has no number
// left (EMFILE) leaves the connection to others, or to its own next attempt.
#include "preload/calls/interpose.h"
#include "preload/calls/parts.h"
#include "preload/descriptors/placeholder.h"
#include "preload/transfer/blocking.h"
#include "stack/socket/socket_ops.h"

using namespace ustcp;

namespace {

bool HasConnection(const Socket& listening) { return (listening.ready.load() & EPOLLIN) != 0; }

// A connection in a new descriptor, or -EAGAIN.
int TakeConnection(const SocketRef& ref, int flags, Endpoint* peer, uint16_t* family) {
  int fd = OpenPlaceholder((flags & SOCK_CLOEXEC) != 0);
  if (fd < 0) return fd;
  Result<Socket*> taken = AcceptSocket(*runtime::AttachedHost(), *ref, runtime::HomeShard().index);
  if (!taken) {
    ClosePlaceholder(fd);
    return Outcome(taken.error());
  }
  Socket& socket = *taken.value();
  socket.status_flags.store((flags & SOCK_NONBLOCK) != 0 ? O_NONBLOCK : 0u);
  socket.owner_pid = runtime::OwnProcess()->pid;
  *peer = socket.peer;
  *family = socket.family;
  if (fd_table::Install(fd, FdEntry::kSocket, &socket)) return fd;
  ClosePlaceholder(fd);
  runtime::Locked lock(socket);
  (void)ReleaseSocket(lock.ctx(), socket);
  return -ENFILE;
}

int Accept(const SocketRef& ref, sockaddr* address, socklen_t* length, int flags) {
  if ((flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) != 0) return -EINVAL;
  BlockingCall call;
  bool turned = false;
  for (;;) {
    // The level is looked at without a lock: a queue that is being emptied or filled shows in AcceptSocket.
    if (HasConnection(*ref)) {
      Endpoint peer;
      uint16_t family = AF_UNSPEC;
      int fd = TakeConnection(ref, flags, &peer, &family);
      if (fd != -EAGAIN) {
        if (fd < 0 || address == nullptr) return fd;
        if (int error = PutAddress(family, peer, address, length)) {
          fd_table::Remove(fd);
          ClosePlaceholder(fd);
          return error;
        }
        return fd;
      }
    }
    bool give_up;
    {
      runtime::Locked lock(*ref);
      lock.LeaveOutput();
      if (!Current(ref)) return -EBADF;
      if (ref->state != SocketState::kListening) return -EINVAL;
      give_up = ref->nonblocking();
      if (!give_up) call.Prepare(*ref, ref->options.rcvtimeo_us);
    }
    if (give_up) {
      if (turned || !TurnBeforeEagain(*ref, EPOLLIN)) return -EAGAIN;
      turned = true;
      continue;
    }
    if (int error = call.Wait(*ref, EPOLLIN)) return error;
  }
}

}  // namespace

USTCP_EXPORT int accept(int fd, sockaddr* address, socklen_t* length) {
  SocketRef ref = FindSocket(fd);
  if (!ref) return Returned(real::accept(fd, address, length));
  return ToErrno(Accept(ref, address, length, 0));
}

USTCP_EXPORT int accept4(int fd, sockaddr* address, socklen_t* length, int flags) {
  SocketRef ref = FindSocket(fd);
  if (!ref) return Returned(real::accept4(fd, address, length, flags));
  return ToErrno(Accept(ref, address, length, flags));
}
