#include "preload/descriptors/proc_names.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "io/base/parse.h"
#include "io/base/sys.h"

namespace ustcp {

namespace {

constexpr std::string_view kSocketLink = "socket:[";
constexpr size_t kMaxName = 128;  // longer ones are of other things

// Takes `prefix` off the front.
bool Take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// Takes a number off the front; -1 without one.
int TakeNumber(std::string_view& text) {
  int64_t n = -1;
  while (!text.empty() && text.front() >= '0' && text.front() <= '9' && n < INT32_MAX / 10) {
    n = std::max<int64_t>(n, 0) * 10 + (text.front() - '0');
    text.remove_prefix(1);
  }
  return static_cast<int>(n);
}

// The whole of `text` as a number.
int Number(std::string_view text) {
  int n = TakeNumber(text);
  return text.empty() ? n : -1;
}

// "self/", "thread-self/", "PID/", "PID/task/TID/" of this process.
bool TakeOwnProcess(std::string_view& text) {
  if (Take(text, "thread-self/")) return true;
  if (!Take(text, "self/")) {
    if (TakeNumber(text) != sys::Call(SYS_getpid) || !Take(text, "/")) return false;
  }
  std::string_view rest = text;
  if (Take(rest, "task/") && TakeNumber(rest) >= 0 && Take(rest, "/")) text = rest;
  return true;
}

int DescriptorOfPath(std::string_view path) {
  if (path == "/dev/stdin") return 0;
  if (path == "/dev/stdout") return 1;
  if (path == "/dev/stderr") return 2;
  if (Take(path, "/dev/fd/")) return Number(path);
  if (Take(path, "/proc/") && TakeOwnProcess(path) && Take(path, "fd/")) return Number(path);
  return -1;
}

}  // namespace

int DescriptorNamed(int folder, const char* name, int flags) noexcept {
  if (name == nullptr || name[0] == 0) return (flags & AT_EMPTY_PATH) != 0 ? folder : -1;
  size_t length = strnlen(name, kMaxName);
  if (length == kMaxName) return -1;
  if (name[0] == '/') return DescriptorOfPath({name, length});
  // Relative: from where the folder is.
  char link[48];
  if (folder == AT_FDCWD)
    TextBuilder(link) << "/proc/self/cwd";
  else
    TextBuilder(link) << "/proc/self/fd/" << folder;
  char path[2 * kMaxName];
  long n = sys::Call(SYS_readlink, sys::Arg(link), sys::Arg(path), kMaxName);
  if (n <= 0 || n == kMaxName) return -1;
  path[n] = '/';
  std::memcpy(path + n + 1, name, length);
  return DescriptorOfPath({path, static_cast<size_t>(n) + 1 + length});
}

bool StartsAsSocketLink(const char* text, size_t length) noexcept {
  return std::string_view(text, std::min(length, kSocketLink.size())) == kSocketLink.substr(0, length);
}

size_t WriteSocketLink(uint64_t inode, char* to, size_t room) noexcept {
  char text[40];
  TextBuilder(text) << "socket:[" << static_cast<int64_t>(inode) << "]";
  size_t n = std::min(room, std::strlen(text));
  std::memcpy(to, text, n);
  return n;
}

}  // namespace ustcp
