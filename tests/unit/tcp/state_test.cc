// State edges (E1) and windows (D5, D7, D9).
#include "stack/tcp/state.h"

#include <gtest/gtest.h>

#include "stack/host/host.h"
#include "stack/tcp/receive_window.h"

namespace ustcp {
namespace {

TEST(TcpStateEdges, E1OnlyThoseOfTheDiagram) {
  using S = TcpState;
  struct Edge {
    S from, to;
  };
  constexpr Edge kLegal[] = {
      {S::kClosed, S::kSynSent},      {S::kClosed, S::kSynRecv},       {S::kSynSent, S::kSynRecv},
      {S::kSynSent, S::kEstablished}, {S::kSynRecv, S::kEstablished},  {S::kSynRecv, S::kFinWait1},
      {S::kSynRecv, S::kCloseWait},   {S::kEstablished, S::kFinWait1}, {S::kEstablished, S::kCloseWait},
      {S::kFinWait1, S::kFinWait2},   {S::kFinWait1, S::kClosing},     {S::kFinWait1, S::kTimeWait},
      {S::kFinWait2, S::kTimeWait},   {S::kClosing, S::kTimeWait},     {S::kCloseWait, S::kLastAck},
  };
  for (int from = 1; from <= 11; ++from)
    for (int to = 1; to <= 11; ++to) {
      bool legal = static_cast<S>(to) == S::kClosed;
      for (const Edge& e : kLegal) legal |= static_cast<int>(e.from) == from && static_cast<int>(e.to) == to;
      EXPECT_EQ(IsLegalEdge(static_cast<S>(from), static_cast<S>(to)), legal) << from << " -> " << to;
    }
}

// Values of a Linux 6.18 handshake over Ethernet with tcp_rmem 4096 131072 33554432.
TEST(InitialWindowTest, D9AsLinuxOffers) {
  Sysctls sysctls;
  InitialWindow syn = SelectInitialWindow(sysctls, 65536, 1460, 0, true);
  EXPECT_EQ(syn.rcv_wnd, 64240u);
  EXPECT_EQ(syn.rcv_wscale, 10);
  InitialWindow syn_ack = SelectInitialWindow(sysctls, 65536, 1448, 0, true);
  EXPECT_EQ(syn_ack.rcv_wnd, 65160u);
  InitialWindow unscaled = SelectInitialWindow(sysctls, 65536, 1460, 0, false);
  EXPECT_EQ(unscaled.rcv_wscale, 0);
  EXPECT_EQ(unscaled.window_clamp, 65535u);
  InitialWindow clamped = SelectInitialWindow(sysctls, 65536, 1460, 4000, true);
  EXPECT_EQ(clamped.rcv_wnd, 2920u);
  EXPECT_EQ(clamped.rcv_wscale, 0);
}

void MakeReceiver(Connection& conn, uint32_t rcvbuf) {
  conn.rcvbuf = rcvbuf;
  conn.scaling_ratio = 128;
  conn.window_clamp = conn.rcv_ssthresh = rcvbuf / 2;
  conn.rcv_mss = 1448;
}

TEST(ComputeWindowTest, D7NothingBetweenZeroAndASegment) {
  Connection conn;
  MakeReceiver(conn, 65536);
  EXPECT_EQ(ComputeWindow(conn), 31856u) << "whole segments when unscaled";
  uint32_t previous = 32768;
  for (conn.rcv_memory = 0; conn.rcv_memory <= conn.rcvbuf; conn.rcv_memory += 100) {
    uint32_t window = ComputeWindow(conn);
    EXPECT_TRUE(window == 0 || window >= 1448) << window << " at " << conn.rcv_memory;
    EXPECT_LE(window, previous) << "more data, no larger window";
    conn.rcv_wnd = previous = window;
  }
  EXPECT_EQ(previous, 0u);
}

TEST(ComputeWindowTest, D9ScaledWindowIsAMultipleOfTheUnit) {
  Connection conn;
  MakeReceiver(conn, 1 << 20);
  conn.rcv_wscale = 10;
  for (conn.rcv_memory = 0; conn.rcv_memory < conn.rcvbuf; conn.rcv_memory += 777)
    EXPECT_EQ(ComputeWindow(conn) % 1024, 0u);
}

}  // namespace
}  // namespace ustcp
