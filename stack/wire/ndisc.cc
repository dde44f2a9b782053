#include "stack/wire/ndisc.h"

#include <algorithm>
#include <cstring>

namespace ustcp {
namespace {

enum NeighborOptionType : uint8_t { kSourceMac = 1, kTargetMac = 2, kPrefix = 3, kMtu = 5 };

// Bytes of each type before its options.
constexpr size_t FixedBytes(uint8_t type) {
  switch (type) {
    case kRouterSolicitation: return 8;
    case kRouterAdvertisement: return 16;
    default: return 24;
  }
}

MacAddress ReadMac(ConstBytes option) {
  MacAddress mac;
  std::memcpy(mac.data(), option.data() + 2, mac.size());
  return mac;
}

void ReadPrefix(ConstBytes option, NeighborOptions& o) {
  const std::byte* p = option.data();
  if (option.size() != 32 || Load8(p + 2) > 128 || o.prefix_count == NeighborOptions::kMaxPrefixes) return;
  PrefixInformation& prefix = o.prefixes[o.prefix_count++];
  prefix.prefix = {IpAddress::FromV6Bytes(p + 16), Load8(p + 2)};
  prefix.on_link = (Load8(p + 3) & 0x80) != 0;
  prefix.autonomous = (Load8(p + 3) & 0x40) != 0;
  prefix.valid_seconds = LoadBe32(p + 4);
  prefix.preferred_seconds = LoadBe32(p + 8);
}

// False when an option has length zero or reaches beyond the end: the whole message is then invalid. The first of
// duplicates counts, as in Linux.
bool ReadOptions(ConstBytes bytes, NeighborOptions& o) {
  while (!bytes.empty()) {
    if (bytes.size() < 2) return false;
    const size_t length = size_t{Load8(bytes.data() + 1)} * 8;
    if (length == 0 || length > bytes.size()) return false;
    const ConstBytes option = bytes.first(length);
    switch (Load8(option.data())) {
      case kSourceMac:
        if (length == 8 && !o.source_mac) o.source_mac = ReadMac(option);
        break;
      case kTargetMac:
        if (length == 8 && !o.target_mac) o.target_mac = ReadMac(option);
        break;
      case kPrefix: ReadPrefix(option, o); break;
      case kMtu:
        if (length == 8 && !o.mtu) o.mtu = LoadBe32(option.data() + 4);
        break;
      default: break;
    }
    bytes = bytes.subspan(length);
  }
  return true;
}

// v4-mapped addresses mean IPv4 in the stack's tables; nobody may ask for ours that way.
bool IsGoodTarget(const std::byte* p) {
  const IpAddress target = IpAddress::FromV6Bytes(p);
  return !target.is_multicast() && !target.is_v4();
}

bool IsSolicitedNodeGroup(const IpAddress& a) { return a == SolicitedNodeGroup(a); }

bool RulesHold(const Icmpv6View& m, const IpAddress& source, const IpAddress& destination, const NeighborOptions& o) {
  const std::byte* p = m.bytes().data();
  const bool unspecified = source == IpAddress::AnyV6();
  switch (m.type()) {
    case kRouterSolicitation: return !(unspecified && o.source_mac);
    case kRouterAdvertisement: return source.is_link_local();
    case kNeighborSolicitation:
      if (!IsGoodTarget(p + 8)) return false;
      return !unspecified || (IsSolicitedNodeGroup(destination) && !o.source_mac);
    case kNeighborAdvertisement:
      if (!IsGoodTarget(p + 8)) return false;
      return !(destination.is_multicast() && (Load8(p + 4) & 0x40) != 0);
    default: return false;
  }
}

size_t WriteMacOption(std::byte* out, uint8_t type, const MacAddress& mac) {
  Store8(out, type);
  Store8(out + 1, 1);
  std::memcpy(out + 2, mac.data(), mac.size());
  return 8;
}

size_t Finish(std::byte* out, size_t size, const IpAddress& source, const IpAddress& destination) {
  FillTransportChecksum(source, destination, kProtocolIcmpv6, {out, size}, 2);
  return size;
}

}  // namespace

std::optional<NeighborView> NeighborView::Parse(const Icmpv6View& message, uint8_t hop_limit, const IpAddress& source,
                                                const IpAddress& destination) noexcept {
  if (!IsNeighborDiscovery(message.type()) || message.code() != 0 || hop_limit != kNeighborHopLimit) {
    return std::nullopt;
  }
  const size_t fixed = FixedBytes(message.type());
  if (message.bytes().size() < fixed) return std::nullopt;
  NeighborOptions options;
  if (!ReadOptions(message.bytes().subspan(fixed), options)) return std::nullopt;
  if (!RulesHold(message, source, destination, options)) return std::nullopt;
  return NeighborView(message.bytes(), options);
}

size_t WriteNeighborSolicitation(std::byte* out, const IpAddress& source, const IpAddress& destination,
                                 const IpAddress& target, const std::optional<MacAddress>& mac) noexcept {
  StoreBe32(out, uint32_t{kNeighborSolicitation} << 24);
  StoreBe32(out + 4, 0);
  std::memcpy(out + 8, target.bytes.data(), 16);
  size_t size = 24;
  if (mac) size += WriteMacOption(out + size, kSourceMac, *mac);
  return Finish(out, size, source, destination);
}

size_t WriteNeighborAdvertisement(std::byte* out, const IpAddress& source, const IpAddress& destination,
                                  const NeighborAdvertisement& a) noexcept {
  StoreBe32(out, uint32_t{kNeighborAdvertisement} << 24);
  StoreBe32(out + 4, (a.solicited ? 0x40000000u : 0u) | (a.override_cache ? 0x20000000u : 0u));
  std::memcpy(out + 8, a.target.bytes.data(), 16);
  const size_t size = 24 + WriteMacOption(out + 24, kTargetMac, a.mac);
  return Finish(out, size, source, destination);
}

size_t WriteRouterSolicitation(std::byte* out, const IpAddress& source, const IpAddress& destination,
                               const std::optional<MacAddress>& mac) noexcept {
  StoreBe32(out, uint32_t{kRouterSolicitation} << 24);
  StoreBe32(out + 4, 0);
  size_t size = 8;
  if (mac) size += WriteMacOption(out + size, kSourceMac, *mac);
  return Finish(out, size, source, destination);
}

}  // namespace ustcp
