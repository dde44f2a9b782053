#include "tools/program_check.h"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <sstream>
#include <vector>

namespace ustcp::tool {

namespace {

constexpr int kMaxInterpreters = 4;  // as the kernel

class File {
 public:
  explicit File(const std::string& path) : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd() const { return fd_; }
  // Whether all of it could be read.
  bool Read(void* to, size_t bytes, uint64_t from) const {
    return pread(fd_, to, bytes, static_cast<off_t>(from)) == static_cast<ssize_t>(bytes);
  }

 private:
  int fd_;
};

std::string Search(const std::string& program) {
  if (program.find('/') != std::string::npos) return program;
  const char* path = std::getenv("PATH");
  std::istringstream folders(path != nullptr ? path : "/bin:/usr/bin");
  for (std::string folder; std::getline(folders, folder, ':');) {
    std::string candidate = (folder.empty() ? "." : folder) + "/" + program;
    if (access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return {};
}

// As the kernel decides at exec: a user who has the rights anyway gains none.
std::string MoreRights(const File& file, const std::string& path) {
  struct stat status {};
  struct statvfs system {};
  if (fstat(file.fd(), &status) != 0 || fstatvfs(file.fd(), &system) != 0) return {};
  if ((system.f_flag & ST_NOSUID) != 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1) return {};
  const char* what = nullptr;
  if ((status.st_mode & S_ISUID) != 0 && status.st_uid != getuid())
    what = "is set-user-id";
  else if ((status.st_mode & S_ISGID) != 0 && (status.st_mode & S_IXGRP) != 0 && status.st_gid != getgid())
    what = "is set-group-id";
  else if (getuid() != 0 && fgetxattr(file.fd(), "security.capability", nullptr, 0) > 0)
    what = "has file capabilities";
  if (what == nullptr) return {};
  return fmt::format(
      "{} {}: the dynamic linker preloads nothing into it, and it would use the kernel's TCP; run it as the "
      "user whose rights it needs",
      path, what);
}

std::string WrongKind(const File& file, const std::string& path) {
  Elf64_Ehdr header{};
  if (!file.Read(&header, sizeof header, 0)) return {};
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_X86_64)
    return fmt::format("{} is for another kind of machine than libustcp.so, which cannot be preloaded into it", path);
  if (header.e_phentsize != sizeof(Elf64_Phdr)) return {};
  for (int i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment{};
    if (!file.Read(&segment, sizeof segment, header.e_phoff + static_cast<uint64_t>(i) * sizeof segment)) return {};
    if (segment.p_type == PT_INTERP) return {};
  }
  // The linker run as a program has none itself.
  if (path.substr(path.rfind('/') + 1).starts_with("ld-")) return {};
  return fmt::format(
      "{} is linked statically: nothing can be preloaded into it, and it would use the kernel's TCP; use a "
      "dynamically linked build",
      path);
}

// Its run-time makes system calls of its own, linked dynamically or not. The section is where its tools look for the build's
// versions, and stays in stripped programs.
std::string IsGo(const File& file, const std::string& path) {
  constexpr char kSection[] = ".go.buildinfo";
  Elf64_Ehdr header{};
  Elf64_Shdr names{};
  auto section = [&](uint64_t i, Elf64_Shdr& to) { return file.Read(&to, sizeof to, header.e_shoff + i * sizeof to); };
  if (!file.Read(&header, sizeof header, 0) || header.e_shentsize != sizeof names || !section(header.e_shstrndx, names))
    return {};
  for (int i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr one{};
    char name[sizeof kSection];
    if (!section(static_cast<uint64_t>(i), one)) return {};
    if (file.Read(name, sizeof name, names.sh_offset + one.sh_name) && std::memcmp(name, kSection, sizeof name) == 0)
      return fmt::format(
          "{} is written in Go: its run-time goes past the C library, and it would use the kernel's TCP; run it "
          "without "
          "`ustcp run`",
          path);
  }
  return {};
}

// The words of "#! INTERPRETER ARGUMENT".
std::vector<std::string> InterpreterOf(const File& file) {
  char line[256] = {};
  ssize_t n = pread(file.fd(), line, sizeof(line) - 1, 0);
  if (n < 2 || line[0] != '#' || line[1] != '!') return {};
  line[std::strcspn(line, "\n")] = '\0';
  std::istringstream words(line + 2);
  std::vector<std::string> found;
  for (std::string word; words >> word;) found.push_back(word);
  return found;
}

}  // namespace

std::string WhyNotPreloaded(const std::string& program) {
  std::string path = Search(program);
  for (int depth = 0; depth <= kMaxInterpreters && !path.empty(); ++depth) {
    File file(path);
    if (file.fd() < 0) return {};
    char magic[SELFMAG];
    if (file.Read(magic, sizeof magic, 0) && std::memcmp(magic, ELFMAG, SELFMAG) == 0) {
      for (auto* check : {MoreRights, IsGo, WrongKind})
        if (std::string why = check(file, path); !why.empty()) return why;
      return {};
    }
    // The kernel ignores the set-id bits of scripts: what counts is the program that reads them.
    std::vector<std::string> words = InterpreterOf(file);
    if (words.empty()) return {};
    size_t next = 0;
    if (words[0].ends_with("/env"))
      for (next = 1; next < words.size() && (words[next][0] == '-' || words[next].find('=') != std::string::npos);)
        ++next;
    if (next >= words.size()) return {};
    path = Search(words[next]);
  }
  return {};
}

}  // namespace ustcp::tool
