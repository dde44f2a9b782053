// The exec family. A process keeps its number and its open descriptors, and so the stack keeps its table; the new program
// learns from its environment that there is something to take up. Calls that search or take a list of arguments come down
// to the two that name an environment.
#include <alloca.h>

#include <cstdarg>
#include <cstring>

#include "io/base/parse.h"
#include "io/member/address_limit.h"
#include "preload/calls/interpose.h"
#include "preload/calls/parts.h"
#include "preload/descriptors/placeholder.h"
#include "preload/descriptors/stale.h"
#include "preload/libc/faults.h"
#include "preload/runtime/membership.h"
#include "preload/runtime/runtime.h"

using namespace ustcp;

namespace {

constexpr size_t kNoteBytes = sizeof(kInheritVariable) + 16 + kMaxSettingPath;

constexpr size_t kUnreadable = SIZE_MAX;

// Of a list in the program's memory; kUnreadable for one that the kernel, too, will not be able to read.
size_t CountOf(char* const* list) {
  if (list == nullptr) return 0;
  for (size_t n = 0;; ++n) {
    char* entry;
    if (!GetUser(entry, list + n)) return kUnreadable;
    if (entry == nullptr) return n;
  }
}

bool IsNote(const char* entry) {
  char begin[sizeof(kInheritVariable)] = {};
  (void)CopyFromUser(begin, entry, sizeof begin);
  return memcmp(begin, kInheritVariable, sizeof begin - 1) == 0 && begin[sizeof begin - 1] == '=';
}

// `environment`, of n entries, with our note, in `room` for n + 2 pointers.
char* const* WithNote(char* const* environment, size_t n, char** room, char (&note)[kNoteBytes]) {
  TextBuilder(note) << kInheritVariable << "=" << static_cast<int64_t>(sys::Call(SYS_getpid)) << " "
                    << runtime::AttachedMember()->socket_path;
  size_t kept = 0;
  for (size_t i = 0; i < n; ++i)
    if (!IsNote(environment[i])) room[kept++] = environment[i];
  room[kept++] = note;
  room[kept] = nullptr;
  return room;
}

// A page of the table is made with its first entry.
bool HasSockets() {
  const ProcessSlot* process = g_own_process.load(std::memory_order_relaxed);
  if (process == nullptr) return false;
  for (int page = 0; page < kFdPages; ++page)
    if (process->pages[page].load(std::memory_order_relaxed) != nullptr) return true;
  return false;
}

}  // namespace

// Sets `environment` to one with the note, on the caller's stack: the child of a vfork may not allocate. The ring
// goes with this program, as do the arena's addresses, and the keeper is told that another one comes. A program without the
// library finds empty sockets under the numbers.
#define USTCP_ADD_NOTE(environment)                                                                             \
  const address_limit::AsOfProgram limit(ArenaBytes());                                                         \
  char note[kNoteBytes];                                                                                        \
  if (size_t count = HasSockets() ? CountOf(environment) : kUnreadable; count != kUnreadable) {                 \
    stale::LookAtAll();                                                                                         \
    environment = WithNote(environment, count, static_cast<char**>(alloca((count + 2) * sizeof(char*))), note); \
    runtime::LeaveQueue();                                                                                      \
    OwnInheritedPlaceholders();                                                                                 \
    runtime::BeforeExec();                                                                                      \
  }                                                                                                             \
  static_assert(true)

// The arguments after `first` as an array `argv` on the caller's stack; `list` is left behind the final null.
#define USTCP_COLLECT(argv, list, first)                                         \
  va_start(list, first);                                                         \
  size_t argv##_count = 1;                                                       \
  while (va_arg(list, char*) != nullptr) ++argv##_count;                         \
  va_end(list);                                                                  \
  auto** argv = static_cast<char**>(alloca((argv##_count + 1) * sizeof(char*))); \
  argv[0] = const_cast<char*>(first);                                            \
  va_start(list, first);                                                         \
  for (size_t i = 1; i <= argv##_count; ++i) argv[i] = va_arg(list, char*)

USTCP_EXPORT int execve(const char* path, char* const* argv, char* const* environment) noexcept {
  USTCP_ADD_NOTE(environment);
  faults::IgnoredOverExec ignored;
  return real::execve(path, argv, environment);
}

USTCP_EXPORT int execvpe(const char* file, char* const* argv, char* const* environment) noexcept {
  USTCP_ADD_NOTE(environment);
  faults::IgnoredOverExec ignored;
  return real::execvpe(file, argv, environment);
}

USTCP_EXPORT int fexecve(int fd, char* const* argv, char* const* environment) noexcept {
  USTCP_ADD_NOTE(environment);
  faults::IgnoredOverExec ignored;
  return real::fexecve(fd, argv, environment);
}

USTCP_EXPORT int execveat(int fd, const char* path, char* const* argv, char* const* environment, int flags) noexcept {
  USTCP_ADD_NOTE(environment);
  faults::IgnoredOverExec ignored;
  return real::execveat(fd, path, argv, environment, flags);
}

USTCP_EXPORT int execv(const char* path, char* const* argv) noexcept { return execve(path, argv, environ); }

USTCP_EXPORT int execvp(const char* file, char* const* argv) noexcept { return execvpe(file, argv, environ); }

USTCP_EXPORT int execl(const char* path, const char* first, ...) noexcept {
  va_list list;
  USTCP_COLLECT(argv, list, first);
  va_end(list);
  return execve(path, argv, environ);
}

USTCP_EXPORT int execlp(const char* file, const char* first, ...) noexcept {
  va_list list;
  USTCP_COLLECT(argv, list, first);
  va_end(list);
  return execvpe(file, argv, environ);
}

USTCP_EXPORT int execle(const char* path, const char* first, ...) noexcept {
  va_list list;
  USTCP_COLLECT(argv, list, first);
  char* const* environment = va_arg(list, char* const*);
  va_end(list);
  return execve(path, argv, environment);
}
