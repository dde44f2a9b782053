// Ethernet II frames, with the VLAN tags of IEEE 802.1Q and 802.1ad skipped on input. We never send a tag.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>

#include "stack/base/address.h"
#include "stack/base/bytes.h"

namespace ustcp {

inline constexpr size_t kEthernetHeaderBytes = 14;
inline constexpr uint16_t kEthertypeIpv4 = 0x0800;
inline constexpr uint16_t kEthertypeArp = 0x0806;
inline constexpr uint16_t kEthertypeVlan = 0x8100;         // 802.1Q
inline constexpr uint16_t kEthertypeServiceVlan = 0x88a8;  // 802.1ad outer tag
inline constexpr uint16_t kEthertypeIpv6 = 0x86dd;
// Below this the field is the length of an 802.3 frame.
inline constexpr uint16_t kMinEthertype = 0x0600;
inline constexpr MacAddress kBroadcastMac = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

class EthernetView {
 public:
  static constexpr int kMaxVlanTags = 2;

  // Empty when the frame ends within the header or within a tag, or has more than kMaxVlanTags tags.
  static std::optional<EthernetView> Parse(ConstBytes frame) noexcept {
    if (frame.size() < kEthernetHeaderBytes) return std::nullopt;
    size_t header = kEthernetHeaderBytes;
    uint16_t type = LoadBe16(frame.data() + 12);
    uint16_t vlan_id = 0;
    for (int tags = 0; type == kEthertypeVlan || type == kEthertypeServiceVlan; ++tags) {
      if (tags == kMaxVlanTags || frame.size() < header + 4) return std::nullopt;
      vlan_id = static_cast<uint16_t>(vlan_id | (LoadBe16(frame.data() + header) & 0x0fff));
      type = LoadBe16(frame.data() + header + 2);
      header += 4;
    }
    return EthernetView(frame, header, type, vlan_id);
  }

  MacAddress destination() const { return Mac(0); }
  MacAddress source() const { return Mac(6); }
  // Of the payload, behind any tags.
  uint16_t ethertype() const { return ethertype_; }
  // 0: untagged, or tagged for the priority only. Linux hands a frame with any other number to that VLAN's interface
  // and, where there is none, to nobody.
  uint16_t vlan_id() const { return vlan_id_; }
  bool is_broadcast() const { return destination() == kBroadcastMac; }
  bool is_multicast() const { return (Load8(p_) & 1) != 0; }  // broadcast included
  size_t header_bytes() const { return header_bytes_; }
  // Padding of short frames included.
  ConstBytes payload() const { return {p_ + header_bytes_, size_ - header_bytes_}; }

 private:
  EthernetView(ConstBytes frame, size_t header, uint16_t type, uint16_t vlan_id)
      : p_(frame.data()),
        size_(static_cast<uint32_t>(frame.size())),
        header_bytes_(static_cast<uint8_t>(header)),
        ethertype_(type),
        vlan_id_(vlan_id) {}
  MacAddress Mac(size_t offset) const {
    MacAddress mac;
    std::memcpy(mac.data(), p_ + offset, mac.size());
    return mac;
  }

  const std::byte* p_;
  uint32_t size_;
  uint8_t header_bytes_;
  uint16_t ethertype_;
  uint16_t vlan_id_;  // of all tags or-ed: 0 only when every tag is a priority tag
};

// Writes the 14 bytes and returns their number.
inline size_t WriteEthernet(std::byte* out, const MacAddress& destination, const MacAddress& source,
                            uint16_t ethertype) noexcept {
  std::memcpy(out, destination.data(), destination.size());
  std::memcpy(out + 6, source.data(), source.size());
  StoreBe16(out + 12, ethertype);
  return kEthernetHeaderBytes;
}

// Where IP multicast goes on Ethernet: RFC 1112 6.4, RFC 2464 7.
inline MacAddress MulticastMac(const IpAddress& group) noexcept {
  const auto& b = group.bytes;
  if (group.is_v4()) return {0x01, 0x00, 0x5e, static_cast<uint8_t>(b[13] & 0x7f), b[14], b[15]};
  return {0x33, 0x33, b[12], b[13], b[14], b[15]};
}

}  // namespace ustcp
