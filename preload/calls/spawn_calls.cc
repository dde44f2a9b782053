// posix_spawn and system; popen is in opening_calls.cc. The new programs have none of our sockets; what they inherit is empty
// and each socket's own.
#include <spawn.h>

#include <cstdlib>

#include "preload/calls/interpose.h"
#include "preload/descriptors/placeholder.h"

using namespace ustcp;

USTCP_EXPORT int posix_spawn(pid_t* child, const char* path, const posix_spawn_file_actions_t* actions,
                             const posix_spawnattr_t* attributes, char* const* argv, char* const* environment) {
  OwnInheritedPlaceholders();
  return real::posix_spawn(child, path, actions, attributes, argv, environment);
}

USTCP_EXPORT int posix_spawnp(pid_t* child, const char* file, const posix_spawn_file_actions_t* actions,
                              const posix_spawnattr_t* attributes, char* const* argv, char* const* environment) {
  OwnInheritedPlaceholders();
  return real::posix_spawnp(child, file, actions, attributes, argv, environment);
}

// The copy will not be close-on-exec, whatever `from` is.
USTCP_EXPORT int posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t* actions, int from, int to) noexcept {
  if (SocketRef ref = FindSocket(from)) OwnPlaceholder(from, *ref);
  return real::posix_spawn_file_actions_adddup2(actions, from, to);
}

USTCP_EXPORT int system(const char* command) {
  OwnInheritedPlaceholders();
  return real::system(command);
}
