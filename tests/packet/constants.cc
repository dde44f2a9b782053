// Names of constants and errors as scripts write them.
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <map>

#include "tests/packet/calls.h"

namespace ustcp::packet {
namespace {

const std::map<std::string, int64_t>& Names() {
#define N(name) \
  { #name, static_cast < int64_t>(name) }
  static const std::map<std::string, int64_t> names = {
      N(AF_UNSPEC),
      N(AF_INET),
      N(AF_INET6),
      N(PF_INET),
      N(PF_INET6),
      N(SOCK_STREAM),
      N(SOCK_NONBLOCK),
      N(SOCK_CLOEXEC),
      N(IPPROTO_TCP),
      N(IPPROTO_IP),
      N(IPPROTO_IPV6),
      N(SOL_SOCKET),
      {"SOL_TCP", IPPROTO_TCP},
      {"SOL_IP", IPPROTO_IP},
      {"SOL_IPV6", IPPROTO_IPV6},
      N(F_GETFL),
      N(F_SETFL),
      N(F_GETFD),
      N(F_SETFD),
      N(O_RDWR),
      N(O_NONBLOCK),
      N(FD_CLOEXEC),
      N(SHUT_RD),
      N(SHUT_WR),
      N(SHUT_RDWR),
      N(MSG_OOB),
      N(MSG_PEEK),
      N(MSG_DONTWAIT),
      N(MSG_WAITALL),
      N(MSG_MORE),
      N(MSG_NOSIGNAL),
      N(MSG_TRUNC),
      N(SO_REUSEADDR),
      N(SO_REUSEPORT),
      N(SO_KEEPALIVE),
      N(SO_OOBINLINE),
      N(SO_LINGER),
      N(SO_SNDBUF),
      N(SO_RCVBUF),
      N(SO_RCVLOWAT),
      N(SO_ERROR),
      N(SO_TYPE),
      N(SO_ACCEPTCONN),
      N(SO_DOMAIN),
      N(SO_PROTOCOL),
      N(SO_RCVTIMEO),
      N(SO_SNDTIMEO),
      N(TCP_NODELAY),
      N(TCP_MAXSEG),
      N(TCP_CORK),
      N(TCP_KEEPIDLE),
      N(TCP_KEEPINTVL),
      N(TCP_KEEPCNT),
      N(TCP_SYNCNT),
      N(TCP_LINGER2),
      N(TCP_DEFER_ACCEPT),
      N(TCP_WINDOW_CLAMP),
      N(TCP_QUICKACK),
      N(TCP_CONGESTION),
      N(TCP_USER_TIMEOUT),
      N(TCP_NOTSENT_LOWAT),
      N(TCP_INFO),
      N(IP_TOS),
      N(IPV6_TCLASS),
      N(IPV6_V6ONLY),
      N(SIOCATMARK),
      {"SIOCINQ", FIONREAD},
      N(FIONREAD),
      {"SIOCOUTQ", TIOCOUTQ},
      N(SIOCOUTQNSD),
      N(POLLIN),
      N(POLLOUT),
      N(POLLERR),
      N(POLLHUP),
      N(POLLPRI),
      N(POLLNVAL),
      {"POLLRDHUP", 0x2000},
      {"POLLRDNORM", 0x40},
      {"POLLWRNORM", 0x100},
      N(EPOLL_CTL_ADD),
      N(EPOLL_CTL_MOD),
      N(EPOLL_CTL_DEL),
      N(EPOLLIN),
      N(EPOLLOUT),
      N(EPOLLERR),
      N(EPOLLHUP),
      N(EPOLLPRI),
      N(EPOLLRDHUP),
      {"EPOLLET", 1u << 31},
      {"EPOLLONESHOT", 1u << 30},
      {"EPOLLEXCLUSIVE", 1u << 28},
      // tcp_info.tcpi_state and tcpi_ca_state
      {"TCP_ESTABLISHED", 1},
      {"TCP_SYN_SENT", 2},
      {"TCP_SYN_RECV", 3},
      {"TCP_FIN_WAIT1", 4},
      {"TCP_FIN_WAIT2", 5},
      {"TCP_TIME_WAIT", 6},
      {"TCP_CLOSE", 7},
      {"TCP_CLOSE_WAIT", 8},
      {"TCP_LAST_ACK", 9},
      {"TCP_LISTEN", 10},
      {"TCP_CLOSING", 11},
      {"TCP_CA_Open", 0},
      {"TCP_CA_Disorder", 1},
      {"TCP_CA_CWR", 2},
      {"TCP_CA_Recovery", 3},
      {"TCP_CA_Loss", 4},
      {"TCP_INFINITE_SSTHRESH", 0x7fffffff},
      N(TCPI_OPT_TIMESTAMPS),
      N(TCPI_OPT_SACK),
      N(TCPI_OPT_WSCALE),
      N(TCPI_OPT_ECN),
      // as getsockopt(SO_ERROR) is written
      N(ECONNREFUSED),
      N(ECONNRESET),
      N(ETIMEDOUT),
      N(EHOSTUNREACH),
      N(ENETUNREACH),
      N(EPIPE),
      N(EPROTO),
      N(EACCES),
      N(ENOPROTOOPT),
      N(EINPROGRESS),
      N(EMSGSIZE),
      N(ECONNABORTED),
  };
#undef N
  return names;
}

}  // namespace

std::optional<int64_t> Calls::Value(const std::string& text) {
  int64_t total = 0;
  size_t at = 0;
  bool any = false;
  while (at <= text.size()) {
    size_t bar = std::min(text.find('|', at), text.size());
    size_t begin = text.find_first_not_of(" \t\n", at);
    size_t end = bar;
    while (end > at && std::isspace(static_cast<unsigned char>(text[end - 1])) != 0) --end;
    if (begin == std::string::npos || begin >= end) return std::nullopt;
    std::string word = text.substr(begin, end - begin);
    auto named = Names().find(word);
    if (named != Names().end()) {
      total |= named->second;
    } else {
      char* rest;
      errno = 0;
      long long number = std::strtoll(word.c_str(), &rest, 0);
      if (*rest != '\0') return std::nullopt;
      if (!any && bar == text.size()) return number;
      total |= number;
    }
    any = true;
    at = bar + 1;
    if (bar == text.size()) break;
  }
  return total;
}

std::string Calls::ErrorName(int error) {
  const char* name = strerrorname_np(error);
  if (error == EAGAIN) return "EAGAIN";
  return name != nullptr ? name : std::to_string(error);
}

}  // namespace ustcp::packet
