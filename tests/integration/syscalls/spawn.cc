// Programs started in every way there is, while sockets are open: the parent's sockets stay as they are, and the new
// programs have working sockets of their own.
#include <spawn.h>

#include "transcript.h"

extern char** environ;

namespace {

// What a new program reports: its own sockets work, and with `fd` >= 0 that it can use that inherited one.
int AsChild(Address address, int fd) {
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  char in[5];
  if (send(pair.client, "own", 3, 0) != 3 || recv(pair.server, in, 3, MSG_WAITALL) != 3) return 11;
  if (fd < 0) return 3;
  return send(fd, "child", 5, MSG_NOSIGNAL) == 5 ? 4 : 12;
}

int ExitOf(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

bool Goes(const Pair& pair) {
  char c;
  return send(pair.client, "x", 1, 0) == 1 && recv(pair.server, &c, 1, 0) == 1 && send(pair.server, "y", 1, 0) == 1 &&
         recv(pair.client, &c, 1, 0) == 1;
}

void Run(Address address, const char* self, const char* text) {
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  std::string shell = std::string("exec ") + self + " --child " + text;
  const char* words[] = {self, "--child", text, nullptr};
  auto argv = const_cast<char**>(words);

  Title("programs started while sockets are open");
  std::printf("system: %d\n", WEXITSTATUS(system(shell.c_str())));
  FILE* pipe = popen((shell + "; echo never").c_str(), "r");
  char line[16] = {};
  std::printf("popen: %d", fgets(line, sizeof line, pipe) != nullptr);
  std::printf(" %d\n", WEXITSTATUS(pclose(pipe)));
  pid_t child;
  Show("posix_spawn", posix_spawn(&child, self, nullptr, nullptr, argv, environ));
  std::printf("child: %d\n", ExitOf(child));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addclose(&actions, pair.server);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
  Show("posix_spawnp with actions", posix_spawnp(&child, self, &actions, &attributes, argv, environ));
  std::printf("child: %d\n", ExitOf(child));
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  Show("posix_spawn of nothing", posix_spawn(&child, "/nowhere/program", nullptr, nullptr, argv, environ));
  child = fork();
  if (child == 0) {
    execv("/nowhere/program", argv);
    execv(self, argv);
    _exit(99);
  }
  std::printf("fork, a failing exec, exec: %d\n", ExitOf(child));
  child = vfork();
  if (child == 0) {
    execve(self, argv, environ);
    _exit(99);
  }
  std::printf("vfork and exec: %d\n", ExitOf(child));
  child = fork();
  if (child == 0) {
    // With nothing in its environment but what preloads the library, if anything does.
    execle("/usr/bin/env", "env", self, "--child", text, nullptr, environ);
    _exit(99);
  }
  std::printf("through another program: %d\n", ExitOf(child));
  std::printf("the parent's sockets go on: %d\n", Goes(pair));
  ClosePair(pair);

  Title("sockets given to programs");
  static int way;  // not in a register that the child of vfork changes
  for (way = 0; way < 2; ++way) {
    pair = Connected(listener, address);
    child = way == 0 ? fork() : vfork();
    if (child == 0) {
      dup2(pair.server, 60);
      execl(self, self, "--child", text, "60", nullptr);
      _exit(99);
    }
    close(pair.server);
    std::printf("%s: %d\n", way == 0 ? "fork" : "vfork", ExitOf(child));
    char in[6] = {};
    Show("from the child", recv(pair.client, in, 5, MSG_WAITALL));
    Show("and its end", recv(pair.client, in, 1, 0));
    close(pair.client);
  }
  pair = Connected(listener, address);
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, pair.server, 60);
  posix_spawn_file_actions_addclose(&actions, pair.client);
  const char* given[] = {self, "--child", text, "60", nullptr};
  Show("posix_spawn", posix_spawn(&child, self, &actions, nullptr, const_cast<char**>(given), environ));
  close(pair.server);
  std::printf("child: %d\n", ExitOf(child));
  posix_spawn_file_actions_destroy(&actions);
  Await(pair.client, POLLIN);
  char in[6] = {};
  Show("from the child", recv(pair.client, in, 5, MSG_DONTWAIT));
  close(pair.client);
  pair = Connected(listener, address);
  dup2(pair.server, 60);
  std::printf("system: %d\n", WEXITSTATUS(system((shell + " 60").c_str())));
  Show("from the child", recv(pair.client, in, 5, MSG_DONTWAIT));
  close(60);
  std::printf("the parent's own goes on: %d\n", Goes(pair));
  ClosePair(pair);
  close(listener);
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  alarm(60);
  if (argc >= 3 && std::strcmp(argv[1], "--child") == 0)
    return AsChild(Address(argv[2]), argc > 3 ? std::atoi(argv[3]) : -1);
  if (argc != 2) return 2;
  Run(Address(argv[1]), argv[0], argv[1]);
}
