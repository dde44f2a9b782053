// The keeper's half with the right to open TAP queues. It answers members by what the kernel says about them
// (SO_PEERCRED), hands out the arena and the queues as descriptors, and never maps the arena: whatever members write
// there cannot reach it.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "io/device/tap.h"
#include "io/member/keeper_protocol.h"
#include "io/settings/settings.h"
#include "preload/keeper/internal.h"
#include "stack/host/shard.h"

namespace ustcp::keeper {

struct BrokerOptions {
  Settings settings;
  std::string socket_path;
  std::string arena_record_path;
  int host_lock_fd = -1;
  std::vector<int> name_fds;  // hold the names of the interface and the addresses; readable when others ask whose
  int ready_fd = -1;          // told when the socket is there; -1: nobody waits
  int adopt_fd = -1;          // an arena to go on with
  TapQueue spare;             // opened while starting; the first request gets it
  bool tap_handed_in = false;
  bool stay = false;  // started by hand or as a service: serves until told to end
};

class Broker {
 public:
  explicit Broker(const BrokerOptions& options) : options_(options), owner_(geteuid_at_start()) {}
  // Serves until nothing is left or a signal says so. Returns the exit status.
  int Run();

 private:
  struct Client {
    int fd = -1;
    pid_t pid = 0;
    uint32_t uid = 0;
    bool member = false;  // has attached (tools that observe have not)
  };

  static uint32_t geteuid_at_start();
  IoError StartDriver(int arena_fd);
  bool RestartDriver();
  IoError Publish();
  void Unpublish();
  void AcceptClients();
  void Serve(Client& client);
  void Answer(Client& client, const KeeperRequest& request, int fd, KeeperReply* reply, int* reply_fd);
  IoError CheckMember(const Client& client, bool observe, int shown_fd) const;
  IoError GiveQueue(uint16_t shard, bool reopen, const TapQueue** out, QueueShare* share);
  IoError GiveOnlyQueue(uint16_t shard, bool reopen);
  IoError AdoptOffer(uint16_t shard, int fd, QueueShare share);
  IoError OpenQueue(TapQueue* out);
  void CloseQueue(uint16_t shard);
  void HearDriver();
  void Hear(const InternalMessage& message);
  void TellDriver(const InternalMessage& message, int fd);
  void TellQueue(uint16_t shard, bool announce = false);
  size_t Members() const;
  void FillStatus(KeeperReply* reply) const;

  BrokerOptions options_;
  uint32_t owner_;
  int listen_fd_ = -1;
  int driver_fd_ = -1;
  pid_t driver_pid_ = -1;
  int driver_starts_ = 0;
  int arena_fd_ = -1;
  uint64_t arena_bytes_ = 0;
  uint64_t arena_inode_ = 0;
  bool idle_ = true;
  std::vector<Client> clients_;
  TapQueue only_;  // of an interface with one queue; the shards' are unused then
  std::array<TapQueue, kMaxShards> queues_{};
  std::array<int32_t, kMaxShards> told_{};  // times the driver was told of a shard's queue
};

// Asks the broker to end: SIGTERM and SIGINT.
void InstallStopSignals();
bool StopRequested();

}  // namespace ustcp::keeper
