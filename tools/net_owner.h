// Of `ustcp net up --owner USER`: what that user needs and has not, and the keeper that root runs in the user's place where
// the user may not open /dev/net/tun.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "io/settings/settings.h"

namespace ustcp::tool {

struct UserAccess {
  bool node = false;                 // may open /dev/net/tun, and so run a keeper of its own
  std::vector<std::string> missing;  // lines to be told
};

// Looks with the user's eyes, groups included.
UserAccess LookAs(const Settings& settings, uid_t user);

// It stays until EndKeeperOf(). Throws.
void StartKeeperOf(const Settings& settings, uid_t user);
// Once the interface of the settings is gone: ends the keeper that was started so, and waits for one of root's that nobody
// uses to end, as each does that finds itself without its interface.
void EndKeeperOf(const Settings& settings, uid_t user);

}  // namespace ustcp::tool
