// What a host is: its name, addresses and link. Filled by io/ from files and the environment, copied into the arena when
// the host is created, so that all members agree.
#pragma once

#include <array>
#include <cstdint>

#include "stack/base/address.h"
#include "stack/base/frame.h"

namespace ustcp {

inline constexpr int kMaxHostAddresses = 8;
inline constexpr int kMaxRoutes = 16;

struct RouteRule {
  IpPrefix destination;  // length 0 of either family: default route
  IpAddress gateway;     // any-address: destination is on the link
};

struct HostConfig {
  char name[64] = "default";
  char interface[16] = "ustcp0";
  DeviceInfo device;
  int address_count = 0;
  std::array<IpPrefix, kMaxHostAddresses> addresses;  // the host's own, with the on-link prefix
  int route_count = 0;
  std::array<RouteRule, kMaxRoutes> routes;  // longest prefix wins; on-link prefixes are implied
  uint32_t busy_poll_us = 0;                 // spin before sleeping
  uint32_t tick_us = 2000;                   // how long a shard may go without a driver
  uint8_t engine = 0;                        // io/: 0 auto, 1 io_uring, 2 plain
  bool loopback_inside = false;              // loopback = host
};

}  // namespace ustcp
