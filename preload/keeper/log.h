// The keeper's messages: standard error in the foreground, a file when one is configured, nowhere otherwise.
#pragma once

namespace ustcp::keeper {

// `path` may be empty. Call before rights are dropped.
void OpenLog(const char* path, bool foreground);

// The descriptor it writes to, -1 without one.
int LogDescriptor();

// One line; adds time and process number.
[[gnu::format(printf, 1, 2)]] void Log(const char* format, ...);

}  // namespace ustcp::keeper
