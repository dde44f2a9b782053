// One connection between two hosts, for simulations: opening, byte-checked streams, and the state both sides end in.
#pragma once

#include <fcntl.h>

#include <gtest/gtest.h>

#include "stack/socket/readiness.h"
#include "stack/socket/socket.h"
#include "stack/tcp/listener.h"
#include "stack/tcp/tcb.h"
#include "tests/support/two_hosts.h"

namespace ustcp::test {

inline constexpr uint16_t kSimPort = 5001;

// Hosts without offloads: every frame is a segment of the wire with a full checksum, as damage needs it.
inline HostConfig PlainConfig(uint8_t n) {
  HostConfig config = TwoHosts::ConfigOf(n);
  config.device.checksum_offload = config.device.tso4 = config.device.tso6 = false;
  return config;
}

inline std::byte StreamByte(uint64_t seed, size_t at) {
  uint64_t x = (seed + 1) * 0x9e3779b97f4a7c15u + at * 0xff51afd7ed558ccdu;
  return static_cast<std::byte>(x >> 56);
}

// One end: what it still has to send, what it has got, and how far its closing is.
struct StreamEnd {
  Socket* socket = nullptr;
  uint64_t seed = 0;
  size_t to_send = 0, sent = 0, received = 0, expected = 0;
  bool shut = false, eof = false;
  int error = 0;       // the first failure of a call
  bool wrong = false;  // a byte that was not sent
};

class SimPair {
 public:
  explicit SimPair(bool v6 = false, Sysctls a = {}, Sysctls b = {})
      : v6_(v6), net(PlainConfig(1), PlainConfig(2), a, b) {}

  bool v6_;
  TwoHosts net;
  StreamEnd ends[2];

  Endpoint AddressOf(int side, uint16_t port) {
    return {net.side(side).box->config.addresses[v6_ ? 1 : 0].address, port};
  }
  Socket* Open(int side) {
    return net.On(side, [this](Context& ctx) { return OpenSocket(ctx, v6_ ? AF_INET6 : AF_INET, O_NONBLOCK, 0, 1); })
        .value();
  }
  // Side 0 connects to side 1. False when that failed within the limit.
  bool Connect(Duration limit = 300s) {
    Socket* listening = Open(1);
    net.On(1, [&](Context& ctx) {
      EXPECT_FALSE(BindSocket(ctx, *listening, AddressOf(1, kSimPort)));
      EXPECT_FALSE(ListenSocket(ctx, *listening, 4));
      NoteAcceptor(ctx.host, *listening->listener, 0);
    });
    Socket* s = Open(0);
    ends[0].socket = s;
    net.On(0, [&](Context& ctx) { EXPECT_EQ(ConnectSocket(ctx, *s, AddressOf(1, kSimPort)).code, EINPROGRESS); });
    // The client's first bytes complete the handshake when its ACK was lost and nobody repeats the SYN-ACK in time.
    bool done = net.RunUntil(
        [&] {
          Pump(0);
          auto taken = net.On(1, [&](Context& ctx) { return AcceptSocket(ctx.host, *listening, ctx.shard.index); });
          if (taken.ok()) ends[1].socket = *taken;
          return ends[1].socket != nullptr || ends[0].error != 0;
        },
        limit);
    net.On(1, [&](Context& ctx) { ReleaseSocket(ctx, *listening); });
    return done && ends[0].error == 0;
  }

  // Moves what can be moved on one side: at most `chunk` bytes each way.
  void Pump(int side, size_t chunk = 4096, size_t read_limit = 4096) {
    StreamEnd& e = ends[side];
    if (e.socket == nullptr || e.error != 0) return;
    net.On(side, [&](Context& ctx) {
      while (e.sent < e.to_send) {
        std::vector<std::byte> data(std::min(chunk, e.to_send - e.sent));
        for (size_t i = 0; i < data.size(); ++i) data[i] = StreamByte(e.seed, e.sent + i);
        auto n = SendSocket(ctx, *e.socket, UserVector(data.data(), data.size()), MSG_NOSIGNAL);
        if (!n.ok()) {
          if (n.error().code != EAGAIN) e.error = n.error().code;
          break;
        }
        e.sent += *n;
      }
      if (e.sent == e.to_send && !e.shut && e.socket->conn != nullptr && e.socket->conn->state != TcpState::kSynSent) {
        e.shut = true;
        (void)ShutdownSocket(ctx, *e.socket, SHUT_WR);
      }
      while (!e.eof && read_limit > 0) {
        std::vector<std::byte> data(read_limit);
        auto n = ReceiveSocket(ctx, *e.socket, UserVector(data.data(), data.size()), 0);
        if (!n.ok()) {
          if (n.error().code != EAGAIN) e.error = n.error().code;
          break;
        }
        if (*n == 0) {
          e.eof = true;
          break;
        }
        for (size_t i = 0; i < *n; ++i)
          if (data[i] != StreamByte(ends[1 - side].seed, e.received + i)) e.wrong = true;
        e.received += *n;
        if (read_limit != 4096) break;
      }
    });
  }
  bool Finished() const { return ends[0].eof && ends[1].eof; }
  bool Failed() const { return ends[0].error != 0 || ends[1].error != 0 || ends[0].wrong || ends[1].wrong; }

  // Empty when both hosts are consistent.
  std::string Invariants() {
    for (int i = 0; i < 2; ++i) {
      char why[200] = "";
      int broken = net.On(i, [&](Context& ctx) { return CheckInvariants(ctx, why, sizeof why); });
      if (broken != 0) return "side " + std::to_string(i) + ": " + why;
    }
    return "";
  }
  // Closes both sockets and waits until nothing is left of the connection on either side.
  void CloseAndDrain() {
    for (int i = 0; i < 2; ++i)
      if (ends[i].socket != nullptr) net.On(i, [&](Context& ctx) { ReleaseSocket(ctx, *ends[i].socket); });
    auto empty = [&] {
      for (int i = 0; i < 2; ++i) {
        Shard& s = net.side(i).shard;
        if (s.connections.live() + s.half_opens.live() + s.time_waits.live() != 0) return false;
      }
      return true;
    };
    EXPECT_TRUE(net.RunUntil(empty, 3600s));
    net.Run(100ms);
    for (int i = 0; i < 2; ++i) {
      Shard& s = net.side(i).shard;
      EXPECT_EQ(s.sockets.live(), 0u);
      EXPECT_EQ(s.listeners.live(), 0u);
      EXPECT_EQ(s.tx_segments.live(), 0u);
      EXPECT_EQ(s.bufs.bytes_taken(), 0u);
      EXPECT_EQ(s.counters.Get(Counter::kTcpCurrEstab), 0u);
    }
  }
};

}  // namespace ustcp::test
