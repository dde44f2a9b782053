// Starting a host's keeper from inside a program: in a session of its own, not a child of the program, without its
// descriptors, its LD_PRELOAD, or a zombie it would have to wait for.
#pragma once

#include "io/device/tap.h"
#include "io/member/keeper_protocol.h"
#include "io/settings/settings.h"

namespace ustcp {

// Starts the keeper, with its socket in `directory`, and waits until it serves or says why not. `arena_fd` >= 0: it adopts
// that arena. `stays`: it does not end when nobody uses it. EEXIST: another keeper of the host runs or is just starting;
// connecting will succeed presently. Code 0 with a message: it serves, and there is something to be told. *ended: it ran, and
// ended without a word.
IoError StartKeeper(const Settings& settings, const char* const* environment, const char* directory, int arena_fd,
                    bool stays = false, bool* ended = nullptr) noexcept;

// Checks that nobody but this user (or root) can put things into the directory; with `create`, makes it when it is
// missing. ENOENT: not there. EACCES, ENETDOWN: the message says what helps.
IoError CheckRuntimeDirectory(const char* path, bool create) noexcept;

}  // namespace ustcp
