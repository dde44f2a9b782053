#include "stack/net/ip_output.h"

#include <algorithm>
#include <cstring>

#include "stack/host/host.h"
#include "stack/net/frames.h"
#include "stack/wire/checksum.h"
#include "stack/wire/ethernet.h"
#include "stack/wire/ipv4.h"
#include "stack/wire/ipv6.h"
#include "stack/wire/tcp.h"

namespace ustcp {
namespace {

size_t IpHeaderBytes(bool v4) { return v4 ? kIpv4HeaderBytes : kIpv6HeaderBytes; }

// An IPv4 packet that is not to be fragmented needs no identification (RFC 6864 4.1). Others get a random one: shards
// share no counter, and a guessable one would help to forge fragments (RFC 7739).
uint16_t Ipv4Id(Context& ctx, bool dont_fragment) {
  return dont_fragment ? uint16_t{0} : static_cast<uint16_t>(ctx.Random());
}

void WriteLinkHeader(const Host& host, std::byte* out, bool v4) {
  // The destination is written once the neighbour is known; frames inside the host keep our own.
  const MacAddress& own = host.config.device.mac;
  WriteEthernet(out, own, own, v4 ? kEthertypeIpv4 : kEthertypeIpv6);
}

// Computes or prepares the checksum and fills in the virtio header. Frames inside the host get the treatment of a
// device that does everything.
void Offload(const Host& host, const Path& path, TxFrame& frame, const IpAddress& source, const IpAddress& destination,
             size_t transport_offset, uint16_t gso_size) {
  std::byte* tcp = frame.headers.data() + transport_offset;
  const auto transport_bytes = static_cast<uint32_t>(frame.header_bytes - transport_offset + frame.payload_bytes);
  if (!path.local && !host.config.device.checksum_offload) {
    StoreBe16(tcp + kTcpChecksumOffset, 0);
    InternetSum sum = PseudoHeaderSum(source, destination, kProtocolTcp, transport_bytes);
    sum.Add({tcp, frame.header_bytes - transport_offset});
    for (int i = 0; i < frame.piece_count; ++i) {
      sum.Add({static_cast<const std::byte*>(frame.pieces[i].iov_base), frame.pieces[i].iov_len});
    }
    StoreBe16(tcp + kTcpChecksumOffset, sum.Complement());
    return;
  }
  StoreBe16(tcp + kTcpChecksumOffset, PartialChecksum(source, destination, kProtocolTcp, transport_bytes));
  VirtioNetHeader& v = frame.vnet;
  v.flags = VirtioNetHeader::kNeedsChecksum;
  v.checksum_start = static_cast<uint16_t>(transport_offset);
  v.checksum_offset = kTcpChecksumOffset;
  if (gso_size == 0) return;
  v.gso_type = source.is_v4() ? VirtioNetHeader::kGsoTcpV4 : VirtioNetHeader::kGsoTcpV6;
  // CWR belongs on the first of the cut segments only.
  if ((Load8(tcp + 13) & kTcpCwr.bits) != 0) v.gso_type |= VirtioNetHeader::kGsoEcn;
  v.gso_size = gso_size;
  v.header_length = frame.header_bytes;
}

// The fragments of `transport`, or the whole of it: the payload of each, a multiple of eight but for the last one.
size_t FragmentBytes(const Path& path, bool v4, size_t transport_bytes) {
  const size_t room = path.mtu - IpHeaderBytes(v4);
  if (transport_bytes <= room) return transport_bytes;
  return (v4 ? room : room - kIpv6FragmentHeaderBytes) / 8 * 8;
}

struct Piece {
  size_t offset;
  size_t bytes;
  size_t total;
  uint32_t id;
  bool whole() const { return bytes == total; }
  bool more() const { return offset + bytes < total; }
};

void WritePiece(std::byte* out, const IpAddress& source, const IpAddress& destination, uint8_t protocol,
                const IpFields& ip, const Piece& piece, ConstBytes transport) {
  std::byte* body = out;
  if (source.is_v4()) {
    body += WriteIpv4(out, {.source = source,
                            .destination = destination,
                            .protocol = protocol,
                            .tos = ip.tos,
                            .ttl = ip.ttl,
                            .id = static_cast<uint16_t>(piece.id),
                            .dont_fragment = ip.dont_fragment && piece.whole(),
                            .payload_bytes = static_cast<uint16_t>(piece.bytes)});
    if (!piece.whole()) {
      MakeIpv4Fragment(out, static_cast<uint32_t>(piece.offset), static_cast<uint16_t>(piece.bytes), piece.more());
    }
  } else {
    const size_t extra = piece.whole() ? 0 : kIpv6FragmentHeaderBytes;
    body += WriteIpv6(out, {.source = source,
                            .destination = destination,
                            .protocol = piece.whole() ? protocol : kIpv6Fragment,
                            .traffic_class = ip.tos,
                            .hop_limit = ip.ttl,
                            .payload_bytes = static_cast<uint16_t>(piece.bytes + extra)});
    if (!piece.whole()) {
      Store8(body, protocol);
      Store8(body + 1, 0);
      StoreBe16(body + 2, static_cast<uint16_t>(piece.offset | (piece.more() ? 1u : 0u)));
      StoreBe32(body + 4, piece.id);
      body += kIpv6FragmentHeaderBytes;
    }
  }
  std::memcpy(body, transport.data() + piece.offset, piece.bytes);
}

}  // namespace

std::byte* BeginFrame(Context& ctx, const Path& path, TxFrame& frame, const IpAddress& source,
                      const IpAddress& destination, uint8_t protocol, const IpFields& ip, size_t transport_header_bytes,
                      size_t payload_bytes) noexcept {
  (void)path;
  const bool v4 = source.is_v4();
  frame.vnet = {};
  frame.piece_count = 0;
  frame.payload_bytes = static_cast<uint32_t>(payload_bytes);
  frame.owned = nullptr;
  std::byte* out = frame.headers.data();
  WriteLinkHeader(ctx.host, out, v4);
  out += kEthernetHeaderBytes;
  const auto ip_payload = static_cast<uint16_t>(transport_header_bytes + payload_bytes);
  if (v4) {
    out += WriteIpv4(out, {.source = source,
                           .destination = destination,
                           .protocol = protocol,
                           .tos = ip.tos,
                           .ttl = ip.ttl,
                           .id = Ipv4Id(ctx, ip.dont_fragment),
                           .dont_fragment = ip.dont_fragment,
                           .payload_bytes = ip_payload});
  } else {
    out += WriteIpv6(out, {.source = source,
                           .destination = destination,
                           .protocol = protocol,
                           .traffic_class = ip.tos,
                           .hop_limit = ip.ttl,
                           .payload_bytes = ip_payload});
  }
  frame.header_bytes = static_cast<uint16_t>(out - frame.headers.data() + transport_header_bytes);
  return out;
}

FrameFate FinishTcpFrame(Context& ctx, const Path& path, TxFrame& frame, const IpAddress& source,
                         const IpAddress& destination, uint16_t gso_size) noexcept {
  const bool v4 = source.is_v4();
  Offload(ctx.host, path, frame, source, destination, kEthernetHeaderBytes + IpHeaderBytes(v4), gso_size);
  Counters& counters = ctx.counters();
  counters.Add(v4 ? Counter::kIpOutRequests : Counter::kIp6OutRequests);

  Path found;
  const Path* way = &path;
  if (!path.local) {
    if (const auto mac = NeighborMac(ctx, path)) {
      std::memcpy(frame.headers.data(), mac->data(), mac->size());
      return FrameFate::kReady;
    }
    // Either the address is not known yet, or the entry was given to another neighbour: look for the way again.
    if (!FindPath(ctx, source, destination, found)) return FrameFate::kDropped;
    way = &found;
  }
  Buf* copy = CopyFrame(ctx, frame);
  if (copy == nullptr) {
    counters.Add(Counter::kIpOutDiscards);
    return FrameFate::kDropped;
  }
  return SendAlong(ctx, *way, copy);
}

FrameFate SendAlong(Context& ctx, const Path& path, Buf* frame) noexcept {
  if (path.local) {
    DeliverLocal(ctx, frame);
    return FrameFate::kTaken;
  }
  if (const auto mac = NeighborMac(ctx, path)) {
    SetDestination(frame, *mac);
    QueueFrame(ctx, frame);
    return FrameFate::kTaken;
  }
  return WaitForNeighbor(ctx, path, frame) ? FrameFate::kTaken : FrameFate::kDropped;
}

bool SendPacket(Context& ctx, const IpAddress& source, const IpAddress& destination, uint8_t protocol,
                const IpFields& ip, ConstBytes transport) noexcept {
  const bool v4 = source.is_v4();
  Counters& counters = ctx.counters();
  Path path{.mtu = static_cast<uint16_t>(std::min<uint32_t>(ctx.host.config.device.mtu, 65535))};
  const bool group = destination.is_multicast();
  if (!group && !FindPath(ctx, source, destination, path)) return false;
  const size_t limit = v4 ? 65535 - kIpv4HeaderBytes : 65535;
  if (transport.size() > limit || path.mtu < IpHeaderBytes(v4) + kIpv6FragmentHeaderBytes + 8) return false;

  counters.Add(v4 ? Counter::kIpOutRequests : Counter::kIp6OutRequests);
  const size_t step = FragmentBytes(path, v4, transport.size());
  const bool whole = step == transport.size();
  const uint32_t id = whole && v4 ? Ipv4Id(ctx, ip.dont_fragment) : ctx.Random();
  size_t offset = 0;
  do {
    const Piece piece{offset, std::min(step, transport.size() - offset), transport.size(), id};
    const size_t headers = IpHeaderBytes(v4) + (v4 || whole ? 0 : kIpv6FragmentHeaderBytes);
    Buf* frame = NewFrame(ctx, kEthernetHeaderBytes + headers + piece.bytes);
    if (frame == nullptr) {
      counters.Add(Counter::kIpOutDiscards);
      return false;
    }
    WriteLinkHeader(ctx.host, frame->begin(), v4);
    WritePiece(frame->begin() + kEthernetHeaderBytes, source, destination, protocol, ip, piece, transport);
    if (group) {
      SetDestination(frame, MulticastMac(destination));
      QueueFrame(ctx, frame);
    } else {
      SendAlong(ctx, path, frame);
    }
    offset += piece.bytes;
  } while (offset < transport.size());
  return true;
}

}  // namespace ustcp
