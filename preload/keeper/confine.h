// Giving up rights: the broker keeps what opening a TAP queue needs, the driver keeps nothing.
#pragma once

#include <cstdint>

namespace ustcp::keeper {

// Leaves CAP_NET_ADMIN (TAP queues) and CAP_SETUID, CAP_SETGID (a new driver in place of one that died), and no way to
// gain others. Returns 0 or an errno number.
int ConfineBroker();

// Becomes `uid` with its group `gid` when running as root, loses every capability, cannot be traced by its new equals, and
// may make only the system calls a driver needs. Call once all descriptors are open and threads are running.
int ConfineDriver(uint32_t uid, uint32_t gid);

// Removes soft limits that the program which started us set for itself, as far as the hard ones allow; root's keeper has
// its descriptors in any case.
void RaiseLimits();

}  // namespace ustcp::keeper
