#include "io/device/tap.h"

#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>

#include <cerrno>

#include "io/base/clock.h"
#include "io/base/report.h"
#include "io/base/sys.h"
#include "io/device/net_admin.h"
#include "stack/base/frame.h"

namespace ustcp {
namespace {

constexpr const char* kDevice = "/dev/net/tun";
constexpr short kFlags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
constexpr int64_t kBusyPauseNs = 2'000'000;

IoError CheckName(const char* name) noexcept {
  size_t n = strlen(name);
  if (n == 0 || n >= IFNAMSIZ || strpbrk(name, "/% ") != nullptr)
    return MakeError(EINVAL, "\"%.32s\" is not an interface name (1 to 15 characters)", name);
  return {};
}

IoError OpenDevice(int* out) noexcept {
  int fd = sys::Open(kDevice, O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd >= 0) {
    *out = fd;
    return {};
  }
  switch (-fd) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
      return MakeError(-fd, "%s is missing: load the module (modprobe tun), or in a container pass the device in",
                       kDevice);
    case EACCES:
    case EPERM:
      return MakeError(EACCES, "no permission to open %s: run as root, or let root run `ustcp net up --owner USER`",
                       kDevice);
    case EMFILE:
    case ENFILE: return MakeError(-fd, "no descriptor left for %s: raise the limit on open files (ulimit -n)", kDevice);
    default: return MakeError(-fd, "cannot open %s: %s", kDevice, ErrorName(-fd));
  }
}

int Attach(int fd, const char* name, short flags) noexcept {
  ifreq request{};
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  request.ifr_flags = flags;
  return sys::Ioctl(fd, TUNSETIFF, &request);
}

IoError AttachError(int code, const char* name) noexcept {
  switch (code) {
    case EPERM:
      return MakeError(code, "no permission to use %s: run as root, or let root run `ustcp net up --owner USER`", name);
    case EBUSY:
      return MakeError(code, "%s is in use and has a single queue: end its user, or make it anew with `ustcp net up`",
                       name);
    case E2BIG:
      return MakeError(code, "%s has no free queue left (256 at most): fewer processes or shards per host", name);
    case EINVAL:
      return MakeError(code, "%s is not a TAP interface: choose another name, or remove it and run `ustcp net up`",
                       name);
    default: return MakeError(code, "cannot attach to %s: %s", name, ErrorName(code));
  }
}

// Asks for what the virtio header makes possible, as much as the kernel grants.
void SetOffloads(int fd, TapQueue* queue) noexcept {
  queue->checksum_offload = queue->tso4 = queue->tso6 = false;
  if (!queue->vnet) return;
  struct Choice {
    unsigned long flags;
    bool checksum, tso4, tso6;
  };
  constexpr Choice kChoices[] = {
      {TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6, true, true, true},
      {TUN_F_CSUM | TUN_F_TSO4, true, true, false},
      {TUN_F_CSUM, true, false, false},
  };
  for (const Choice& choice : kChoices) {
    if (sys::Ioctl(fd, TUNSETOFFLOAD, choice.flags) < 0) continue;
    queue->checksum_offload = choice.checksum;
    queue->tso4 = choice.tso4;
    queue->tso6 = choice.tso6;
    return;
  }
  sys::Ioctl(fd, TUNSETOFFLOAD, 0ul);
}

void ReadLinkInto(TapQueue* queue) noexcept {
  // Not there in the caller's namespace when the descriptor came from elsewhere: the defaults stay.
  LinkState link;
  if (ReadLink(queue->name, &link)) return;
  queue->mtu = link.mtu;
  queue->up = link.up;
  queue->kernel_mac = link.mac;
}

IoError SetHeaderSize(int fd, const char* name) noexcept {
  int bytes = static_cast<int>(sizeof(VirtioNetHeader));
  if (int r = sys::Ioctl(fd, TUNSETVNETHDRSZ, &bytes); r < 0)
    return MakeError(-r, "%s does not take a 10-byte virtio header: %s", name, ErrorName(-r));
  return {};
}

}  // namespace

IoError OpenTapQueue(const TapOpenOptions& options, TapQueue* out) noexcept {
  if (IoError error = CheckName(options.name)) return error;
  LinkState link;
  if (options.must_exist) {
    if (IoError error = ReadLink(options.name, &link); error.code == ENODEV)
      return MakeError(ENODEV, "there is no interface %s: run `ustcp net up` as root", options.name);
    else if (error)
      return error;
  }
  TapQueue queue;
  if (IoError error = OpenDevice(&queue.fd)) return error;
  Instant give_up = MonotonicNow() + options.busy_retry;
  int r;
  for (;;) {
    queue.multi_queue = true;
    r = Attach(queue.fd, options.name, kFlags | IFF_MULTI_QUEUE);
    if (r == -EINVAL) {
      queue.multi_queue = false;
      r = Attach(queue.fd, options.name, kFlags);
    }
    if (r != -EBUSY || MonotonicNow() >= give_up) break;
    sys::NanoSleep(kBusyPauseNs);
  }
  IoError error = r < 0 ? AttachError(-r, options.name) : SetHeaderSize(queue.fd, options.name);
  if (error) {
    sys::Close(queue.fd);
    return error;
  }
  strncpy(queue.name, options.name, sizeof queue.name - 1);
  SetOffloads(queue.fd, &queue);
  ReadLinkInto(&queue);
  *out = queue;
  return {};
}

IoError AdoptTapQueue(int fd, TapQueue* out) noexcept {
  ifreq request{};
  int r = sys::Ioctl(fd, TUNGETIFF, &request);
  if (r == -EBADF) return MakeError(EBADF, "descriptor %d is not open: hand in an opened TAP", fd);
  if (r == -EBADFD)
    return MakeError(EBADFD, "descriptor %d has no interface attached: do TUNSETIFF before handing it in", fd);
  if (r < 0) return MakeError(ENOTTY, "descriptor %d is not a TAP: open /dev/net/tun and do TUNSETIFF", fd);
  if ((request.ifr_flags & IFF_TAP) == 0)
    return MakeError(EINVAL, "%s is a TUN interface: a TAP is needed (IFF_TAP)", request.ifr_name);
  if ((request.ifr_flags & IFF_NO_PI) == 0)
    return MakeError(EINVAL, "%s prefixes frames with packet information: open it with IFF_NO_PI", request.ifr_name);
  TapQueue queue;
  queue.fd = fd;
  queue.vnet = (request.ifr_flags & IFF_VNET_HDR) != 0;
  queue.multi_queue = (request.ifr_flags & IFF_MULTI_QUEUE) != 0;
  memcpy(queue.name, request.ifr_name, sizeof queue.name);
  if (queue.vnet)
    if (IoError error = SetHeaderSize(fd, queue.name)) return error;
  int flags = sys::Fcntl(fd, F_GETFL);
  if (flags < 0 || sys::Fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || sys::Fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
    return MakeError(EBADF, "descriptor %d cannot be made non-blocking", fd);
  SetOffloads(fd, &queue);
  ReadLinkInto(&queue);
  *out = queue;
  return {};
}

void DetachTapQueue(int fd) noexcept {
  ifreq request{};
  request.ifr_flags = IFF_DETACH_QUEUE;
  sys::Ioctl(fd, TUNSETQUEUE, &request);
}

IoError CreateTap(const TapCreateOptions& options) noexcept {
  if (IoError error = CheckName(options.name)) return error;
  LinkState link;
  if (!ReadLink(options.name, &link))
    return MakeError(EEXIST, "%s is there already: remove it with `ustcp net down`, or use it", options.name);
  int fd = -1;
  if (IoError error = OpenDevice(&fd)) return error;
  short flags = static_cast<short>(kFlags | (options.multi_queue ? IFF_MULTI_QUEUE : 0));
  int r = Attach(fd, options.name, flags);
  if (r == -EPERM) {
    sys::Close(fd);
    return MakeError(EPERM, "no permission to make %s: run as root", options.name);
  }
  uid_t owner = options.has_owner ? options.owner : static_cast<uid_t>(sys::Call(SYS_geteuid));
  // Where there are both, one has to be both: a group's interface has no owner unless one is asked for.
  if (r == 0 && (options.has_owner || !options.has_group))
    r = sys::Ioctl(fd, TUNSETOWNER, static_cast<unsigned long>(owner));
  if (r == 0 && options.has_group) r = sys::Ioctl(fd, TUNSETGROUP, static_cast<unsigned long>(options.group));
  if (r == 0) r = sys::Ioctl(fd, TUNSETPERSIST, 1ul);
  sys::Close(fd);  // without TUNSETPERSIST the device goes with it
  return r < 0 ? AttachError(-r, options.name) : IoError{};
}

}  // namespace ustcp
