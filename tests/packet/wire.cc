#include "tests/packet/wire.h"

#include <cstring>
#include <map>

#include "stack/wire/arp.h"
#include "stack/wire/checksum.h"
#include "stack/wire/ethernet.h"
#include "stack/wire/icmp.h"
#include "stack/wire/icmpv6.h"
#include "stack/wire/ipv4.h"
#include "stack/wire/ipv6.h"
#include "stack/wire/ndisc.h"
#include "stack/wire/tcp.h"

namespace ustcp::packet {
namespace {

constexpr std::pair<char, uint16_t> kFlags[] = {{'F', 0x01}, {'S', 0x02}, {'R', 0x04}, {'P', 0x08},
                                                {'A', 0x10}, {'U', 0x20}, {'E', 0x40}, {'W', 0x80}};

void Put(std::vector<std::byte>& out, uint32_t v, int bytes) {
  for (int i = bytes - 1; i >= 0; --i) out.push_back(static_cast<std::byte>(v >> (8 * i) & 0xff));
}

std::vector<std::byte> EncodeOptions(const PacketOptions& o) {
  std::vector<std::byte> out;
  size_t at = 0;
  while (at < o.text.size()) {
    size_t comma = std::min(o.text.find(',', at), o.text.size());
    std::string name = o.text.substr(at, comma - at);
    at = comma + 1;
    if (name == "mss")
      Put(out, 0x0204, 2), Put(out, o.mss.value_or(0), 2);
    else if (name == "wscale")
      Put(out, 0x0303, 2), Put(out, o.wscale.value_or(0), 1);
    else if (name == "sackOK")
      Put(out, 0x0402, 2);
    else if (name == "TS")
      Put(out, 0x080a, 2), Put(out, o.ts_val.value_or(0), 4), Put(out, o.ts_ecr.value_or(0), 4);
    else if (name == "nop")
      Put(out, 1, 1);
    else if (name == "eol")
      Put(out, 0, 1);
    else if (name == "raw")
      out.insert(out.end(), o.raw.begin(), o.raw.end());
    else if (name == "sack") {
      Put(out, 5, 1), Put(out, static_cast<uint32_t>(2 + 8 * o.sacks.size()), 1);
      for (auto& s : o.sacks) Put(out, s.begin, 4), Put(out, s.end, 4);
    }
  }
  while (out.size() % 4 != 0) Put(out, 0, 1);
  return out;
}

struct IpAround {
  size_t header;
  std::byte* transport;
};

// Lays out Ethernet and IP headers for `bytes` of transport.
IpAround BeginIp(std::vector<std::byte>& frame, const Ends& ends, uint8_t protocol, size_t bytes, uint8_t tos,
                 uint8_t hop_limit) {
  size_t ip = ends.v6 ? kIpv6HeaderBytes : kIpv4HeaderBytes;
  frame.assign(kEthernetHeaderBytes + ip + bytes, std::byte{0});
  WriteEthernet(frame.data(), ends.local_mac, ends.gateway_mac, ends.v6 ? kEthertypeIpv6 : kEthertypeIpv4);
  std::byte* at = frame.data() + kEthernetHeaderBytes;
  if (ends.v6) {
    at[0] = static_cast<std::byte>(0x60 | tos >> 4);
    at[1] = static_cast<std::byte>(tos << 4 & 0xf0);
    StoreBe16(at + 4, static_cast<uint16_t>(bytes));
    Store8(at + 6, protocol);
    Store8(at + 7, hop_limit);
    std::memcpy(at + 8, ends.peer.bytes.data(), 16);
    std::memcpy(at + 24, ends.local.bytes.data(), 16);
  } else {
    Ipv4Header h;
    h.source = ends.peer;
    h.destination = ends.local;
    h.protocol = protocol;
    h.tos = tos;
    h.ttl = hop_limit;
    h.payload_bytes = static_cast<uint16_t>(bytes);
    WriteIpv4(at, h);
  }
  return {kEthernetHeaderBytes + ip, at + ip};
}

}  // namespace

std::vector<std::byte> BuildTcpFrame(const Ends& ends, const PacketSpec& p, uint16_t peer_port, uint16_t local_port,
                                     const std::vector<std::byte>& payload) {
  std::vector<std::byte> options = EncodeOptions(p.options);
  std::vector<std::byte> frame;
  size_t bytes = kTcpHeaderBytes + options.size() + payload.size();
  IpAround ip = BeginIp(frame, ends, kProtocolTcp, bytes, static_cast<uint8_t>(p.ecn.value_or(0)), 64);
  TcpHeader h;
  h.source_port = peer_port;
  h.destination_port = local_port;
  h.seq = Seq(p.seq);
  h.ack = Seq(p.ack.value_or(0));
  for (auto [letter, bit] : kFlags)
    if (p.flags.find(letter) != std::string::npos) h.flags.bits = static_cast<uint16_t>(h.flags.bits | bit);
  h.window = p.window.value_or(0);
  h.urgent_pointer = p.urgent.value_or(0);
  h.option_bytes = static_cast<uint8_t>(options.size());
  WriteTcp(ip.transport, h);
  if (!options.empty()) std::memcpy(ip.transport + kTcpHeaderBytes, options.data(), options.size());
  if (!payload.empty()) std::memcpy(ip.transport + kTcpHeaderBytes + options.size(), payload.data(), payload.size());
  if (p.data_offset) Store8(ip.transport + 12, static_cast<uint8_t>(*p.data_offset << 4));
  FillTransportChecksum(ends.peer, ends.local, kProtocolTcp, {ip.transport, bytes}, kTcpChecksumOffset);
  if (p.bad_checksum) ip.transport[kTcpChecksumOffset] ^= std::byte{0x55};
  return frame;
}

std::vector<std::byte> BuildIcmpFrame(const Ends& ends, const PacketSpec& p, uint16_t peer_port, uint16_t local_port,
                                      uint32_t seq, std::string* error) {
  struct Codes {
    int type4, code4, type6, code6;
  };
  static const std::map<std::string, Codes> kCodes = {
      {"net_unreachable", {3, 0, 1, 0}},   {"host_unreachable", {3, 1, 1, 3}}, {"protocol_unreachable", {3, 2, 4, 1}},
      {"port_unreachable", {3, 3, 1, 4}},  {"frag_needed", {3, 4, 2, 0}},      {"packet_too_big", {3, 4, 2, 0}},
      {"admin_prohibited", {3, 13, 1, 1}}, {"ttl_exceeded", {11, 0, 3, 0}},    {"parameter_problem", {12, 0, 4, 0}},
  };
  auto found = kCodes.find(p.icmp_code.empty() ? p.icmp_type : p.icmp_code);
  if (found == kCodes.end()) {
    *error = "unknown ICMP code " + p.icmp_code;
    return {};
  }
  // The quoted packet: IP and TCP header of a segment of ours.
  Ends back = ends;
  std::swap(back.local, back.peer);
  std::vector<std::byte> quoted;
  IpAround inner = BeginIp(quoted, back, kProtocolTcp, kTcpHeaderBytes, 0, 60);
  TcpHeader h;
  h.source_port = local_port;
  h.destination_port = peer_port;
  h.seq = Seq(seq);
  h.flags = kTcpAck;
  WriteTcp(inner.transport, h);
  ConstBytes quote{quoted.data() + kEthernetHeaderBytes, quoted.size() - kEthernetHeaderBytes};
  // The quoted length is that of the whole segment, of which only the header came back.
  std::byte* length = quoted.data() + kEthernetHeaderBytes + (ends.v6 ? 4 : 2);
  StoreBe16(length, static_cast<uint16_t>(LoadBe16(length) + p.length));
  std::vector<std::byte> message(1300);
  // packetdrill's scripts name the MTU of IPv4; over IPv6 the same segment size means 20 more.
  uint32_t mtu = p.icmp_mtu.value_or(0) + (ends.v6 && p.icmp_mtu ? 20 : 0);
  size_t size;
  if (ends.v6) {
    size = WriteIcmpv6Error(message.data(), kMaxIcmpv6ErrorBytes, static_cast<uint8_t>(found->second.type6),
                            static_cast<uint8_t>(found->second.code6), mtu, quote, ends.peer, ends.local);
  } else {
    // The IPv4 header's own checksum went bad with the length; routers send it correct.
    std::byte* ip = quoted.data() + kEthernetHeaderBytes;
    StoreBe16(ip + 10, 0);
    StoreBe16(ip + 10, ComputeChecksum({ip, kIpv4HeaderBytes}));
    size = WriteIcmpError(message.data(), kMaxIcmpErrorBytes, static_cast<uint8_t>(found->second.type4),
                          static_cast<uint8_t>(found->second.code4), mtu, quote);
  }
  std::vector<std::byte> frame;
  IpAround outer = BeginIp(frame, ends, ends.v6 ? kProtocolIcmpv6 : kProtocolIcmp, size, 0, 64);
  std::memcpy(outer.transport, message.data(), size);
  return frame;
}

std::vector<std::byte> NeighborAnswer(const Ends& ends, ConstBytes frame) {
  auto ethernet = EthernetView::Parse(frame);
  if (!ethernet) return {};
  std::vector<std::byte> out;
  if (ethernet->ethertype() == kEthertypeArp) {
    auto arp = ArpView::Parse(ethernet->payload());
    if (!arp || arp->operation() != ArpOperation::kRequest || arp->is_gratuitous()) return {};
    out.resize(kEthernetHeaderBytes + kArpBytes);
    WriteEthernet(out.data(), ends.local_mac, ends.gateway_mac, kEthertypeArp);
    ArpPacket reply{ArpOperation::kReply, ends.gateway_mac, arp->target(), arp->sender_mac(), arp->sender()};
    WriteArp(out.data() + kEthernetHeaderBytes, reply);
    return out;
  }
  if (ethernet->ethertype() != kEthertypeIpv6) return {};
  auto ip = Ipv6View::Parse(ethernet->payload());
  if (!ip || ip->next_header() != kProtocolIcmpv6) return {};
  auto icmp = Icmpv6View::Parse(ip->payload(), ip->source(), ip->destination(), ChecksumTrust::kVouched);
  if (!icmp || icmp->type() != kNeighborSolicitation) return {};
  auto ask = NeighborView::Parse(*icmp, ip->hop_limit(), ip->source(), ip->destination());
  if (!ask || ask->target() == ends.local) return {};
  Ends from = ends;
  from.peer = ask->target();
  from.local = ip->source();
  from.v6 = true;
  std::byte message[kMaxNeighborMessageBytes];
  NeighborAdvertisement answer{ask->target(), ends.gateway_mac, true, true};
  size_t size = WriteNeighborAdvertisement(message, from.peer, from.local, answer);
  IpAround around = BeginIp(out, from, kProtocolIcmpv6, size, 0, kNeighborHopLimit);
  std::memcpy(around.transport, message, size);
  return out;
}

PacketOptions DecodeOptions(ConstBytes bytes) {
  PacketOptions o;
  size_t at = 0;
  auto name = [&o](const char* n) { o.text += (o.text.empty() ? "" : ",") + std::string(n); };
  while (at < bytes.size()) {
    uint8_t kind = Load8(&bytes[at]);
    if (kind == 0) break;
    if (kind == 1) {
      name("nop");
      ++at;
      continue;
    }
    if (at + 1 >= bytes.size()) break;
    uint8_t size = Load8(&bytes[at + 1]);
    if (size < 2 || at + size > bytes.size()) break;
    const std::byte* p = &bytes[at];
    if (kind == 2 && size == 4)
      name("mss"), o.mss = LoadBe16(p + 2);
    else if (kind == 3 && size == 3)
      name("wscale"), o.wscale = Load8(p + 2);
    else if (kind == 4 && size == 2)
      name("sackOK"), o.sack_ok = true;
    else if (kind == 8 && size == 10)
      name("TS"), o.ts_any = true, o.ts_val = LoadBe32(p + 2), o.ts_ecr = LoadBe32(p + 6);
    else if (kind == 5) {
      name("sack");
      for (size_t i = 2; i + 8 <= size; i += 8) o.sacks.push_back({LoadBe32(p + i), LoadBe32(p + i + 4)});
    } else
      name(("kind" + std::to_string(kind)).c_str());
    at += size;
  }
  return o;
}

bool DecodeTcpFrame(ConstBytes frame, SentSegment* out) {
  auto ethernet = EthernetView::Parse(frame);
  if (!ethernet) return false;
  ConstBytes transport;
  IpAddress source, destination;
  uint8_t tos;
  if (ethernet->ethertype() == kEthertypeIpv4) {
    auto ip = Ipv4View::Parse(ethernet->payload());
    if (!ip || ip->protocol() != kProtocolTcp) return false;
    transport = ip->payload(), source = ip->source(), destination = ip->destination(), tos = ip->tos();
  } else if (ethernet->ethertype() == kEthertypeIpv6) {
    auto ip = Ipv6View::Parse(ethernet->payload());
    if (!ip || ip->next_header() != kProtocolTcp) return false;
    transport = ip->payload(), source = ip->source(), destination = ip->destination(), tos = ip->traffic_class();
  } else {
    return false;
  }
  auto tcp = TcpView::Parse(transport);
  if (!tcp) return false;
  out->local_port = tcp->source_port();
  out->peer_port = tcp->destination_port();
  for (auto [letter, bit] : kFlags)
    if ((tcp->flags().bits & bit) != 0) out->flags += letter;
  out->seq = tcp->seq().raw();
  out->ack = tcp->has_ack() ? tcp->ack().raw() : 0;
  out->window = tcp->window();
  out->urgent = tcp->urg() ? tcp->urgent_pointer() : 0;
  out->ecn = tos & 3;
  out->payload.assign(tcp->payload().begin(), tcp->payload().end());
  out->options = DecodeOptions(tcp->options());
  out->checksum_ok = VerifyTransportChecksum(source, destination, kProtocolTcp, transport);
  return true;
}

std::string FormatOptions(const PacketOptions& o) {
  if (o.any) return " <...>";
  if (o.text.empty()) return "";
  std::string out;
  size_t at = 0;
  auto number = [](const auto& v) { return v ? std::to_string(*v) : std::string("?"); };
  while (at < o.text.size()) {
    size_t comma = std::min(o.text.find(',', at), o.text.size());
    std::string name = o.text.substr(at, comma - at);
    at = comma + 1;
    out += (out.empty() ? "" : ",") + name;
    if (name == "mss") out += " " + number(o.mss);
    if (name == "wscale") out += " " + number(o.wscale);
    if (name == "TS") out += " val " + number(o.ts_val) + " ecr " + number(o.ts_ecr);
    if (name == "sack")
      for (auto& s : o.sacks) out += " " + std::to_string(s.begin) + ":" + std::to_string(s.end);
  }
  return " <" + out + ">";
}

std::string FormatSegment(const std::string& flags, uint32_t seq, uint32_t length, bool has_ack, uint32_t ack,
                          int window, int urgent, const PacketOptions& options) {
  std::string shown;
  for (char f : std::string("FSRPUEW"))
    if (flags.find(f) != std::string::npos) shown += f;
  if (flags.find('A') != std::string::npos) shown += '.';
  if (shown.empty()) shown = "-";
  std::string out =
      shown + " " + std::to_string(seq) + ":" + std::to_string(seq + length) + "(" + std::to_string(length) + ")";
  if (has_ack) out += " ack " + std::to_string(ack);
  if (window >= 0) out += " win " + std::to_string(window);
  if (urgent > 0) out += " urg " + std::to_string(urgent);
  return out + FormatOptions(options);
}

}  // namespace ustcp::packet
