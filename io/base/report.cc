#include "io/base/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "io/base/sys.h"

namespace ustcp {

void ReportLine(const char* format, ...) noexcept {
  char line[256];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(line, sizeof line - 1, format, args);
  va_end(args);
  if (n < 0) return;
  auto length = static_cast<size_t>(n) < sizeof line - 1 ? static_cast<size_t>(n) : sizeof line - 2;
  // A name in it may be somebody else's: it stays one line, and no command to the terminal.
  for (size_t i = 0; i < length; ++i)
    if (static_cast<unsigned char>(line[i]) < ' ' || line[i] == '\x7f') line[i] = '?';
  line[length] = '\n';
  sys::Write(2, line, length + 1);
}

IoError MakeError(int code, const char* format, ...) noexcept {
  IoError error;
  error.code = code;
  va_list args;
  va_start(args, format);
  vsnprintf(error.message, sizeof error.message, format, args);
  va_end(args);
  return error;
}

const char* ErrorName(int code) noexcept {
  const char* name = strerrorname_np(code);
  return name != nullptr ? name : "error";
}

}  // namespace ustcp
