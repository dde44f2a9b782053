#include "preload/transfer/translate.h"

#include <limits.h>

#include <algorithm>

#include "preload/transfer/page_waits.h"
#include "stack/base/address.h"
#include "stack/socket/socket_ops.h"

namespace ustcp {

std::atomic<bool> g_pages_may_wait{false};

int CheckBuffer(const void* p, size_t* n) noexcept {
  if (!InUserSpace(p, *n)) return -EFAULT;
  *n = std::min(*n, kMaxTransferBytes);
  return 0;
}

int CheckVector(const iovec* iov, size_t count, int too_many, size_t* total) noexcept {
  if (count > IOV_MAX) return -too_many;
  constexpr size_t kWindow = 8;
  iovec window[kWindow];
  bool reachable = true;
  size_t sum = 0;
  for (size_t at = 0; at < count; at += kWindow) {
    size_t n = std::min(count - at, kWindow);
    if (CopyFromUser(window, iov + at, n * sizeof *iov) != 0) return -EFAULT;
    for (size_t i = 0; i < n; ++i) {
      size_t length = window[i].iov_len;
      if (static_cast<ssize_t>(length) < 0) return -EINVAL;
      reachable &= InUserSpace(window[i].iov_base, length);
      sum += std::min(length, kMaxTransferBytes - sum);
    }
  }
  *total = sum;
  return reachable ? 0 : -EFAULT;
}

int GetAddress(sockaddr_storage& to, const sockaddr* from, socklen_t length) noexcept {
  if (length > sizeof to) return -EINVAL;
  return CopyFromUser(&to, from, length) == 0 ? 0 : -EFAULT;
}

int PutAddress(uint16_t family, const Endpoint& name, sockaddr* to, socklen_t* length) noexcept {
  sockaddr_storage address;
  socklen_t room;
  socklen_t full = family == AF_UNSPEC ? 0 : sizeof address;
  if (full != 0) WriteSockaddr(family, name, reinterpret_cast<sockaddr*>(&address), &full);
  if (!GetUser(room, length)) return -EFAULT;
  if (static_cast<int>(room) < 0) return -EINVAL;
  if (!PutUser(length, full)) return -EFAULT;
  return CopyToUser(to, &address, std::min(room, full)) == 0 ? 0 : -EFAULT;
}

}  // namespace ustcp
