// Opening files that an environment or a configuration names. Somebody else must neither choose what we read nor where we
// write: a configuration is what root or this user wrote, in directories that nobody else can change, and what we write
// goes into a file of our own, never through a link. Works inside programs: no heap, raw calls.
#pragma once

#include <cstddef>

#include "io/device/tap.h"

namespace ustcp {

// For reading. The error's code is ENOENT when there is no such file, EACCES when it may not be read or is not to be
// believed, EINVAL otherwise.
IoError OpenConfiguration(const char* path, int* fd) noexcept;

enum class PrivateFile { kTruncate, kAppend };

// For writing, made with mode 0600 when it is not there. What is there already has to be a plain file of this user's with
// one name, and is given that mode.
IoError OpenPrivateFile(const char* path, PrivateFile how, int* fd) noexcept;

// Whether this process was started with more rights than whoever started it has (set-user-id, set-group-id, file
// capabilities): then nothing in its environment is to be believed.
bool StartedWithMoreRights() noexcept;

}  // namespace ustcp
