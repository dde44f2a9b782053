// `%{ assert tcpi_snd_cwnd == 10 and counter.TcpExtListenDrops == 0 }%`: comparisons of tcp_info fields, counters and
// numbers, joined by `and` and `or`, with + - * / and parentheses.
#include <linux/tcp.h>

#include <cctype>
#include <cstdlib>
#include <map>

#include "stack/socket/socket.h"
#include "stack/tcp/tcb.h"
#include "stack/tcp/tcp.h"
#include "tests/packet/calls.h"
#include "tests/packet/runner.h"

namespace ustcp::packet {
namespace {

struct BadExpression {
  std::string what;
};

// tcp_info of a descriptor's connection, or, when it is gone, of whatever is left at its peer's port.
tcp_info InfoOf(World& world, Calls& calls, int fd) {
  tcp_info info{};
  info.tcpi_state = static_cast<uint8_t>(TcpState::kClosed);
  Socket* s = calls.SocketOf(fd);
  bool found = false;
  world.Enter([&](Context& ctx) {
    auto fill = [&](ustcp::Connection& c) {
      TcpFillInfo(c, ctx.now, info);
      found = true;
    };
    if (s != nullptr && s->conn != nullptr) return fill(*s->conn);
    if (s != nullptr && fd != calls.last_fd()) return;
    uint16_t port = calls.last_peer_port();
    ctx.shard.connections.ForEachLive([&](ustcp::Connection& c) {
      if (c.tuple.peer.port == port) fill(c);
    });
    if (found) return;
    ctx.shard.time_waits.ForEachLive([&](TimeWait& t) {
      if (t.tuple.peer.port == port) info.tcpi_state = static_cast<uint8_t>(t.substate);
    });
  });
  return info;
}

std::optional<int64_t> InfoField(const tcp_info& i, const std::string& name) {
#define F(field) \
  { #field, static_cast < int64_t>(i.field) }
  const std::map<std::string, int64_t> fields = {F(tcpi_state),
                                                 F(tcpi_ca_state),
                                                 F(tcpi_retransmits),
                                                 F(tcpi_probes),
                                                 F(tcpi_backoff),
                                                 F(tcpi_options),
                                                 F(tcpi_snd_wscale),
                                                 F(tcpi_rcv_wscale),
                                                 F(tcpi_rto),
                                                 F(tcpi_ato),
                                                 F(tcpi_snd_mss),
                                                 F(tcpi_rcv_mss),
                                                 F(tcpi_unacked),
                                                 F(tcpi_sacked),
                                                 F(tcpi_lost),
                                                 F(tcpi_retrans),
                                                 F(tcpi_last_data_sent),
                                                 F(tcpi_last_data_recv),
                                                 F(tcpi_last_ack_recv),
                                                 F(tcpi_pmtu),
                                                 F(tcpi_rcv_ssthresh),
                                                 F(tcpi_rtt),
                                                 F(tcpi_rttvar),
                                                 F(tcpi_snd_ssthresh),
                                                 F(tcpi_snd_cwnd),
                                                 F(tcpi_advmss),
                                                 F(tcpi_reordering),
                                                 F(tcpi_rcv_space),
                                                 F(tcpi_total_retrans),
                                                 F(tcpi_bytes_acked),
                                                 F(tcpi_bytes_received),
                                                 F(tcpi_segs_out),
                                                 F(tcpi_segs_in),
                                                 F(tcpi_notsent_bytes),
                                                 F(tcpi_min_rtt),
                                                 F(tcpi_data_segs_in),
                                                 F(tcpi_data_segs_out),
                                                 F(tcpi_delivered),
                                                 F(tcpi_bytes_sent),
                                                 F(tcpi_bytes_retrans),
                                                 F(tcpi_dsack_dups),
                                                 F(tcpi_reord_seen),
                                                 F(tcpi_snd_wnd)};
#undef F
  auto at = fields.find(name);
  if (at == fields.end()) return std::nullopt;
  return at->second;
}

class Evaluator {
 public:
  Evaluator(const std::string& text, World& world, Calls& calls) : text_(text), world_(world), calls_(calls) {}

  bool Condition() {
    bool value = Or() != 0;
    Skip();
    if (at_ < text_.size() && text_[at_] != ',') throw BadExpression{"cannot read " + text_.substr(at_)};
    return value;
  }
  std::string seen() const { return seen_; }

 private:
  void Skip() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
  }
  bool Take(const std::string& token) {
    Skip();
    if (text_.compare(at_, token.size(), token) != 0) return false;
    bool word = std::isalpha(static_cast<unsigned char>(token[0])) != 0;
    if (word && at_ + token.size() < text_.size() &&
        (std::isalnum(static_cast<unsigned char>(text_[at_ + token.size()])) != 0))
      return false;
    at_ += token.size();
    return true;
  }
  int64_t Or() {
    int64_t v = And();
    while (Take("or")) {
      int64_t w = And();
      v = v != 0 || w != 0;
    }
    return v;
  }
  int64_t And() {
    int64_t v = Comparison();
    while (Take("and")) {
      int64_t w = Comparison();
      v = v != 0 && w != 0;
    }
    return v;
  }
  int64_t Comparison() {
    int64_t a = Sum();
    if (Take("==")) return a == Sum();
    if (Take("!=")) return a != Sum();
    if (Take("<=")) return a <= Sum();
    if (Take(">=")) return a >= Sum();
    if (Take("<")) return a < Sum();
    if (Take(">")) return a > Sum();
    return a;
  }
  int64_t Sum() {
    int64_t v = Product();
    for (;;) {
      if (Take("+"))
        v += Product();
      else if (Take("-"))
        v -= Product();
      else if (Take("&"))
        v &= Product();
      else
        return v;
    }
  }
  int64_t Product() {
    int64_t v = Atom();
    for (;;) {
      if (Take("*")) {
        v *= Atom();
      } else if (Take("/")) {
        int64_t by = Atom();
        if (by == 0) throw BadExpression{"division by zero"};
        v /= by;
      } else {
        return v;
      }
    }
  }
  int64_t Atom() {
    if (Take("(")) {
      int64_t v = Or();
      if (!Take(")")) throw BadExpression{") is missing"};
      return v;
    }
    Skip();
    size_t begin = at_;
    while (at_ < text_.size() &&
           (std::isalnum(static_cast<unsigned char>(text_[at_])) != 0 || text_[at_] == '_' || text_[at_] == '.'))
      ++at_;
    std::string word = text_.substr(begin, at_ - begin);
    if (word.empty()) throw BadExpression{"a value was expected at " + text_.substr(begin)};
    if (std::isdigit(static_cast<unsigned char>(word[0])) != 0) return std::strtoll(word.c_str(), nullptr, 0);
    int64_t value = Named(word);
    seen_ += (seen_.empty() ? "" : ", ") + word + " is " + std::to_string(value);
    return value;
  }
  int64_t Named(const std::string& word) {
    if (word.compare(0, 8, "counter.") == 0) {
      bool known;
      auto value = static_cast<int64_t>(world_.CounterSum(word.substr(8), &known));
      if (!known) throw BadExpression{"unknown counter " + word.substr(8)};
      return value;
    }
    if (word == "isn_growth") return world_.isn_growth;
    int fd = calls_.last_fd();
    std::string name = word;
    if (size_t dot = word.find('.'); dot != std::string::npos && word.compare(0, 2, "fd") == 0) {
      fd = std::atoi(word.c_str() + 2);
      name = word.substr(dot + 1);
    }
    if (auto field = InfoField(InfoOf(world_, calls_, fd), name)) return *field;
    if (auto constant = Calls::Value(word)) return *constant;
    throw BadExpression{"unknown name " + word};
  }

  std::string text_;
  World& world_;
  Calls& calls_;
  size_t at_ = 0;
  std::string seen_;
};

}  // namespace

std::string EvaluateAssertions(const std::string& code, World& world, Calls& calls) {
  const std::string kAssert = "assert ";
  bool any = false;
  for (size_t at = code.find(kAssert); at != std::string::npos;) {
    size_t next = code.find(kAssert, at + 1);
    std::string one =
        code.substr(at + kAssert.size(), (next == std::string::npos ? code.size() : next) - at - kAssert.size());
    at = next;
    any = true;
    Evaluator evaluator(one, world, calls);
    try {
      if (!evaluator.Condition()) return one + "(" + evaluator.seen() + ")";
    } catch (const BadExpression& e) {
      return one + ": " + e.what;
    }
  }
  return any ? "" : "no assert in " + code;
}

}  // namespace ustcp::packet
