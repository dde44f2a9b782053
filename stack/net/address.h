// Addresses as the stack stores them. An IpAddress is 16 bytes for both families; an IPv4 address is kept in its
// v4-mapped form (::ffff:a.b.c.d), so tables and tuples need one code path.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ustcp {

using MacAddress = std::array<uint8_t, 6>;

struct IpAddress {
  std::array<uint8_t, 16> bytes{};

  static constexpr IpAddress V4(uint8_t a, uint8_t b, uint8_t c, uint8_t d) {
    return IpAddress{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d}};
  }
  // From four bytes in network order.
  static IpAddress FromV4Bytes(const void* p) {
    IpAddress a = V4(0, 0, 0, 0);
    std::memcpy(&a.bytes[12], p, 4);
    return a;
  }
  static IpAddress FromV6Bytes(const void* p) {
    IpAddress a;
    std::memcpy(a.bytes.data(), p, 16);
    return a;
  }
  static constexpr IpAddress AnyV4() { return V4(0, 0, 0, 0); }
  static constexpr IpAddress AnyV6() { return IpAddress{}; }

  // True for v4-mapped addresses.
  constexpr bool is_v4() const {
    for (int i = 0; i < 10; ++i)
      if (bytes[i] != 0) return false;
    return bytes[10] == 0xff && bytes[11] == 0xff;
  }
  // 0.0.0.0 or ::
  constexpr bool is_any() const { return *this == AnyV6() || *this == AnyV4(); }
  constexpr bool is_loopback() const {
    if (is_v4()) return bytes[12] == 127;
    for (int i = 0; i < 15; ++i)
      if (bytes[i] != 0) return false;
    return bytes[15] == 1;
  }
  constexpr bool is_multicast() const { return is_v4() ? (bytes[12] & 0xf0) == 0xe0 : bytes[0] == 0xff; }
  constexpr bool is_link_local() const {
    return is_v4() ? bytes[12] == 169 && bytes[13] == 254 : bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80;
  }
  const uint8_t* v4() const { return &bytes[12]; }

  friend constexpr bool operator==(const IpAddress&, const IpAddress&) = default;
  friend constexpr auto operator<=>(const IpAddress&, const IpAddress&) = default;
};

struct IpPrefix {
  IpAddress address;
  uint8_t length = 0;  // in bits of the address's own family: 0..32 or 0..128

  bool Contains(const IpAddress& a) const {
    if (a.is_v4() != address.is_v4()) return false;
    int bits = length + (address.is_v4() ? 96 : 0);
    int whole = bits / 8;
    if (std::memcmp(a.bytes.data(), address.bytes.data(), whole) != 0) return false;
    int rest = bits % 8;
    return rest == 0 || ((a.bytes[whole] ^ address.bytes[whole]) >> (8 - rest)) == 0;
  }
};

// An address and a port in host byte order.
struct Endpoint {
  IpAddress address;
  uint16_t port = 0;
  friend constexpr bool operator==(const Endpoint&, const Endpoint&) = default;
};

// The four-tuple of a connection, seen from this host.
struct Tuple {
  Endpoint local;
  Endpoint peer;
  friend constexpr bool operator==(const Tuple&, const Tuple&) = default;
};

}  // namespace ustcp
