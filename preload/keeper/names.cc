#include "preload/keeper/names.h"

#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "io/base/report.h"
#include "preload/keeper/haste.h"

namespace ustcp::keeper {

namespace {

constexpr int kQuestions = 64;  // that wait for an answer
constexpr size_t kMostHolders = 1024;

// An abstract socket's address: a zero, then the name.
socklen_t AddressOf(const std::string& name, sockaddr_un* out) {
  *out = {};
  out->sun_family = AF_UNIX;
  size_t n = name.copy(out->sun_path + 1, sizeof(out->sun_path) - 1);
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + n);
}

// Not to be waited for: a holder that is stopped answers nobody.
int OpenSocket() { return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); }

// The names in use that are `name`, or begin with it and a slash.
std::vector<std::string> Holders(const std::string& name) {
  std::vector<std::string> result;
  FILE* file = std::fopen("/proc/net/unix", "re");
  if (file == nullptr) return {name};
  char line[512];
  while (std::fgets(line, sizeof(line), file) != nullptr && result.size() < kMostHolders) {
    const char* at = std::strchr(line, '@');
    if (at == nullptr) continue;
    std::string found(at + 1, std::strcspn(at + 1, "\n"));
    if (found == name || found.starts_with(name + "/")) result.push_back(found);
  }
  std::fclose(file);
  return result;
}

std::string RandomEnding() {
  uint64_t number = 0;
  if (getrandom(&number, sizeof(number), 0) != sizeof(number)) number = static_cast<uint64_t>(getpid());
  char text[24];
  std::snprintf(text, sizeof(text), "/%016llx", static_cast<unsigned long long>(number));
  return text;
}

}  // namespace

// Whoever does not take the question can have no answer that counts: its user is unknown.
bool Names::HeldByKeeper(const std::string& name, std::string* holder) {
  int fd = OpenSocket();
  if (fd < 0) return false;
  sockaddr_un address;
  socklen_t size = AddressOf(name, &address);
  ucred peer{};
  socklen_t peer_size = sizeof(peer);
  bool known = connect(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
               getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_size) == 0;
  bool gone = !known && errno == ECONNREFUSED;
  CloseHastily(fd);
  char text[96];
  std::snprintf(text, sizeof(text), known ? "%d of user %u" : "unknown", static_cast<int>(peer.pid), peer.uid);
  if (known && (peer.uid == 0 || peer.uid == geteuid() || peer.uid == owner_)) {
    *holder = text;
    return true;
  }
  if (!gone && warning_.empty())
    warning_ = "process " + std::string(text) + " has taken the name @" + name + ", which is passed by";
  return false;
}

Names::Taken Names::Take(const char* kind, const char* name, std::string* holder) {
  const std::string wanted = std::string("ustcp-") + kind + "/" + name;
  std::string own = wanted;
  int made = OpenSocket();
  if (made < 0) return Taken::kNoDescriptor;
  sockaddr_un address;
  socklen_t size = AddressOf(own, &address);
  if (bind(made, reinterpret_cast<sockaddr*>(&address), size) != 0) {
    own += RandomEnding();
    size = AddressOf(own, &address);
    if (bind(made, reinterpret_cast<sockaddr*>(&address), size) != 0) {
      close(made);
      return Taken::kNoDescriptor;
    }
  }
  listen(made, kQuestions);  // others ask who holds it; the answer is the connection itself (AnswerNameQuestion)
  for (const std::string& other : Holders(wanted)) {
    if (other == own || !HeldByKeeper(other, holder)) continue;
    close(made);
    return Taken::kByAnother;
  }
  descriptors_.push_back(made);
  return Taken::kYes;
}

IoError Names::TakeInterface(const char* interface) {
  std::string holder;
  switch (Take("interface", interface, &holder)) {
    case Taken::kYes: return {};
    case Taken::kNoDescriptor: return MakeError(ENETDOWN, "no descriptor left; raise RLIMIT_NOFILE");
    case Taken::kByAnother: break;
  }
  return MakeError(ENETDOWN,
                   "another host uses the interface %s (keeper %s); join it with USTCP_HOST or set USTCP_INTERFACE",
                   interface, holder.c_str());
}

IoError Names::TakeAddresses(const Settings& settings) {
  for (int i = 0; i < settings.host.address_count; ++i) {
    const IpAddress& address = settings.host.addresses[i].address;
    if (address.is_link_local()) continue;  // one on every link
    char text[64];
    FormatAddress(address, text);
    std::string holder;
    switch (Take("address", text, &holder)) {
      case Taken::kYes: continue;
      case Taken::kNoDescriptor: return MakeError(ENETDOWN, "no descriptor left; raise RLIMIT_NOFILE");
      case Taken::kByAnother: break;
    }
    return MakeError(EINVAL, "another host has the address %s (keeper %s); choose another in addresses (USTCP_ADDR)",
                     text, holder.c_str());
  }
  return {};
}

void AnswerNameQuestion(int fd) {
  for (int i = 0; i < kQuestions; ++i) {
    int asking = accept4(fd, nullptr, nullptr, SOCK_CLOEXEC);
    if (asking < 0) return;
    CloseHastily(asking);
  }
}

}  // namespace ustcp::keeper
