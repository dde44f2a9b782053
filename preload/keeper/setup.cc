#include "preload/keeper/setup.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "io/base/parse.h"
#include "io/member/arena_map.h"

namespace ustcp::keeper {

namespace {

IoError Fail(int code, const char* what, const char* detail, const char* remedy) {
  IoError error;
  error.code = code;
  TextBuilder(error.message) << what << detail << "; " << remedy;
  return error;
}

uint32_t ReadNumberFile(const char* path, uint32_t fallback) {
  FILE* file = std::fopen(path, "re");
  if (file == nullptr) return fallback;
  long value = -1;
  int read = std::fscanf(file, "%ld", &value);
  std::fclose(file);
  return read == 1 && value >= 0 ? static_cast<uint32_t>(value) : fallback;
}

IoError NoDescriptor() { return Fail(ENETDOWN, "no descriptor left", "", "raise RLIMIT_NOFILE"); }

enum class Taken { kYes, kByAnother, kNoDescriptor };

// Takes a name that one keeper of a network namespace can have at a time, for as long as the descriptor added to *fds stays open. `owner` gets
// " (keeper 123 of user 0)" when another has it and says so.
template <size_t N>
Taken TakeName(const char* kind, const char* name, char (&owner)[N], std::vector<int>* fds) {
  // An abstract socket: it belongs to the network namespace, as interfaces do, and goes with its owner.
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  int length = std::snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "ustcp-%s/%s", kind, name);
  auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + static_cast<size_t>(length));
  // Not to be waited for: a holder that is stopped answers nobody, and the question is not worth more.
  int made = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (made < 0) return Taken::kNoDescriptor;
  if (bind(made, reinterpret_cast<sockaddr*>(&address), size) == 0) {
    listen(made, 8);  // others ask who holds it; the answer is the connection itself (AnswerNameQuestion)
    fds->push_back(made);
    return Taken::kYes;
  }
  ucred peer{};
  socklen_t peer_size = sizeof(peer);
  if (connect(made, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
      getsockopt(made, SOL_SOCKET, SO_PEERCRED, &peer, &peer_size) == 0)
    TextBuilder(owner) << " (keeper " << peer.pid << " of user " << peer.uid << ")";
  close(made);
  return Taken::kByAnother;
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

void AnswerNameQuestion(int fd) {
  for (int asking; (asking = accept4(fd, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) close(asking);
}

IoError TakeInterfaceLock(const char* interface, std::vector<int>* fds) {
  char owner[64] = {};
  switch (TakeName("interface", interface, owner, fds)) {
    case Taken::kYes: return {};
    case Taken::kNoDescriptor: return NoDescriptor();
    case Taken::kByAnother: break;
  }
  char detail[96];
  TextBuilder(detail) << interface << owner;
  return Fail(ENETDOWN, "another host uses the interface ", detail, "join it with USTCP_HOST or set USTCP_INTERFACE");
}

IoError TakeAddressLocks(const Settings& settings, std::vector<int>* fds) {
  for (int i = 0; i < settings.host.address_count; ++i) {
    const IpAddress& address = settings.host.addresses[i].address;
    if (address.is_link_local()) continue;  // one on every link
    char text[64];
    FormatAddress(address, text);
    char owner[64] = {};
    switch (TakeName("address", text, owner, fds)) {
      case Taken::kYes: continue;
      case Taken::kNoDescriptor: return NoDescriptor();
      case Taken::kByAnother: break;
    }
    char detail[160];
    TextBuilder(detail) << text << owner;
    return Fail(EINVAL, "another host has the address ", detail, "choose another in addresses (USTCP_ADDR)");
  }
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

void RecordArena(const char* path, uint64_t inode) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return;
  char text[32];
  int n = std::snprintf(text, sizeof(text), "%llu\n", static_cast<unsigned long long>(inode));
  if (write(fd, text, static_cast<size_t>(n)) != n) unlink(path);
  close(fd);
}

int FindAbandonedArena(const char* path) {
  FILE* file = std::fopen(path, "re");
  if (file == nullptr) return -1;
  unsigned long long wanted = 0;
  bool known = std::fscanf(file, "%llu", &wanted) == 1;
  std::fclose(file);
  DIR* processes = known ? opendir("/proc") : nullptr;
  if (processes == nullptr) return -1;
  int found = -1;
  while (dirent* process = found < 0 ? readdir(processes) : nullptr) {
    if (process->d_name[0] < '1' || process->d_name[0] > '9') continue;
    char directory[300];
    std::snprintf(directory, sizeof(directory), "/proc/%s/fd", process->d_name);
    DIR* descriptors = opendir(directory);
    if (descriptors == nullptr) continue;  // somebody else's
    while (dirent* entry = found < 0 ? readdir(descriptors) : nullptr) {
      char link[600];
      std::snprintf(link, sizeof(link), "%s/%s", directory, entry->d_name);
      char target[64];
      ssize_t n = readlink(link, target, sizeof(target));
      if (n < 14 || std::strncmp(target, "/memfd:ustcp-", 13) != 0) continue;
      int fd = open(link, O_RDWR | O_CLOEXEC);
      uint64_t bytes;
      uint64_t inode;
      if (fd >= 0 && !InspectArenaFile(fd, &bytes, &inode) && inode == wanted) {
        found = fd;
      } else if (fd >= 0) {
        close(fd);
      }
    }
    closedir(descriptors);
  }
  closedir(processes);
  return found;
}

void DriverUser(const char* interface, uint32_t* uid, uint32_t* gid) {
  constexpr uint32_t kNobody = 65534;
  char path[64];
  std::snprintf(path, sizeof(path), "/sys/class/net/%s/owner", interface);
  *uid = ReadNumberFile(path, kNobody);
  if (*uid == 0) *uid = kNobody;
  *gid = *uid;
}

}  // namespace ustcp::keeper
