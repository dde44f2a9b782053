#include "stack/wire/icmp.h"

#include <algorithm>
#include <cstring>

#include "stack/wire/ipv4.h"
#include "stack/wire/ipv6.h"

namespace ustcp {
namespace {

// RFC 792: an error quotes at least this much behind the IP header.
constexpr size_t kQuotedTransportBytes = 8;

void ReadTransport(ConstBytes transport, QuotedPacket& q) {
  q.transport = transport;
  q.source_port = LoadBe16(transport.data());
  q.destination_port = LoadBe16(transport.data() + 2);
  q.seq = Seq(LoadBe32(transport.data() + 4));
}

}  // namespace

std::optional<QuotedPacket> ParseQuotedIpv4(ConstBytes packet) noexcept {
  if (packet.size() < kIpv4HeaderBytes) return std::nullopt;
  const std::byte* p = packet.data();
  const size_t header = (Load8(p) & 0x0fu) * 4u;
  if (Load8(p) >> 4 != 4 || header < kIpv4HeaderBytes || packet.size() < header + kQuotedTransportBytes) {
    return std::nullopt;
  }
  if ((LoadBe16(p + 6) & 0x1fff) != 0) return std::nullopt;
  QuotedPacket q;
  q.source = IpAddress::FromV4Bytes(p + 12);
  q.destination = IpAddress::FromV4Bytes(p + 16);
  q.protocol = Load8(p + 9);
  ReadTransport(packet.subspan(header), q);
  return q;
}

std::optional<QuotedPacket> ParseQuotedIpv6(ConstBytes packet) noexcept {
  if (packet.size() < kIpv6HeaderBytes || Load8(packet.data()) >> 4 != 6) return std::nullopt;
  const std::byte* p = packet.data();
  auto chain = WalkIpv6Extensions(packet, Load8(p + 6), kIpv6HeaderBytes, 6);
  if (chain && chain->fragment) {
    if (chain->fragment->offset != 0) return std::nullopt;
    chain = WalkIpv6Extensions(packet, chain->fragment->next_header, chain->offset, chain->next_header_field);
  }
  if (!chain || chain->fragment || packet.size() - chain->offset < kQuotedTransportBytes) return std::nullopt;
  QuotedPacket q;
  q.source = IpAddress::FromV6Bytes(p + 8);
  q.destination = IpAddress::FromV6Bytes(p + 24);
  if (q.source.is_v4() || q.destination.is_v4()) return std::nullopt;
  q.protocol = chain->protocol;
  ReadTransport(packet.subspan(chain->offset), q);
  return q;
}

size_t WriteIcmpEchoReply(std::byte* out, const IcmpView& request) noexcept {
  const ConstBytes from = request.bytes();
  const uint16_t checksum = LoadBe16(from.data() + 2);
  std::memmove(out, from.data(), from.size());
  Store8(out, kIcmpEchoReply);
  // Only the type changed, so the reply of a request with a wrong checksum is wrong as well, as it should be.
  const uint16_t word = LoadBe16(out);
  StoreBe16(out + 2, UpdateChecksum(checksum, static_cast<uint16_t>(word | kIcmpEchoRequest << 8), word));
  return from.size();
}

size_t WriteIcmpError(std::byte* out, size_t limit, uint8_t type, uint8_t code, uint32_t rest,
                      ConstBytes packet) noexcept {
  const size_t quoted = std::min(packet.size(), limit - kIcmpHeaderBytes);
  Store8(out, type);
  Store8(out + 1, code);
  StoreBe16(out + 2, 0);
  StoreBe32(out + 4, rest);
  std::memcpy(out + kIcmpHeaderBytes, packet.data(), quoted);
  const size_t size = kIcmpHeaderBytes + quoted;
  StoreBe16(out + 2, ComputeChecksum({out, size}));
  return size;
}

}  // namespace ustcp
