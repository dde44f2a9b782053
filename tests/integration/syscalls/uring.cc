// io_uring of a program's own on its sockets; ../program_uring_test.py knows what is to come out. Usage:
//   uring setup            sets one up through liburing, and one through syscall()
//   uring sockets ADDRESS  does everything on sockets that are unconnected to whoever goes past the library
// The version of libuv that it claims to hold is in UV_VERSION (hexadecimal).
#include <liburing.h>
#include <sys/syscall.h>

#include "transcript.h"

extern "C" __attribute__((visibility("default"))) unsigned uv_version() {
  const char* text = std::getenv("UV_VERSION");
  return text != nullptr ? static_cast<unsigned>(std::strtoul(text, nullptr, 16)) : 0;
}

namespace {

void SetUp() {
  io_uring ring;
  int result = io_uring_queue_init(4, &ring, 0);
  std::printf("liburing: %s\n", result < 0 ? ErrnoName(-result) : "made");
  if (result >= 0) io_uring_queue_exit(&ring);
  io_uring_params params{};
  ShowFd("syscall", static_cast<int>(syscall(SYS_io_uring_setup, 4, &params)));
}

class Ring {
 public:
  Ring() { Need(io_uring_queue_init(8, &ring_, 0), "set up a ring"); }
  io_uring_sqe* Next() { return io_uring_get_sqe(&ring_); }
  // Its result within a second; -ETIME for silence.
  int Submit() {
    __kernel_timespec time{1, 0};
    io_uring_cqe* cqe = nullptr;
    io_uring_submit(&ring_);
    int result = io_uring_wait_cqe_timeout(&ring_, &cqe, &time);
    if (result < 0) return result;
    result = cqe->res;
    io_uring_cqe_seen(&ring_, cqe);
    return result;
  }

 private:
  io_uring ring_;
};

void Print(const char* what, int result) {
  std::printf("%s: %s\n", what, result < 0 ? ErrnoName(-result) : std::to_string(result).c_str());
}

// A hang-up is what matters of a level; what else an unconnected socket shows differs between its kinds.
std::string Level(uint32_t bits) { return (bits & POLLHUP) != 0 ? "HUP" : Bits(bits); }

void Operations(Ring& ring, const char* what, int fd, Address& address) {
  char in[8];
  std::printf("-- %s\n", what);
  io_uring_prep_recv(ring.Next(), fd, in, sizeof in, 0);
  Print("recv", ring.Submit());
  io_uring_prep_read(ring.Next(), fd, in, sizeof in, 0);
  Print("read", ring.Submit());
  io_uring_prep_send(ring.Next(), fd, "x", 1, MSG_NOSIGNAL);
  Print("send", ring.Submit());
  io_uring_prep_accept(ring.Next(), fd, nullptr, nullptr, 0);
  Print("accept", ring.Submit());
  io_uring_prep_connect(ring.Next(), fd, address.get(), address.size());
  Print("connect", ring.Submit());
  io_uring_prep_poll_add(ring.Next(), fd, POLLIN);
  int shown = ring.Submit();
  std::printf("poll: %s\n", shown < 0 ? ErrnoName(-shown) : Level(static_cast<uint32_t>(shown)).c_str());
  int set = epoll_create1(0);
  epoll_event event{EPOLLIN, {.u64 = 7}};
  io_uring_prep_epoll_ctl(ring.Next(), set, fd, EPOLL_CTL_ADD, &event);
  Print("epoll_ctl", ring.Submit());
  epoll_event got{};
  int n = epoll_wait(set, &got, 1, 2000);
  std::printf("epoll_wait: %d %s of %lu\n", n, Level(got.events).c_str(), static_cast<unsigned long>(got.data.u64));
  close(set);
}

void Sockets(Address address) {
  Ring ring;
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  send(pair.client, "data", 4, 0);
  Await(pair.server, POLLIN);
  Operations(ring, "accepted", pair.server, address);
  Operations(ring, "connected", pair.client, address);
  Operations(ring, "listening", listener, address);
  std::printf("-- plain calls\n");
  char in[8];
  Show("recv", recv(pair.server, in, sizeof in, 0));
  Show("send", send(pair.server, "x", 1, 0));
  Show("recv", recv(pair.client, in, sizeof in, 0));
  int file = open("/proc/self/stat", O_RDONLY);
  io_uring_prep_read(ring.Next(), file, in, sizeof in, 0);
  Print("read of a file", ring.Submit());
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  alarm(60);
  if (argc == 2 && std::strcmp(argv[1], "setup") == 0) SetUp();
  if (argc == 3 && std::strcmp(argv[1], "sockets") == 0) Sockets(Address(argv[2]));
}
