// Every sysctl at every extreme, written by the rules and past them: whatever a member stores into a word, the host of
// those who trust each other goes on. The rows come from the table, so that a new one is tried too.
#include "stack/base/sysctl.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <string>

#include "tests/support/tcp_pair.h"

namespace ustcp::test {
namespace {

// What goes into the word as it is, bounds or not.
void Scribble(Sysctls& sysctls, const SysctlInfo& info, int i, uint32_t word) {
  std::memcpy(reinterpret_cast<std::byte*>(&sysctls) + info.offset + sizeof(word) * static_cast<size_t>(i), &word,
              sizeof(word));
}

std::set<uint32_t> ExtremesOf(const SysctlInfo& info) {
  std::set<uint32_t> values;
  for (int64_t n :
       {info.min - 1, info.min, info.min + 1, info.max - 1, info.max, info.max + 1, int64_t{-1}, int64_t{0}, int64_t{1},
        int64_t{3}, int64_t{255}, int64_t{65536}, int64_t{INT32_MIN}, int64_t{INT32_MAX}, int64_t{INT32_MAX} - 1})
    values.insert(static_cast<uint32_t>(n));
  return values;
}

class SysctlExtremes : public TcpPair, public ::testing::WithParamInterface<size_t> {
 protected:
  const SysctlInfo& info() const { return kSysctlTable[GetParam()]; }

  // Both hosts, so that either end of a connection has the value.
  void ScribbleBoth(int i, uint32_t word) {
    for (int side : {0, 1})
      for (int at = 0; at < info().count; ++at)
        if (i == at || i == info().count) Scribble(net->side(side).box.host().sysctls, info(), at, word);
  }

  void CheckBoth() {
    for (int side : {0, 1})
      net->On(side, [&](Context& ctx) {
        char why[160] = "";
        EXPECT_EQ(CheckInvariants(ctx, why, sizeof why), 0) << why;
      });
  }

  // As much as it is let: what comes of a value that means nothing is free, only ending is asked for.
  void Traffic() {
    for (Socket* s : {client, server}) {
      if (s == nullptr) continue;
      int side = s == client ? 0 : 1;
      net->On(side, [&](Context& ctx) {
        int on = 1;
        EXPECT_EQ(SetOption(ctx, *s, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on), kOk);
        tcp_info out{};
        socklen_t length = sizeof out;
        EXPECT_EQ(GetOption(ctx, *s, IPPROTO_TCP, TCP_INFO, &out, &length), kOk);
        char name[16];
        length = sizeof name;
        EXPECT_EQ(GetOption(ctx, *s, IPPROTO_TCP, TCP_CONGESTION, name, &length), kOk);
      });
      Send(side, s, 100'000);
    }
    for (int i = 0; i < 20; ++i) {
      net->Run(20ms);
      if (client != nullptr) Receive(0, client);
      if (server != nullptr) Receive(1, server);
    }
    int lost = 0;  // some of what follows, so that timers and recovery read their sysctls
    net->lose = [&lost](int, ConstBytes) { return ++lost % 3 == 0; };
    if (client != nullptr) Send(0, client, 50'000);
    net->Run(3s);
    net->lose = nullptr;
    CheckBoth();
  }

  void Open() {
    listening = Listen(80);
    client = TcpPair::Open(0);
    Connect(0, client);
    Socket* second = TcpPair::Open(0);
    Connect(0, second);
    net->Run(100ms);
    server = Accept(listening);
    Close(0, second);
  }

  void End() {
    if (client != nullptr) Close(0, client);
    if (server != nullptr) Close(1, server);
    Close(1, listening);
    client = server = listening = nullptr;
    net->Run(200s);
    CheckBoth();
  }
};

TEST_P(SysctlExtremes, BeforeTheFirstConnection) {
  for (int i = 0; i <= info().count; ++i) {
    if (i == info().count && i == 1) break;
    for (uint32_t word : ExtremesOf(info())) {
      SCOPED_TRACE(testing::Message() << info().name << "[" << i << "] = " << static_cast<int32_t>(word));
      Restart({}, {});
      ScribbleBoth(i, word);
      Open();
      Traffic();
      End();
    }
  }
}

TEST_P(SysctlExtremes, UnderRunningConnections) {
  for (uint32_t word : ExtremesOf(info())) {
    SCOPED_TRACE(testing::Message() << info().name << " = " << static_cast<int32_t>(word));
    Restart({}, {});
    Open();
    Traffic();
    ScribbleBoth(info().count, word);
    Traffic();
    End();
  }
}

INSTANTIATE_TEST_SUITE_P(All, SysctlExtremes, ::testing::Range<size_t>(0, std::size(kSysctlTable)),
                         [](const ::testing::TestParamInfo<size_t>& row) {
                           return std::string(kSysctlTable[row.param].name);
                         });

TEST_F(TcpPair, PortRangeThatIsTurnedRound) {
  for (int side : {0, 1}) {
    Sysctls& sysctls = net->side(side).box.host().sysctls;
    sysctls.ip_local_port_range[0] = 60000;
    sysctls.ip_local_port_range[1] = 50000;
  }
  Establish();
  EXPECT_EQ(client->local.port, 60000);
}

TEST_F(TcpPair, CongestionControlThatDoesNotExist) {
  for (int side : {0, 1}) {
    Sysctls& sysctls = net->side(side).box.host().sysctls;
    for (const SysctlInfo& info : kSysctlTable)
      if (std::string(info.name) == "tcp_congestion_control") Scribble(sysctls, info, 0, 3);
  }
  Establish();
  EXPECT_EQ(Send(0, client, 10'000), 10'000);
  net->Run(1s);
  EXPECT_EQ(Receive(1, server), 10'000);
}

}  // namespace
}  // namespace ustcp::test
