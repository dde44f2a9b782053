#include "stack/tcp/isn.h"

#include <sodium/crypto_shorthash.h>

#include <cstring>

#include "stack/host/host.h"

namespace ustcp {
namespace {

uint64_t KeyedHash(const std::array<uint8_t, 16>& key, const uint8_t* data, size_t bytes) {
  static_assert(crypto_shorthash_KEYBYTES == 16 && crypto_shorthash_BYTES == 8);
  uint64_t hash;
  crypto_shorthash(reinterpret_cast<uint8_t*>(&hash), data, bytes, key.data());
  return hash;
}

}  // namespace

Seq ChooseIss(const Host& host, const Tuple& tuple, Instant now) noexcept {
  uint8_t data[36];
  std::memcpy(data, tuple.local.address.bytes.data(), 16);
  std::memcpy(data + 16, tuple.peer.address.bytes.data(), 16);
  std::memcpy(data + 32, &tuple.local.port, 2);
  std::memcpy(data + 34, &tuple.peer.port, 2);
  // Linux's clock ticks every 64 ns: a tuple reused after 2MSL starts above its predecessor even at high rates.
  auto clock = static_cast<uint32_t>(static_cast<uint64_t>(NanosOf(now)) >> 6);
  return Seq(static_cast<uint32_t>(KeyedHash(host.secrets.isn, data, sizeof data)) + clock);
}

uint32_t ChooseTimestampOffset(const Host& host, const Tuple& tuple) noexcept {
  if (host.sysctls.tcp_timestamps != 1) return 0;
  uint8_t data[32];
  std::memcpy(data, tuple.local.address.bytes.data(), 16);
  std::memcpy(data + 16, tuple.peer.address.bytes.data(), 16);
  return static_cast<uint32_t>(KeyedHash(host.secrets.timestamp, data, sizeof data));
}

}  // namespace ustcp
