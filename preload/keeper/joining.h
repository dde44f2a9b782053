// Who may join the host (docs/decisions/0006-who-may-join.md): whom the kernel vouches for, by credentials, by the arena
// itself, or as a process that is known already.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>

#include "io/device/tap.h"
#include "io/member/arena_map.h"
#include "io/settings/settings.h"

namespace ustcp::keeper {

// Of a connection's other end, as the kernel says: who connected. Nothing of it is taken from a message.
struct Peer {
  pid_t pid = 0;
  uint32_t uid = 0;
};

enum class Purpose { kJoin, kLook, kChange };

class Joining {
 public:
  Joining(const Settings& settings, uint32_t owner) : settings_(settings), owner_(owner) {}
  ~Joining();
  Joining(const Joining&) = delete;
  Joining& operator=(const Joining&) = delete;

  void SetArena(const ArenaIdentity& arena) { arena_ = arena; }
  const ArenaIdentity& arena() const { return arena_; }

  // Its user may join, whatever it shows.
  bool Trusted(uint32_t uid) const { return uid == 0 || uid == owner_; }
  // `shown_fd`: a descriptor that came with the request, -1 without one. EACCES: may not.
  IoError Admit(const Peer& peer, Purpose purpose, int shown_fd);

  // The peer, a member, is about to exec. `pidfd` is of the process, taken when it introduced itself.
  void ExpectReturn(const Peer& peer, int pidfd);
  // Forgets the announced processes that have ended.
  void DropEnded();

 private:
  bool Listed(uint32_t uid) const;
  bool ShowsArena(int fd) const;
  bool Returns(pid_t pid);

  const Settings& settings_;
  uint32_t owner_;
  ArenaIdentity arena_;
  std::map<pid_t, int> announced_;  // pidfds of members that exec: each may come back once
};

// A pidfd of a connection's other end; -1 when it has ended or there is none to be had.
int PeerPidfd(int socket, pid_t pid);

}  // namespace ustcp::keeper
