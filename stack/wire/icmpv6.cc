#include "stack/wire/icmpv6.h"

#include <algorithm>
#include <cstring>

namespace ustcp {

size_t WriteIcmpv6EchoReply(std::byte* out, const Icmpv6View& request, const IpAddress& source,
                            const IpAddress& destination) noexcept {
  const size_t size = request.bytes().size();
  std::memmove(out, request.bytes().data(), size);
  Store8(out, kIcmpv6EchoReply);
  // Summed afresh: a request to a multicast group is answered from another address, so more than the type may differ.
  FillTransportChecksum(source, destination, kProtocolIcmpv6, {out, size}, 2);
  return size;
}

size_t WriteIcmpv6Error(std::byte* out, size_t limit, uint8_t type, uint8_t code, uint32_t rest, ConstBytes packet,
                        const IpAddress& source, const IpAddress& destination) noexcept {
  const size_t quoted = std::min(packet.size(), limit - kIcmpv6HeaderBytes);
  Store8(out, type);
  Store8(out + 1, code);
  StoreBe32(out + 4, rest);
  std::memcpy(out + kIcmpv6HeaderBytes, packet.data(), quoted);
  const size_t size = kIcmpv6HeaderBytes + quoted;
  FillTransportChecksum(source, destination, kProtocolIcmpv6, {out, size}, 2);
  return size;
}

}  // namespace ustcp
