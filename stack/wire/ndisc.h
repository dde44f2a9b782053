// Neighbour and router discovery messages of IPv6 (RFC 4861), which are ICMPv6 messages with options.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "stack/base/address.h"
#include "stack/base/bytes.h"
#include "stack/wire/icmpv6.h"

namespace ustcp {

inline constexpr uint8_t kRouterSolicitation = 133;
inline constexpr uint8_t kRouterAdvertisement = 134;
inline constexpr uint8_t kNeighborSolicitation = 135;
inline constexpr uint8_t kNeighborAdvertisement = 136;

inline constexpr uint8_t kNeighborHopLimit = 255;  // proves that no router forwarded the message

constexpr bool IsNeighborDiscovery(uint8_t icmpv6_type) {
  return icmpv6_type >= kRouterSolicitation && icmpv6_type <= kNeighborAdvertisement;
}

// A prefix information option (RFC 4861 4.6.2).
struct PrefixInformation {
  IpPrefix prefix;  // at most 128 bits
  bool on_link = false;
  bool autonomous = false;
  uint32_t valid_seconds = 0;      // 0xffffffff: for ever
  uint32_t preferred_seconds = 0;  // at most valid_seconds when used for addresses (RFC 4862 5.5.3)
};

// The options of one message that a host acts on.
struct NeighborOptions {
  static constexpr size_t kMaxPrefixes = 8;
  std::optional<MacAddress> source_mac;
  std::optional<MacAddress> target_mac;
  std::optional<uint32_t> mtu;
  uint8_t prefix_count = 0;  // further ones are ignored
  std::array<PrefixInformation, kMaxPrefixes> prefixes{};
};

// A message of one of the four types, valid by the rules of RFC 4861 6.1 and 7.1.
class NeighborView {
 public:
  // `message` has passed Icmpv6View; hop limit and addresses are those of the packet. Empty when a rule is broken.
  static std::optional<NeighborView> Parse(const Icmpv6View& message, uint8_t hop_limit, const IpAddress& source,
                                           const IpAddress& destination) noexcept;

  uint8_t type() const { return Load8(bytes_.data()); }
  const NeighborOptions& options() const { return options_; }

  // Neighbour solicitation and advertisement.
  IpAddress target() const { return IpAddress::FromV6Bytes(bytes_.data() + 8); }
  // Neighbour advertisement.
  bool router() const { return (Load8(bytes_.data() + 4) & 0x80) != 0; }
  bool solicited() const { return (Load8(bytes_.data() + 4) & 0x40) != 0; }
  bool override_cache() const { return (Load8(bytes_.data() + 4) & 0x20) != 0; }
  // Router advertisement.
  uint8_t hop_limit() const { return Load8(bytes_.data() + 4); }                    // 0: unspecified
  uint16_t router_lifetime_seconds() const { return LoadBe16(bytes_.data() + 6); }  // 0: not a default router
  uint32_t reachable_ms() const { return LoadBe32(bytes_.data() + 8); }             // 0: unspecified
  uint32_t retransmit_ms() const { return LoadBe32(bytes_.data() + 12); }           // 0: unspecified

 private:
  NeighborView(ConstBytes bytes, const NeighborOptions& options) : bytes_(bytes), options_(options) {}
  ConstBytes bytes_;
  NeighborOptions options_;
};

// The builders write the ICMPv6 message, checksum included, and return its size. It is sent with kNeighborHopLimit.

inline constexpr size_t kMaxNeighborMessageBytes = 32;

// `mac`: the source link-layer address option; none when `source` is unspecified (duplicate address detection).
size_t WriteNeighborSolicitation(std::byte* out, const IpAddress& source, const IpAddress& destination,
                                 const IpAddress& target, const std::optional<MacAddress>& mac) noexcept;

struct NeighborAdvertisement {
  IpAddress target;
  MacAddress mac{};  // always sent: required in answers to multicast solicitations, harmless elsewhere
  bool solicited = false;
  bool override_cache = true;
};
size_t WriteNeighborAdvertisement(std::byte* out, const IpAddress& source, const IpAddress& destination,
                                  const NeighborAdvertisement& a) noexcept;

size_t WriteRouterSolicitation(std::byte* out, const IpAddress& source, const IpAddress& destination,
                               const std::optional<MacAddress>& mac) noexcept;

// The group that solicitations for `target` go to (RFC 4291 2.7.1).
constexpr IpAddress SolicitedNodeGroup(const IpAddress& target) {
  const auto& b = target.bytes;
  return IpAddress{{0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0xff, b[13], b[14], b[15]}};
}
inline constexpr IpAddress kAllNodes{{0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01}};
inline constexpr IpAddress kAllRouters{{0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02}};

}  // namespace ustcp
