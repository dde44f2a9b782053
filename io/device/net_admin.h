// The kernel's side of the interface: addresses, MTU, up and down, in the network namespace of the calling thread.
// Needs CAP_NET_ADMIN there.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "io/device/tap.h"

namespace ustcp {

struct LinkState {
  int index = 0;
  bool up = false;       // administratively
  bool running = false;  // somebody has a queue open
  uint32_t mtu = 0;
  std::array<uint8_t, 6> mac{};
};

// ENODEV when there is none of that name.
IoError ReadLink(const char* name, LinkState* out) noexcept;
IoError SetLinkUp(const char* name, bool up) noexcept;
IoError SetLinkMtu(const char* name, uint32_t mtu) noexcept;

// `address` is 4 or 16 bytes in network order. IPv6 addresses are added without duplicate address detection, so that
// they can be used at once. An address that is there already is not an error.
IoError AddAddress(const char* name, std::span<const uint8_t> address, unsigned prefix_length) noexcept;
IoError RemoveAddress(const char* name, std::span<const uint8_t> address, unsigned prefix_length) noexcept;

}  // namespace ustcp
