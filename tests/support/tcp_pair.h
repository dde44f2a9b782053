// A client (side 0, 192.168.0.1) and a server (side 1, 192.168.0.2) with the socket calls as short verbs, and every frame
// noted in packetdrill's notation with relative sequence numbers.
#pragma once

#include <gtest/gtest.h>
#include <netinet/in.h>

#include <memory>
#include <string>
#include <vector>

#include "stack/socket/socket.h"
#include "stack/tcp/tcb.h"
#include "stack/wire/tcp.h"
#include "stack/wire/tcp_options.h"
#include "tests/support/two_hosts.h"

namespace ustcp::test {

class TcpPair : public ::testing::Test {
 protected:
  struct Note {
    int from;
    Instant at;
    TcpFlags flags;
    uint32_t seq, length, ack, window;  // relative to the SYNs seen
  };

  TcpPair() { Restart({}, {}); }
  void Restart(const Sysctls& a, const Sysctls& b) {
    net = std::make_unique<TwoHosts>(a, b);
    net->observe = [this](int from, ConstBytes f, Instant at) { Observe(from, f, at); };
    notes.clear();
  }
  void Observe(int from, ConstBytes f, Instant at) {
    if (f.size() < 54 || LoadBe16(f.data() + 12) != 0x0800) return;
    auto v = TcpView::Parse(f.subspan(34));
    if (!v) return;
    if (v->syn()) isn[from] = v->seq().raw();
    notes.push_back({from, at, v->flags(), v->seq().raw() - isn[from], static_cast<uint32_t>(v->payload().size()),
                     v->has_ack() ? v->ack().raw() - isn[1 - from] : 0, v->window()});
    if (getenv("USTCP_TRACE") != nullptr) fprintf(stderr, "%s\n", Show(notes.back()).c_str());
  }
  // "A S. 0:0 ack 1": without times and windows.
  static std::string Show(const Note& n) {
    std::string s(1, static_cast<char>('A' + n.from));
    s += ' ';
    if (n.flags.Has(kTcpSyn)) s += 'S';
    if (n.flags.Has(kTcpFin)) s += 'F';
    if (n.flags.Has(kTcpRst)) s += 'R';
    if (n.flags.Has(kTcpPsh)) s += 'P';
    if (n.flags.Has(kTcpUrg)) s += 'U';
    if (n.flags.Has(kTcpAck)) s += '.';
    s += ' ' + std::to_string(n.seq) + ':' + std::to_string(n.seq + n.length);
    if (n.flags.Has(kTcpAck)) s += " ack " + std::to_string(n.ack);
    return s;
  }
  std::vector<std::string> Shown(size_t from = 0) const {
    std::vector<std::string> out;
    for (size_t i = from; i < notes.size(); ++i) out.push_back(Show(notes[i]));
    return out;
  }
  // Milliseconds of virtual time between two instants.
  static int64_t Ms(Duration d) { return ToMillis(d); }

  Socket* Listen(uint16_t port = 80, int backlog = 8) {
    return net->On(1, [&](Context& ctx) {
      Socket* s = *OpenSocket(ctx, AF_INET, 0, 0, 1);
      s->options.reuse_addr = true;
      EXPECT_EQ(BindSocket(ctx, *s, {IpAddress::AnyV4(), port}), kOk);
      EXPECT_EQ(ListenSocket(ctx, *s, backlog), kOk);
      return s;
    });
  }
  Socket* Open(int side, uint16_t port = 0) {
    return net->On(side, [&](Context& ctx) {
      Socket* s = *OpenSocket(ctx, AF_INET, 0, 0, 1);
      s->options.reuse_addr = true;
      if (port != 0) {
        EXPECT_EQ(BindSocket(ctx, *s, {IpAddress::AnyV4(), port}), kOk);
      }
      return s;
    });
  }
  int Connect(int side, Socket* s, uint16_t port = 80) {
    return net->On(side, [&](Context& ctx) {
      return ConnectSocket(ctx, *s, {net->side(1 - side).address, port}).code;
    });
  }
  Socket* Accept(Socket* from) {
    auto r = AcceptSocket(net->side(1).box.host(), *from, 0);
    return r.ok() ? *r : nullptr;
  }
  // Opens a connection and forgets the frames that took.
  void Establish(uint16_t port = 80) {
    listening = Listen(port);
    client = Open(0);
    ASSERT_EQ(Connect(0, client, port), EINPROGRESS);
    net->Run(50ms);
    server = Accept(listening);
    ASSERT_NE(server, nullptr);
    notes.clear();
  }
  // Bytes taken, or minus errno.
  ssize_t Send(int side, Socket* s, size_t bytes, int flags = 0) {
    return net->On(side, [&](Context& ctx) -> ssize_t {
      std::vector<std::byte> data(bytes, std::byte{'x'});
      auto r = SendSocket(ctx, *s, UserVector(data.data(), data.size()), flags);
      return r.ok() ? static_cast<ssize_t>(*r) : -r.error().code;
    });
  }
  ssize_t Receive(int side, Socket* s, size_t bytes = 65536, int flags = 0) {
    return net->On(side, [&](Context& ctx) -> ssize_t {
      std::vector<std::byte> data(bytes);
      auto r = ReceiveSocket(ctx, *s, UserVector(data.data(), data.size()), flags);
      return r.ok() ? static_cast<ssize_t>(*r) : -r.error().code;
    });
  }
  void Shutdown(int side, Socket* s, int how) {
    net->On(side, [&](Context& ctx) { EXPECT_EQ(ShutdownSocket(ctx, *s, how), kOk); });
  }
  void Close(int side, Socket* s) {
    net->On(side, [&](Context& ctx) { ReleaseSocket(ctx, *s); });
  }
  uint64_t Count(int side, Counter c) { return net->side(side).shard.counters.Get(c); }
  static TcpState StateOf(const Socket* s) { return s->conn != nullptr ? s->conn->state : TcpState::kClosed; }

  std::unique_ptr<TwoHosts> net;
  std::vector<Note> notes;
  uint32_t isn[2] = {};
  Socket* listening = nullptr;
  Socket* client = nullptr;
  Socket* server = nullptr;
};

}  // namespace ustcp::test
