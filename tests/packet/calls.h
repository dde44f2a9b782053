// The socket calls of a script. A call that would block in a program stays pending here and is tried again after each
// step of the world.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "stack/socket/readiness.h"
#include "stack/socket/socket.h"
#include "tests/packet/world.h"

namespace ustcp::packet {

// What a descriptor of the script stands for.
struct Descriptor {
  Socket* socket = nullptr;
  EpollSet* epoll = nullptr;
  uint32_t read_at = 1, write_at = 1;  // script sequence numbers of the next bytes
  bool check_reads = true;             // until urgent data or flags make positions unclear
};

struct CallResult {
  int64_t value = 0;
  int error = 0;
  std::string mismatch;  // an output argument that is not what the script says
};

class Calls {
 public:
  Calls(World& world, bool v6) : world_(world), v6_(v6) {}

  // Starts a call. Empty: it blocks; Retry() goes on with it.
  std::optional<CallResult> Start(const CallSpec& call);
  std::optional<CallResult> Retry();
  // The socket that assertions about tcp_info mean: the last one connected or accepted.
  int last_fd() const { return last_fd_; }
  Socket* SocketOf(int fd);
  // The peer's port of the last connection, also after its descriptor is gone.
  uint16_t last_peer_port() const { return last_peer_port_; }
  // Closes whatever the script left open.
  void CloseAll();
  void StopReadChecks() {
    for (auto& [fd, d] : fds_) d.check_reads = false;
  }

  static std::string ErrorName(int error);
  // A constant of C, several joined by '|', or a number. Empty when unknown.
  static std::optional<int64_t> Value(const std::string& text);

 private:
  using Attempt = std::function<std::optional<CallResult>()>;

  Attempt Prepare(const CallSpec& call);
  Attempt PrepareOpen(const CallSpec& call);
  Attempt PrepareData(const CallSpec& call);
  Attempt PrepareOption(const CallSpec& call);
  Attempt PreparePoll(const CallSpec& call);
  Attempt PrepareEpoll(const CallSpec& call);
  Attempt PrepareClose(const CallSpec& call);
  Attempt Accept(const CallSpec& call);
  Attempt Connect(const CallSpec& call);
  Attempt Send(int fd, size_t bytes, int flags);
  Attempt Receive(int fd, std::vector<size_t> sizes, int flags);

  int TakeFd(const CallSpec& call, Descriptor d);
  Descriptor* Find(int fd);
  void CloseFd(int fd);
  Endpoint ParseAddress(const std::string& text, bool remote, bool* unspec);

  World& world_;
  bool v6_;
  std::map<int, Descriptor> fds_;
  int last_fd_ = -1;
  uint16_t last_peer_port_ = World::kFirstPeerPort;
  Attempt pending_;
};

}  // namespace ustcp::packet
