// Round trips of small messages over one TCP connection, blocking calls and nothing else: the least a request can cost.
//   ustcp_pingpong serve PORT                          echoes messages of every connection, one after the other
//   ustcp_pingpong ask ADDRESS PORT BYTES SECONDS      prints "round trips per second, median and 99th percentile in us"
// Knows nothing of ustcp: run with or without the library preloaded.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxMessage = 65536;

[[noreturn]] void Fail(const char* what) {
  perror(what);
  exit(1);
}

sockaddr_in Address(const char* address, const char* port) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(static_cast<uint16_t>(atoi(port)));
  if (inet_pton(AF_INET, address, &a.sin_addr) != 1) {
    fprintf(stderr, "%s is no IPv4 address\n", address);
    exit(2);
  }
  return a;
}

void NoDelay(int fd) {
  int one = 1;
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0) Fail("TCP_NODELAY");
}

void Write(int fd, const char* data, size_t bytes) {
  while (bytes > 0) {
    ssize_t n = write(fd, data, bytes);
    if (n <= 0) Fail("write");
    data += n;
    bytes -= static_cast<size_t>(n);
  }
}

int Serve(const char* port) {
  int listening = socket(AF_INET, SOCK_STREAM, 0);
  int one = 1;
  setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  sockaddr_in a = Address("0.0.0.0", port);
  if (bind(listening, reinterpret_cast<sockaddr*>(&a), sizeof a) != 0) Fail("bind");
  if (listen(listening, 8) != 0) Fail("listen");
  static char data[kMaxMessage];
  for (;;) {
    int fd = accept(listening, nullptr, nullptr);
    if (fd < 0) Fail("accept");
    NoDelay(fd);
    ssize_t n;
    while ((n = read(fd, data, sizeof data)) > 0) Write(fd, data, static_cast<size_t>(n));
    close(fd);
  }
}

int Ask(const char* address, const char* port, size_t bytes, double seconds) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in a = Address(address, port);
  if (connect(fd, reinterpret_cast<sockaddr*>(&a), sizeof a) != 0) Fail("connect");
  NoDelay(fd);
  static char data[kMaxMessage];
  std::vector<int64_t> times;
  times.reserve(size_t{1} << 22);
  auto trip = [&] {
    Write(fd, data, bytes);
    for (size_t got = 0; got < bytes;) {
      ssize_t n = read(fd, data, bytes - got);
      if (n <= 0) Fail("read");
      got += static_cast<size_t>(n);
    }
  };
  for (int i = 0; i < 1000; ++i) trip();
  Clock::time_point begun = Clock::now(), before = begun;
  while (before - begun < std::chrono::duration<double>(seconds)) {
    trip();
    Clock::time_point after = Clock::now();
    times.push_back((after - before).count());
    before = after;
  }
  double rate = static_cast<double>(times.size()) / std::chrono::duration<double>(before - begun).count();
  std::sort(times.begin(), times.end());
  auto at = [&](size_t percent) { return static_cast<double>(times[(times.size() - 1) * percent / 100]) / 1000; };
  printf("%.1f %.2f %.2f\n", rate, at(50), at(99));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && strcmp(argv[1], "serve") == 0) return Serve(argv[2]);
  if (argc == 6 && strcmp(argv[1], "ask") == 0) {
    size_t bytes = strtoul(argv[4], nullptr, 10);
    if (bytes > 0 && bytes <= kMaxMessage) return Ask(argv[2], argv[3], bytes, atof(argv[5]));
  }
  fprintf(stderr, "usage: %s serve PORT | ask ADDRESS PORT BYTES SECONDS\n", argv[0]);
  return 2;
}
