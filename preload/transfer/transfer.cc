#include "preload/transfer/transfer.h"

#include <sys/socket.h>

#include <algorithm>
#include <csignal>

#include "io/base/sys.h"
#include "preload/transfer/blocking.h"
#include "preload/transfer/page_waits.h"
#include "preload/transfer/translate.h"
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

namespace {

// From so many bytes in one call on, they leave at once also while the program works through several events: they fill
// frames by themselves, and the data is still in the cache.
constexpr size_t kMuch = 32 * 1024;

// `attempt(Context&, done)` takes what it can of the bytes from `done` on, as SendSocket does. *ended: they end here.
// `prepare()` comes before each hold of the lock, and tells how many bytes the attempt is about.
template <typename Prepare, typename Attempt>
ssize_t SendLoop(const SocketRef& ref, size_t total, int flags, const bool* ended, Prepare&& prepare,
                 Attempt&& attempt) {
  BlockingCall call;
  size_t done = 0;
  bool turned = false;
  for (;;) {
    bool give_up;
    const size_t asked = prepare();
    {
      runtime::Locked lock(*ref);
      if (!Current(ref)) return done > 0 ? static_cast<ssize_t>(done) : -EBADF;
      // An error that comes after some bytes were taken is for the next call.
      if (done > 0 && (ref->error != 0 || ref->shut_wr)) return static_cast<ssize_t>(done);
      Result<size_t> sent = attempt(lock.ctx(), done);
      if (sent.ok()) {
        done += sent.value();
        if (sent.value() >= kMuch) lock.SendAtOnce();
        if (done >= total || *ended) return static_cast<ssize_t>(done);
        if (sent.value() == asked) continue;
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

// A file as far as it is in memory: reads of the rest would hold up everybody who needs the shard.
struct CachedFile {
  int fd;
  off_t at;

  static size_t Read(void* self, std::byte* to, size_t n) {
    auto& file = *static_cast<CachedFile*>(self);
    iovec v{to, n};
    long got = sys::Call(SYS_preadv2, file.fd, sys::Arg(&v), 1, file.at, 0, RWF_NOWAIT);
    if (got <= 0) return 0;
    file.at += got;
    return static_cast<size_t>(got);
  }
};

// What one hold of the lock takes from a file: some frames' worth, each of which leaves while it is in the cache.
constexpr size_t kPieceBytes = 256 * 1024;
// What is read from the disk at once, to the stack: any thread may call.
constexpr size_t kChunkBytes = 32 * 1024;

// As much of the next `count` bytes as is in memory and finds room. *ended: the next byte is not in memory.
ssize_t SendCached(const SocketRef& ref, int file, off_t at, size_t count, int flags, bool* ended) {
  CachedFile cached{file, at};
  auto prepare = [] { return SIZE_MAX; };
  return SendLoop(ref, count, flags, ended, prepare, [&](Context& ctx, size_t done) {
    SendSource source{CachedFile::Read, &cached};
    Result<size_t> sent = SendSocketFrom(ctx, *ref, source, count - done, flags);
    *ended = source.ended;
    return sent;
  });
}

// Reads some from the disk first. *ended: this was the file's end. *full: the socket took less.
ssize_t SendUncached(const SocketRef& ref, int file, off_t at, size_t count, bool* ended, bool* full) {
  char chunk[kChunkBytes];
  size_t wanted = std::min(count, kChunkBytes);
  long n = sys::Call(SYS_pread64, file, sys::Arg(chunk), sys::Arg(wanted), at);
  *ended = n == 0;
  if (n <= 0) return n;
  ssize_t sent = SendBytes(ref, chunk, static_cast<size_t>(n), static_cast<size_t>(n) < count ? MSG_MORE : 0);
  *full = sent < n;
  return sent;
}

}  // namespace

ssize_t Send(const SocketRef& ref, UserVector& from, int flags) noexcept {
  bool faulted = false;
  bool rest = false;
  auto prepare = [&] {
    rest = AskForPages(from, false);
    return from.left();
  };
  return SendLoop(ref, from.left(), flags, &faulted, prepare, [&](Context& ctx, size_t) {
    Result<size_t> sent = SendSocket(ctx, *ref, from, rest ? (flags & ~MSG_OOB) | MSG_MORE : flags);
    faulted = from.faulted();
    return sent;
  });
}

ssize_t SendFile(const SocketRef& ref, int file, off_t at, size_t count) noexcept {
  size_t done = 0;
  bool ended = false, full = false;
  while (done < count && !ended && !full) {
    size_t wanted = std::min(count - done, kPieceBytes);
    off_t from = at + static_cast<off_t>(done);
    bool uncached = false;
    ssize_t sent = SendCached(ref, file, from, wanted, done + wanted < count ? MSG_MORE : 0, &uncached);
    if (uncached && sent == 0)
      sent = SendUncached(ref, file, from, count - done, &ended, &full);
    else
      full = !uncached && sent < static_cast<ssize_t>(wanted);
    if (sent < 0) return done > 0 ? static_cast<ssize_t>(done) : sent;
    done += static_cast<size_t>(sent);
    if (sent >= static_cast<ssize_t>(kMuch)) runtime::TurnIfFramesWait();
  }
  return static_cast<ssize_t>(done);
}

ssize_t Receive(const SocketRef& ref, UserVector& to, int flags, int* out_flags) noexcept {
  const size_t total = to.left();
  *out_flags = 0;
  if ((flags & MSG_ERRQUEUE) != 0) return -EAGAIN;  // always empty; never waits
  BlockingCall call;
  size_t done = 0;
  bool turned = false;
  for (;;) {
    bool give_up;
    (void)AskForPages(to, true);
    {
      runtime::Locked lock(*ref);
      lock.LeaveOutput();  // acknowledgements: an answer may take them along
      if (!Current(ref)) return done > 0 ? static_cast<ssize_t>(done) : -EBADF;
      // After some bytes a pending error, and the urgent mark, are for the next call.
      if (done > 0 && (ref->error != 0 || (ref->conn != nullptr && TcpAtMark(*ref->conn))))
        return static_cast<ssize_t>(done);
      Result<size_t> got = ReceiveSocket(lock.ctx(), *ref, to, flags);
      if (got.ok()) {
        if ((flags & MSG_OOB) != 0) {
          *out_flags = MSG_OOB;
          return static_cast<ssize_t>(got.value());
        }
        done += got.value();
        // A look at the queue (MSG_PEEK) starts at its head each time, so it cannot be continued.
        if (got.value() == 0 || (flags & MSG_PEEK) != 0 || to.faulted()) return static_cast<ssize_t>(done);
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
