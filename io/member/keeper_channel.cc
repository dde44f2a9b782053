#include "io/member/keeper_channel.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "io/base/parse.h"
#include "io/base/sys.h"

namespace ustcp {

int SendMessage(int socket, const void* data, size_t bytes, int fd) noexcept {
  iovec piece{const_cast<void*>(data), bytes};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &fd, sizeof(int));
  }
  long result;
  do result = sys::Call(SYS_sendmsg, socket, sys::Arg(&message), MSG_NOSIGNAL);
  while (result == -EINTR);
  return result < 0 ? static_cast<int>(result) : 0;
}

ssize_t ReceiveMessage(int socket, void* data, size_t bytes, int* fd, int wait_ms) noexcept {
  if (fd != nullptr) *fd = -1;
  iovec piece{data, bytes};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  for (;;) {
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    if (fd != nullptr) {
      message.msg_control = control;
      message.msg_controllen = CMSG_LEN(sizeof(int));  // without the padding, where a second one would have room
    }
    long result = sys::Call(SYS_recvmsg, socket, sys::Arg(&message), MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (result == -EINTR) continue;
    if (result == -EAGAIN && wait_ms >= 0) {
      // The wait starts anew after a signal: the time is a bound on a stuck keeper, not a promise.
      pollfd readable{socket, POLLIN, 0};
      timespec timeout{wait_ms / 1000, wait_ms % 1000 * 1'000'000};
      int ready = sys::Ppoll(&readable, 1, &timeout, nullptr);
      if (ready == 0) return -ETIMEDOUT;
      continue;
    }
    if (result < 0) return result;
    // One, as every message has at most; the kernel drops a surplus.
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    if (header != nullptr && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
      std::memcpy(fd, CMSG_DATA(header), sizeof(int));
    return result;
  }
}

QueueDescription DescribeQueue(const TapQueue& queue) noexcept {
  QueueDescription d;
  std::memcpy(d.name, queue.name, sizeof(d.name));
  d.mtu = queue.mtu;
  std::memcpy(d.kernel_mac, queue.kernel_mac.data(), 6);
  d.vnet = queue.vnet;
  d.multi_queue = queue.multi_queue;
  d.checksum_offload = queue.checksum_offload;
  d.tso4 = queue.tso4;
  d.tso6 = queue.tso6;
  d.up = queue.up;
  return d;
}

TapQueue QueueFromDescription(const QueueDescription& d, int fd) noexcept {
  TapQueue queue;
  queue.fd = fd;
  std::memcpy(queue.name, d.name, sizeof(queue.name));
  queue.mtu = d.mtu;
  std::memcpy(queue.kernel_mac.data(), d.kernel_mac, 6);
  queue.vnet = d.vnet != 0;
  queue.multi_queue = d.multi_queue != 0;
  queue.checksum_offload = d.checksum_offload != 0;
  queue.tso4 = d.tso4 != 0;
  queue.tso6 = d.tso6 != 0;
  queue.up = d.up != 0;
  return queue;
}

bool KeeperPath(const char* directory, const char* host_name, const char* suffix,
                char (&out)[kMaxSettingPath]) noexcept {
  TextBuilder text(out);
  text << directory << "/" << host_name << suffix;
  return !text.cut() && text.size() < sizeof(sockaddr_un::sun_path);
}

int ConnectKeeper(const char* path) noexcept {
  int fd = sys::Socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0) return fd;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
  long result;
  do result = sys::Call(SYS_connect, fd, sys::Arg(&address), sizeof(address));
  while (result == -EINTR);
  if (result < 0) {
    sys::Close(fd);
    return static_cast<int>(result);
  }
  return fd;
}

}  // namespace ustcp
