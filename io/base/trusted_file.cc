#include "io/base/trusted_file.h"

#include <sys/auxv.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "io/base/parse.h"
#include "io/base/sys.h"

namespace ustcp {

namespace {

constexpr size_t kPathBytes = 1024;
constexpr int kMaxLinks = 8;
constexpr int kMaxDepth = 128;
constexpr mode_t kOthersWrite = S_IWGRP | S_IWOTH;

IoError Refuse(int code, const char* path, const char* what, const char* remedy) {
  IoError error;
  error.code = code;
  TextBuilder(error.message) << path << ": " << what << "; " << remedy;
  return error;
}

uint32_t User() { return static_cast<uint32_t>(sys::Call(SYS_geteuid)); }

bool Trusted(uint32_t uid) { return uid == 0 || uid == User(); }

long Stat(int fd, struct stat* out) { return sys::Call(SYS_fstat, fd, sys::Arg(out)); }

int OpenAt(int directory, const char* name, int flags, unsigned mode = 0) {
  long fd;
  do fd = sys::Call(SYS_openat, directory, sys::Arg(name), flags | O_CLOEXEC, mode);
  while (fd == -EINTR);
  return static_cast<int>(fd);
}

// Opens the directory that `path`, seen from `from`, is an entry of. *name: the entry, within path.
int OpenParent(int from, const char* path, const char** name) {
  char directory[kPathBytes];
  const char* slash = std::strrchr(path, '/');
  *name = slash != nullptr ? slash + 1 : path;
  if (**name == '\0') return -EISDIR;
  TextBuilder text(directory);
  if (slash == nullptr)
    text << ".";
  else
    text << std::string_view(path, static_cast<size_t>(slash - path) + 1);
  return text.cut() ? -ENAMETOOLONG : OpenAt(from, directory, O_PATH | O_DIRECTORY);
}

// Whether somebody else could put another file under the names that lead to this directory: looks at it and at all above.
// In a directory with the sticky bit (/tmp) others make files, but do not replace ours.
IoError CheckDirectories(int directory, const char* path) {
  int at = directory;
  IoError error;
  for (int depth = 0;; ++depth) {
    struct stat here {};
    struct stat above {};
    if (Stat(at, &here) != 0 || depth == kMaxDepth) {
      error = Refuse(EACCES, path, "lies in a directory that cannot be looked at", "choose another place");
    } else if (!Trusted(here.st_uid)) {
      char what[80];
      TextBuilder(what) << "lies in a directory of user " << here.st_uid;
      error = Refuse(EACCES, path, what, "move it to one that belongs to root or to you");
    } else if ((here.st_mode & kOthersWrite) != 0 && (here.st_mode & S_ISVTX) == 0) {
      error = Refuse(EACCES, path, "lies in a directory that others can write to", "chmod go-w it, or move the file");
    }
    int parent = error ? -1 : OpenAt(at, "..", O_PATH | O_DIRECTORY);
    if (at != directory) sys::Close(at);
    if (error) return error;
    if (parent < 0) return Refuse(EACCES, path, "lies in a directory that cannot be looked at", "choose another place");
    at = parent;
    if (Stat(at, &above) == 0 && above.st_dev == here.st_dev && above.st_ino == here.st_ino) break;
  }
  if (at != directory) sys::Close(at);
  return {};
}

IoError NotOpened(const char* path, int cause) {
  char what[96];
  TextBuilder(what) << "cannot be opened (" << ErrnoText(cause) << ")";
  int code = cause == ENOENT || cause == ENOTDIR ? ENOENT : cause == EACCES || cause == EPERM ? EACCES : EINVAL;
  return Refuse(code, path, what, code == ENOENT ? "create it or name another" : "make it readable or name another");
}

// In a directory with the sticky bit, others make links too, to any file of ours.
IoError CheckLink(int directory, const char* name, const char* path) {
  struct stat status {};
  if (sys::Call(SYS_newfstatat, directory, sys::Arg(name), sys::Arg(&status), AT_SYMLINK_NOFOLLOW) == 0 &&
      Trusted(status.st_uid))
    return {};
  char what[64];
  TextBuilder(what) << "is a link of user " << status.st_uid;
  return Refuse(EACCES, path, what, "remove it or name the file itself");
}

IoError CheckConfiguration(int fd, const char* path) {
  struct stat status {};
  if (Stat(fd, &status) != 0 || !S_ISREG(status.st_mode)) return Refuse(EINVAL, path, "is no plain file", "name one");
  if (!Trusted(status.st_uid)) {
    char what[64];
    TextBuilder(what) << "belongs to user " << status.st_uid;
    return Refuse(EACCES, path, what, "a configuration has to belong to root or to you");
  }
  if ((status.st_mode & kOthersWrite) != 0) return Refuse(EACCES, path, "can be written to by others", "chmod go-w it");
  return {};
}

}  // namespace

IoError OpenConfiguration(const char* path, int* fd) noexcept {
  // Links are followed here and not by the kernel: each has to lie where nobody else can put another one.
  char target[kPathBytes];
  const char* next = path;
  int from = AT_FDCWD;
  IoError error;
  *fd = -1;
  for (int links = 0; *fd < 0; ++links) {
    const char* name = nullptr;
    int directory = OpenParent(from, next, &name);
    if (from >= 0) sys::Close(from);
    if (directory < 0) return NotOpened(path, -directory);
    from = directory;
    // Not to be waited for, should it be a FIFO.
    int opened = OpenAt(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (opened == -ELOOP && links < kMaxLinks) {
      if ((error = CheckDirectories(from, path)) || (error = CheckLink(from, name, path))) break;
      char text[kPathBytes];
      long n = sys::Call(SYS_readlinkat, from, sys::Arg(name), sys::Arg(text), sizeof(text) - 1);
      if (n <= 0) {
        error = NotOpened(path, n < 0 ? static_cast<int>(-n) : EINVAL);
        break;
      }
      text[n] = '\0';
      std::memcpy(target, text, static_cast<size_t>(n) + 1);
      next = target;
      continue;
    }
    if (opened < 0) {
      error = NotOpened(path, -opened);
      break;
    }
    error = CheckDirectories(from, path);
    if (!error) error = CheckConfiguration(opened, path);
    if (error) {
      sys::Close(opened);
      break;
    }
    *fd = opened;
  }
  sys::Close(from);
  return error;
}

IoError OpenPrivateFile(const char* path, PrivateFile how, int* fd) noexcept {
  constexpr const char* kRemedy = "remove it or name another file";
  *fd = -1;
  const char* name = nullptr;
  int directory = OpenParent(AT_FDCWD, path, &name);
  if (directory < 0) return NotOpened(path, -directory);
  IoError error = CheckDirectories(directory, path);
  const int flags = O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | (how == PrivateFile::kAppend ? O_APPEND : 0);
  int opened = -1;
  if (!error) {
    opened = OpenAt(directory, name, flags | O_CREAT | O_EXCL, 0600);
    if (opened == -EEXIST) opened = OpenAt(directory, name, flags);
  }
  sys::Close(directory);
  if (error) return error;
  if (opened == -ELOOP) return Refuse(EACCES, path, "is a symbolic link", kRemedy);
  if (opened < 0) return NotOpened(path, -opened);
  struct stat status {};
  if (Stat(opened, &status) != 0 || !S_ISREG(status.st_mode)) {
    error = Refuse(EACCES, path, "is no plain file", kRemedy);
  } else if (status.st_uid != User()) {
    char what[64];
    TextBuilder(what) << "belongs to user " << status.st_uid;
    error = Refuse(EACCES, path, what, kRemedy);
  } else if (status.st_nlink != 1) {
    error = Refuse(EACCES, path, "has further names", kRemedy);
  } else if (sys::Call(SYS_fchmod, opened, 0600) != 0 ||
             (how == PrivateFile::kTruncate && sys::Call(SYS_ftruncate, opened, 0) != 0)) {
    error = Refuse(EACCES, path, "cannot be made a private file", kRemedy);
  }
  if (error) {
    sys::Close(opened);
    return error;
  }
  *fd = opened;
  return {};
}

bool StartedWithMoreRights() noexcept {
  // As the process was started: one that changes its ids later knows what it does.
  static std::atomic<int> answer{-1};
  int known = answer.load(std::memory_order_relaxed);
  if (known >= 0) return known != 0;
  uint32_t user[3] = {};
  uint32_t group[3] = {};
  sys::Call(SYS_getresuid, sys::Arg(&user[0]), sys::Arg(&user[1]), sys::Arg(&user[2]));
  sys::Call(SYS_getresgid, sys::Arg(&group[0]), sys::Arg(&group[1]), sys::Arg(&group[2]));
  known = getauxval(AT_SECURE) != 0 || user[0] != user[1] || group[0] != group[1];
  answer.store(known, std::memory_order_relaxed);
  return known != 0;
}

}  // namespace ustcp
