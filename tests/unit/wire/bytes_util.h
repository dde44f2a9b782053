// Byte vectors for the tests of wire formats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string_view>
#include <vector>

#include "stack/base/address.h"
#include "stack/base/bytes.h"
#include "stack/wire/ethernet.h"

namespace ustcp {

using ByteVector = std::vector<std::byte>;

inline ByteVector FromHex(std::string_view hex) {
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  ByteVector bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    if (hex[i] == ' ') {
      --i;
      continue;
    }
    bytes.push_back(static_cast<std::byte>(digit(hex[i]) * 16 + digit(hex[i + 1])));
  }
  return bytes;
}

// The IP packet of a captured frame without VLAN tag.
inline ByteVector PacketOf(std::string_view frame_hex) {
  ByteVector frame = FromHex(frame_hex);
  return ByteVector(frame.begin() + kEthernetHeaderBytes, frame.end());
}

inline ByteVector ToVector(ConstBytes bytes) { return ByteVector(bytes.begin(), bytes.end()); }

inline ByteVector RandomBytes(std::mt19937& rng, size_t size) {
  ByteVector bytes(size);
  for (std::byte& b : bytes) b = static_cast<std::byte>(rng());
  return bytes;
}

inline const MacAddress kMacA = {0x02, 0, 0, 0, 0, 0x0a};
inline const MacAddress kMacB = {0x02, 0, 0, 0, 0, 0x0b};
inline constexpr IpAddress kHostA4 = IpAddress::V4(10, 9, 0, 1);
inline constexpr IpAddress kHostB4 = IpAddress::V4(10, 9, 0, 2);
inline constexpr IpAddress kHostA6{{0xfd, 0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};
inline constexpr IpAddress kHostB6{{0xfd, 0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2}};
inline constexpr IpAddress kLinkLocalA{{0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 0x0a}};

}  // namespace ustcp
