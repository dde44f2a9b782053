// IPv4 headers (RFC 791, RFC 1122 3.2.1).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>

#include "stack/base/address.h"
#include "stack/base/bytes.h"
#include "stack/base/drop_reason.h"
#include "stack/wire/checksum.h"

namespace ustcp {

inline constexpr size_t kIpv4HeaderBytes = 20;
inline constexpr size_t kMaxIpv4HeaderBytes = 60;

class Ipv4View {
 public:
  // `packet` is the link's payload: what follows the packet's own total length is padding and cut off. Empty with the
  // reason in `why` when the header is malformed, its checksum wrong (kVouched skips that), the packet longer than what
  // arrived, or its options are malformed: Linux drops these too, since a broken option may hide a source route.
  static std::optional<Ipv4View> Parse(ConstBytes packet, ChecksumTrust trust = ChecksumTrust::kVerify,
                                       DropReason* why = nullptr) noexcept {
    const DropReason reason = Check(packet, trust);
    if (why != nullptr) *why = reason;
    if (reason != DropReason::kNone) return std::nullopt;
    return Ipv4View(packet.data());
  }

  IpAddress source() const { return IpAddress::FromV4Bytes(p_ + 12); }
  IpAddress destination() const { return IpAddress::FromV4Bytes(p_ + 16); }
  uint8_t protocol() const { return Load8(p_ + 9); }
  uint8_t tos() const { return Load8(p_ + 1); }  // ECN bits included
  uint8_t ttl() const { return Load8(p_ + 8); }
  uint16_t id() const { return LoadBe16(p_ + 4); }
  size_t header_bytes() const { return (Load8(p_) & 0x0fu) * 4u; }
  size_t total_bytes() const { return LoadBe16(p_ + 2); }

  bool dont_fragment() const { return (LoadBe16(p_ + 6) & 0x4000) != 0; }
  bool more_fragments() const { return (LoadBe16(p_ + 6) & 0x2000) != 0; }
  // Bytes of payload before this fragment's.
  uint32_t fragment_offset() const { return (LoadBe16(p_ + 6) & 0x1fffu) * 8u; }
  bool is_fragment() const { return (LoadBe16(p_ + 6) & 0x3fff) != 0; }

  ConstBytes header() const { return {p_, header_bytes()}; }
  ConstBytes options() const { return {p_ + kIpv4HeaderBytes, header_bytes() - kIpv4HeaderBytes}; }
  // Loose or strict source route: hosts drop such packets (accept_source_route 0).
  bool has_source_route() const noexcept;
  ConstBytes payload() const { return {p_ + header_bytes(), total_bytes() - header_bytes()}; }
  ConstBytes bytes() const { return {p_, total_bytes()}; }

 private:
  explicit Ipv4View(const std::byte* p) : p_(p) {}

  static DropReason Check(ConstBytes packet, ChecksumTrust trust) noexcept {
    if (packet.size() < kIpv4HeaderBytes) return DropReason::kIpHeader;
    const std::byte* p = packet.data();
    const size_t header = (Load8(p) & 0x0fu) * 4u;
    if (Load8(p) >> 4 != 4 || header < kIpv4HeaderBytes || header > packet.size()) return DropReason::kIpHeader;
    if (trust == ChecksumTrust::kVerify && !VerifyChecksum({p, header})) return DropReason::kIpChecksum;
    const size_t total = LoadBe16(p + 2);
    if (total > packet.size()) return DropReason::kIpTruncated;
    if (total < header) return DropReason::kIpHeader;
    if (header > kIpv4HeaderBytes && !OptionsAreSound({p + kIpv4HeaderBytes, header - kIpv4HeaderBytes})) {
      return DropReason::kIpOptions;
    }
    return DropReason::kNone;
  }
  static bool OptionsAreSound(ConstBytes options) noexcept;

  const std::byte* p_;  // everything else is in the header, which has been checked
};

struct Ipv4Header {
  IpAddress source = IpAddress::AnyV4();
  IpAddress destination = IpAddress::AnyV4();
  uint8_t protocol = 0;
  uint8_t tos = 0;
  uint8_t ttl = 64;
  uint16_t id = 0;
  bool dont_fragment = true;
  uint16_t payload_bytes = 0;  // at most 65515
};

// Writes the 20 bytes, checksum included, and returns their number.
inline size_t WriteIpv4(std::byte* out, const Ipv4Header& h) noexcept {
  StoreBe16(out, static_cast<uint16_t>(0x4500 | h.tos));
  StoreBe16(out + 2, static_cast<uint16_t>(kIpv4HeaderBytes + h.payload_bytes));
  StoreBe16(out + 4, h.id);
  StoreBe16(out + 6, h.dont_fragment ? 0x4000 : 0);
  StoreBe16(out + 8, static_cast<uint16_t>(h.ttl << 8 | h.protocol));
  StoreBe16(out + 10, 0);
  std::memcpy(out + 12, h.source.v4(), 4);
  std::memcpy(out + 16, h.destination.v4(), 4);
  StoreBe16(out + 10, ComputeChecksum({out, kIpv4HeaderBytes}));
  return kIpv4HeaderBytes;
}

// Turns the header at `header`, as WriteIpv4 wrote it, into that of one fragment: `offset` (a multiple of 8) and
// `payload_bytes` of its payload, and whether more follow. Recomputes the checksum.
inline void MakeIpv4Fragment(std::byte* header, uint32_t offset, uint16_t payload_bytes, bool more) noexcept {
  StoreBe16(header + 2, static_cast<uint16_t>(kIpv4HeaderBytes + payload_bytes));
  StoreBe16(header + 6, static_cast<uint16_t>(offset / 8 | (more ? 0x2000u : 0u)));
  StoreBe16(header + 10, 0);
  StoreBe16(header + 10, ComputeChecksum({header, kIpv4HeaderBytes}));
}

}  // namespace ustcp
