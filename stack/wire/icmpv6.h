// ICMPv6 (RFC 4443): echo and errors. Neighbour discovery is in ndisc.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "stack/base/address.h"
#include "stack/base/bytes.h"
#include "stack/base/drop_reason.h"
#include "stack/wire/checksum.h"
#include "stack/wire/icmp.h"
#include "stack/wire/ipv6.h"

namespace ustcp {

inline constexpr size_t kIcmpv6HeaderBytes = 8;

inline constexpr uint8_t kIcmpv6Unreachable = 1;
inline constexpr uint8_t kIcmpv6PacketTooBig = 2;
inline constexpr uint8_t kIcmpv6TimeExceeded = 3;
inline constexpr uint8_t kIcmpv6ParameterProblem = 4;
inline constexpr uint8_t kIcmpv6EchoRequest = 128;
inline constexpr uint8_t kIcmpv6EchoReply = 129;

// Codes of kIcmpv6Unreachable.
inline constexpr uint8_t kIcmpv6NoRoute = 0;
inline constexpr uint8_t kIcmpv6Prohibited = 1;
inline constexpr uint8_t kIcmpv6BeyondScope = 2;
inline constexpr uint8_t kIcmpv6AddressUnreachable = 3;
inline constexpr uint8_t kIcmpv6PortUnreachable = 4;
inline constexpr uint8_t kIcmpv6PolicyFail = 5;
inline constexpr uint8_t kIcmpv6RejectRoute = 6;

class Icmpv6View {
 public:
  // `message` is what follows the IPv6 headers; the addresses are those of the packet (pseudo header).
  static std::optional<Icmpv6View> Parse(ConstBytes message, const IpAddress& source, const IpAddress& destination,
                                         ChecksumTrust trust = ChecksumTrust::kVerify,
                                         DropReason* why = nullptr) noexcept {
    DropReason reason = DropReason::kNone;
    if (message.size() < kIcmpv6HeaderBytes) {
      reason = DropReason::kIcmpHeader;
    } else if (trust == ChecksumTrust::kVerify &&
               !VerifyTransportChecksum(source, destination, kProtocolIcmpv6, message)) {
      reason = DropReason::kIcmpChecksum;
    }
    if (why != nullptr) *why = reason;
    if (reason != DropReason::kNone) return std::nullopt;
    return Icmpv6View(message);
  }

  uint8_t type() const { return Load8(bytes_.data()); }
  uint8_t code() const { return Load8(bytes_.data() + 1); }
  bool is_error() const { return type() < 128; }  // RFC 4443 2.1
  uint16_t echo_id() const { return LoadBe16(bytes_.data() + 4); }
  uint16_t echo_sequence() const { return LoadBe16(bytes_.data() + 6); }
  uint32_t mtu() const { return LoadBe32(bytes_.data() + 4); }      // packet too big
  uint32_t pointer() const { return LoadBe32(bytes_.data() + 4); }  // parameter problem
  // Behind the eight bytes: echo data, or the quoted packet of an error.
  ConstBytes body() const { return bytes_.subspan(kIcmpv6HeaderBytes); }
  ConstBytes bytes() const { return bytes_; }
  // Requires: is_error().
  std::optional<QuotedPacket> quoted() const noexcept { return ParseQuotedIpv6(body()); }

 private:
  explicit Icmpv6View(ConstBytes message) : bytes_(message) {}
  ConstBytes bytes_;
};

// Copies `request` to `out`, turned into the echo reply that goes from `source` to `destination`; returns its size.
// `out` has room for all of it and may be the request itself.
size_t WriteIcmpv6EchoReply(std::byte* out, const Icmpv6View& request, const IpAddress& source,
                            const IpAddress& destination) noexcept;

// An ICMPv6 error of at most `limit` bytes: `rest` is the second word (MTU, pointer), then as much of `packet` (from
// its IPv6 header on) as fits. Requires: limit >= kIcmpv6HeaderBytes. Returns the size.
size_t WriteIcmpv6Error(std::byte* out, size_t limit, uint8_t type, uint8_t code, uint32_t rest, ConstBytes packet,
                        const IpAddress& source, const IpAddress& destination) noexcept;
// The whole packet stays within the minimum MTU (RFC 4443 2.4 c).
inline constexpr size_t kMaxIcmpv6ErrorBytes = kMinIpv6Mtu - kIpv6HeaderBytes;

}  // namespace ustcp
