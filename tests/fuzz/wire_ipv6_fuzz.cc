// Any bytes as an IPv6 packet: the fixed header and the walk over extension headers, which must end within the packet
// and either go on or name a reason.
#include <cstddef>
#include <cstdint>

#include "stack/base/check.h"
#include "stack/wire/ipv6.h"
#include "tests/fuzz/wire_fuzz_util.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ustcp;
  const ConstBytes packet(reinterpret_cast<const std::byte*>(data), size);
  Ipv6Fault fault;
  const auto ip = Ipv6View::Parse(packet, &fault);
  USTCP_CHECK(ip.has_value() == (fault.reason == DropReason::kNone));
  if (!ip) {
    // A parameter problem points into the packet.
    USTCP_CHECK(!fault.answer || fault.pointer < size);
    return 0;
  }
  USTCP_CHECK(IsWithin(ip->bytes(), packet) && IsWithin(ip->payload(), ip->bytes()));
  USTCP_CHECK(ip->header_bytes() + ip->payload().size() == ip->total_bytes());
  USTCP_CHECK(!ip->source().is_v4() && !ip->destination().is_v4());
  USTCP_CHECK(ip->is_fragment() == (ip->protocol() == kIpv6Fragment));
  USTCP_CHECK(ip->chain().next_header_field < ip->header_bytes());
  Touch(ip->payload());
  if (!ip->is_fragment()) return 0;
  USTCP_CHECK(ip->fragment().offset % 8 == 0 && ip->fragment().offset < 65536);
  const auto behind = WalkIpv6Extensions(ip->bytes(), ip->fragment().next_header, ip->chain().offset,
                                         ip->chain().next_header_field, &fault);
  USTCP_CHECK(behind.has_value() == (fault.reason == DropReason::kNone));
  if (behind) USTCP_CHECK(behind->offset >= ip->chain().offset && behind->offset <= ip->total_bytes());
  return 0;
}
