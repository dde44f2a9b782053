// The keeper's half with the right to open TAP queues. It answers members by what the kernel says about them
// (SO_PEERCRED), hands out the arena and the queues as descriptors, and never maps the arena: whatever members write
// there cannot reach it.
#pragma once

#include <poll.h>
#include <sys/types.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "io/device/tap.h"
#include "io/member/keeper_protocol.h"
#include "io/settings/settings.h"
#include "preload/keeper/internal.h"
#include "preload/keeper/joining.h"
#include "preload/keeper/quotas.h"
#include "preload/keeper/setup.h"
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
  bool stay = false;       // started by hand or as a service: serves until told to end
  bool of_net_up = false;  // `ustcp net down` ends it
  uint32_t owner = 0;
  User driver_user;
  std::string warnings;  // for whoever starts the keeper, one line
};

class Broker {
 public:
  explicit Broker(const BrokerOptions& options);
  // Serves until nothing is left or a signal says so. Returns the exit status.
  int Run();

 private:
  struct Client {
    int fd = -1;
    Peer peer;
    int pidfd = -1;  // of a member's process, from its introduction on
    bool member = false;
    bool introduced = false;  // a member, or a tool that observes
    Instant since = Instant{};
  };

  // broker.cc: its life and its driver's
  IoError Start();
  IoError StartDriver(int arena_fd);
  void LoseDriver();
  bool TryDriverAgain();
  IoError Publish();
  void Unpublish();
  Instant NextEvent(Instant now);
  void Poll();
  bool EndWhenUnused();
  bool InterfaceGone() const;
  bool Deserted() const;
  void HearDriver();
  void Hear(const InternalMessage& message);
  void TellDriver(const InternalMessage& message, int fd);

  // broker_clients.cc: who is connected, and what they ask for
  void AcceptClients();
  void Serve(Client& client);
  void Answer(Client& client, const KeeperRequest& request, int fd, KeeperReply* reply, int* reply_fd);
  IoError Introduce(Client& client, const KeeperRequest& request, int fd, int* reply_fd);
  IoError AnswerMember(Client& client, const KeeperRequest& request, int fd, KeeperReply* reply, int* reply_fd);
  void Leave(Client& client);
  void DropClients(Instant now);
  void LogRefusal(const Peer& peer, const char* line);
  void CloseShown(const Peer& peer, int fd);
  size_t Members() const;
  void FillStatus(KeeperReply* reply) const;

  // broker_queues.cc
  IoError GiveQueue(uint16_t shard, bool reopen, const TapQueue** out, QueueShare* share);
  IoError GiveOnlyQueue(uint16_t shard, bool reopen);
  IoError AdoptOffer(uint16_t shard, int fd, int32_t share);
  IoError OpenQueue(TapQueue* out);
  void CloseQueue(uint16_t shard);
  void TellQueue(uint16_t shard, bool announce = false);

  BrokerOptions options_;
  Joining joining_;
  Quotas quotas_;
  unsigned interface_ = 0;  // its index; 0: handed in, and perhaps of another namespace
  int listen_fd_ = -1;
  int driver_fd_ = -1;
  pid_t driver_pid_ = -1;
  int driver_starts_ = 0;  // in quick succession
  Instant driver_started_ = Instant{};
  Instant driver_due_ = kNever;  // when to start another one
  int arena_fd_ = -1;
  int arena_look_fd_ = -1;  // to read only
  uint64_t arena_bytes_ = 0;
  bool idle_ = true;
  Instant idle_since_ = kNever;
  Instant accept_again_ = Instant{};  // no descriptor was left: not to be tried before
  std::vector<Client> clients_;
  Instant log_refusal_ = Instant{};  // not before
  int refusals_unlogged_ = 0;
  TapQueue only_;  // of an interface with one queue; the shards' are unused then
  std::array<TapQueue, kMaxShards> queues_{};
  std::array<int32_t, kMaxShards> told_{};  // times the driver was told of a shard's queue
};

void Refuse(const IoError& error, KeeperReply* reply);

// Asks the broker to end: SIGTERM and SIGINT.
void InstallStopSignals();
bool StopRequested();

}  // namespace ustcp::keeper
