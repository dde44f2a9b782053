#include "preload/keeper/log.h"

#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <ctime>

#include "io/base/trusted_file.h"

namespace ustcp::keeper {

namespace {
int g_log_fd = -1;
}

IoError OpenLog(const char* path, bool foreground) {
  if (*path != '\0') return OpenPrivateFile(path, PrivateFile::kAppend, &g_log_fd);
  if (foreground) g_log_fd = 2;
  return {};
}

int LogDescriptor() { return g_log_fd; }

void Log(const char* format, ...) {
  if (g_log_fd < 0) return;
  char line[512];
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  int head = std::snprintf(line, sizeof(line), "%lld.%03ld ustcp-keeper[%d]: ", static_cast<long long>(now.tv_sec),
                           now.tv_nsec / 1'000'000, static_cast<int>(getpid()));
  va_list arguments;
  va_start(arguments, format);
  int body = std::vsnprintf(line + head, sizeof(line) - static_cast<size_t>(head) - 1, format, arguments);
  va_end(arguments);
  size_t length = static_cast<size_t>(head) + static_cast<size_t>(body < 0 ? 0 : body);
  if (length > sizeof(line) - 2) length = sizeof(line) - 2;
  // A name in it may be somebody else's: it stays one line, and no command to a terminal.
  std::replace_if(
      line, line + length, [](char c) { return c < ' ' || c > '~'; }, '?');
  line[length++] = '\n';
  // One write per line, so that the two halves do not mix theirs.
  if (write(g_log_fd, line, length) < 0) g_log_fd = -1;
}

}  // namespace ustcp::keeper
