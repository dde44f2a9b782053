#include "io/device/net_admin.h"

#include <linux/ethtool.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>

#include <cerrno>

#include "io/base/report.h"
#include "io/base/sys.h"

namespace ustcp {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) noexcept : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) sys::Close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const noexcept { return fd_; }

 private:
  int fd_;
};

Descriptor ControlSocket() noexcept { return Descriptor(sys::Socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)); }

ifreq RequestFor(const char* name) noexcept {
  ifreq request{};
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  return request;
}

IoError AdminError(int code, const char* name, const char* what) noexcept {
  if (code == EPERM) return MakeError(code, "no permission to %s %s: run as root", what, name);
  if (code == ENODEV) return MakeError(code, "there is no interface %s: run `ustcp net up` as root", name);
  return MakeError(code, "cannot %s %s: %s", what, name, ErrorName(code));
}

// One rtnetlink request and the kernel's answer to it.
class LinkMessage {
 public:
  LinkMessage(uint16_t type, uint16_t flags) noexcept {
    header()->nlmsg_type = type;
    header()->nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
    header()->nlmsg_len = NLMSG_HDRLEN;
  }
  template <typename T>
  T* Append() noexcept {
    auto* at = reinterpret_cast<T*>(bytes_ + header()->nlmsg_len);
    header()->nlmsg_len += NLMSG_ALIGN(sizeof(T));
    return at;
  }
  void Attribute(uint16_t type, const void* data, size_t n) noexcept {
    auto* attribute = reinterpret_cast<rtattr*>(bytes_ + header()->nlmsg_len);
    attribute->rta_type = type;
    attribute->rta_len = static_cast<uint16_t>(RTA_LENGTH(n));
    memcpy(RTA_DATA(attribute), data, n);
    header()->nlmsg_len += static_cast<uint32_t>(RTA_SPACE(n));
  }
  // The first message that comes back: its bytes, or a negative errno number.
  ssize_t Ask(char* answer, size_t bytes) noexcept {
    Descriptor socket(sys::Socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    if (socket.get() < 0) return socket.get();
    ssize_t n = sys::Write(socket.get(), bytes_, header()->nlmsg_len);
    if (n < 0) return n;
    do n = sys::Read(socket.get(), answer, bytes);
    while (n == -EINTR);
    return n;
  }
  // 0 or a negative errno number.
  int Exchange() noexcept {
    alignas(nlmsghdr) char answer[1024];
    ssize_t n = Ask(answer, sizeof answer);
    if (n < 0) return static_cast<int>(n);
    auto* reply = reinterpret_cast<nlmsghdr*>(answer);
    if (static_cast<size_t>(n) < NLMSG_LENGTH(sizeof(nlmsgerr)) || reply->nlmsg_type != NLMSG_ERROR) return -EPROTO;
    return static_cast<nlmsgerr*>(NLMSG_DATA(reply))->error;
  }

 private:
  nlmsghdr* header() noexcept { return reinterpret_cast<nlmsghdr*>(bytes_); }
  alignas(nlmsghdr) char bytes_[256] = {};
};

IoError ChangeAddress(uint16_t type, const char* name, std::span<const uint8_t> address,
                      unsigned prefix_length) noexcept {
  if ((address.size() != 4 && address.size() != 16) || prefix_length > address.size() * 8)
    return MakeError(EINVAL, "not an address and prefix length for %s", name);
  LinkState link;
  if (IoError error = ReadLink(name, &link)) return error;
  bool adding = type == RTM_NEWADDR;
  LinkMessage message(type, adding ? NLM_F_CREATE | NLM_F_EXCL : 0);
  auto* body = message.Append<ifaddrmsg>();
  body->ifa_family = address.size() == 4 ? AF_INET : AF_INET6;
  body->ifa_prefixlen = static_cast<uint8_t>(prefix_length);
  if (adding && address.size() == 16) body->ifa_flags = IFA_F_NODAD;
  body->ifa_index = static_cast<uint32_t>(link.index);
  message.Attribute(IFA_LOCAL, address.data(), address.size());
  message.Attribute(IFA_ADDRESS, address.data(), address.size());
  int r = message.Exchange();
  if (r == 0 || (adding && r == -EEXIST)) return {};
  return AdminError(-r, name, adding ? "add an address to" : "remove an address from");
}

}  // namespace

IoError ReadLink(const char* name, LinkState* out) noexcept {
  Descriptor socket = ControlSocket();
  if (socket.get() < 0) return MakeError(-socket.get(), "cannot make a socket: %s", ErrorName(-socket.get()));
  ifreq request = RequestFor(name);
  if (int r = sys::Ioctl(socket.get(), SIOCGIFINDEX, &request); r < 0) return AdminError(-r, name, "look at");
  *out = {};
  out->index = request.ifr_ifindex;
  if (sys::Ioctl(socket.get(), SIOCGIFFLAGS, &request) == 0) {
    out->up = (request.ifr_flags & IFF_UP) != 0;
    out->running = (request.ifr_flags & IFF_RUNNING) != 0;
  }
  if (sys::Ioctl(socket.get(), SIOCGIFMTU, &request) == 0) out->mtu = static_cast<uint32_t>(request.ifr_mtu);
  if (sys::Ioctl(socket.get(), SIOCGIFHWADDR, &request) == 0)
    memcpy(out->mac.data(), request.ifr_hwaddr.sa_data, out->mac.size());
  return {};
}

namespace {

// The attribute of that type among `bytes` from `at` on; null when it is not there.
const rtattr* FindAttribute(const rtattr* at, size_t bytes, unsigned short type) noexcept {
  while (bytes >= sizeof(rtattr) && at->rta_len >= sizeof(rtattr) && at->rta_len <= bytes) {
    if ((at->rta_type & NLA_TYPE_MASK) == type) return at;
    size_t step = RTA_ALIGN(at->rta_len);
    if (step >= bytes) return nullptr;
    bytes -= step;
    at = reinterpret_cast<const rtattr*>(reinterpret_cast<const char*>(at) + step);
  }
  return nullptr;
}

const rtattr* FindInside(const rtattr* outer, unsigned short type) noexcept {
  if (outer == nullptr) return nullptr;
  return FindAttribute(static_cast<const rtattr*>(RTA_DATA(outer)), outer->rta_len - RTA_LENGTH(0), type);
}

}  // namespace

// From the kernel's own list: /sys may show another network namespace's interfaces.
bool ReadTapOwner(const char* name, TapOwner* out) noexcept {
  *out = {};
  LinkMessage message(RTM_GETLINK, 0);
  message.Append<ifinfomsg>();
  message.Attribute(IFLA_IFNAME, name, strnlen(name, IFNAMSIZ - 1) + 1);
  alignas(nlmsghdr) char answer[8192];
  ssize_t n = message.Ask(answer, sizeof answer);
  auto* reply = reinterpret_cast<nlmsghdr*>(answer);
  if (n < static_cast<ssize_t>(NLMSG_LENGTH(sizeof(ifinfomsg))) || reply->nlmsg_type != RTM_NEWLINK ||
      reply->nlmsg_len > static_cast<size_t>(n))
    return false;
  auto* body = static_cast<ifinfomsg*>(NLMSG_DATA(reply));
  const rtattr* info = FindAttribute(IFLA_RTA(body), IFLA_PAYLOAD(reply), IFLA_LINKINFO);
  const rtattr* kind = FindInside(info, IFLA_INFO_KIND);
  if (kind == nullptr || strncmp(static_cast<const char*>(RTA_DATA(kind)), "tun", 4) != 0) return false;
  const rtattr* data = FindInside(info, IFLA_INFO_DATA);
  if (const rtattr* user = FindInside(data, IFLA_TUN_OWNER)) {
    out->has_user = true;
    memcpy(&out->user, RTA_DATA(user), sizeof out->user);
  }
  if (const rtattr* group = FindInside(data, IFLA_TUN_GROUP)) {
    out->has_group = true;
    memcpy(&out->group, RTA_DATA(group), sizeof out->group);
  }
  return true;
}

IoError SetLinkUp(const char* name, bool up) noexcept {
  Descriptor socket = ControlSocket();
  ifreq request = RequestFor(name);
  int r = sys::Ioctl(socket.get(), SIOCGIFFLAGS, &request);
  if (r == 0) {
    request.ifr_flags = static_cast<short>(up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
    r = sys::Ioctl(socket.get(), SIOCSIFFLAGS, &request);
  }
  return r < 0 ? AdminError(-r, name, up ? "bring up" : "bring down") : IoError{};
}

IoError SetLinkMtu(const char* name, uint32_t mtu) noexcept {
  Descriptor socket = ControlSocket();
  ifreq request = RequestFor(name);
  request.ifr_mtu = static_cast<int>(mtu);
  int r = sys::Ioctl(socket.get(), SIOCSIFMTU, &request);
  if (r == -EINVAL) return MakeError(EINVAL, "%u is no MTU for %s (68 to 65521)", mtu, name);
  return r < 0 ? AdminError(-r, name, "set the MTU of") : IoError{};
}

IoError AddAddress(const char* name, std::span<const uint8_t> address, unsigned prefix_length) noexcept {
  return ChangeAddress(RTM_NEWADDR, name, address, prefix_length);
}

IoError RemoveAddress(const char* name, std::span<const uint8_t> address, unsigned prefix_length) noexcept {
  return ChangeAddress(RTM_DELADDR, name, address, prefix_length);
}

IoError DeleteTap(const char* name) noexcept {
  LinkState link;
  if (IoError error = ReadLink(name, &link)) return error;
  // Only what the tun driver made: a mistyped name must not take a network card away.
  Descriptor socket = ControlSocket();
  ifreq request = RequestFor(name);
  ethtool_drvinfo info{};
  info.cmd = ETHTOOL_GDRVINFO;
  request.ifr_data = reinterpret_cast<char*>(&info);
  if (sys::Ioctl(socket.get(), SIOCETHTOOL, &request) < 0 || strcmp(info.driver, "tun") != 0)
    return MakeError(EINVAL, "%s is not a TAP interface: it stays", name);
  LinkMessage message(RTM_DELLINK, 0);
  message.Append<ifinfomsg>()->ifi_index = link.index;
  int r = message.Exchange();
  return r < 0 ? AdminError(-r, name, "delete") : IoError{};
}

}  // namespace ustcp
