// ARP (RFC 826) for IPv4 over Ethernet, the only combination there is here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>

#include "stack/base/address.h"
#include "stack/base/bytes.h"
#include "stack/wire/ethernet.h"

namespace ustcp {

inline constexpr size_t kArpBytes = 28;

enum class ArpOperation : uint16_t { kRequest = 1, kReply = 2 };

class ArpView {
 public:
  // `packet` is the Ethernet payload, padding allowed. Empty when it is short, not IPv4 over Ethernet (hardware type 1,
  // or 6 as Linux accepts on Ethernet: RFC 1042 hosts), neither a request nor a reply, or claims a sender that cannot
  // be one: a multicast MAC or IPv4 address.
  static std::optional<ArpView> Parse(ConstBytes packet) noexcept {
    if (packet.size() < kArpBytes) return std::nullopt;
    const std::byte* p = packet.data();
    const uint16_t hardware = LoadBe16(p);
    const uint16_t operation = LoadBe16(p + 6);
    if (hardware != 1 && hardware != 6) return std::nullopt;
    if (LoadBe16(p + 2) != kEthertypeIpv4 || LoadBe16(p + 4) != 0x0604) return std::nullopt;
    if (operation != 1 && operation != 2) return std::nullopt;
    if ((Load8(p + 8) & 1) != 0) return std::nullopt;
    ArpView view(p);
    if (view.sender().is_multicast()) return std::nullopt;
    return view;
  }

  ArpOperation operation() const { return static_cast<ArpOperation>(LoadBe16(p_ + 6)); }
  MacAddress sender_mac() const { return Mac(8); }
  IpAddress sender() const { return IpAddress::FromV4Bytes(p_ + 14); }  // 0.0.0.0 in a probe (RFC 5227)
  MacAddress target_mac() const { return Mac(18); }                     // without meaning in a request
  IpAddress target() const { return IpAddress::FromV4Bytes(p_ + 24); }
  // An announcement of the sender's own address (RFC 5227 1.1).
  bool is_gratuitous() const { return sender() == target(); }

 private:
  explicit ArpView(const std::byte* p) : p_(p) {}
  MacAddress Mac(size_t offset) const {
    MacAddress mac;
    std::memcpy(mac.data(), p_ + offset, mac.size());
    return mac;
  }

  const std::byte* p_;
};

struct ArpPacket {
  ArpOperation operation = ArpOperation::kRequest;
  MacAddress sender_mac{};
  IpAddress sender = IpAddress::AnyV4();
  MacAddress target_mac{};  // zero in requests
  IpAddress target = IpAddress::AnyV4();
};

// Writes the 28 bytes and returns their number. Both addresses are IPv4.
inline size_t WriteArp(std::byte* out, const ArpPacket& a) noexcept {
  StoreBe16(out, 1);
  StoreBe16(out + 2, kEthertypeIpv4);
  StoreBe16(out + 4, 0x0604);
  StoreBe16(out + 6, static_cast<uint16_t>(a.operation));
  std::memcpy(out + 8, a.sender_mac.data(), 6);
  std::memcpy(out + 14, a.sender.v4(), 4);
  std::memcpy(out + 18, a.target_mac.data(), 6);
  std::memcpy(out + 24, a.target.v4(), 4);
  return kArpBytes;
}

}  // namespace ustcp
