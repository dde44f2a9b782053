// What calls return as a connection lives and dies: connecting, partial data, half-close, reset, urgent data, time limits,
// and SIGPIPE.
#include <sys/sendfile.h>

#include <vector>

#include "transcript.h"

namespace {

int g_sigpipes = 0;
void OnSigpipe(int) { ++g_sigpipes; }

int TakeError(int fd) {
  int error = 0;
  socklen_t length = sizeof error;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
  return error;
}

void ShowSocketError(const char* what, int fd) {
  int error = TakeError(fd);
  std::printf("%s: SO_ERROR %s\n", what, error == 0 ? "none" : ErrnoName(error));
}

void Connecting(Address address) {
  Title("connecting");
  int listener = Listen(address);
  int fd = NewSocket(address, SOCK_NONBLOCK);
  long first = connect(fd, address.get(), address.size());
  std::printf("in progress or done: %d\n", first == 0 || errno == EINPROGRESS);
  Await(fd, POLLOUT);
  ShowSocketError("then", fd);
  long second = connect(fd, address.get(), address.size());
  std::printf("again: %d\n", second == 0 || errno == EISCONN);
  Show("and again", connect(fd, address.get(), address.size()));
  ShowPoll("level", fd);
  int server = ShowFd("accept4", accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  Show("its flags", fcntl(server, F_GETFL));
  Show("its descriptor flags", fcntl(server, F_GETFD));
  sockaddr_storage name;
  socklen_t length = sizeof name;
  Show("getpeername", getpeername(fd, reinterpret_cast<sockaddr*>(&name), &length));
  struct stat st;
  Show("fstat of the accepted one", fstat(server, &st));
  std::printf("a socket: %d\n", S_ISSOCK(st.st_mode));
  Show("lseek of it", lseek(server, 0, SEEK_SET));
  char c;
  Show("pread of it", pread(server, &c, 1, 0));
  close(server);
  close(fd);
  close(listener);

  fd = NewSocket(address);
  Show("to a closed port", connect(fd, address.get(), address.size()));
  ShowPoll("level after it", fd);
  ShowSocketError("after it", fd);
  close(fd);
  fd = NewSocket(address, SOCK_NONBLOCK);
  (void)connect(fd, address.get(), address.size());
  Await(fd, POLLOUT);
  ShowPoll("level of a refused one", fd);
  ShowSocketError("first", fd);
  ShowSocketError("second", fd);
  close(fd);
}

void Data(Address address) {
  Title("data");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  char in[64] = {};
  Show("send", send(pair.client, "hello world", 11, 0));
  Await(pair.server, POLLIN);
  int n = 0;
  ioctl(pair.server, FIONREAD, &n);
  std::printf("FIONREAD %d\n", n);
  Show("peek", recv(pair.server, in, 5, MSG_PEEK));
  Show("recv", recv(pair.server, in, 5, 0));
  std::printf("%.5s\n", in);
  Show("recv MSG_TRUNC", recv(pair.server, in, 3, MSG_TRUNC));
  Show("recv of the rest", recv(pair.server, in, sizeof in, 0));
  std::printf("%.3s\n", in);
  iovec two[2] = {{in, 2}, {in + 10, 3}};
  send(pair.client, "abcde", 5, 0);
  Await(pair.server, POLLIN);
  Show("readv", readv(pair.server, two, 2));
  std::printf("%.2s %.3s\n", in, in + 10);

  Title("urgent data");
  Show("send MSG_OOB", send(pair.client, "12x", 3, MSG_OOB));
  Await(pair.server, POLLPRI);
  ShowPoll("level", pair.server);
  Show("recv", recv(pair.server, in, 10, 0));
  Show("at mark", sockatmark(pair.server));
  Show("recv MSG_OOB", recv(pair.server, in, 1, MSG_OOB));
  std::printf("%c\n", in[0]);
  Show("recv MSG_OOB again", recv(pair.server, in, 1, MSG_OOB));
  ShowPoll("level after", pair.server);

  Title("half-close");
  Show("shutdown SHUT_WR", shutdown(pair.client, SHUT_WR));
  Show("send after it", send(pair.client, "x", 1, 0));
  std::printf("SIGPIPE %d\n", g_sigpipes);
  Show("send MSG_NOSIGNAL", send(pair.client, "x", 1, MSG_NOSIGNAL));
  std::printf("SIGPIPE %d\n", g_sigpipes);
  Await(pair.server, POLLRDHUP);
  ShowPoll("level of the other end", pair.server);
  Show("recv", recv(pair.server, in, 1, 0));
  Show("recv again", recv(pair.server, in, 1, 0));
  Show("send from the other end", send(pair.server, "back", 4, 0));
  Await(pair.client, POLLIN);
  Show("recv", recv(pair.client, in, 10, 0));
  Show("shutdown SHUT_RD", shutdown(pair.client, SHUT_RD));
  Show("recv after it", recv(pair.client, in, 10, 0));
  Show("shutdown again", shutdown(pair.client, SHUT_WR));
  close(pair.server);
  Await(pair.client, POLLHUP);
  ShowPoll("level when both are closed", pair.client);
  Show("shutdown of what is closed", shutdown(pair.client, SHUT_WR));
  close(pair.client);
  close(listener);
}

void Reset(Address address) {
  Title("reset");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  linger now{1, 0};
  setsockopt(pair.client, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  close(pair.client);
  Await(pair.server, POLLERR);
  ShowPoll("level", pair.server);
  char in[4];
  Show("recv", recv(pair.server, in, 4, 0));
  Show("recv again", recv(pair.server, in, 4, 0));
  Show("send", send(pair.server, in, 1, 0));
  std::printf("SIGPIPE %d\n", g_sigpipes);
  Show("shutdown", shutdown(pair.server, SHUT_RDWR));
  sockaddr_storage name;
  socklen_t length = sizeof name;
  Show("getpeername", getpeername(pair.server, reinterpret_cast<sockaddr*>(&name), &length));
  close(pair.server);

  pair = Connected(listener, address);
  setsockopt(pair.client, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  close(pair.client);
  Await(pair.server, POLLERR);
  Show("send first", send(pair.server, in, 1, 0));
  std::printf("SIGPIPE %d\n", g_sigpipes);
  Show("send then", send(pair.server, in, 1, 0));
  std::printf("SIGPIPE %d\n", g_sigpipes);
  close(pair.server);

  Title("closed with unread data");
  pair = Connected(listener, address);
  send(pair.client, "x", 1, 0);
  Await(pair.server, POLLIN);
  close(pair.server);
  Await(pair.client, POLLERR);
  ShowPoll("level", pair.client);
  ShowSocketError("then", pair.client);
  close(pair.client);

  Title("listener closed with a connection waiting");
  int fd = NewSocket(address);
  Need(connect(fd, address.get(), address.size()), "connect");
  close(listener);
  Await(fd, POLLERR);
  ShowPoll("level", fd);
  Show("recv", recv(fd, in, 1, 0));
  close(fd);
}

// Sends a file of 3,000,001 bytes to a reader in a child, which prints how much came and whether it was right.
void SendLargeFile(int listener, Address address, const char* directory, bool cached, int flags) {
  constexpr size_t kBytes = 3'000'001;
  std::vector<char> content(kBytes);
  uint32_t x = 1;
  for (char& c : content) c = static_cast<char>((x = x * 1664525 + 1013904223) >> 24);
  std::string path = std::string(directory) + "/ustcp-syscalls-XXXXXX";
  int file = mkstemp(path.data());
  unlink(path.c_str());
  for (size_t done = 0; done < kBytes;) {
    ssize_t n = write(file, content.data() + done, kBytes - done);
    if (n <= 0) break;
    done += static_cast<size_t>(n);
  }
  if (!cached) {
    fsync(file);
    posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
  }
  Pair pair = Connected(listener, address);
  std::fflush(stdout);
  pid_t reader = fork();
  if (reader == 0) {
    close(pair.client);
    std::vector<char> in(kBytes + 1);
    size_t got = 0;
    ssize_t n;
    while ((n = recv(pair.server, in.data() + got, in.size() - got, 0)) > 0) got += static_cast<size_t>(n);
    std::printf("arrived: %zu, the same: %d\n", got, got == kBytes && std::memcmp(in.data(), content.data(), got) == 0);
    std::fflush(stdout);
    _exit(0);
  }
  close(pair.server);
  fcntl(pair.client, F_SETFL, flags);
  off_t offset = 0;
  while (offset < static_cast<off_t>(kBytes)) {
    // More than there is: the call ends where the file does.
    ssize_t n = sendfile(pair.client, file, &offset, kBytes);
    if (n == 0 || (n < 0 && errno != EAGAIN)) break;
    if (n < 0) Await(pair.client, POLLOUT);
  }
  std::printf("sent: %ld\n", static_cast<long>(offset));
  Show("and at the end", sendfile(pair.client, file, &offset, 1));
  std::fflush(stdout);
  close(pair.client);
  waitpid(reader, nullptr, 0);
  close(file);
}

void LargeFiles(int listener, Address address) {
  Title("sendfile of a large file");
  SendLargeFile(listener, address, "/tmp", true, 0);
  SendLargeFile(listener, address, "/tmp", false, 0);
  SendLargeFile(listener, address, "/dev/shm", true, 0);
  SendLargeFile(listener, address, "/tmp", true, O_NONBLOCK);
  SendLargeFile(listener, address, "/tmp", false, O_NONBLOCK);
}

void Limits(Address address) {
  Title("full buffers and time limits");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  std::vector<char> block(1 << 20, 'x');
  fcntl(pair.client, F_SETFL, O_NONBLOCK);
  long total = 0;
  long last;
  while ((last = send(pair.client, block.data(), block.size(), 0)) > 0) total += last;
  Show("send when full", last);
  std::printf("took something: %d\n", total > 0);
  ShowPoll("level", pair.client);
  fcntl(pair.client, F_SETFL, 0);
  SetTimeout(pair.client, SO_SNDTIMEO, 50);
  Show("send with a time limit", send(pair.client, block.data(), block.size(), 0) <= 0 ? -1 : 0);
  std::vector<char> in(1 << 16);
  long got = 0;
  while (got < total) {
    long n = recv(pair.server, in.data(), in.size(), 0);
    if (n <= 0) break;
    got += n;
  }
  std::printf("all arrived: %d\n", got >= total);
  ShowPoll("level", pair.client, 1000);
  ClosePair(pair);

  Title("sendfile");
  pair = Connected(listener, address);
  char path[] = "/tmp/ustcp-syscalls-XXXXXX";
  int file = mkstemp(path);
  unlink(path);
  for (int i = 0; i < 1000; ++i) (void)!write(file, "0123456789", 10);
  off_t offset = 5;
  Show("with an offset", sendfile(pair.client, file, &offset, 100));
  std::printf("offset %ld position %ld\n", static_cast<long>(offset), static_cast<long>(lseek(file, 0, SEEK_CUR)));
  Show("recv", recv(pair.server, in.data(), 100, MSG_WAITALL));
  std::printf("%.10s\n", in.data());
  lseek(file, 9990, SEEK_SET);
  Show("with the position, beyond the end", sendfile(pair.client, file, nullptr, 100));
  std::printf("position %ld\n", static_cast<long>(lseek(file, 0, SEEK_CUR)));
  Show("recv", recv(pair.server, in.data(), 10, MSG_WAITALL));
  Show("at the end", sendfile(pair.client, file, nullptr, 100));
  Show("from a bad descriptor", sendfile(pair.client, 999, nullptr, 100));
  close(file);
  ClosePair(pair);
  LargeFiles(listener, address);

  Title("lingering close");
  pair = Connected(listener, address);
  linger five{1, 5};
  setsockopt(pair.client, SOL_SOCKET, SO_LINGER, &five, sizeof five);
  send(pair.client, "bye", 3, 0);
  Show("close", close(pair.client));
  Await(pair.server, POLLRDHUP);
  Show("recv", recv(pair.server, in.data(), 10, 0));
  Show("recv of the end", recv(pair.server, in.data(), 10, 0));
  close(pair.server);
  close(listener);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  signal(SIGPIPE, OnSigpipe);
  Address address(argv[1]);
  Connecting(address);
  Data(address);
  Reset(address);
  Limits(address);
}
