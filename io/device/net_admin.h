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

// Who may attach to a TAP without being root.
struct TapOwner {
  bool has_user = false;
  uint32_t user = 0;
  bool has_group = false;
  uint32_t group = 0;
  bool anybody() const { return !has_user && !has_group; }
};
// False: no such interface, or no TAP.
bool ReadTapOwner(const char* name, TapOwner* out) noexcept;

IoError SetLinkUp(const char* name, bool up) noexcept;
IoError SetLinkMtu(const char* name, uint32_t mtu) noexcept;

// `address` is 4 or 16 bytes in network order. IPv6 addresses are added without duplicate address detection, so that
// they can be used at once. An address that is there already is not an error.
IoError AddAddress(const char* name, std::span<const uint8_t> address, unsigned prefix_length) noexcept;
IoError RemoveAddress(const char* name, std::span<const uint8_t> address, unsigned prefix_length) noexcept;

}  // namespace ustcp
