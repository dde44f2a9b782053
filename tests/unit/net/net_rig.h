// A host on virtual time with one shard, a peer made of hand-built frames, and the frames the host sends.
#pragma once

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "stack/net/ip.h"
#include "stack/net/route.h"
#include "stack/stack.h"
#include "stack/wire/arp.h"
#include "stack/wire/ethernet.h"
#include "stack/wire/icmp.h"
#include "stack/wire/icmpv6.h"
#include "stack/wire/ipv4.h"
#include "stack/wire/ipv6.h"
#include "stack/wire/ndisc.h"
#include "stack/wire/tcp.h"
#include "tests/support/test_host.h"

namespace ustcp::test {

using Packet = std::vector<std::byte>;

inline const MacAddress kPeerMac = {0x02, 0, 0, 0, 0, 2};
inline const IpAddress kOwn4 = IpAddress::V4(192, 168, 0, 1);
inline const IpAddress kPeer4 = IpAddress::V4(192, 168, 0, 2);
inline const IpAddress kOwn6{{0xfd, 0x3d, 0x0a, 0x0b, 0x17, 0xd6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};
inline const IpAddress kPeer6{{0xfd, 0x3d, 0x0a, 0x0b, 0x17, 0xd6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2}};

inline ConstBytes Payload(const Packet& frame) { return ConstBytes(frame).subspan(kEthernetHeaderBytes); }

inline Packet Filled(size_t bytes, uint8_t seed = 1) {
  Packet p(bytes);
  for (size_t i = 0; i < bytes; ++i) p[i] = static_cast<std::byte>((i * 31 + i / 251 + seed) & 0xff);
  return p;
}

inline Packet Ethernet(uint16_t type, ConstBytes payload, const MacAddress& to, const MacAddress& from = kPeerMac) {
  Packet p(kEthernetHeaderBytes + payload.size());
  WriteEthernet(p.data(), to, from, type);
  if (!payload.empty()) std::memcpy(p.data() + kEthernetHeaderBytes, payload.data(), payload.size());
  return p;
}

// An IP packet of either family.
inline Packet Ip(uint8_t protocol, ConstBytes transport, const IpAddress& from, const IpAddress& to, uint8_t ttl = 64) {
  const bool v4 = from.is_v4();
  Packet p((v4 ? kIpv4HeaderBytes : kIpv6HeaderBytes) + transport.size());
  size_t header = 0;
  if (v4) {
    header = WriteIpv4(p.data(), {.source = from,
                                  .destination = to,
                                  .protocol = protocol,
                                  .ttl = ttl,
                                  .payload_bytes = static_cast<uint16_t>(transport.size())});
  } else {
    header = WriteIpv6(p.data(), {.source = from,
                                  .destination = to,
                                  .protocol = protocol,
                                  .hop_limit = ttl,
                                  .payload_bytes = static_cast<uint16_t>(transport.size())});
  }
  if (!transport.empty()) std::memcpy(p.data() + header, transport.data(), transport.size());
  return p;
}

inline Packet EchoRequest(ConstBytes data, const IpAddress& from, const IpAddress& to) {
  Packet p(kIcmpHeaderBytes + data.size());
  Store8(p.data(), from.is_v4() ? kIcmpEchoRequest : kIcmpv6EchoRequest);
  StoreBe16(p.data() + 4, 0x1234);
  StoreBe16(p.data() + 6, 7);
  if (!data.empty()) std::memcpy(p.data() + kIcmpHeaderBytes, data.data(), data.size());
  if (from.is_v4()) {
    StoreBe16(p.data() + 2, ComputeChecksum(p));
  } else {
    FillTransportChecksum(from, to, kProtocolIcmpv6, p, 2);
  }
  return p;
}

inline Packet TcpSegment(TcpFlags flags, const IpAddress& from, const IpAddress& to, uint16_t from_port = 5000,
                         uint16_t to_port = 80, size_t data = 0) {
  Packet p(kTcpHeaderBytes + data);
  WriteTcp(p.data(), {.source_port = from_port,
                      .destination_port = to_port,
                      .seq = Seq(0xfffffff0),
                      .ack = Seq(77),
                      .flags = flags,
                      .window = 1000});
  FillTransportChecksum(from, to, kProtocolTcp, p, kTcpChecksumOffset);
  return p;
}

class NetRig {
 public:
  explicit NetRig(HostConfig config = TestHost::DefaultConfig(), Sysctls sysctls = {})
      : host(config, sysctls), shard(host.NewShard()), ctx{host.host(), shard, TestHost::DefaultStart(), {}} {}

  // As a driver does it, with memory of the driver's own.
  void Receive(Packet frame, VirtioNetHeader vnet = {}) {
    RxFrame rx{.vnet = vnet, .bytes = Bytes(frame), .buffer = nullptr};
    OnFrame(ctx, rx);
  }
  // As a driver does it with a buffer of the arena.
  void ReceiveInBuf(const Packet& frame, VirtioNetHeader vnet = {}) {
    Buf* b = shard.bufs.Take(BufClass::kFrame);
    ASSERT_NE(b, nullptr);
    b->offset = kFrameReadOffset + sizeof(VirtioNetHeader);
    b->length = static_cast<uint32_t>(frame.size());
    if (!frame.empty()) std::memcpy(b->begin(), frame.data(), frame.size());
    RxFrame rx{.vnet = vnet, .bytes = b->bytes(), .buffer = b};
    OnFrame(ctx, rx);
    if (rx.buffer != nullptr) shard.bufs.Give(rx.buffer);
  }
  void ReceiveIp(ConstBytes packet) {
    const bool v4 = Load8(packet.data()) >> 4 == 4;
    Receive(Ethernet(v4 ? kEthertypeIpv4 : kEthertypeIpv6, packet, mac()));
  }

  struct SentFrame {
    VirtioNetHeader vnet;
    Packet bytes;
  };
  // Everything the host has to say now.
  std::vector<SentFrame> SentFrames() {
    std::vector<SentFrame> out;
    bool more = true;
    while (more) {
      more = PollTransmit(ctx, *batch);
      for (size_t i = 0; i < batch->count; ++i) {
        const TxFrame& f = batch->frames[i];
        Packet p(f.headers.begin(), f.headers.begin() + f.header_bytes);
        for (int k = 0; k < f.piece_count; ++k) {
          const auto* from = static_cast<const std::byte*>(f.pieces[k].iov_base);
          p.insert(p.end(), from, from + f.pieces[k].iov_len);
        }
        out.push_back({f.vnet, std::move(p)});
      }
      ReleaseTransmitted(ctx, *batch);
    }
    return out;
  }
  std::vector<Packet> Sent() {
    std::vector<Packet> out;
    for (auto& f : SentFrames()) out.push_back(std::move(f.bytes));
    return out;
  }

  void Advance(Duration d) {
    ctx.now += d;
    OnDeadline(ctx);
  }

  // Makes the peer's MAC address known without an exchange the test has to look at.
  void Introduce(const IpAddress& peer, const MacAddress& mac_address = kPeerMac) {
    OnNeighborNews(ctx, {.address = peer, .mac = mac_address, .create = true, .reachable = true, .override_mac = true});
  }

  uint64_t Count(Counter c) const { return shard.counters.Get(c); }
  const MacAddress& mac() { return host->config.device.mac; }

  TestHost host;
  Shard& shard;
  Context ctx;
  std::unique_ptr<TxBatch> batch = std::make_unique<TxBatch>();
};

}  // namespace ustcp::test
