#include "stack/net/reassembly.h"

#include <algorithm>
#include <cstring>

#include "stack/host/host.h"
#include "stack/net/frames.h"
#include "stack/net/icmp_output.h"
#include "stack/net/ip_input.h"
#include "stack/wire/ethernet.h"
#include "stack/wire/icmpv6.h"
#include "stack/wire/ipv4.h"
#include "stack/wire/ipv6.h"
#include "stack/wire/tcp.h"

namespace ustcp {
namespace {

// RFC 8200 4.5; Linux's ip6frag_time. IPv4's time is a sysctl.
constexpr Duration kIpv6Lifetime = 60s;
constexpr uint32_t kMaxIpBytes = 65535;
constexpr uint8_t kEcnMask = 3;
constexpr uint8_t kEcnCe = 3;

static_assert(Datagram::kPayloadOffset >= kFrameOffset + kEthernetHeaderBytes + kIpv6HeaderBytes);
static_assert(Datagram::kPayloadOffset + 65535 <= kBufBytes[static_cast<size_t>(BufClass::kFrame)] - sizeof(Buf));

Counter ReasmFails(bool v4) { return v4 ? Counter::kIpReasmFails : Counter::kIp6ReasmFails; }

void Free(Context& ctx, Datagram& d) {
  if (d.buffer != nullptr) ctx.shard.bufs.Give(d.buffer);
  d.buffer = nullptr;
  d.used = false;
  --ctx.shard.reassembly.used_count;
}

void Discard(Context& ctx, Datagram& d) {
  ctx.counters().Add(ReasmFails(d.source.is_v4()));
  Free(ctx, d);
}

bool Matches(const Datagram& d, const IpPacket& p, const FragmentInfo& f) {
  return d.used && d.id == f.id && d.source == p.source && d.destination == p.destination &&
         (!p.v4() || d.protocol == p.protocol);
}

Datagram* Find(Context& ctx, const IpPacket& packet, const FragmentInfo& f) {
  for (Datagram& d : ctx.shard.reassembly.datagrams)
    if (Matches(d, packet, f)) return &d;
  return nullptr;
}

// A fresh datagram; the oldest one makes room when there is none.
Datagram* Start(Context& ctx, const IpPacket& packet, const FragmentInfo& f) {
  Datagram* place = nullptr;
  for (Datagram& d : ctx.shard.reassembly.datagrams) {
    if (!d.used) {
      place = &d;
      break;
    }
    if (place == nullptr || d.deadline < place->deadline) place = &d;
  }
  if (place->used) Discard(ctx, *place);
  Buf* buffer = ctx.shard.bufs.Take(BufClass::kFrame);
  if (buffer == nullptr) return nullptr;
  const Duration lifetime =
      packet.v4() ? Duration(std::chrono::seconds(ctx.sysctls().ipfrag_time)) : Duration(kIpv6Lifetime);
  *place = Datagram{.used = true,
                    .last_seen = false,
                    .source = packet.source,
                    .destination = packet.destination,
                    .id = f.id,
                    .protocol = packet.protocol,
                    .tos = packet.tos,
                    .ttl = packet.ttl,
                    .ecn_seen = 0,
                    .local = packet.link.local,
                    .to_us = true,
                    .dont_fragment = false,
                    .range_count = 0,
                    .total = 0,
                    .buffer = buffer,
                    .deadline = ctx.now + lifetime,
                    .ranges = {}};
  ++ctx.shard.reassembly.used_count;
  return place;
}

enum class Insertion : uint8_t { kAdded, kDuplicate, kOverlap, kTooMany };

// Adds [begin, end) to the ranges and joins those it touches.
Insertion InsertRange(Datagram& d, uint16_t begin, uint16_t end) {
  int at = 0;
  while (at < d.range_count && d.ranges[at].end < begin) ++at;
  // ranges[at] is the first that ends at or behind `begin`.
  bool joins_left = at < d.range_count && d.ranges[at].end == begin;
  const int next = joins_left ? at + 1 : at;
  if (next < d.range_count && d.ranges[next].begin < end) {
    const bool within = d.ranges[next].begin <= begin && end <= d.ranges[next].end;
    return within ? Insertion::kDuplicate : Insertion::kOverlap;
  }
  const bool joins_right = next < d.range_count && d.ranges[next].begin == end;
  if (joins_left && joins_right) {
    d.ranges[at].end = d.ranges[next].end;
    std::copy(d.ranges + next + 1, d.ranges + d.range_count, d.ranges + next);
    --d.range_count;
  } else if (joins_left) {
    d.ranges[at].end = end;
  } else if (joins_right) {
    d.ranges[next].begin = begin;
  } else {
    if (d.range_count == Datagram::kMaxRanges) return Insertion::kTooMany;
    std::copy_backward(d.ranges + at, d.ranges + d.range_count, d.ranges + d.range_count + 1);
    d.ranges[at] = {begin, end};
    ++d.range_count;
  }
  return Insertion::kAdded;
}

// RFC 3168 5.3: a mark on one fragment is a mark on the packet; marked and unmarkable fragments cannot belong together.
// Returns false for such a mixture.
bool CombineEcn(const Datagram& d, uint8_t& tos) {
  const bool not_capable = (d.ecn_seen & 1) != 0;
  const bool capable = (d.ecn_seen & 0b0110) != 0;
  const bool marked = (d.ecn_seen & 0b1000) != 0;
  if (not_capable && marked) return false;
  tos = d.tos;
  if (marked) {
    tos |= kEcnCe;
  } else if (not_capable && capable) {
    tos = static_cast<uint8_t>(tos & ~kEcnMask);
  }
  return true;
}

// Puts headers in front of the payload: of the whole packet, or for `first_bytes` not 0 of its first fragment.
// The buffer then is a frame.
void MakeFrame(Context& ctx, Datagram& d, uint8_t tos, uint16_t first_bytes) {
  Buf* b = d.buffer;
  const bool v4 = d.source.is_v4();
  const size_t ip_bytes = v4 ? kIpv4HeaderBytes : kIpv6HeaderBytes;
  const uint16_t payload = first_bytes != 0 ? first_bytes : d.total;
  b->offset = static_cast<uint32_t>(Datagram::kPayloadOffset - ip_bytes - kEthernetHeaderBytes);
  b->length = static_cast<uint32_t>(kEthernetHeaderBytes + ip_bytes + payload);
  b->flags = d.local ? kBufLocal : uint8_t{0};
  const MacAddress& own = ctx.host.config.device.mac;
  WriteEthernet(b->begin(), d.to_us ? own : kBroadcastMac, own, v4 ? kEthertypeIpv4 : kEthertypeIpv6);
  std::byte* ip = b->begin() + kEthernetHeaderBytes;
  if (v4) {
    WriteIpv4(ip, {.source = d.source,
                   .destination = d.destination,
                   .protocol = d.protocol,
                   .tos = tos,
                   .ttl = d.ttl,
                   .id = static_cast<uint16_t>(d.id),
                   .dont_fragment = d.dont_fragment,
                   .payload_bytes = payload});
    if (first_bytes != 0) MakeIpv4Fragment(ip, 0, payload, true);
  } else {
    WriteIpv6(ip, {.source = d.source,
                   .destination = d.destination,
                   .protocol = d.protocol,
                   .traffic_class = tos,
                   .hop_limit = d.ttl,
                   .payload_bytes = payload});
  }
}

// Hands the whole packet up: here, or where its connection lives.
DropReason Complete(Context& ctx, Datagram& d) {
  const bool v4 = d.source.is_v4();
  uint8_t tos = 0;
  if (!CombineEcn(d, tos)) {
    Discard(ctx, d);
    return DropReason::kFragmentHeader;
  }
  MakeFrame(ctx, d, tos, 0);
  Buf* b = d.buffer;
  d.buffer = nullptr;
  const LinkInfo link{.to_us = d.to_us, .local = d.local, .reassembled = true};
  Free(ctx, d);
  ctx.counters().Add(v4 ? Counter::kIpReasmOKs : Counter::kIp6ReasmOKs);

  if (Shard& owner = ShardForFrame(ctx, b->bytes()); &owner != &ctx.shard) {
    const VirtioNetHeader none;
    std::memcpy(b->begin() - sizeof none, &none, sizeof none);
    HandToShard(ctx, owner, b);
    return DropReason::kNone;
  }
  RxFrame frame{.vnet = {}, .bytes = b->bytes(), .buffer = b};
  const Bytes packet = frame.bytes.subspan(kEthernetHeaderBytes);
  const DropReason reason = v4 ? Ipv4Input(ctx, frame, packet, link) : Ipv6Input(ctx, frame, packet, link);
  if (frame.buffer != nullptr) ctx.shard.bufs.Give(frame.buffer);
  return reason;
}

// RFC 7112: the first fragment of an IPv6 packet holds all headers, the beginning of the transport header included.
bool HoldsHeaders(const IpPacket& packet, const FragmentInfo& f) {
  const auto chain = WalkIpv6Extensions(packet.transport, f.next_header, 0, 0);
  // A chain that is broken within what came is judged once the packet is whole.
  if (!chain) return true;
  const size_t rest = packet.transport.size() - chain->offset;
  switch (chain->protocol) {
    case kProtocolTcp: return rest >= kTcpHeaderBytes;
    case kProtocolIcmpv6: return rest >= kIcmpv6HeaderBytes;
    default: return true;
  }
}

// A fragment that is the whole packet (RFC 6946): neither waits for others nor mixes with them.
DropReason DeliverAtomic(Context& ctx, const IpPacket& packet, const FragmentInfo& f) {
  // Walked from the IPv6 header on, so that what it says about positions fits the packet.
  const auto offset = static_cast<uint32_t>(packet.ip.size() - packet.transport.size());
  Ipv6Fault fault;
  const auto chain = WalkIpv6Extensions(packet.ip, f.next_header, offset, packet.protocol_field, &fault);
  if (!chain || chain->fragment) {
    ctx.counters().Add(Counter::kIp6InHdrErrors);
    return chain ? DropReason::kFragmentHeader : fault.reason;
  }
  IpPacket whole = packet;
  whole.transport = packet.ip.subspan(chain->offset);
  whole.protocol = chain->protocol;
  whole.protocol_field = chain->next_header_field;
  whole.trust = ChecksumTrust::kVerify;
  ctx.counters().Add(Counter::kIp6ReasmOKs);
  return DeliverPacket(ctx, whole);
}

// Rules that concern the fragment alone. Returns kNone or why it is dropped.
DropReason CheckFragment(Context& ctx, const IpPacket& packet, const FragmentInfo& f, size_t bytes) {
  const bool v4 = packet.v4();
  if (!v4) {
    constexpr uint32_t kPayloadLengthField = 4;
    if (f.more && packet.transport.size() % 8 != 0) {
      ctx.counters().Add(Counter::kIp6InHdrErrors);
      SendIcmpError(ctx, packet, kIcmpv6ParameterProblem, 0, kPayloadLengthField);
      return DropReason::kFragmentHeader;
    }
    const auto fragment_header = static_cast<uint32_t>(packet.ip.size() - packet.transport.size()) - 8;
    if (f.offset + bytes > kMaxIpBytes) {
      ctx.counters().Add(Counter::kIp6InHdrErrors);
      SendIcmpError(ctx, packet, kIcmpv6ParameterProblem, 0, fragment_header + 2);
      return DropReason::kFragmentHeader;
    }
    if (f.offset == 0 && !HoldsHeaders(packet, f)) {
      ctx.counters().Add(Counter::kIp6InHdrErrors);
      // Code 3: the chain of headers does not end in the first fragment.
      SendIcmpError(ctx, packet, kIcmpv6ParameterProblem, 3, 0);
      return DropReason::kFragmentHeader;
    }
  }
  const uint32_t limit = v4 ? kMaxIpBytes - static_cast<uint32_t>(kIpv4HeaderBytes) : kMaxIpBytes;
  if (bytes == 0 || f.offset + bytes > limit) return DropReason::kFragmentHeader;
  return DropReason::kNone;
}

}  // namespace

DropReason FragmentInput(Context& ctx, const IpPacket& packet, const FragmentInfo& f) noexcept {
  const bool v4 = packet.v4();
  ctx.counters().Add(v4 ? Counter::kIpReasmReqds : Counter::kIp6ReasmReqds);
  if (!v4 && f.offset == 0 && !f.more) return DeliverAtomic(ctx, packet, f);
  // Only the last fragment may have a length that is not a multiple of eight; IPv4 forgives what is too much.
  size_t bytes = packet.transport.size();
  if (v4 && f.more) bytes &= ~size_t{7};
  const DropReason fault = CheckFragment(ctx, packet, f, bytes);
  Datagram* d = Find(ctx, packet, f);
  if (fault != DropReason::kNone) {
    if (d != nullptr && v4) {
      Discard(ctx, *d);
    } else {
      ctx.counters().Add(ReasmFails(v4));
    }
    return fault;
  }
  const auto begin = static_cast<uint16_t>(f.offset);
  const auto end = static_cast<uint16_t>(f.offset + bytes);

  if (d == nullptr) d = Start(ctx, packet, f);
  if (d == nullptr) {
    ctx.counters().Add(ReasmFails(v4));
    return DropReason::kNoBuffers;
  }
  // The end is where the last fragment says, once and for all.
  if (f.more ? d->last_seen && end > d->total : end < d->total || (d->last_seen && end != d->total)) {
    Discard(ctx, *d);
    return DropReason::kFragmentHeader;
  }
  switch (InsertRange(*d, begin, end)) {
    case Insertion::kDuplicate: return DropReason::kFragmentOverlap;
    case Insertion::kOverlap: Discard(ctx, *d); return DropReason::kFragmentOverlap;
    case Insertion::kTooMany: Discard(ctx, *d); return DropReason::kFragmentLimit;
    case Insertion::kAdded: break;
  }
  d->last_seen |= !f.more;
  d->total = std::max(d->total, end);
  d->ecn_seen = static_cast<uint8_t>(d->ecn_seen | 1u << (packet.tos & kEcnMask));
  d->to_us &= packet.link.to_us;
  d->local &= packet.link.local;
  if (begin == 0) {
    d->tos = packet.tos;
    d->ttl = packet.ttl;
    d->dont_fragment = f.dont_fragment;
    if (!v4) d->protocol = f.next_header;
  }
  std::memcpy(d->buffer->data() + Datagram::kPayloadOffset + begin, packet.transport.data(), bytes);
  const bool whole = d->last_seen && d->range_count == 1 && d->ranges[0].begin == 0 && d->ranges[0].end == d->total;
  return whole ? Complete(ctx, *d) : DropReason::kNone;
}

Instant ReassemblyDeadline(const Reassembly& reassembly) noexcept {
  Instant earliest = kNever;
  if (reassembly.used_count == 0) return earliest;
  for (const Datagram& d : reassembly.datagrams)
    if (d.used) earliest = std::min(earliest, d.deadline);
  return earliest;
}

void ExpireDatagrams(Context& ctx) noexcept {
  if (ctx.shard.reassembly.used_count == 0) return;
  for (Datagram& d : ctx.shard.reassembly.datagrams) {
    if (!d.used || d.deadline > ctx.now) continue;
    const bool v4 = d.source.is_v4();
    ctx.counters().Add(v4 ? Counter::kIpReasmTimeout : Counter::kIp6ReasmTimeout);
    if (d.range_count > 0 && d.ranges[0].begin == 0) {
      // IPv6's first fragment is quoted without its fragment header, which is not kept.
      MakeFrame(ctx, d, d.tos, d.ranges[0].end);
      IpPacket packet;
      packet.source = d.source;
      packet.destination = d.destination;
      packet.ip = d.buffer->bytes().subspan(kEthernetHeaderBytes);
      packet.transport = packet.ip.subspan(v4 ? kIpv4HeaderBytes : kIpv6HeaderBytes);
      packet.protocol = d.protocol;
      packet.tos = d.tos;
      packet.link = {.to_us = d.to_us, .local = d.local, .reassembled = true};
      SendIcmpError(ctx, packet, v4 ? kIcmpTimeExceeded : kIcmpv6TimeExceeded, 1, 0);
    }
    Discard(ctx, d);
  }
}

}  // namespace ustcp
