// What a keeper has to establish before it serves: that it is the only one of its host and of its interface, that the
// addresses are free, and whether there is an arena whose keeper died.
#pragma once

#include <cstdint>
#include <vector>

#include "io/device/tap.h"
#include "io/settings/settings.h"

namespace ustcp::keeper {

// Takes the host's lock file for as long as *fd stays open. EEXIST: another keeper has it.
IoError TakeHostLock(const char* path, int* fd);

// One host per interface and network namespace, for as long as the descriptor added to *fds stays open: the kernel
// spreads frames over all queues of a TAP, whoever holds them.
IoError TakeInterfaceLock(const char* interface, std::vector<int>* fds);

// One host per address and network namespace, whatever their interfaces. EINVAL when another has one of them.
IoError TakeAddressLocks(const Settings& settings, std::vector<int>* fds);

// One of the descriptors of the two above is readable: others have asked who holds it. Makes room for more questions.
void AnswerNameQuestion(int fd);

// EINVAL when an address of the host belongs to the kernel in this network namespace.
IoError CheckAddresses(const Settings& settings);

// The arena that a keeper of this host left behind: a descriptor, opened through a process that still has it; -1 when
// there is none. `path` is the file RecordArena wrote.
int FindAbandonedArena(const char* path);
void RecordArena(const char* path, uint64_t inode);

// Who the driver becomes when the keeper runs as root: the TAP's owner when it has one, nobody otherwise.
void DriverUser(const char* interface, uint32_t* uid, uint32_t* gid);

}  // namespace ustcp::keeper
