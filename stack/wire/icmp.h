// ICMP (RFC 792) and the part of an IPv4 or IPv6 packet that an ICMP error quotes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "stack/base/address.h"
#include "stack/base/bytes.h"
#include "stack/base/drop_reason.h"
#include "stack/base/seq.h"
#include "stack/wire/checksum.h"

namespace ustcp {

inline constexpr uint8_t kProtocolIcmp = 1;
inline constexpr size_t kIcmpHeaderBytes = 8;

inline constexpr uint8_t kIcmpEchoReply = 0;
inline constexpr uint8_t kIcmpUnreachable = 3;
inline constexpr uint8_t kIcmpRedirect = 5;
inline constexpr uint8_t kIcmpEchoRequest = 8;
inline constexpr uint8_t kIcmpTimeExceeded = 11;
inline constexpr uint8_t kIcmpParameterProblem = 12;

// Codes of kIcmpUnreachable (RFC 792, RFC 1122 3.2.2.1, RFC 1812 5.2.7.1).
inline constexpr uint8_t kIcmpNetUnreachable = 0;
inline constexpr uint8_t kIcmpHostUnreachable = 1;
inline constexpr uint8_t kIcmpProtocolUnreachable = 2;
inline constexpr uint8_t kIcmpPortUnreachable = 3;
inline constexpr uint8_t kIcmpFragmentationNeeded = 4;
inline constexpr uint8_t kIcmpMaxUnreachableCode = 15;

// The beginning of a packet as an ICMP error brings it back. Only the addresses and the eight bytes that RFC 792
// guarantees are certain; checksums of the quoted packet say nothing, since routers change it on the way.
struct QuotedPacket {
  IpAddress source;  // of the quoted packet: this host
  IpAddress destination;
  uint8_t protocol = 0;
  uint16_t source_port = 0;  // TCP and UDP
  uint16_t destination_port = 0;
  Seq seq;               // TCP
  ConstBytes transport;  // as much as was quoted, at least eight bytes

  Tuple tuple() const { return {{source, source_port}, {destination, destination_port}}; }
};

// Empty when less than the IP header and eight bytes are there, or the quoted packet is a fragment other than the
// first, which has no transport header. IPv6 extension headers are walked.
std::optional<QuotedPacket> ParseQuotedIpv4(ConstBytes packet) noexcept;
std::optional<QuotedPacket> ParseQuotedIpv6(ConstBytes packet) noexcept;

class IcmpView {
 public:
  // `message` is the IPv4 payload.
  static std::optional<IcmpView> Parse(ConstBytes message, ChecksumTrust trust = ChecksumTrust::kVerify,
                                       DropReason* why = nullptr) noexcept {
    DropReason reason = DropReason::kNone;
    if (message.size() < kIcmpHeaderBytes) {
      reason = DropReason::kIcmpHeader;
    } else if (trust == ChecksumTrust::kVerify && !VerifyChecksum(message)) {
      reason = DropReason::kIcmpChecksum;
    }
    if (why != nullptr) *why = reason;
    if (reason != DropReason::kNone) return std::nullopt;
    return IcmpView(message);
  }

  uint8_t type() const { return Load8(bytes_.data()); }
  uint8_t code() const { return Load8(bytes_.data() + 1); }
  bool is_error() const {
    return type() == kIcmpUnreachable || type() == kIcmpTimeExceeded || type() == kIcmpParameterProblem;
  }
  // Echo.
  uint16_t echo_id() const { return LoadBe16(bytes_.data() + 4); }
  uint16_t echo_sequence() const { return LoadBe16(bytes_.data() + 6); }
  // kIcmpFragmentationNeeded: RFC 1191 4; 0 from routers older than that.
  uint16_t next_hop_mtu() const { return LoadBe16(bytes_.data() + 6); }
  // kIcmpParameterProblem: offset of the offending byte in the quoted packet.
  uint8_t pointer() const { return Load8(bytes_.data() + 4); }
  // Behind the eight bytes: echo data, or the quoted packet of an error.
  ConstBytes body() const { return bytes_.subspan(kIcmpHeaderBytes); }
  ConstBytes bytes() const { return bytes_; }
  // Requires: is_error().
  std::optional<QuotedPacket> quoted() const noexcept { return ParseQuotedIpv4(body()); }

 private:
  explicit IcmpView(ConstBytes message) : bytes_(message) {}
  ConstBytes bytes_;
};

// Copies `request` to `out`, turned into the echo reply, and returns its size. `out` has room for all of it and may be
// the request itself.
size_t WriteIcmpEchoReply(std::byte* out, const IcmpView& request) noexcept;

// An ICMP error (RFC 1122 3.2.2) of at most `limit` bytes: `rest` is the second word of the header (MTU, pointer), then
// as much of `packet` (from its IP header on) as fits. Linux keeps the whole IP packet within 576 bytes: limit 556.
// Requires: limit >= kIcmpHeaderBytes. Returns the size.
size_t WriteIcmpError(std::byte* out, size_t limit, uint8_t type, uint8_t code, uint32_t rest,
                      ConstBytes packet) noexcept;
inline constexpr size_t kMaxIcmpErrorBytes = 576 - 20;

}  // namespace ustcp
