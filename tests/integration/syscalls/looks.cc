// Who looks through a call at a socket's descriptor sees a socket: files' calls, /proc, interfaces, owners and locks.
#include <dirent.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>

#include "transcript.h"

namespace {

const char* TypeOf(mode_t mode) {
  return S_ISSOCK(mode) ? "socket" : S_ISREG(mode) ? "file" : S_ISCHR(mode) ? "device" : "other";
}

ino_t InodeOf(int fd) {
  struct stat s {};
  fstat(fd, &s);
  return s.st_ino;
}

// One view of a descriptor against what fstat says of it.
void ShowStat(const char* what, int fd, int result, const struct stat& s) {
  if (result < 0) {
    Show(what, result);
    return;
  }
  struct stat own {};
  fstat(fd, &own);
  std::printf("%s: %s %o, nlink %lu, size %ld, block %ld, uid %u, gid %u%s%s\n", what, TypeOf(s.st_mode),
              s.st_mode & 07777, static_cast<unsigned long>(s.st_nlink), static_cast<long>(s.st_size),
              static_cast<long>(s.st_blksize), s.st_uid, s.st_gid, s.st_ino == own.st_ino ? ", same" : ", OTHER INODE",
              s.st_dev == own.st_dev ? "" : ", OTHER DEVICE");
}

void ShowStatx(const char* what, int fd, int result, const struct statx& s) {
  if (result < 0) {
    Show(what, result);
    return;
  }
  std::printf("%s: %s %o, nlink %u, uid %u, gid %u%s\n", what, TypeOf(s.stx_mode), s.stx_mode & 07777, s.stx_nlink,
              s.stx_uid, s.stx_gid, s.stx_ino == InodeOf(fd) ? ", same" : ", OTHER INODE");
}

// A link's text: whether it is the socket with fstat's inode.
void ShowLink(const char* what, int fd, ssize_t n, char* text) {
  if (n < 0) {
    Show(what, n);
    return;
  }
  text[n] = 0;
  std::string expected = "socket:[" + std::to_string(InodeOf(fd)) + "]";
  if (text == expected)
    std::printf("%s: its socket\n", what);
  else
    std::printf("%s: %.7s of %zd characters\n", what, text, n);
}

void Names(int fd) {
  struct stat s {};
  struct statx x {};
  char name[16];
  char path[64];
  char text[128];
  std::snprintf(name, sizeof name, "%d", fd);
  ShowStat("fstat", fd, fstat(fd, &s), s);
  ShowStat("fstatat with an empty path", fd, fstatat(fd, "", &s, AT_EMPTY_PATH), s);
  ShowStatx("statx with an empty path", fd, statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &x), x);
  std::memset(&s, 0, sizeof s);
  ShowStat("newfstatat through syscall()", fd, static_cast<int>(syscall(SYS_newfstatat, fd, "", &s, AT_EMPTY_PATH)), s);
  ShowStatx("statx through syscall()", fd,
            static_cast<int>(syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &x)), x);
  for (const char* folder : {"/proc/self/fd", "/dev/fd", "/proc/thread-self/fd"}) {
    std::snprintf(path, sizeof path, "%s/%d", folder, fd);
    std::printf("%s\n", folder);
    ShowStat(" stat", fd, stat(path, &s), s);
    ShowStatx(" statx", fd, statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &x), x);
    ShowLink(" readlink", fd, readlink(path, text, sizeof text - 1), text);
    ShowLink(" readlinkat", fd, readlinkat(AT_FDCWD, path, text, sizeof text - 1), text);
    Show(" readlink into a short buffer", readlink(path, text, 9));
    std::printf(" %.9s\n", std::strncmp(text, "socket:[", 8) == 0 ? "socket" : "other");
    Show(" lstat", lstat(path, &s));
    std::printf(" which is a link: %d\n", S_ISLNK(s.st_mode));
    int folder_fd = open(folder, O_RDONLY | O_DIRECTORY);
    ShowStat(" fstatat in it", fd, fstatat(folder_fd, name, &s, 0), s);
    ShowLink(" readlinkat in it", fd, readlinkat(folder_fd, name, text, sizeof text - 1), text);
    close(folder_fd);
    Show(" open to read", open(path, O_RDONLY));
    Show(" open to write", open(path, O_WRONLY));
    Show(" access", access(path, R_OK));
    Show(" truncate", truncate(path, 0));
  }
  std::snprintf(path, sizeof path, "/proc/%d/fd/%d", getpid(), fd);
  ShowStat("stat by process number", fd, stat(path, &s), s);
  ShowLink("readlink by process number", fd, readlink(path, text, sizeof text - 1), text);
  Show("readlink, buffer of nothing", readlink(path, text, 0));
  Show("readlink, bad buffer", readlink(path, nullptr, 10));
  Show("readlink, bad path", readlink(nullptr, text, 10));
  Show("stat, bad path", stat(nullptr, &s));
  Show("stat, bad buffer", syscall(SYS_newfstatat, AT_FDCWD, path, nullptr, 0));
  bool listed = false;
  DIR* folder = opendir("/proc/self/fd");
  while (dirent* entry = readdir(folder)) listed |= std::strcmp(entry->d_name, name) == 0;
  closedir(folder);
  std::printf("listed: %d\n", listed);
}

void FileCalls(int fd) {
  char c = 'x';
  Show("fsync", fsync(fd));
  Show("fdatasync", fdatasync(fd));
  Show("syncfs", syncfs(fd));
  Show("sync_file_range", sync_file_range(fd, 0, 0, 0));
  Show("posix_fadvise", posix_fadvise(fd, 0, 0, POSIX_FADV_NORMAL));
  Show("posix_fallocate", posix_fallocate(fd, 0, 1));
  Show("fallocate", fallocate(fd, 0, 0, 1));
  Show("ftruncate", ftruncate(fd, 0));
  Show("readahead", readahead(fd, 0, 1));
  Show("lseek", lseek(fd, 0, SEEK_CUR));
  Show("lseek to data", lseek(fd, 0, SEEK_DATA));
  Show("pread", pread(fd, &c, 1, 0));
  Show("pwrite", pwrite(fd, &c, 1, 0));
  iovec v{&c, 1};
  Show("preadv", preadv(fd, &v, 1, 0));
  Show("pwritev", pwritev(fd, &v, 1, 0));
  Show("preadv2 at a position", preadv2(fd, &v, 1, 0, 0));
  Show("fchdir", fchdir(fd));
  Show("getdents", syscall(SYS_getdents64, fd, &c, 1));
  Show("fchmod", fchmod(fd, 0700));
  Show("fchmod again", fchmod(fd, 0777));
  Show("fchown", fchown(fd, getuid(), getgid()));
  Show("futimens", futimens(fd, nullptr));
  Show("mmap to read", mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED ? -1 : 0);
  Show("mmap to write", mmap(nullptr, 4096, PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0);
  int file = open("/tmp", O_TMPFILE | O_RDWR, 0600);
  Need(static_cast<int>(write(file, "text", 4)), "write a file");
  loff_t at = 0;
  Show("copy_file_range to it", copy_file_range(file, &at, fd, nullptr, 4, 0));
  Show("copy_file_range from it", copy_file_range(fd, nullptr, file, nullptr, 4, 0));
  off_t from = 0;
  Show("sendfile from it", sendfile(file, fd, nullptr, 4));
  Show("sendfile from it at a position", sendfile(file, fd, &from, 4));
  int ends[2];
  Need(pipe(ends), "make a pipe");
  Show("tee", tee(fd, ends[1], 1, 0));
  close(ends[0]);
  close(ends[1]);
  close(file);
}

void Owners(int fd) {
  Show("F_GETOWN", fcntl(fd, F_GETOWN));
  Show("F_SETOWN", fcntl(fd, F_SETOWN, getpid()));
  std::printf("F_GETOWN: %d\n", fcntl(fd, F_GETOWN) == getpid());
  Show("F_SETOWN to nobody", fcntl(fd, F_SETOWN, 0));
  Show("F_GETSIG", fcntl(fd, F_GETSIG));
  Show("F_GETPIPE_SZ", fcntl(fd, F_GETPIPE_SZ));
  Show("F_SETPIPE_SZ", fcntl(fd, F_SETPIPE_SZ, 4096));
  Show("F_GET_SEALS", fcntl(fd, F_GET_SEALS));
  Show("F_ADD_SEALS", fcntl(fd, F_ADD_SEALS, 1));
  Show("F_GETLEASE", fcntl(fd, F_GETLEASE));
  Show("F_SETLEASE", fcntl(fd, F_SETLEASE, F_RDLCK));
  Show("F_NOTIFY", fcntl(fd, F_NOTIFY, DN_ACCESS));
  Show("an unknown command", fcntl(fd, 9999));
  struct flock lock {};
  lock.l_type = F_WRLCK;
  Show("F_SETLK", fcntl(fd, F_SETLK, &lock));
  Show("F_GETLK", fcntl(fd, F_GETLK, &lock));
  std::printf("held by others: %d\n", lock.l_type != F_UNLCK);
  lock.l_type = F_UNLCK;
  Show("F_SETLK to unlock", fcntl(fd, F_SETLK, &lock));
  lock = {};
  lock.l_type = F_WRLCK;
  Show("F_OFD_SETLK", fcntl(fd, F_OFD_SETLK, &lock));
}

void Interfaces(int fd) {
  ifreq interface {};
  std::strcpy(interface.ifr_name, "lo");
  Show("SIOCGIFADDR", ioctl(fd, SIOCGIFADDR, &interface));
  Show("SIOCGIFNETMASK", ioctl(fd, SIOCGIFNETMASK, &interface));
  Show("SIOCGIFBRDADDR", ioctl(fd, SIOCGIFBRDADDR, &interface));
  Show("SIOCGIFFLAGS", ioctl(fd, SIOCGIFFLAGS, &interface));
  Show("SIOCGIFMTU", ioctl(fd, SIOCGIFMTU, &interface));
  Show("SIOCGIFINDEX", ioctl(fd, SIOCGIFINDEX, &interface));
  std::printf("index: %d\n", interface.ifr_ifindex);
  Show("SIOCGIFNAME", ioctl(fd, SIOCGIFNAME, &interface));
  Show("SIOCGIFHWADDR", ioctl(fd, SIOCGIFHWADDR, &interface));
  Show("SIOCSIFADDR, bad pointer", ioctl(fd, SIOCSIFADDR, nullptr));
  Show("SIOCGIFADDR, bad pointer", ioctl(fd, SIOCGIFADDR, nullptr));
  std::strcpy(interface.ifr_name, "none0");
  Show("SIOCGIFADDR of none", ioctl(fd, SIOCGIFADDR, &interface));
  Show("SIOCGIFINDEX of none", ioctl(fd, SIOCGIFINDEX, &interface));
  ifreq all[16];
  ifconf list{};
  list.ifc_len = sizeof all;
  list.ifc_req = all;
  Show("SIOCGIFCONF", ioctl(fd, SIOCGIFCONF, &list));
  std::printf("some: %d\n", list.ifc_len > 0);
  int value = 7;
  Show("FIONREAD", ioctl(fd, FIONREAD, &value));
  Show("SIOCOUTQ", ioctl(fd, SIOCOUTQ, &value));
  Show("SIOCATMARK", ioctl(fd, SIOCATMARK, &value));
  Show("FIOGETOWN", ioctl(fd, FIOGETOWN, &value));
  Show("SIOCGPGRP", ioctl(fd, SIOCGPGRP, &value));
  std::printf("owner: %d\n", value);
  value = getpid();
  Show("SIOCSPGRP", ioctl(fd, SIOCSPGRP, &value));
  Show("SIOCGPGRP", ioctl(fd, SIOCGPGRP, &value));
  std::printf("owner: %d\n", value == getpid());
  value = 0;
  Show("SIOCSPGRP", ioctl(fd, SIOCSPGRP, &value));
  char room[64];
  Show("TCGETS", ioctl(fd, TCGETS, room));
  Show("TIOCGWINSZ", ioctl(fd, TIOCGWINSZ, room));
  Show("an unknown request", ioctl(fd, 0x1234'5678, room));
  Show("a private request", ioctl(fd, SIOCPROTOPRIVATE, room));
  Show("SIOCGSTAMP", syscall(SYS_ioctl, fd, 0x8906, room));
  Show("FIOCLEX", ioctl(fd, FIOCLEX));
  Show("F_GETFD", fcntl(fd, F_GETFD));
  Show("FIONCLEX", ioctl(fd, FIONCLEX));
  Show("F_GETFD", fcntl(fd, F_GETFD));
  Show("isatty", isatty(fd));
}

void Look(const char* title, int fd) {
  Title(title);
  Names(fd);
  FileCalls(fd);
  Owners(fd);
  Interfaces(fd);
}

// Two sockets are two files, and what is done to one is not done to the other.
void Apart(int one, int other) {
  Title("two sockets");
  struct stat s {};
  std::printf("same inode: %d, same file: %d\n", InodeOf(one) == InodeOf(other),
              syscall(SYS_kcmp, getpid(), getpid(), 0, one, other) == 0);
  Show("fchmod", fchmod(one, 0640));
  fstat(one, &s);
  std::printf("mode: %o", s.st_mode & 0777);
  fstat(other, &s);
  std::printf(" and %o\n", s.st_mode & 0777);
  Show("F_SETOWN", fcntl(one, F_SETOWN, getpid()));
  std::printf("owner: %d and %d\n", fcntl(one, F_GETOWN) == getpid(), fcntl(other, F_GETOWN));
  Show("F_SETSIG", fcntl(one, F_SETSIG, SIGUSR1));
  std::printf("signal: %d and %d\n", fcntl(one, F_GETSIG) == SIGUSR1, fcntl(other, F_GETSIG));
  int copy = dup(one);
  std::printf("a copy is the same file: %d\n", InodeOf(copy) == InodeOf(one));
  std::printf("owner of the copy: %d\n", fcntl(copy, F_GETOWN) == getpid());
  constexpr int kSameFile = 1024 + 3;  // F_DUPFD_QUERY
  std::printf("kcmp: %d and %d\n", syscall(SYS_kcmp, getpid(), getpid(), 0, one, copy) == 0,
              syscall(SYS_kcmp, getpid(), getpid(), 0, one, other) == 0);
  Show("F_DUPFD_QUERY of the copy", fcntl(copy, kSameFile, one));
  Show("F_DUPFD_QUERY of the other", fcntl(other, kSameFile, one));
  Show("flock", flock(one, LOCK_EX | LOCK_NB));
  pid_t child = fork();
  if (child == 0) {
    char path[64];
    std::snprintf(path, sizeof path, "/proc/self/fd/%d", other);
    char text[64] = {};
    bool link = readlink(path, text, sizeof text - 1) > 0 && text == "socket:[" + std::to_string(InodeOf(other)) + "]";
    _exit((flock(other, LOCK_EX | LOCK_NB) == 0 ? 1 : 0) | (link ? 2 : 0));
  }
  int status = 0;
  waitpid(child, &status, 0);
  std::printf("in a child, of the other: %d\n", WEXITSTATUS(status));
  close(copy);
}

void Run(Address address) {
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  Pair second = Connected(listener, address);
  int fresh = NewSocket(address);
  Look("a fresh socket", fresh);
  Look("a listener", listener);
  Look("a connected socket", pair.client);
  Look("an accepted socket", pair.server);
  Apart(second.server, pair.server);
  Apart(second.client, pair.client);
  std::printf("and they are as before: %d", write(pair.client, "a", 1) == 1 && write(second.server, "b", 1) == 1);
  char c;
  std::printf(" %zd", read(pair.server, &c, 1));
  std::printf(" %zd\n", read(second.client, &c, 1));
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  alarm(60);
  if (argc != 2) return 2;
  Run(Address(argv[1]));
}
