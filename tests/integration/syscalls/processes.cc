// Sockets through fork and exec: shared, closed on one side, handed to another program.
#include <sched.h>
#include <sys/resource.h>

#include "transcript.h"

namespace {

// Runs `body` in a child and waits for it.
template <typename Body>
int InChild(Body&& body) {
  std::fflush(stdout);
  pid_t child = Need(fork(), "fork");
  if (child == 0) std::_Exit(body());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

void Inherit(Address address) {
  Title("a child serves what its parent accepted");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  std::fflush(stdout);
  pid_t child = Need(fork(), "fork");
  if (child == 0) {
    close(listener);
    close(pair.client);
    char in[8];
    long n = recv(pair.server, in, sizeof in, 0);
    if (n > 0) send(pair.server, in, static_cast<size_t>(n), 0);
    std::_Exit(n == 4 ? 0 : 1);
  }
  close(pair.server);
  Show("send", send(pair.client, "ping", 4, 0));
  char in[8];
  Show("recv", recv(pair.client, in, 4, MSG_WAITALL));
  Show("recv of the end", recv(pair.client, in, 1, 0));
  int status = 0;
  waitpid(child, &status, 0);
  std::printf("child: %d\n", WEXITSTATUS(status));
  close(pair.client);

  Title("a parent goes on when its child closes");
  pair = Connected(listener, address);
  std::printf("child: %d\n", InChild([&] {
                close(pair.server);
                return close(pair.client);
              }));
  send(pair.client, "x", 1, 0);
  Show("recv", recv(pair.server, in, 1, 0));
  ClosePair(pair);

  Title("flags are shared");
  pair = Connected(listener, address);
  std::printf("child: %d\n", InChild([&] { return fcntl(pair.server, F_SETFL, O_NONBLOCK); }));
  Show("recv", recv(pair.server, in, 1, 0));
  ClosePair(pair);

  Title("a child that ends without closing");
  pair = Connected(listener, address);
  std::printf("child: %d\n", InChild([&] {
                close(pair.client);
                return 0;
              }));
  close(pair.server);
  Show("recv of the end", recv(pair.client, in, 1, 0));
  close(pair.client);

  Title("workers accept on one listener");
  int pipe_ends[2];
  Need(pipe(pipe_ends), "make a pipe");
  std::fflush(stdout);
  pid_t workers[2];
  for (pid_t& worker : workers) {
    worker = Need(fork(), "fork");
    if (worker != 0) continue;
    for (int i = 0; i < 4; ++i) {
      int fd = accept(listener, nullptr, nullptr);
      if (fd < 0) std::_Exit(1);
      (void)!write(pipe_ends[1], "a", 1);
      char c;
      if (recv(fd, &c, 1, 0) != 1 || send(fd, &c, 1, 0) != 1) std::_Exit(2);
      close(fd);
    }
    std::_Exit(0);
  }
  int right = 0;
  for (int i = 0; i < 8; ++i) {
    int fd = NewSocket(address);
    Need(connect(fd, address.get(), address.size()), "connect");
    char c = static_cast<char>('a' + i);
    send(fd, &c, 1, 0);
    char answer = 0;
    right += recv(fd, &answer, 1, 0) == 1 && answer == c;
    close(fd);
  }
  std::printf("answers: %d\n", right);
  for (pid_t worker : workers) {
    int status = 0;
    waitpid(worker, &status, 0);
    std::printf("worker: %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
  }
  char many[16];
  Show("accepted", read(pipe_ends[0], many, sizeof many));
  close(pipe_ends[0]);
  close(pipe_ends[1]);
  close(listener);
}

void KilledChild(Address address) {
  Title("a killed child's connection ends");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  int pipe_ends[2];
  Need(pipe(pipe_ends), "make a pipe");
  std::fflush(stdout);
  pid_t child = Need(fork(), "fork");
  if (child == 0) {
    close(pair.client);
    (void)!write(pipe_ends[1], "x", 1);
    char c;
    recv(pair.server, &c, 1, 0);
    std::_Exit(1);
  }
  close(pair.server);
  char c;
  (void)!read(pipe_ends[0], &c, 1);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  pollfd p{pair.client, POLLIN | POLLRDHUP, 0};
  Show("poll within a second", poll(&p, 1, 1000));
  Show("recv", recv(pair.client, &c, 1, 0));
  close(pair.client);
  close(pipe_ends[0]);
  close(pipe_ends[1]);
  close(listener);
}

// A pair from the listener still works, and its numbers are the lowest free ones.
void ShowWorkingPair(int listener, Address address) {
  Pair pair = Connected(listener, address);
  std::printf("numbers follow each other: %d\n", pair.server == pair.client + 1);
  Show("to the server", write(pair.client, "ping", 4));
  char in[8] = {};
  Show("which gets", read(pair.server, in, sizeof in));
  ClosePair(pair);
}

// Programs that put descriptors on every number they like, and such that close what they did not open, past the C library.
void TakenNumbers(Address address) {
  Title("dup2 onto numbers of the upper half, and their close");
  int listener = Listen(address);
  ShowWorkingPair(listener, address);
  rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  int from = static_cast<int>(limit.rlim_cur / 10 * 6), to = from + 100;
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  long failed = 0;
  for (int fd = from; fd < to; ++fd) failed += dup2(null, fd) != fd;
  Show("dup2 that failed", failed);
  ShowWorkingPair(listener, address);
  for (int fd = from; fd < to; ++fd) failed += close(fd) != 0;
  Show("close that failed", failed);
  ShowWorkingPair(listener, address);
  Title("accepting after every number above 20 was closed");
  close_range(20, ~0u, 0);
  ShowWorkingPair(listener, address);
  close(null);
  close(listener);
}

void Vfork(Address address) {
  Title("vfork and system");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  pid_t child = vfork();
  if (child == 0) {
    close(pair.server);
    close(pair.client);
    _exit(0);
  }
  waitpid(child, nullptr, 0);
  Show("system", system("exit 3"));
  send(pair.client, "x", 1, 0);
  char c;
  Show("recv", recv(pair.server, &c, 1, 0));
  ClosePair(pair);
  close(listener);
}

void Exec(Address address, const char* self) {
  Title("exec keeps what is not close-on-exec");
  int listener = Listen(address);
  Pair kept = Connected(listener, address);
  Pair lost = Connected(listener, address);
  fcntl(lost.server, F_SETFD, FD_CLOEXEC);
  std::fflush(stdout);
  pid_t child = Need(fork(), "fork");
  if (child == 0) {
    close(kept.client);
    close(lost.client);
    dup2(kept.server, 20);
    dup2(listener, 21);
    close(kept.server);
    close(listener);
    std::string text = std::to_string(lost.server);
    execl(self, self, "--after-exec", text.c_str(), nullptr);
    std::_Exit(99);
  }
  close(kept.server);
  close(lost.server);
  close(listener);
  char in[16] = {};
  Show("end of the lost one", recv(lost.client, in, 1, 0));
  send(kept.client, "ping", 4, 0);
  Show("recv", recv(kept.client, in, 4, MSG_WAITALL));
  std::printf("%.4s\n", in);
  int fd = NewSocket(address);
  Need(connect(fd, address.get(), address.size()), "connect");
  Show("from the inherited listener", recv(fd, in, 5, MSG_WAITALL));
  std::printf("%.5s\n", in);
  int status = 0;
  waitpid(child, &status, 0);
  std::printf("program: %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
  close(fd);
  close(kept.client);
  close(lost.client);
}

int AfterExec(int lost) {
  char in[8];
  if (fcntl(lost, F_GETFD) != -1) return 1;
  if (getenv("USTCP_INHERIT") != nullptr) return 2;
  struct stat st;
  if (fstat(20, &st) != 0 || !S_ISSOCK(st.st_mode)) return 3;
  if (recv(20, in, 4, MSG_WAITALL) != 4 || send(20, "pong", 4, 0) != 4) return 4;
  int fd = accept(21, nullptr, nullptr);
  if (fd < 0) return 5;
  return send(fd, "hello", 5, 0) == 5 ? 0 : 6;
}

// clone() as a vfork() with a stack of its own: what the child closes before it execs stays open in the parent.
void VforkByClone(Address address) {
  Title("clone as vfork");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  alignas(16) static char stack[65536];
  int numbers[] = {listener, pair.client, pair.server};
  pid_t pid = clone(
      [](void* to_close) -> int {
        for (int i = 0; i < 3; ++i) close(static_cast<int*>(to_close)[i]);
        execl("/bin/true", "true", static_cast<char*>(nullptr));
        _exit(1);
      },
      stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, numbers);
  int status = -1;
  waitpid(pid, &status, 0);
  std::printf("child: %d\n", status);
  char c;
  Show("send", send(pair.client, "x", 1, MSG_NOSIGNAL));
  Show("recv", recv(pair.server, &c, 1, 0));
  int another = NewSocket(address);
  Show("connect", connect(another, address.get(), address.size()));
  close(another);
  ClosePair(pair);
  close(listener);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--after-exec") == 0) return AfterExec(std::atoi(argv[2]));
  if (argc != 2) return 2;
  signal(SIGPIPE, SIG_IGN);
  Address address(argv[1]);
  VforkByClone(address);
  Inherit(address);
  KilledChild(address);
  TakenNumbers(address);
  Vfork(address);
  Exec(address, argv[0]);
}
