// The Internet checksum (RFC 1071): sums over gathered pieces, pseudo headers of IPv4 and IPv6, the partial form that
// virtio's NEEDS_CSUM wants (virtio 1.2, 5.1.6.2), and incremental update (RFC 1624).
#pragma once

#include <cstddef>
#include <cstdint>

#include "stack/base/address.h"
#include "stack/base/bytes.h"

namespace ustcp {

// Whether a receiver has to check a checksum itself. kVouched: the device did (virtio DATA_VALID), or the bytes never
// left the machine and carry only a partial sum (NEEDS_CSUM).
enum class ChecksumTrust : uint8_t { kVerify, kVouched };

// Sum of native 16-bit words over `bytes`, not folded to 16 bits; an odd last byte counts as if a zero byte followed.
// Native order is sound because the one's complement sum commutes with byte swapping (RFC 1071 2B).
uint64_t SumNativeWords(ConstBytes bytes) noexcept;

// A one's complement sum under construction. Pieces may have any length: a piece that starts at an odd offset of the
// whole is rotated by a byte (RFC 1071 2B). A value can be kept and added to later, e.g. the addresses of a connection.
class InternetSum {
 public:
  constexpr InternetSum() = default;

  // Header fields; only meaningful while an even number of bytes has been added.
  constexpr void AddBe16(uint16_t v) { sum_ += __builtin_bswap16(v); }
  constexpr void AddBe32(uint32_t v) {
    AddBe16(static_cast<uint16_t>(v >> 16));
    AddBe16(static_cast<uint16_t>(v));
  }
  // The next bytes of the data.
  void Add(ConstBytes bytes) noexcept {
    const uint16_t piece = FoldNative(SumNativeWords(bytes));
    sum_ += odd_ ? __builtin_bswap16(piece) : piece;
    odd_ ^= (bytes.size() & 1) != 0;
  }

  // The sum folded to 16 bits, as a value for StoreBe16. Stored as it is, it is the partial checksum that the device
  // completes.
  constexpr uint16_t Fold() const { return __builtin_bswap16(FoldNative(sum_)); }
  // The checksum field's final value.
  constexpr uint16_t Complement() const { return static_cast<uint16_t>(~Fold()); }
  // True when the summed bytes include a correct checksum field.
  constexpr bool Verifies() const { return FoldNative(sum_) == 0xffff; }

 private:
  static constexpr uint16_t FoldNative(uint64_t sum) {
    sum = (sum >> 32) + (sum & 0xffffffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    return static_cast<uint16_t>(sum);
  }

  uint64_t sum_ = 0;  // native order; cannot overflow: every addition is at most 0xffff
  bool odd_ = false;  // an odd number of bytes so far
};

// The pseudo header of `transport_bytes` bytes (header and payload) of `protocol`. The family is that of `source`;
// both addresses are of one family (RFC 9293 3.1, RFC 8200 8.1).
InternetSum PseudoHeaderSum(const IpAddress& source, const IpAddress& destination, uint8_t protocol,
                            uint32_t transport_bytes) noexcept;

// True when `transport` (header and payload, checksum field included) sums up correctly with its pseudo header.
bool VerifyTransportChecksum(const IpAddress& source, const IpAddress& destination, uint8_t protocol,
                             ConstBytes transport) noexcept;

// Computes the checksum of `transport` and stores it at `checksum_offset`; what the field held before does not matter.
void FillTransportChecksum(const IpAddress& source, const IpAddress& destination, uint8_t protocol, Bytes transport,
                           size_t checksum_offset) noexcept;

// The partial sum for NEEDS_CSUM: the pseudo header alone, not complemented. `transport_bytes` counts header and
// payload; for a segment that the device will cut (TSO) Linux and virtio expect the whole length here too.
uint16_t PartialChecksum(const IpAddress& source, const IpAddress& destination, uint8_t protocol,
                         uint32_t transport_bytes) noexcept;

// The checksum of a plain run of bytes (IPv4 header, ICMP).
uint16_t ComputeChecksum(ConstBytes bytes) noexcept;
bool VerifyChecksum(ConstBytes bytes) noexcept;

// The checksum after one 16-bit word it covers changed (RFC 1624 equation 3).
constexpr uint16_t UpdateChecksum(uint16_t checksum, uint16_t old_word, uint16_t new_word) {
  uint32_t sum = static_cast<uint16_t>(~checksum) + static_cast<uint32_t>(static_cast<uint16_t>(~old_word)) + new_word;
  sum = (sum >> 16) + (sum & 0xffff);
  sum = (sum >> 16) + (sum & 0xffff);
  return static_cast<uint16_t>(~sum);
}

}  // namespace ustcp
