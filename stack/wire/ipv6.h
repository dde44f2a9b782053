// IPv6 headers and the walk over extension headers (RFC 8200).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>

#include "stack/base/address.h"
#include "stack/base/bytes.h"
#include "stack/base/drop_reason.h"

namespace ustcp {

inline constexpr size_t kIpv6HeaderBytes = 40;
inline constexpr size_t kIpv6FragmentHeaderBytes = 8;
inline constexpr uint32_t kMinIpv6Mtu = 1280;

inline constexpr uint8_t kIpv6HopByHop = 0;
inline constexpr uint8_t kIpv6Routing = 43;
inline constexpr uint8_t kIpv6Fragment = 44;
inline constexpr uint8_t kProtocolIcmpv6 = 58;
inline constexpr uint8_t kIpv6NoNextHeader = 59;
inline constexpr uint8_t kIpv6DestinationOptions = 60;

// A fragment header (RFC 8200 4.5).
struct Ipv6Fragment {
  uint32_t offset = 0;  // bytes of fragmentable part before this one's
  uint32_t id = 0;
  bool more = false;
  uint8_t next_header = 0;  // of the reassembled packet's fragmentable part; counts in the first fragment
};

// Why a chain of headers ended the packet, and what RFC 8200 lets the host answer.
struct Ipv6Fault {
  DropReason reason = DropReason::kNone;
  bool answer = false;            // an ICMPv6 parameter problem is due ...
  bool answer_multicast = false;  // ... even when the packet went to a multicast address
  uint8_t code = 0;               // of the parameter problem: 0 bad field, 1 unknown next header, 2 unknown option
  uint32_t pointer = 0;           // from the start of the IPv6 header
};

// Where a walk ended.
struct Ipv6Chain {
  uint8_t protocol = 0;            // of what follows; kIpv6Fragment: stopped at `fragment`, whose part follows
  uint32_t offset = 0;             // of what follows, from the start of the IPv6 header
  uint32_t next_header_field = 6;  // offset of the byte that names `protocol`, for parameter problems
  std::optional<Ipv6Fragment> fragment;
};

// Walks extension headers: `packet` from the IPv6 header on, padding already cut off, `offset` where the header
// `next_header` begins, and `next_header_field` the offset of the byte that named it. Passes hop-by-hop options (first
// only), destination options, and routing headers with no segments left; stops at a fragment header and at everything
// it does not know. Bounded by kMaxIpv6Extensions headers. Used again behind a fragment header once the packet is
// whole.
inline constexpr int kMaxIpv6Extensions = 8;
std::optional<Ipv6Chain> WalkIpv6Extensions(ConstBytes packet, uint8_t next_header, uint32_t offset,
                                            uint32_t next_header_field, Ipv6Fault* fault = nullptr) noexcept;

class Ipv6View {
 public:
  // `packet` is the link's payload: what follows the payload length is padding and cut off. Empty with the reason and
  // the answer due in `fault` when the header is malformed, the packet longer than what arrived, or an extension header
  // forbids going on. Jumbograms are malformed here. So are v4-mapped addresses, which mean IPv4 everywhere else in the
  // stack: a packet must not choose its family by its addresses.
  static std::optional<Ipv6View> Parse(ConstBytes packet, Ipv6Fault* fault = nullptr) noexcept {
    if (fault != nullptr) *fault = {};
    const auto fail = [fault](DropReason reason) -> std::optional<Ipv6View> {
      if (fault != nullptr) fault->reason = reason;
      return std::nullopt;
    };
    if (packet.size() < kIpv6HeaderBytes || Load8(packet.data()) >> 4 != 6) return fail(DropReason::kIpHeader);
    const size_t total = kIpv6HeaderBytes + LoadBe16(packet.data() + 4);
    if (total > packet.size()) return fail(DropReason::kIpTruncated);
    const IpAddress from = IpAddress::FromV6Bytes(packet.data() + 8);
    if (from.is_v4() || from.is_multicast()) return fail(DropReason::kIpBadSource);
    if (IpAddress::FromV6Bytes(packet.data() + 24).is_v4()) return fail(DropReason::kIpNotForUs);
    const uint8_t next = Load8(packet.data() + 6);
    if (!IsExtension(next)) return Ipv6View(packet.data(), Ipv6Chain{next, kIpv6HeaderBytes, 6, std::nullopt});
    const auto chain = WalkIpv6Extensions(packet.first(total), next, kIpv6HeaderBytes, 6, fault);
    if (!chain) return std::nullopt;
    return Ipv6View(packet.data(), *chain);
  }

  IpAddress source() const { return IpAddress::FromV6Bytes(p_ + 8); }
  IpAddress destination() const { return IpAddress::FromV6Bytes(p_ + 24); }
  uint8_t traffic_class() const { return static_cast<uint8_t>(LoadBe16(p_) >> 4); }  // ECN bits included
  uint32_t flow_label() const { return LoadBe32(p_) & 0xfffff; }
  uint8_t hop_limit() const { return Load8(p_ + 7); }
  uint8_t next_header() const { return Load8(p_ + 6); }  // of the fixed header
  size_t total_bytes() const { return kIpv6HeaderBytes + LoadBe16(p_ + 4); }

  // Behind all extension headers; kIpv6Fragment for a fragment, kIpv6NoNextHeader for nothing.
  uint8_t protocol() const { return chain_.protocol; }
  const Ipv6Chain& chain() const { return chain_; }
  bool is_fragment() const { return chain_.fragment.has_value(); }
  const Ipv6Fragment& fragment() const { return *chain_.fragment; }  // Requires: is_fragment()
  size_t header_bytes() const { return chain_.offset; }              // extension headers included
  ConstBytes payload() const { return {p_ + chain_.offset, total_bytes() - chain_.offset}; }
  ConstBytes bytes() const { return {p_, total_bytes()}; }

 private:
  Ipv6View(const std::byte* p, const Ipv6Chain& chain) : p_(p), chain_(chain) {}
  static constexpr bool IsExtension(uint8_t h) {
    return h == kIpv6HopByHop || h == kIpv6Routing || h == kIpv6Fragment || h == kIpv6DestinationOptions;
  }

  const std::byte* p_;
  Ipv6Chain chain_;
};

struct Ipv6Header {
  IpAddress source;
  IpAddress destination;
  uint8_t protocol = 0;
  uint8_t traffic_class = 0;
  uint8_t hop_limit = 64;
  uint32_t flow_label = 0;  // 20 bits
  uint16_t payload_bytes = 0;
};

// Writes the 40 bytes and returns their number.
inline size_t WriteIpv6(std::byte* out, const Ipv6Header& h) noexcept {
  StoreBe32(out, 6u << 28 | static_cast<uint32_t>(h.traffic_class) << 20 | (h.flow_label & 0xfffff));
  StoreBe16(out + 4, h.payload_bytes);
  Store8(out + 6, h.protocol);
  Store8(out + 7, h.hop_limit);
  std::memcpy(out + 8, h.source.bytes.data(), 16);
  std::memcpy(out + 24, h.destination.bytes.data(), 16);
  return kIpv6HeaderBytes;
}

}  // namespace ustcp
