// Byte spans and big-endian loads and stores, the only way the stack touches wire bytes.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace ustcp {

using Bytes = std::span<std::byte>;
using ConstBytes = std::span<const std::byte>;

inline uint8_t Load8(const std::byte* p) { return std::to_integer<uint8_t>(*p); }

inline uint16_t LoadBe16(const std::byte* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof v);
  return __builtin_bswap16(v);
}

inline uint32_t LoadBe32(const std::byte* p) {
  uint32_t v;
  std::memcpy(&v, p, sizeof v);
  return __builtin_bswap32(v);
}

inline void Store8(std::byte* p, uint8_t v) { *p = std::byte{v}; }

inline void StoreBe16(std::byte* p, uint16_t v) {
  v = __builtin_bswap16(v);
  std::memcpy(p, &v, sizeof v);
}

inline void StoreBe32(std::byte* p, uint32_t v) {
  v = __builtin_bswap32(v);
  std::memcpy(p, &v, sizeof v);
}

static_assert(std::endian::native == std::endian::little);

}  // namespace ustcp
