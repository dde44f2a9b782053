#include "preload/transfer.h"

#include <sys/socket.h>

#include <algorithm>
#include <csignal>

#include "io/sys.h"
#include "preload/blocking.h"
#include "preload/translate.h"
#include "stack/socket/socket_ops.h"
#include "stack/tcp/tcp.h"

namespace ustcp {

namespace {

// To the calling thread alone, as the kernel does it.
void RaiseSigpipe() { sys::Call(SYS_tgkill, sys::Call(SYS_getpid), sys::Call(SYS_gettid), SIGPIPE); }

// A turn costs a system call or two; a program that spins on EAGAIN pays one per this time.
constexpr Duration kSpinTurn = 50us;

}  // namespace

bool TurnBeforeEagain(Socket& socket, uint32_t events) noexcept {
  Host* host = runtime::AttachedHost();
  Instant now = runtime::Now();
  int64_t last = host->shard(socket).last_turn_ns.load(std::memory_order_relaxed);
  if (NanosOf(now) - last < ToNanos(kSpinTurn)) return false;
  return runtime::WaitSocket(socket, events, InstantFromNanos(0)) == 0;
}

ssize_t Send(const SocketRef& ref, const iovec* iov, int count, size_t total, int flags) noexcept {
  BlockingCall call;
  size_t done = 0;
  bool turned = false;
  for (;;) {
    bool give_up;
    {
      runtime::Locked lock(*ref);
      if (!Current(ref)) return done > 0 ? static_cast<ssize_t>(done) : -EBADF;
      // An error that comes after some bytes were taken is for the next call.
      if (done > 0 && (ref->error != 0 || ref->shut_wr)) return static_cast<ssize_t>(done);
      Result<size_t> sent = SendSocket(lock.ctx(), *ref, iov, count, done, flags);
      if (sent.ok()) {
        done += sent.value();
        if (done >= total) return static_cast<ssize_t>(done);
      } else if (sent.error() != Error{EAGAIN}) {
        if (done > 0) return static_cast<ssize_t>(done);
        if (sent.error() != Error{EPIPE}) return Outcome(sent.error());
        goto broken_pipe;
      }
      give_up = (flags & MSG_DONTWAIT) != 0 || ref->nonblocking();
      if (!give_up) call.Prepare(*ref, ref->options.sndtimeo_us);
    }
    if (give_up) {
      if (done > 0) return static_cast<ssize_t>(done);
      if (turned || !TurnBeforeEagain(*ref, EPOLLOUT)) return -EAGAIN;
      turned = true;
      continue;
    }
    if (int error = call.Wait(*ref, EPOLLOUT)) return done > 0 ? static_cast<ssize_t>(done) : error;
  }
broken_pipe:
  if ((flags & MSG_NOSIGNAL) == 0) RaiseSigpipe();
  return -EPIPE;
}

ssize_t Receive(const SocketRef& ref, const iovec* iov, int count, size_t total, int flags, int* out_flags) noexcept {
  *out_flags = 0;
  if ((flags & MSG_ERRQUEUE) != 0) return -EAGAIN;   // always empty; never waits
  BlockingCall call;
  size_t done = 0;
  bool turned = false;
  for (;;) {
    bool give_up;
    {
      runtime::Locked lock(*ref);
      if (!Current(ref)) return done > 0 ? static_cast<ssize_t>(done) : -EBADF;
      // After some bytes a pending error, and the urgent mark, are for the next call.
      if (done > 0 && (ref->error != 0 || (ref->conn != nullptr && TcpAtMark(*ref->conn))))
        return static_cast<ssize_t>(done);
      Result<size_t> got = ReceiveSocket(lock.ctx(), *ref, iov, count, done, flags);
      if (got.ok()) {
        if ((flags & MSG_OOB) != 0) {
          *out_flags = MSG_OOB;
          return static_cast<ssize_t>(got.value());
        }
        done += got.value();
        // A look at the queue (MSG_PEEK) starts at its head each time, so it cannot be continued.
        if (got.value() == 0 || (flags & MSG_PEEK) != 0) return static_cast<ssize_t>(done);
        size_t wanted = (flags & MSG_WAITALL) != 0
                            ? total
                            : std::min(total, static_cast<size_t>(std::max(ref->options.rcvlowat, 1)));
        if (done >= wanted) return static_cast<ssize_t>(done);
      } else if (got.error() != Error{EAGAIN} || (flags & MSG_OOB) != 0) {
        return done > 0 ? static_cast<ssize_t>(done) : Outcome(got.error());
      }
      give_up = (flags & MSG_DONTWAIT) != 0 || ref->nonblocking();
      if (!give_up) call.Prepare(*ref, ref->options.rcvtimeo_us);
    }
    if (give_up) {
      if (done > 0) return static_cast<ssize_t>(done);
      if (turned || !TurnBeforeEagain(*ref, EPOLLIN | EPOLLRDHUP)) return -EAGAIN;
      turned = true;
      continue;
    }
    if (int error = call.Wait(*ref, EPOLLIN | EPOLLRDHUP)) return done > 0 ? static_cast<ssize_t>(done) : error;
  }
}

}  // namespace ustcp
