// Any bytes as a received frame: Ethernet, then ARP or IPv4. Every accessor is used, and what the view says must lie
// within the input.
#include <cstddef>
#include <cstdint>

#include "stack/base/check.h"
#include "stack/wire/arp.h"
#include "stack/wire/ethernet.h"
#include "stack/wire/ipv4.h"
#include "tests/fuzz/wire_fuzz_util.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ustcp;
  const ConstBytes frame(reinterpret_cast<const std::byte*>(data), size);
  const auto ethernet = EthernetView::Parse(frame);
  if (!ethernet) return 0;
  USTCP_CHECK(IsWithin(ethernet->payload(), frame));
  if (const auto arp = ArpView::Parse(ethernet->payload())) {
    std::byte out[kArpBytes];
    WriteArp(out, {arp->operation(), arp->sender_mac(), arp->sender(), arp->target_mac(), arp->target()});
    USTCP_CHECK(ArpView::Parse(out)->sender() == arp->sender());
  }
  for (const ChecksumTrust trust : {ChecksumTrust::kVerify, ChecksumTrust::kVouched}) {
    DropReason why = DropReason::kNone;
    const auto ip = Ipv4View::Parse(ethernet->payload(), trust, &why);
    USTCP_CHECK(ip.has_value() == (why == DropReason::kNone));
    if (!ip) continue;
    USTCP_CHECK(IsWithin(ip->bytes(), frame) && IsWithin(ip->payload(), ip->bytes()));
    USTCP_CHECK(IsWithin(ip->header(), ip->bytes()) && IsWithin(ip->options(), ip->header()));
    USTCP_CHECK(ip->payload().size() + ip->header_bytes() == ip->total_bytes());
    USTCP_CHECK(ip->source().is_v4() && ip->destination().is_v4());
    USTCP_CHECK(ip->is_fragment() == (ip->more_fragments() || ip->fragment_offset() != 0));
    if (ip->header_bytes() == kIpv4HeaderBytes) USTCP_CHECK(!ip->has_source_route());
    Touch(ip->payload());
  }
  return 0;
}
