// Addresses as the stack stores them. An IpAddress is 16 bytes for both families; an IPv4 address is kept in its
// v4-mapped form (::ffff:a.b.c.d), so tables and tuples need one code path.
#pragma once

#include <array>
#include <bit>
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
    Halves h = halves();
    return h[0] == 0 && static_cast<uint32_t>(h[1]) == 0xffff0000u;
  }
  // 0.0.0.0 or ::
  constexpr bool is_any() const { return *this == AnyV6() || *this == AnyV4(); }
  constexpr bool is_loopback() const {
    if (is_v4()) return bytes[12] == 127;
    Halves h = halves();
    return h[0] == 0 && h[1] == uint64_t{1} << 56;
  }
  constexpr bool is_multicast() const { return is_v4() ? (bytes[12] & 0xf0) == 0xe0 : bytes[0] == 0xff; }
  constexpr bool is_link_local() const {
    return is_v4() ? bytes[12] == 169 && bytes[13] == 254 : bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80;
  }
  const uint8_t* v4() const { return &bytes[12]; }

  // Looked at for every segment many times: two words instead of a call of memcmp.
  friend constexpr bool operator==(const IpAddress& a, const IpAddress& b) {
    Halves x = a.halves(), y = b.halves();
    return ((x[0] ^ y[0]) | (x[1] ^ y[1])) == 0;
  }
  friend constexpr auto operator<=>(const IpAddress& a, const IpAddress& b) { return a.bytes <=> b.bytes; }

 private:
  using Halves = std::array<uint64_t, 2>;  // as they lie in memory, little endian
  constexpr Halves halves() const { return std::bit_cast<Halves>(bytes); }
};
static_assert(std::endian::native == std::endian::little);

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
