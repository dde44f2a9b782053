#include "preload/keeper/abandoned.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <memory>

namespace ustcp::keeper {

namespace {

constexpr char kMemoryFile[] = "/memfd:ustcp-";

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};
using Directory = std::unique_ptr<DIR, CloseDirectory>;

// Only what a keeper of this user, or of root, wrote there.
bool ReadRecord(const char* path, ArenaIdentity* out) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) return false;
  struct stat status {};
  char text[96] = {};
  bool own = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && (status.st_mode & 022) == 0 &&
             (status.st_uid == geteuid() || status.st_uid == 0);
  ssize_t n = own ? read(fd, text, sizeof(text) - 1) : -1;
  close(fd);
  unsigned long long device = 0;
  unsigned long long inode = 0;
  if (n <= 0 || std::sscanf(text, "%llu %llu", &device, &inode) != 2) return false;
  *out = {device, inode};
  return true;
}

// Descriptor `link` of a process, if it is the arena. What is no memory file is not opened: that alone may have effects.
int OpenIfArena(const char* link, const ArenaIdentity& wanted, uint32_t driver_uid) {
  char target[64];
  ssize_t n = readlink(link, target, sizeof(target));
  constexpr auto kPrefix = sizeof(kMemoryFile) - 1;
  if (n <= static_cast<ssize_t>(kPrefix) || std::strncmp(target, kMemoryFile, kPrefix) != 0) return -1;
  // Without asking a file system, which may be a program of the stranger's that does not answer.
  struct statx status {};
  if (statx(AT_FDCWD, link, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_INO, &status) != 0 ||
      makedev(status.stx_dev_major, status.stx_dev_minor) != wanted.device || status.stx_ino != wanted.inode)
    return -1;
  int fd = open(link, O_RDWR | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return -1;
  ArenaFile file;
  if (!InspectArenaFile(fd, &file) && file.identity == wanted && file.owner == driver_uid) return fd;
  close(fd);
  return -1;
}

}  // namespace

void RecordArena(const char* path, const ArenaIdentity& arena) {
  unlink(path);  // whatever lies there: a link, somebody else's file
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return;
  char text[64];
  int n = std::snprintf(text, sizeof(text), "%llu %llu\n", static_cast<unsigned long long>(arena.device),
                        static_cast<unsigned long long>(arena.inode));
  if (write(fd, text, static_cast<size_t>(n)) != n) unlink(path);
  close(fd);
}

int FindAbandonedArena(const char* path, uint32_t driver_uid) {
  ArenaIdentity wanted;
  if (!ReadRecord(path, &wanted)) return -1;
  Directory processes(opendir("/proc"));
  int found = -1;
  while (dirent* process = processes && found < 0 ? readdir(processes.get()) : nullptr) {
    if (process->d_name[0] < '1' || process->d_name[0] > '9') continue;
    char directory[300];
    std::snprintf(directory, sizeof(directory), "/proc/%s/fd", process->d_name);
    Directory descriptors(opendir(directory));  // null: somebody else's
    while (dirent* entry = descriptors && found < 0 ? readdir(descriptors.get()) : nullptr) {
      char link[600];
      std::snprintf(link, sizeof(link), "%s/%s", directory, entry->d_name);
      found = OpenIfArena(link, wanted, driver_uid);
    }
  }
  return found;
}

}  // namespace ustcp::keeper
