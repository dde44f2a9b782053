// Any bytes as an ICMP and as an ICMPv6 message: errors with the packets they quote, echo, neighbour discovery. The
// first byte is the hop limit.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "stack/base/check.h"
#include "stack/wire/icmp.h"
#include "stack/wire/icmpv6.h"
#include "stack/wire/ndisc.h"
#include "tests/fuzz/wire_fuzz_util.h"

namespace ustcp {
namespace {

constexpr IpAddress kSource{{0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};

void CheckIcmp(ConstBytes message) {
  const auto icmp = IcmpView::Parse(message, ChecksumTrust::kVouched);
  if (!icmp) return;
  if (const auto quoted = icmp->quoted()) {
    USTCP_CHECK(IsWithin(quoted->transport, message) && quoted->transport.size() >= 8);
    USTCP_CHECK(quoted->source.is_v4() && quoted->destination.is_v4());
    Touch(quoted->transport);
  }
  std::vector<std::byte> out(message.size());
  if (IcmpView::Parse(message) && icmp->type() == kIcmpEchoRequest) {
    WriteIcmpEchoReply(out.data(), *icmp);
    USTCP_CHECK(IcmpView::Parse(out).has_value());
  }
  out.resize(kMaxIcmpErrorBytes);
  const size_t size = WriteIcmpError(out.data(), out.size(), kIcmpUnreachable, 3, 0, message);
  USTCP_CHECK(size <= out.size() && IcmpView::Parse(ConstBytes(out).first(size)));
}

void CheckIcmpv6(ConstBytes message, uint8_t hop_limit) {
  const auto icmp = Icmpv6View::Parse(message, kSource, kAllNodes, ChecksumTrust::kVouched);
  if (!icmp) return;
  if (const auto quoted = icmp->quoted()) {
    USTCP_CHECK(IsWithin(quoted->transport, message) && quoted->transport.size() >= 8);
    USTCP_CHECK(!quoted->source.is_v4() && !quoted->destination.is_v4());
    Touch(quoted->transport);
  }
  for (const IpAddress& source : {kSource, IpAddress::AnyV6()}) {
    const auto neighbor = NeighborView::Parse(*icmp, hop_limit, source, kAllNodes);
    if (!neighbor) continue;
    USTCP_CHECK(hop_limit == kNeighborHopLimit && IsNeighborDiscovery(neighbor->type()));
    USTCP_CHECK(neighbor->options().prefix_count <= NeighborOptions::kMaxPrefixes);
    for (size_t i = 0; i < neighbor->options().prefix_count; ++i) {
      USTCP_CHECK(neighbor->options().prefixes[i].prefix.length <= 128);
    }
  }
  std::vector<std::byte> out(message.size());
  WriteIcmpv6EchoReply(out.data(), *icmp, kSource, kAllNodes);
  USTCP_CHECK(Icmpv6View::Parse(out, kSource, kAllNodes).has_value());
}

}  // namespace
}  // namespace ustcp

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ustcp;
  if (size == 0) return 0;
  const ConstBytes message(reinterpret_cast<const std::byte*>(data + 1), size - 1);
  CheckIcmp(message);
  CheckIcmpv6(message, data[0]);
  return 0;
}
