// A static program, which no library can be preloaded into: tries everything on the descriptors it was given that could
// read, write or connect, and prints what came back, with whatever it read.
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

char room[1 << 16];

void Show(const char* what, long result) {
  std::printf(" %s=%s", what, result < 0 ? strerrorname_np(errno) : "ok");
  if (result > 0 && result <= static_cast<long>(sizeof room)) std::printf("(%.*s)", static_cast<int>(result), room);
}

void Try(int fd) {
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  struct stat s {};
  fstat(fd, &s);
  std::printf("%s", S_ISSOCK(s.st_mode) ? "socket" : "OTHER");
  Show("read", read(fd, room, sizeof room));
  Show("recv", recv(fd, room, sizeof room, 0));
  Show("write", write(fd, "x", 1));
  Show("pread", pread(fd, room, sizeof room, 0));
  Show("lseek", lseek(fd, 0, SEEK_DATA));
  void* mapped = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0);
  Show("mmap", mapped == MAP_FAILED ? -1 : 0);
  int file = open("/tmp", O_TMPFILE | O_RDWR, 0600);
  Show("sendfile", sendfile(file, fd, nullptr, sizeof room));
  Show("copy", copy_file_range(fd, nullptr, file, nullptr, sizeof room, 0));
  int ends[2];
  if (pipe(ends) != 0) std::exit(2);
  Show("splice", splice(fd, nullptr, ends[1], nullptr, sizeof room, SPLICE_F_NONBLOCK));
  close(ends[0]);
  close(ends[1]);
  close(file);
  char path[64];
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  Show("open", open(path, O_RDONLY));
  pollfd p{fd, POLLIN | POLLOUT, 0};
  poll(&p, 1, 0);
  std::printf(" poll=%#x", static_cast<unsigned>(p.revents));
  sockaddr_in6 any6{};
  any6.sin6_family = AF_INET6;
  sockaddr_in any4{};
  any4.sin_family = AF_INET;
  Show("bind", bind(fd, reinterpret_cast<sockaddr*>(&any4), sizeof any4));
  Show("bind6", bind(fd, reinterpret_cast<sockaddr*>(&any6), sizeof any6));
  Show("listen", listen(fd, 5));
  Show("accept", accept(fd, nullptr, nullptr));
  any4.sin_port = any6.sin6_port = htons(9);
  any4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  any6.sin6_addr = IN6ADDR_LOOPBACK_INIT;
  Show("connect", connect(fd, reinterpret_cast<sockaddr*>(&any4), sizeof any4));
  Show("connect6", connect(fd, reinterpret_cast<sockaddr*>(&any6), sizeof any6));
  std::printf("\n");
}

// Whatever else is open here: nothing of the library's may be.
void ShowOthers(int argc, char** argv) {
  for (int fd = 3; fd < 1 << 20; ++fd) {
    bool given = fcntl(fd, F_GETFD) < 0;
    for (int i = 1; i < argc; ++i) given |= std::atoi(argv[i]) == fd;
    if (given) continue;
    char path[64];
    std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, room, sizeof room);
    std::printf("other: %d %.*s\n", fd, static_cast<int>(n), room);
  }
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  alarm(30);
  ino_t first = 0;
  for (int i = 1; i < argc; ++i) {
    int fd = std::atoi(argv[i]);
    struct stat s {};
    if (fstat(fd, &s) != 0) {
      std::printf("closed\n");
      continue;
    }
    if (first == 0) first = s.st_ino;
    std::printf("%s ", i == 1 ? "first:" : s.st_ino == first ? "same:" : "another:");
    Try(fd);
  }
  ShowOthers(argc, argv);
}
