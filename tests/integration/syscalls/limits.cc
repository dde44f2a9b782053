// Limits that programs set for themselves, beside sockets: what the stack has in their address space does not count.
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "transcript.h"

namespace {

constexpr rlim_t kMiB = 1 << 20;

void ShowLimit(const char* what, const rlimit& limit) {
  auto mib = [](rlim_t value) { return value == RLIM_INFINITY ? -1L : static_cast<long>(value / kMiB); };
  std::printf("%s: %ld of at most %ld MiB\n", what, mib(limit.rlim_cur), mib(limit.rlim_max));
}

void ShowLimit(const char* what) {
  rlimit limit{};
  Show("getrlimit", getrlimit(RLIMIT_AS, &limit));
  ShowLimit(what, limit);
}

// Whether so much fits into the address space.
void ShowRoom(rlim_t bytes) {
  void* at = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  std::printf("room for %ld MiB: %s\n", static_cast<long>(bytes / kMiB), at == MAP_FAILED ? ErrnoName(errno) : "yes");
  if (at != MAP_FAILED) munmap(at, bytes);
}

void ShowPair(int listener, Address address) {
  Pair pair = Connected(listener, address);
  send(pair.client, "ping", 4, 0);
  char in[8];
  Show("recv", recv(pair.server, in, sizeof in, 0));
  ClosePair(pair);
}

// In a child, whose limits end with it.
template <typename Body>
void InChild(Body&& body) {
  std::fflush(stdout);
  pid_t child = Need(fork(), "fork");
  if (child == 0) {
    body();
    std::fflush(stdout);
    std::_Exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  std::printf("child: %d\n", status);
}

void BeforeSockets(Address address) {
  Title("limits set before the first socket");
  // Not the hard one, which only those may raise who have CAP_SYS_RESOURCE.
  rlimit limit{400 * kMiB, RLIM_INFINITY};
  Show("setrlimit", setrlimit(RLIMIT_AS, &limit));
  int listener = Listen(address);
  ShowLimit("limit");
  ShowRoom(200 * kMiB);
  ShowRoom(600 * kMiB);
  ShowPair(listener, address);
  close(listener);
}

void BesideSockets(Address address, const char* self) {
  int listener = Listen(address);
  Title("limits set beside sockets");
  ShowLimit("at first");
  rlimit limit{400 * kMiB, 800 * kMiB};
  Show("setrlimit", setrlimit(RLIMIT_AS, &limit));
  ShowLimit("limit");
  ShowRoom(200 * kMiB);
  ShowRoom(600 * kMiB);
  ShowPair(listener, address);

  Title("a child has its parent's");
  InChild([&] {
    ShowLimit("limit");
    ShowRoom(200 * kMiB);
    ShowRoom(600 * kMiB);
    ShowPair(listener, address);
  });

  Title("the other calls");
  rlimit old{};
  limit.rlim_cur = 300 * kMiB;
  Show("prlimit", prlimit(0, RLIMIT_AS, &limit, &old));
  ShowLimit("before", old);
  Show("prlimit by number", prlimit(getpid(), RLIMIT_AS, nullptr, &old));
  ShowLimit("after", old);
  limit.rlim_cur = 350 * kMiB;
  Show("syscall(SYS_prlimit64)", syscall(SYS_prlimit64, 0, RLIMIT_AS, &limit, &old));
  ShowLimit("before", old);
  limit.rlim_cur = 400 * kMiB;
  Show("syscall(SYS_setrlimit)", syscall(SYS_setrlimit, RLIMIT_AS, &limit));
  Show("syscall(SYS_getrlimit)", syscall(SYS_getrlimit, RLIMIT_AS, &old));
  ShowLimit("now", old);
  rlimit64 wide{};
  Show("getrlimit64", getrlimit64(RLIMIT_AS, &wide));
  std::printf("%ld\n", static_cast<long>(wide.rlim_cur / kMiB));
  limit = {800 * kMiB, 400 * kMiB};
  Show("the soft one above the hard one", setrlimit(RLIMIT_AS, &limit));
  Show("bad pointer", setrlimit(RLIMIT_AS, reinterpret_cast<rlimit*>(8)));
  Show("bad pointer", getrlimit(RLIMIT_AS, reinterpret_cast<rlimit*>(8)));

  Title("a program has those of the one before");
  InChild([&] { execl(self, self, "after-exec", nullptr); });
  InChild([&] {
    Show("exec of nothing", execl("/nonexistent", "nonexistent", nullptr));
    ShowLimit("limit");
    ShowRoom(200 * kMiB);
    ShowPair(listener, address);
  });

  Title("no descriptors left, for those that are open");
  Pair pair = Connected(listener, address);
  InChild([&] {
    rlimit none{0, 0};
    Show("setrlimit", setrlimit(RLIMIT_NOFILE, &none));
    Show("send", send(pair.client, "ping", 4, 0));
    char in[8];
    Show("recv", recv(pair.server, in, sizeof in, 0));
    Show("socket", socket(address.family(), SOCK_STREAM, 0));
    Show("close", close(pair.server));
    Show("recv of the end", recv(pair.client, in, 1, MSG_DONTWAIT));
  });
  ClosePair(pair);
  close(listener);
}

}  // namespace

int main(int argc, char** argv) {
  if (std::strcmp(argv[1], "after-exec") == 0) {
    rlimit limit{};
    Show("getrlimit", getrlimit(RLIMIT_AS, &limit));
    std::printf("limit: %ld MiB\n", static_cast<long>(limit.rlim_cur / kMiB));
    ShowRoom(200 * kMiB);
    ShowRoom(600 * kMiB);
    return 0;
  }
  Address address(argv[1]);
  (void)argc;
  InChild([&] { BeforeSockets(address); });
  BesideSockets(address, argv[0]);
}
