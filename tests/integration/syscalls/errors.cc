// Which errno each call returns on a socket in each state that a program can put it in without the network.
#include <sys/sendfile.h>

#include "transcript.h"

namespace {

void OnFresh(Address address) {
  Title("fresh socket");
  int fd = NewSocket(address);
  char c = 0;
  ShowPoll("level", fd);
  Show("recv", recv(fd, &c, 1, 0));
  Show("read of nothing", read(fd, &c, 0));
  Show("recv MSG_OOB", recv(fd, &c, 1, MSG_OOB));
  Show("send", send(fd, &c, 1, MSG_NOSIGNAL));
  Show("send of nothing", send(fd, &c, 0, MSG_NOSIGNAL));
  Show("shutdown", shutdown(fd, SHUT_RDWR));
  Show("shutdown of nothing", shutdown(fd, 7));
  close(fd);
  fd = NewSocket(address);
  sockaddr_storage name;
  socklen_t length = sizeof name;
  Show("getpeername", getpeername(fd, reinterpret_cast<sockaddr*>(&name), &length));
  length = sizeof name;
  Show("getsockname", getsockname(fd, reinterpret_cast<sockaddr*>(&name), &length));
  std::printf("its family and length: %d %u\n", name.ss_family == address.family(), length);
  length = 2;
  Show("getsockname, short", getsockname(fd, reinterpret_cast<sockaddr*>(&name), &length));
  std::printf("length then: %u\n", length);
  length = static_cast<socklen_t>(-1);
  Show("getsockname, negative", getsockname(fd, reinterpret_cast<sockaddr*>(&name), &length));
  Show("accept", accept(fd, nullptr, nullptr));
  Show("accept4 with bad flags", accept4(fd, nullptr, nullptr, 1));
  int n = 7;
  Show("FIONREAD", ioctl(fd, FIONREAD, &n));
  std::printf("value: %d\n", n);
  Show("TIOCOUTQ", ioctl(fd, TIOCOUTQ, &n));
  Show("SIOCATMARK", sockatmark(fd));
  Show("isatty", isatty(fd) != 0);
  Show("lseek", lseek(fd, 0, SEEK_CUR));
  Show("pread", pread(fd, &c, 1, 0));
  Show("pwrite", pwrite(fd, &c, 1, 0));
  struct stat st;
  Show("fstat", fstat(fd, &st));
  std::printf("a socket: %d\n", S_ISSOCK(st.st_mode));
  Show("flags", fcntl(fd, F_GETFL));
  Show("descriptor flags", fcntl(fd, F_GETFD));
  Show("F_SETFL", fcntl(fd, F_SETFL, O_NONBLOCK));
  Show("flags now", fcntl(fd, F_GETFL));
  int off = 0;
  Show("FIONBIO 0", ioctl(fd, FIONBIO, &off));
  Show("flags after it", fcntl(fd, F_GETFL));
  Show("F_SETFL O_DIRECT", fcntl(fd, F_SETFL, O_DIRECT));
  close(fd);
  Show("recv after close", recv(fd, &c, 1, 0));
  Show("close again", close(fd));
}

void OnNames(Address address) {
  Title("names");
  int fd = NewSocket(address);
  Show("bind, short address", bind(fd, address.get(), 4));
  Show("bind, no address", bind(fd, address.get(), 0));
  Show("bind, null", bind(fd, nullptr, address.size()));
  Show("bind, long address", bind(fd, address.get(), 200));
  sockaddr_storage other{};
  other.ss_family = AF_UNIX;
  Show("bind, other family", bind(fd, reinterpret_cast<sockaddr*>(&other), address.size()));
  Show("connect, other family", connect(fd, reinterpret_cast<sockaddr*>(&other), address.size()));
  Show("connect, short address", connect(fd, address.get(), 4));
  Show("connect, null", connect(fd, nullptr, address.size()));
  address.set_port(0);
  Show("bind", bind(fd, address.get(), address.size()));
  Show("bind again", bind(fd, address.get(), address.size()));
  socklen_t length = address.size();
  getsockname(fd, address.get(), &length);
  std::printf("has a port: %d\n", address.port() != 0);
  int second = NewSocket(address);
  Show("bind of another to it", bind(second, address.get(), address.size()));
  int on = 1;
  Show("SO_REUSEADDR", setsockopt(second, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
  Show("bind with SO_REUSEADDR", bind(second, address.get(), address.size()));
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  Show("bind with both", bind(second, address.get(), address.size()));
  Show("listen", listen(fd, 5));
  Show("listen of the other", listen(second, 5));
  Show("listen again", listen(fd, 50));
  close(second);
  ShowPoll("listening", fd);
  char c = 0;
  Show("recv", recv(fd, &c, 1, 0));
  Show("send", send(fd, &c, 1, MSG_NOSIGNAL));
  Show("connect", connect(fd, address.get(), address.size()));
  Show("getpeername", getpeername(fd, address.get(), &length));
  Show("FIONREAD", ioctl(fd, FIONREAD, &on));
  fcntl(fd, F_SETFL, O_NONBLOCK);
  ShowFd("accept", accept(fd, nullptr, nullptr));
  SetTimeout(fd, SO_RCVTIMEO, 30);
  fcntl(fd, F_SETFL, 0);
  ShowFd("accept with a time limit", accept(fd, nullptr, nullptr));
  Show("shutdown SHUT_WR", shutdown(fd, SHUT_WR));
  Show("shutdown SHUT_RD", shutdown(fd, SHUT_RD));
  ShowFd("accept after it", accept(fd, nullptr, nullptr));
  close(fd);
  fd = NewSocket(address);
  Show("listen without bind", listen(fd, 5));
  close(fd);
}

void OnVectors(Address address) {
  Title("vectors and messages");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  char data[8] = "abcdefg";
  iovec many[1025];
  for (auto& v : many) v = {data, 1};
  Show("writev of 1025", writev(pair.client, many, 1025));
  Show("writev of -1", writev(pair.client, many, -1));
  Show("writev of 0", writev(pair.client, many, 0));
  Show("writev of 1024", writev(pair.client, many, 1024));
  iovec negative{data, static_cast<size_t>(-1)};
  Show("writev of a negative length", writev(pair.client, &negative, 1));
  msghdr message{};
  message.msg_iov = many;
  message.msg_iovlen = 1025;
  Show("sendmsg of 1025", sendmsg(pair.client, &message, 0));
  message.msg_iovlen = 2;
  Show("sendmsg of 2", sendmsg(pair.client, &message, 0));
  Show("write of null", write(pair.client, nullptr, 5));
  Show("write of nothing", write(pair.client, data, 0));
  char in[2048];
  Show("recv MSG_WAITALL", recv(pair.server, in, 1026, MSG_WAITALL));
  char control[64];
  sockaddr_storage name;
  iovec v{in, sizeof in};
  message = {};
  message.msg_name = &name;
  message.msg_namelen = sizeof name;
  message.msg_iov = &v;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  message.msg_flags = 0x7777;
  send(pair.client, "xyz", 3, 0);
  Await(pair.server, POLLIN);
  Show("recvmsg", recvmsg(pair.server, &message, 0));
  std::printf("name %u control %zu flags %d\n", message.msg_namelen, message.msg_controllen, message.msg_flags);
  socklen_t length = sizeof name;
  send(pair.client, "xyz", 3, 0);
  Await(pair.server, POLLIN);
  Show("recvfrom", recvfrom(pair.server, in, 10, 0, reinterpret_cast<sockaddr*>(&name), &length));
  std::printf("name %u\n", length);
  Show("recv of nothing there", recv(pair.server, in, 10, MSG_DONTWAIT));
  Show("recv MSG_OOB without any", recv(pair.server, in, 1, MSG_OOB));
  Show("recv MSG_ERRQUEUE", recv(pair.server, in, 1, MSG_ERRQUEUE));
  SetTimeout(pair.server, SO_RCVTIMEO, 30);
  Show("recv with a time limit", recv(pair.server, in, 1, 0));
  mmsghdr two[2] = {};
  iovec a{data, 3};
  for (auto& m : two) m.msg_hdr.msg_iov = &a, m.msg_hdr.msg_iovlen = 1;
  Show("sendmmsg", sendmmsg(pair.client, two, 2, 0));
  std::printf("lengths %u %u\n", two[0].msg_len, two[1].msg_len);
  Show("recv MSG_WAITALL of both", recv(pair.server, in, 6, MSG_WAITALL));
  Show("bind of a connected socket", bind(pair.client, address.get(), address.size()));
  Show("listen of a connected socket", listen(pair.client, 5));
  Show("accept of a connected socket", accept(pair.client, nullptr, nullptr));
  Show("connect of a connected socket", connect(pair.client, address.get(), address.size()));
  Show("with a short address", connect(pair.client, address.get(), 8));
  Show("with hardly any", connect(pair.client, address.get(), 1));
  Show("connect of a listener, short address", connect(listener, address.get(), 8));
  int fresh = NewSocket(address);
  Show("writev of 0, not connected", writev(fresh, many, 0));
  v.iov_len = 0;
  Show("writev of nothing, not connected", writev(fresh, &v, 1));
  close(fresh);
  message.msg_control = control;
  message.msg_controllen = 1 << 24;
  Show("sendmsg, far too long control", sendmsg(pair.client, &message, 0));
  int file = open("/proc/self/exe", O_RDONLY);
  Show("sendfile of a negative count", sendfile(pair.client, file, nullptr, static_cast<size_t>(-1)));
  Show("splice of nothing", splice(pair.client, nullptr, file, nullptr, 0, 0));
  close(file);
  ClosePair(pair);
  close(listener);
}

void OnOptions(Address address) {
  Title("options");
  int fd = NewSocket(address);
  int value = 1;
  socklen_t length = sizeof value;
  Show("unknown level", setsockopt(fd, 4711, 1, &value, sizeof value));
  Show("unknown name", setsockopt(fd, IPPROTO_TCP, 4711, &value, sizeof value));
  Show("short value", setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, 1));
  Show("null value", setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, nullptr, sizeof value));
  Show("negative length", setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, static_cast<socklen_t>(-1)));
  Show("get unknown name", getsockopt(fd, IPPROTO_TCP, 4711, &value, &length));
  Show("get unknown level", getsockopt(fd, 4711, 1, &value, &length));
  static constexpr struct {
    const char* name;
    int level, option;
  } kOptions[] = {{"SO_TYPE", SOL_SOCKET, SO_TYPE},
                  {"SO_ERROR", SOL_SOCKET, SO_ERROR},
                  {"SO_ACCEPTCONN", SOL_SOCKET, SO_ACCEPTCONN},
                  {"SO_PROTOCOL", SOL_SOCKET, SO_PROTOCOL},
                  {"SO_REUSEADDR", SOL_SOCKET, SO_REUSEADDR},
                  {"SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE},
                  {"SO_OOBINLINE", SOL_SOCKET, SO_OOBINLINE},
                  {"SO_RCVLOWAT", SOL_SOCKET, SO_RCVLOWAT},
                  {"TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY},
                  {"TCP_CORK", IPPROTO_TCP, TCP_CORK},
                  {"TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE},
                  {"TCP_KEEPINTVL", IPPROTO_TCP, TCP_KEEPINTVL},
                  {"TCP_KEEPCNT", IPPROTO_TCP, TCP_KEEPCNT},
                  {"TCP_SYNCNT", IPPROTO_TCP, TCP_SYNCNT},
                  {"TCP_LINGER2", IPPROTO_TCP, TCP_LINGER2},
                  {"TCP_DEFER_ACCEPT", IPPROTO_TCP, TCP_DEFER_ACCEPT},
                  {"TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT}};
  for (auto& o : kOptions) {
    value = -1;
    length = sizeof value;
    Show(o.name, getsockopt(fd, o.level, o.option, &value, &length));
    std::printf("  %d (%u bytes)\n", value, length);
  }
  linger l{1, 5};
  Show("set SO_LINGER", setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l));
  l = {};
  length = sizeof l;
  Show("get SO_LINGER", getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &length));
  std::printf("  %d %d\n", l.l_onoff, l.l_linger);
  value = 3;
  Show("set TCP_KEEPIDLE", setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &value, sizeof value));
  length = 2;
  value = 0;
  Show("get TCP_KEEPIDLE, short", getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &value, &length));
  std::printf("  %d (%u bytes)\n", value, length);
  close(fd);
}

void OnDescriptors(Address address) {
  Title("descriptors");
  int listener = Listen(address);
  Pair pair = Connected(listener, address);
  int copy = ShowFd("dup", dup(pair.client));
  close(pair.client);
  Show("send on the copy", send(copy, "1", 1, 0));
  int third = ShowFd("F_DUPFD_CLOEXEC", fcntl(copy, F_DUPFD_CLOEXEC, 100));
  std::printf("at least 100: %d, close on exec: %d\n", third >= 100, fcntl(third, F_GETFD));
  Show("dup2 onto a descriptor in use", dup2(copy, third) == third);
  std::printf("close on exec: %d\n", fcntl(third, F_GETFD));
  Show("dup2 onto itself", dup2(third, third) == third);
  Show("dup3 onto itself", dup3(third, third, 0));
  Show("dup3 with a bad flag", dup3(third, 200, 1));
  Show("dup2 onto a bad number", dup2(third, -1));
  Show("F_SETFL on one", fcntl(third, F_SETFL, O_NONBLOCK));
  Show("flags of the other", fcntl(copy, F_GETFL));
  close(copy);
  char in[4];
  Show("recv", recv(pair.server, in, 1, 0));
  Show("recv of nothing there", recv(pair.server, in, 1, MSG_DONTWAIT));
  Show("close_range", close_range(static_cast<unsigned>(third), static_cast<unsigned>(third), 0));
  Await(pair.server, POLLIN);
  Show("recv after the last close", recv(pair.server, in, 1, 0));
  int null = open("/dev/null", O_RDWR);
  Show("dup2 of a file over a socket", dup2(null, pair.server) == pair.server);
  Show("write to it", write(pair.server, "1", 1));
  close(pair.server);
  close(null);
  close(listener);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  signal(SIGPIPE, SIG_IGN);
  Address address(argv[1]);
  OnFresh(address);
  OnNames(address);
  OnVectors(address);
  OnOptions(address);
  OnDescriptors(address);
}
