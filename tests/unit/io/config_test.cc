// Settings from file and environment: precedence, bounds, and the one line each mistake is told in.
#include "io/settings/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace ustcp {
namespace {

class Configuration : public ::testing::Test {
 protected:
  ~Configuration() override {
    if (!path_.empty()) unlink(path_.c_str());
  }
  void File(const std::string& text) {
    char name[] = "/tmp/ustcp-config-XXXXXX";
    int fd = mkstemp(name);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    close(fd);
    path_ = name;
    variables_.push_back("USTCP_CONFIG=" + path_);
  }
  void Variable(const std::string& variable) { variables_.push_back(variable); }
  IoError Load() {
    // No file of the machine's own: a name that has none.
    if (path_.empty()) variables_.push_back("USTCP_HOST=unit-test-host");
    std::vector<const char*> environment;
    for (const std::string& v : variables_) environment.push_back(v.c_str());
    environment.push_back(nullptr);
    return LoadSettings(environment.data(), &settings_);
  }

  std::string path_;
  std::vector<std::string> variables_;
  Settings settings_;
};

TEST_F(Configuration, DefaultsAreTheTables) {
  ASSERT_FALSE(Load());
  EXPECT_STREQ(settings_.host.interface, "ustcp0");
  ASSERT_EQ(settings_.host.address_count, 2);
  EXPECT_EQ(settings_.host.addresses[0].address, IpAddress::V4(10, 117, 0, 2));
  EXPECT_EQ(settings_.host.addresses[0].length, 24);
  EXPECT_EQ(settings_.host.addresses[1].length, 64);
  ASSERT_EQ(settings_.host.route_count, 2);
  EXPECT_EQ(settings_.host.routes[0].gateway, IpAddress::V4(10, 117, 0, 1));
  EXPECT_EQ(settings_.host.tick_us, 2000u);
  EXPECT_EQ(settings_.arena_bytes, uint64_t{16} << 30);
  EXPECT_EQ(settings_.tap_fd, -1);
  EXPECT_EQ(settings_.host.device.mac[0], 0x02);  // derived, locally administered
}

TEST_F(Configuration, EnvironmentWinsOverFile) {
  File("tick_us = 5000\nbusy_poll_us = 30 # spin\n");
  Variable("USTCP_TICK_US=700");
  ASSERT_FALSE(Load());
  EXPECT_EQ(settings_.host.tick_us, 700u);
  EXPECT_EQ(settings_.host.busy_poll_us, 30u);
  EXPECT_TRUE(settings_.Given(SettingId::kTickUs));
  EXPECT_FALSE(settings_.Given(SettingId::kEngine));
}

TEST_F(Configuration, EmptyVariableCountsAsUnset) {
  Variable("USTCP_TICK_US=");
  ASSERT_FALSE(Load());
  EXPECT_EQ(settings_.host.tick_us, 2000u);
}

TEST_F(Configuration, EmptyLineOfAddressesIsRefused) {
  File("addresses = # none\n");
  IoError error = Load();
  EXPECT_EQ(error.code, EINVAL);
  EXPECT_THAT(error.message, testing::HasSubstr(":1: names no address; write 10.117.0.2/24"));
}

TEST_F(Configuration, LastLineNeedsNoNewline) {
  File("tick_us = 5000\nengine = plain");
  ASSERT_FALSE(Load());
  EXPECT_EQ(settings_.host.engine, 2);
}

TEST_F(Configuration, SysctlLines) {
  File(
      "sysctl.net.ipv4.tcp_fin_timeout = 7\nsysctl.net/ipv4/tcp_rmem = 4096 8192 16384\n"
      "sysctl.net.ipv4.tcp_congestion_control = reno\n");
  ASSERT_FALSE(Load());
  EXPECT_EQ(settings_.sysctls.tcp_fin_timeout, 7);
  EXPECT_EQ(settings_.sysctls.tcp_rmem[2], 16384);
  EXPECT_EQ(settings_.sysctls.tcp_congestion_control, 0);
}

TEST_F(Configuration, GivenSysctlsOutliveTheKernels) {
  File("sysctl.net.ipv4.tcp_fin_timeout = 7\n");
  ASSERT_FALSE(Load());
  SeedSysctls(&settings_.sysctls, &settings_.sysctl_given);
  EXPECT_EQ(settings_.sysctls.tcp_fin_timeout, 7);
}

TEST_F(Configuration, GatewayOffTheLinkIsRefusedWhenGivenAndDroppedOtherwise) {
  Variable("USTCP_ADDR=192.0.2.5/24");
  ASSERT_FALSE(Load());
  EXPECT_EQ(settings_.host.route_count, 0);
  Variable("USTCP_GATEWAY=198.51.100.1");
  IoError error = Load();
  EXPECT_EQ(error.code, EINVAL);
  EXPECT_STREQ(error.message,
               "gateways (USTCP_GATEWAY): '198.51.100.1' is not on a link of the host; name one within addresses");
}

TEST_F(Configuration, HostsOfOneLinkHaveDifferentMacs) {
  Variable("USTCP_ADDR=192.0.2.5/24");
  ASSERT_FALSE(Load());
  MacAddress first = settings_.host.device.mac;
  variables_.clear();
  Variable("USTCP_ADDR=192.0.2.6/24");
  ASSERT_FALSE(Load());
  EXPECT_NE(settings_.host.device.mac, first);
}

struct Mistake {
  const char* variable;
  const char* message;
};

class Mistakes : public Configuration, public ::testing::WithParamInterface<Mistake> {};

TEST_P(Mistakes, AreToldInOneLine) {
  Variable(GetParam().variable);
  IoError error = Load();
  EXPECT_EQ(error.code, EINVAL);
  EXPECT_STREQ(error.message, GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    All, Mistakes,
    ::testing::Values(
        Mistake{"USTCP_ADDR=10.0.0.1/33", "USTCP_ADDR: '10.0.0.1/33' is not address/length; write 10.117.0.2/24"},
        Mistake{"USTCP_ADDR=10.0.0.01/8", "USTCP_ADDR: '10.0.0.01/8' is not address/length; write 10.117.0.2/24"},
        Mistake{"USTCP_ADDR=fe80::1::2/64", "USTCP_ADDR: 'fe80::1::2/64' is not address/length; write 10.117.0.2/24"},
        Mistake{"USTCP_ADDR=127.0.0.2/8",
                "USTCP_ADDR: '127.0.0.2/8' cannot be a host's address; choose a unicast address"},
        Mistake{"USTCP_ADDR=10.0.0.1/8,10.0.0.1/24",
                "USTCP_ADDR: '10.0.0.1/24' is listed twice; name each address once"},
        Mistake{"USTCP_ENGINE=fast", "USTCP_ENGINE: 'fast' is not one of auto|uring|plain"},
        Mistake{"USTCP_ARENA_SIZE=1M", "USTCP_ARENA_SIZE: '1M' is not a number in 256M..8T"},
        Mistake{"USTCP_ARENA_SIZE=99999999999999999999G",
                "USTCP_ARENA_SIZE: '99999999999999999999G' is not a number in 256M..8T"},
        Mistake{"USTCP_HOST=../etc",
                "USTCP_HOST: '../etc' is no host name; use at most 63 letters, digits, '-', '_' or '.'"},
        Mistake{"USTCP_INTERFACE=a-name-that-is-long",
                "USTCP_INTERFACE: 'a-name-that-is-long' is no interface name; use at most 15 letters, digits, '-', '_' "
                "or '.'"},
        Mistake{"USTCP_MAC=01:00:00:00:00:01",
                "USTCP_MAC: '01:00:00:00:00:01' is no unicast MAC address; write 02:00:00:00:00:01"}));

TEST_F(Configuration, FileMistakesNameFileAndLine) {
  File("# first\n\nticks = 3\n");
  IoError error = Load();
  EXPECT_EQ(error.code, EINVAL);
  EXPECT_EQ(std::string(error.message), path_ + ":3: 'ticks' is no setting; did you mean tick_us?");
}

TEST_F(Configuration, FileWithoutEqualsSign) {
  File("tick_us 3\n");
  EXPECT_EQ(std::string(Load().message), path_ + ":1: 'tick_us 3' has no '='; write key = value");
}

TEST_F(Configuration, SysctlsThatTheKernelRefuses) {
  for (auto [line, message] :
       {std::pair{"net.ipv4.tcp_congestion_control = 3",
                  "'3' does not fit net.ipv4.tcp_congestion_control: write reno or cubic"},
        std::pair{"net.ipv4.ip_local_port_range = 60000 50000",
                  "'60000 50000' does not fit net.ipv4.ip_local_port_range: write the lower port first"},
        std::pair{"net.ipv4.ip_local_port_range = 1000 2000",
                  "'1000 2000' does not fit net.ipv4.ip_local_port_range: begin at ip_unprivileged_port_start (1024)"},
        std::pair{"net.ipv4.tcp_rmem = 0", "'0' does not fit net.ipv4.tcp_rmem: write 3 number(s) in 1..2147483647"},
        std::pair{"net.ipv4.tcp_reordering = 301",
                  "'301' does not fit net.ipv4.tcp_reordering: at most tcp_max_reordering (300)"}}) {
    File(std::string("sysctl.") + line + "\n");
    IoError error = Load();
    EXPECT_EQ(error.code, EINVAL);
    EXPECT_EQ(std::string(error.message), path_ + ":1: " + message);
    unlink(path_.c_str());
    variables_.clear();
  }
}

TEST_F(Configuration, ControlCharactersDoNotReachTheTerminal) {
  Variable("USTCP_ENGINE=a\nb\x1b[2J");
  EXPECT_STREQ(Load().message, "USTCP_ENGINE: 'a?b?[2J' is not one of auto|uring|plain");
}

TEST_F(Configuration, LongLinesAreRefused) {
  File("tick_us = 300\n" + std::string(5000, 'x') + "\n");
  EXPECT_EQ(std::string(Load().message), path_ + ":2: is too long; lines have at most 1023 characters, files 1 MiB");
}

TEST_F(Configuration, MissingNamedFileIsAnError) {
  Variable("USTCP_CONFIG=/nonexistent/x.conf");
  IoError error = Load();
  EXPECT_EQ(error.code, EINVAL);
  EXPECT_STREQ(error.message,
               "/nonexistent/x.conf: cannot be opened (no such file or directory); correct or unset USTCP_CONFIG");
}

TEST(Addresses, TextAndBack) {
  // RFC 5952 forms.
  for (const char* text : {"10.117.0.2", "::", "::1", "2001:db8::1", "fd75:7374:6370::2", "2001:db8:0:1:1:1:1:1",
                           "2001:0:0:1::1", "1:2:3:4:5:6:7:8", "fe80::"}) {
    IpAddress address;
    ASSERT_TRUE(ParseAddress(text, &address)) << text;
    char out[64];
    FormatAddress(address, out);
    EXPECT_STREQ(out, text);
  }
  for (const char* text : {"", ":", ":::", "1:2:3", "1:2:3:4:5:6:7:8:9", "12345::", "g::", "1.2.3", "1.2.3.4.5",
                           "256.1.1.1", "::ffff:1.2.3.4", "1::2:3:4:5:6:7:8", "::1.2.3", "1:2:3:4:5:6:7:"}) {
    IpAddress address;
    EXPECT_FALSE(ParseAddress(text, &address)) << text;
  }
}

}  // namespace
}  // namespace ustcp
