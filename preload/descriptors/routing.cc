#include "preload/descriptors/routing.h"

#include "preload/descriptors/kernel_socket.h"
#include "preload/libc/real.h"
#include "preload/runtime/process.h"
#include "stack/socket/socket_ops.h"

namespace ustcp {

namespace {

// Registrations of one socket in epoll sets, to be made again in the kernel's.
struct Registration {
  EpollSet* set;
  int fd;
  epoll_event event;
};
constexpr int kMaxRegistrations = 32;

int CollectRegistrations(Host& host, Socket& socket, Registration* out) {
  SimpleLock guard(host.watch_stripe(&socket));
  int count = 0;
  for (WatchNode* n = socket.watchers; n != nullptr && count < kMaxRegistrations; n = n->watch_next) {
    if (n->watch_kind != WatchNode::kEpollItem) continue;
    auto* item = static_cast<EpollItem*>(n);
    Registration& r = out[count++];
    r.set = item->set;
    r.fd = item->fd;
    r.event.events = item->events | item->flags;
    r.event.data.u64 = item->data;
  }
  return count;
}

int BindAlike(int file, const Socket& socket) {
  if (!socket.bind.linked) return 0;
  sockaddr_storage address;
  socklen_t length = sizeof address;
  WriteSockaddr(socket.family, socket.local, reinterpret_cast<sockaddr*>(&address), &length);
  return static_cast<int>(sys::Call(SYS_bind, file, sys::Arg(&address), length));
}

}  // namespace

Route RouteFor(const IpAddress& address) noexcept {
  if (address.is_loopback() && !runtime::AttachedHost()->config.loopback_inside) return Route::kKernel;
  const Settings& settings = runtime::CurrentSettings();
  for (int i = 0; i < settings.kernel_destination_count; ++i)
    if (settings.kernel_destinations[static_cast<size_t>(i)].Contains(address)) return Route::kKernel;
  return Route::kUstcp;
}

bool Undecided(const Socket& socket) noexcept {
  return socket.state == SocketState::kFresh || socket.state == SocketState::kBound;
}

int GiveToKernel(int fd, const SocketRef& ref) noexcept {
  int file;
  {
    runtime::Locked lock(*ref);
    if (!Current(ref)) return -EBADF;
    file = OpenKernelSocket(*ref, fd);
    if (file < 0) return file;
    if (int error = BindAlike(file, *ref)) {
      sys::Close(file);
      return error;
    }
  }
  // Before the mark: who sees that one finds the kernel's socket.
  {
    fd_table::Frozen table;
    table.PutUnder(fd, *ref, file);
  }
  sys::Close(file);
  Registration registrations[kMaxRegistrations];
  int registration_count = 0;
  {
    runtime::Locked lock(*ref);
    if (!Current(ref)) return -EBADF;
    registration_count = CollectRegistrations(lock.ctx().host, *ref, registrations);
    for (int i = 0; i < registration_count; ++i) {
      Registration& r = registrations[i];
      (void)EpollDelete(lock.ctx(), *r.set, *ref, r.fd);
    }
    ref->status_flags.fetch_or(kGivenToKernel);
  }
  for (int i = 0; i < registration_count; ++i) {
    Registration& r = registrations[i];
    int epfd = fd_table::FindEpoll(r.set);
    if (epfd < 0) continue;
    r.set->has_kernel_members.store(true);
    real::epoll_ctl(epfd, EPOLL_CTL_ADD, r.fd, &r.event);
  }
  // Copies of the descriptor, and those of other processes, see the mark.
  fd_table::Remove(fd);
  if (!Current(ref)) return 0;
  fd_table::RemoveAllOf(*ref);
  return 0;
}

}  // namespace ustcp
