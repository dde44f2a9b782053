#include "preload/keeper/setup.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "io/base/parse.h"
#include "io/device/net_admin.h"

namespace ustcp::keeper {

namespace {

IoError Fail(int code, const char* what, const char* detail, const char* remedy) {
  IoError error;
  error.code = code;
  TextBuilder(error.message) << what << detail << "; " << remedy;
  return error;
}

constexpr uint32_t kNobody = 65534;
// User numbers that nobody is given: systemd sets them aside as unused (doc/UIDS-GIDS.md), above containers' and below those
// that are negative to some programs.
constexpr uint32_t kFirstUnused = 1'879'048'192;
constexpr uint32_t kLastUnused = 2'147'483'646;
// The same where a user namespace has 65536 numbers, as a container's.
constexpr uint32_t kFirstUnusedLow = 65520;
constexpr uint32_t kLastUnusedLow = 65533;

// Whether this user namespace has the number, by its map: inside, outside, count on each line.
bool Mapped(const char* map, uint32_t number) {
  FILE* file = std::fopen(map, "re");
  if (file == nullptr) return false;
  unsigned long inside = 0;
  unsigned long count = 0;
  bool found = false;
  while (!found && std::fscanf(file, "%lu %*u %lu", &inside, &count) == 2)
    found = number >= inside && number - inside < count;
  std::fclose(file);
  return found;
}

}  // namespace

IoError TakeHostLock(const char* path, int* fd) {
  int made = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (made < 0) {
    char detail[320];
    TextBuilder(detail) << path << " (" << ErrnoText(errno) << ")";
    return Fail(errno == EACCES ? EACCES : ENETDOWN, "cannot open the lock file ", detail,
                "remove it or set USTCP_RUNTIME_DIR");
  }
  if (flock(made, LOCK_EX | LOCK_NB) != 0) {
    close(made);
    return Fail(EEXIST, "another keeper of the host runs: ", path, "nothing is to be done");
  }
  *fd = made;
  return {};
}

IoError CheckAddresses(const Settings& settings) {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return {};
  IoError error;
  for (ifaddrs* at = list; at != nullptr && !error; at = at->ifa_next) {
    if (at->ifa_addr == nullptr) continue;
    IpAddress kernel;
    if (at->ifa_addr->sa_family == AF_INET) {
      kernel = IpAddress::FromV4Bytes(&reinterpret_cast<sockaddr_in*>(at->ifa_addr)->sin_addr);
    } else if (at->ifa_addr->sa_family == AF_INET6) {
      kernel = IpAddress::FromV6Bytes(&reinterpret_cast<sockaddr_in6*>(at->ifa_addr)->sin6_addr);
    } else {
      continue;
    }
    for (int i = 0; i < settings.host.address_count; ++i) {
      if (settings.host.addresses[i].address != kernel) continue;
      char text[64];
      FormatAddress(kernel, text);
      char detail[96];
      TextBuilder(detail) << text << " (on " << at->ifa_name << ")";
      error = Fail(EINVAL, "the kernel has the host's address ", detail, "choose another in addresses (USTCP_ADDR)");
    }
  }
  freeifaddrs(list);
  return error;
}

uint32_t HostOwner(const char* interface) {
  TapOwner owner;
  if (geteuid() == 0) ReadTapOwner(interface, &owner);
  return geteuid() == 0 ? owner.user : geteuid();
}

User DriverUser(const Settings& settings) {
  const uint32_t self = geteuid();
  if (self != 0) return {self, getegid()};
  if (uint32_t owner = HostOwner(settings.host.interface); owner != 0) return {owner, owner};
  // FNV-1a of the host's name.
  uint32_t hash = 0x811c'9dc5;
  for (const char* at = settings.host.name; *at != '\0'; ++at) hash = (hash ^ static_cast<uint8_t>(*at)) * 0x0100'0193;
  for (auto [first, last] : {std::pair{kFirstUnused, kLastUnused}, std::pair{kFirstUnusedLow, kLastUnusedLow}}) {
    const uint32_t own = first + hash % (last - first + 1);
    if (Mapped("/proc/self/uid_map", own) && Mapped("/proc/self/gid_map", own)) return {own, own};
  }
  return {kNobody, kNobody};
}

}  // namespace ustcp::keeper
