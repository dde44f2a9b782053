// A host in plain memory for tests: one arena, any number of shards, virtual time.
#pragma once

#include <sys/mman.h>

#include <gtest/gtest.h>

#include "stack/create.h"
#include "stack/host/host.h"

namespace ustcp::test {

class TestHost {
 public:
  explicit TestHost(HostConfig config = DefaultConfig(), Sysctls sysctls = {}, Instant now = DefaultStart(),
                    size_t bytes = size_t{1} << 30, bool shared = false)
      : bytes_(bytes) {
    // Shared: a child process changes the same host.
    memory_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                   (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    std::array<uint8_t, 32> seed{};
    seed[0] = 7;
    host_ = CreateHost(memory_, bytes_, config, sysctls, seed, now);
    EXPECT_NE(host_, nullptr);
  }
  ~TestHost() { munmap(memory_, bytes_); }
  TestHost(const TestHost&) = delete;
  TestHost& operator=(const TestHost&) = delete;

  static Instant DefaultStart() { return InstantFromNanos(int64_t{1000} * 1'000'000'000); }

  // 192.168.0.1/16 and fd3d:0a0b:17d6::1/64 with offloads on, as packetdrill's scripts assume.
  static HostConfig DefaultConfig() {
    HostConfig config;
    config.device.mac = {0x02, 0, 0, 0, 0, 1};
    config.device.mtu = 1500;
    config.device.checksum_offload = config.device.tso4 = config.device.tso6 = true;
    config.addresses[0] = IpPrefix{IpAddress::V4(192, 168, 0, 1), 16};
    config.addresses[1] = IpPrefix{IpAddress{{0xfd, 0x3d, 0x0a, 0x0b, 0x17, 0xd6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}}, 64};
    config.address_count = 2;
    return config;
  }

  Host& host() { return *host_; }
  Host* operator->() { return host_; }
  Shard& NewShard(uint16_t process = 0, Instant now = DefaultStart()) { return *TakeShard(*host_, process, now); }

 private:
  size_t bytes_;
  void* memory_;
  Host* host_;
};

}  // namespace ustcp::test
