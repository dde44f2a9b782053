// The keeper's messages: standard error in the foreground, a file when one is configured, nowhere otherwise.
#pragma once

#include "io/device/tap.h"

namespace ustcp::keeper {

// `path` may be empty. Call before rights are dropped. An error: the file is not a private one of this user's
// (io/base/trusted_file.h), and nothing is written.
IoError OpenLog(const char* path, bool foreground);

// The descriptor it writes to, -1 without one.
int LogDescriptor();

// One line; adds time and process number.
[[gnu::format(printf, 1, 2)]] void Log(const char* format, ...);

}  // namespace ustcp::keeper
