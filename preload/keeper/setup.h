// What a keeper has to establish before it serves: that it is the only one of its host, that its addresses are not the
// kernel's, and whose it is.
#pragma once

#include <cstdint>

#include "io/device/tap.h"
#include "io/settings/settings.h"

namespace ustcp::keeper {

// Takes the host's lock file for as long as *fd stays open. EEXIST: another keeper has it.
IoError TakeHostLock(const char* path, int* fd);

// EINVAL when an address of the host belongs to the kernel in this network namespace.
IoError CheckAddresses(const Settings& settings);

struct User {
  uint32_t uid = 0;
  uint32_t gid = 0;
};

// Whose the host is: the keeper's user's, or when that is root the interface's owner's.
uint32_t HostOwner(const char* interface);

// Who drives. It maps the arena and so is to have no more rights than a member, and to be no member's neighbour: of a
// keeper that runs as root it is the host's owner, or, where that is root too, a user who is nobody else.
User DriverUser(const Settings& settings);

}  // namespace ustcp::keeper
