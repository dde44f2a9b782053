#include "stack/net/arp.h"

#include "stack/host/host.h"
#include "stack/net/frames.h"
#include "stack/net/ip.h"
#include "stack/net/route.h"
#include "stack/wire/arp.h"
#include "stack/wire/ethernet.h"

namespace ustcp {
namespace {

// Shorter frames are padded by real devices; a TAP delivers what we write, and so do other stacks on it.
constexpr size_t kArpFrameBytes = kEthernetHeaderBytes + kArpBytes;

void SendArp(Context& ctx, const MacAddress& to, const ArpPacket& packet) {
  Buf* frame = NewFrame(ctx, kArpFrameBytes);
  if (frame == nullptr) return;
  WriteEthernet(frame->begin(), to, ctx.host.config.device.mac, kEthertypeArp);
  WriteArp(frame->begin() + kEthernetHeaderBytes, packet);
  QueueFrame(ctx, frame);
}

}  // namespace

DropReason ArpInput(Context& ctx, ConstBytes packet, bool to_us) noexcept {
  const Host& host = ctx.host;
  const auto arp = ArpView::Parse(packet);
  if (!arp) return DropReason::kArpHeader;
  const IpAddress sender = arp->sender();
  const IpAddress target = arp->target();
  if (target.is_loopback() || target.is_multicast() || IsLocalAddress(host, sender)) return DropReason::kArpNotForUs;
  const bool ours = IsLocalAddress(host, target);
  const bool request = arp->operation() == ArpOperation::kRequest;

  if (request && ours) {
    // A probe without a sender (RFC 5227) is answered, but there is nobody to remember.
    if (!sender.is_any()) {
      OnNeighborNews(ctx, {.address = sender, .mac = arp->sender_mac(), .create = true, .override_mac = true});
    }
    SendArp(ctx, arp->sender_mac(),
            {.operation = ArpOperation::kReply,
             .sender_mac = host.config.device.mac,
             .sender = target,
             .target_mac = arp->sender_mac(),
             .target = sender});
    return DropReason::kNone;
  }
  if (sender.is_any()) return DropReason::kArpNotForUs;
  // Only a reply sent to us alone proves that the sender hears us. Several replies to one question: the first one wins
  // for a second, as in Linux (locktime), unless it is an announcement.
  OnNeighborNews(ctx, {.address = sender,
                       .mac = arp->sender_mac(),
                       .reachable = !request && to_us,
                       .override_mac = arp->is_gratuitous(),
                       .override_when_old = true});
  return ours ? DropReason::kNone : DropReason::kArpNotForUs;
}

void SendArpRequest(Context& ctx, const IpAddress& target, const IpAddress& source_hint,
                    const std::optional<MacAddress>& unicast) noexcept {
  IpAddress source = source_hint;
  if (source.is_any() || source.is_loopback() || !IsLocalAddress(ctx.host, source)) {
    if (!ChooseSource(ctx.host, target, source)) return;
  }
  SendArp(ctx, unicast.value_or(kBroadcastMac),
          {.operation = ArpOperation::kRequest,
           .sender_mac = ctx.host.config.device.mac,
           .sender = source,
           .target_mac = unicast.value_or(MacAddress{}),
           .target = target});
}

void AnnounceIpv4(Context& ctx) noexcept {
  for (int i = 0; i < ctx.host.config.address_count; ++i) {
    const IpAddress& own = ctx.host.config.addresses[i].address;
    if (!own.is_v4() || own.is_loopback()) continue;
    SendArp(ctx, kBroadcastMac,
            {.operation = ArpOperation::kRequest,
             .sender_mac = ctx.host.config.device.mac,
             .sender = own,
             .target_mac = {},
             .target = own});
  }
}

}  // namespace ustcp
