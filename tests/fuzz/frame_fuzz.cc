// Frames into a host that has a listener, connections and memory of its own. The input is a script: each record is one
// action of the peer (a raw frame, a segment that fits a connection, an echo request in fragments, ...), of the program
// on the host (accept, send, receive, close, connect) or of time. At the end everything is closed and time runs on
// until nothing is armed: what then is still taken has leaked.
#include <netinet/in.h>
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "stack/net/frames.h"
#include "stack/socket/socket.h"
#include "stack/socket/socket_ops.h"
#include "stack/stack.h"
#include "stack/tcp/tcb.h"
#include "stack/wire/ethernet.h"
#include "stack/wire/ipv4.h"
#include "stack/wire/ipv6.h"
#include "stack/wire/tcp.h"
#include "tests/support/test_host.h"

namespace ustcp {
namespace {

constexpr MacAddress kPeerMac = {0x02, 0, 0, 0, 0, 2};
constexpr IpAddress kPeer4 = IpAddress::V4(192, 168, 0, 2);
constexpr IpAddress kPeer6{{0xfd, 0x3d, 0x0a, 0x0b, 0x17, 0xd6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2}};
constexpr uint16_t kListenPort = 80;
constexpr uint16_t kPeerPort = 5000;
constexpr size_t kFlows = 4;
constexpr size_t kMaxSockets = 8;

[[noreturn]] void Fail(const char* what) {
  std::fprintf(stderr, "frame_fuzz: %s\n", what);
  std::abort();
}

// The rest of the input, read front to back; past the end everything is zero.
class Script {
 public:
  Script(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return at_ >= size_; }
  uint8_t Byte() { return at_ < size_ ? data_[at_++] : uint8_t{0}; }
  uint16_t Word() {
    const uint8_t high = Byte();
    return static_cast<uint16_t>(high << 8 | Byte());
  }
  std::vector<std::byte> Take(size_t bytes) {
    bytes = std::min(bytes, size_ - at_);
    std::vector<std::byte> out(bytes);
    if (bytes != 0) std::memcpy(out.data(), data_ + at_, bytes);
    at_ += bytes;
    return out;
  }

 private:
  const uint8_t* data_;
  size_t size_;
  size_t at_ = 0;
};

// What the peer knows about one connection, from the segments the host sent.
struct Flow {
  uint16_t own_port = kListenPort;
  uint32_t next = 1000;    // the number the host expects from us
  uint32_t host_next = 0;  // the number behind what the host sent
};

class World {
 public:
  World() : box_(), shard_(box_.NewShard()), ctx_{box_.host(), shard_, test::TestHost::DefaultStart(), {}} {
    OnNeighborNews(ctx_, {.address = kPeer4, .mac = kPeerMac, .create = true, .reachable = true});
    OnNeighborNews(ctx_, {.address = kPeer6, .mac = kPeerMac, .create = true, .reachable = true});
    listener_ = *OpenSocket(ctx_, AF_INET6, 0, 0, 1);
    (void)BindSocket(ctx_, *listener_, {IpAddress::AnyV6(), kListenPort});
    (void)ListenSocket(ctx_, *listener_, 4);
  }

  void Run(Script script) {
    for (int steps = 0; steps < 300 && !script.empty(); ++steps) {
      switch (script.Byte() % 12) {
        case 0: RawFrame(script); break;
        case 1: IpFrame(script); break;
        case 2:
        case 3:
        case 4:
        case 5: Segment(script); break;
        case 6: Handshake(script); break;
        case 7: Advance(std::chrono::milliseconds(script.Word() % 4096)); break;
        case 8: Accept(); break;
        case 9: Send(script); break;
        case 10: Receive(script); break;
        default: CloseOrConnect(script); break;
      }
      Transmit();
      char why[256] = "";
      if (CheckInvariants(ctx_, why, sizeof why) != 0) Fail(why);
    }
    Finish();
  }

 private:
  static IpAddress Own(bool v4, Host& host) { return host.config.addresses[v4 ? 0 : 1].address; }

  void Deliver(const std::vector<std::byte>& frame, uint8_t how, const VirtioNetHeader& vnet) {
    // A copy of exactly this size, so that AddressSanitizer sees every read beyond it.
    if (how % 2 == 0 || frame.size() > kMaxFrameBytes) {
      std::unique_ptr<std::byte[]> exact(new std::byte[frame.size()]);
      std::copy(frame.begin(), frame.end(), exact.get());
      RxFrame rx{.vnet = vnet, .bytes = Bytes(exact.get(), frame.size()), .buffer = nullptr};
      OnFrame(ctx_, rx);
    } else {
      Buf* b = shard_.bufs.Take(BufClass::kFrame);
      if (b == nullptr) return;
      b->offset = kFrameOffset;
      b->length = static_cast<uint32_t>(frame.size());
      std::copy(frame.begin(), frame.end(), b->begin());
      RxFrame rx{.vnet = vnet, .bytes = b->bytes(), .buffer = b};
      OnFrame(ctx_, rx);
      if (rx.buffer != nullptr) shard_.bufs.Give(rx.buffer);
    }
    DrainMailbox(ctx_);
  }

  VirtioNetHeader Vnet(Script& script) {
    VirtioNetHeader v;
    const uint8_t what = script.Byte();
    if ((what & 0x80) == 0) return v;
    v.flags = what & 3;
    v.gso_type = script.Byte();
    v.gso_size = script.Word();
    v.checksum_start = script.Word();
    return v;
  }

  void RawFrame(Script& script) {
    const uint8_t how = script.Byte();
    const VirtioNetHeader v = Vnet(script);
    Deliver(script.Take(script.Word() % 2048), how, v);
  }

  // Raw IP or ARP behind a good Ethernet header.
  void IpFrame(Script& script) {
    constexpr uint16_t kTypes[] = {kEthertypeIpv4, kEthertypeIpv6, kEthertypeArp, kEthertypeVlan};
    const uint8_t how = script.Byte();
    const VirtioNetHeader v = Vnet(script);
    auto payload = script.Take(script.Word() % 2048);
    if ((how & 8) != 0) FixIp(payload);
    std::vector<std::byte> frame(kEthernetHeaderBytes);
    const bool group = (how & 16) != 0;
    WriteEthernet(frame.data(), group ? MacAddress{0x33, 0x33, 0, 0, 0, 1} : box_->config.device.mac, kPeerMac,
                  kTypes[(how >> 1) % 4]);
    frame.insert(frame.end(), payload.begin(), payload.end());
    Deliver(frame, how, v);
  }

  // Makes lengths and addresses right, so that the rest is looked at; the checksum of an IPv4 header too.
  void FixIp(std::vector<std::byte>& p) {
    if (p.size() >= kIpv4HeaderBytes && Load8(p.data()) >> 4 == 4) {
      const size_t header = std::max<size_t>(kIpv4HeaderBytes, (Load8(p.data()) & 15u) * 4u);
      if (header > p.size()) return;
      StoreBe16(p.data() + 2, static_cast<uint16_t>(p.size()));
      std::memcpy(p.data() + 12, kPeer4.v4(), 4);
      std::memcpy(p.data() + 16, Own(true, box_.host()).v4(), 4);
      StoreBe16(p.data() + 10, 0);
      StoreBe16(p.data() + 10, ComputeChecksum({p.data(), header}));
      if (Load8(p.data() + 9) == 1 && p.size() >= header + 4) {
        StoreBe16(p.data() + header + 2, 0);
        StoreBe16(p.data() + header + 2, ComputeChecksum({p.data() + header, p.size() - header}));
      }
    } else if (p.size() >= kIpv6HeaderBytes && Load8(p.data()) >> 4 == 6) {
      StoreBe16(p.data() + 4, static_cast<uint16_t>(p.size() - kIpv6HeaderBytes));
      std::memcpy(p.data() + 8, kPeer6.bytes.data(), 16);
      const IpAddress own = Own(false, box_.host());
      std::memcpy(p.data() + 24, own.bytes.data(), 16);
      if (Load8(p.data() + 6) == 58 && p.size() >= kIpv6HeaderBytes + 4) {
        FillTransportChecksum(kPeer6, own, 58, Bytes(p).subspan(kIpv6HeaderBytes), 2);
      }
    }
  }

  void SendSegment(size_t flow_index, TcpFlags flags, uint32_t seq, uint32_t ack, uint16_t window,
                   const std::vector<std::byte>& options, const std::vector<std::byte>& data, uint8_t how,
                   uint16_t gso_size) {
    const Flow& flow = flows_[flow_index];
    const bool v4 = (flow_index & 1) == 0;
    const IpAddress own = Own(v4, box_.host());
    const IpAddress& peer = v4 ? kPeer4 : kPeer6;
    const size_t option_bytes = std::min<size_t>(options.size() / 4 * 4, kMaxTcpOptionBytes);
    std::vector<std::byte> segment(kTcpHeaderBytes + option_bytes + data.size());
    WriteTcp(segment.data(), {.source_port = static_cast<uint16_t>(kPeerPort + flow_index),
                              .destination_port = flow.own_port,
                              .seq = Seq(seq),
                              .ack = Seq(ack),
                              .flags = flags,
                              .window = window,
                              .urgent_pointer = how,
                              .option_bytes = static_cast<uint8_t>(option_bytes)});
    std::copy_n(options.begin(), option_bytes, segment.begin() + kTcpHeaderBytes);
    std::copy(data.begin(), data.end(), segment.begin() + static_cast<long>(kTcpHeaderBytes + option_bytes));
    const size_t ip_bytes = v4 ? kIpv4HeaderBytes : kIpv6HeaderBytes;
    std::vector<std::byte> frame(kEthernetHeaderBytes + ip_bytes);
    WriteEthernet(frame.data(), box_->config.device.mac, kPeerMac, v4 ? kEthertypeIpv4 : kEthertypeIpv6);
    const auto ip_payload = static_cast<uint16_t>(segment.size());
    if (v4) {
      WriteIpv4(frame.data() + kEthernetHeaderBytes, {.source = peer,
                                                      .destination = own,
                                                      .protocol = kProtocolTcp,
                                                      .tos = static_cast<uint8_t>(how & 3),
                                                      .payload_bytes = ip_payload});
    } else {
      WriteIpv6(frame.data() + kEthernetHeaderBytes, {.source = peer,
                                                      .destination = own,
                                                      .protocol = kProtocolTcp,
                                                      .traffic_class = static_cast<uint8_t>(how & 3),
                                                      .payload_bytes = ip_payload});
    }
    frame.insert(frame.end(), segment.begin(), segment.end());
    VirtioNetHeader vnet{.flags = VirtioNetHeader::kDataValid};
    if (gso_size != 0 && data.size() > gso_size) {
      vnet.gso_type = v4 ? VirtioNetHeader::kGsoTcpV4 : VirtioNetHeader::kGsoTcpV6;
      vnet.gso_size = gso_size;
    }
    Deliver(frame, how, vnet);
  }

  // A segment near what the host expects: small differences of either number, any flags, options and sizes.
  void Segment(Script& script) {
    const size_t i = script.Byte() % kFlows;
    const uint8_t how = script.Byte();
    const auto flags = static_cast<uint16_t>(how & 1 ? script.Byte() : kTcpAck.bits);
    const auto seq_off = (how & 2) != 0 ? static_cast<int16_t>(script.Word()) : int16_t{0};
    const auto ack_off = (how & 4) != 0 ? static_cast<int16_t>(script.Word()) : int16_t{0};
    const uint16_t window = (how & 8) != 0 ? script.Word() : uint16_t{0xffff};
    const auto options = script.Take((how & 16) != 0 ? script.Byte() % 44 : 0);
    size_t bytes = (how & 32) != 0 ? script.Word() % 60000 : 0;
    if ((how & 64) != 0) bytes %= 1461;
    const uint16_t gso_size = (how & 128) != 0 ? uint16_t{1448} : uint16_t{0};
    const std::vector<std::byte> data(bytes, std::byte{how});
    Flow& flow = flows_[i];
    SendSegment(i, {flags}, flow.next + static_cast<uint32_t>(seq_off), flow.host_next + static_cast<uint32_t>(ack_off),
                window, options, data, how, gso_size);
  }

  // SYN and, once the SYN-ACK was seen, ACK: most of the interesting code lies behind them.
  void Handshake(Script& script) {
    const size_t i = script.Byte() % kFlows;
    flows_[i].own_port = kListenPort;
    flows_[i].next = script.Word() * 0x10001u;
    constexpr uint8_t kOptions[] = {2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7};
    std::vector<std::byte> options(sizeof kOptions);
    std::memcpy(options.data(), kOptions, sizeof kOptions);
    if ((script.Byte() & 1) != 0) options.clear();
    SendSegment(i, kTcpSyn, flows_[i].next, 0, 0xffff, options, {}, 0, 0);
    Transmit();
    SendSegment(i, kTcpAck, flows_[i].next, flows_[i].host_next, 0xffff, {}, {}, 0, 0);
  }

  void Advance(Duration d) {
    ctx_.now += d;
    OnDeadline(ctx_);
    DrainMailbox(ctx_);
  }

  void Accept() {
    if (sockets_.size() >= kMaxSockets) return;
    auto accepted = AcceptSocket(box_.host(), *listener_, shard_.index);
    if (accepted.ok()) sockets_.push_back(*accepted);
  }

  void Send(Script& script) {
    const uint8_t which = script.Byte();
    const size_t bytes = script.Word();
    if (sockets_.empty()) return;
    std::vector<std::byte> data(bytes, std::byte{which});
    (void)SendSocket(ctx_, *sockets_[which % sockets_.size()], UserVector(data.data(), data.size()),
                     (which & 0x80) != 0 ? MSG_MORE : 0);
  }

  void Receive(Script& script) {
    const uint8_t which = script.Byte();
    const size_t bytes = script.Word();
    if (sockets_.empty()) return;
    std::vector<std::byte> data(bytes);
    (void)ReceiveSocket(ctx_, *sockets_[which % sockets_.size()], UserVector(data.data(), data.size()),
                        (which & 0x80) != 0 ? MSG_PEEK : 0);
  }

  void CloseOrConnect(Script& script) {
    const uint8_t which = script.Byte();
    if ((which & 0x80) != 0 && sockets_.size() < kMaxSockets) {
      const size_t i = which % kFlows;
      const bool v4 = (i & 1) == 0;
      auto s = OpenSocket(ctx_, v4 ? AF_INET : AF_INET6, 0, 0, 1);
      if (!s.ok()) return;
      (void)ConnectSocket(ctx_, **s, {v4 ? kPeer4 : kPeer6, static_cast<uint16_t>(kPeerPort + i)});
      sockets_.push_back(*s);
      return;
    }
    if (sockets_.empty()) return;
    const size_t i = which % sockets_.size();
    if ((which & 0x40) != 0) {
      (void)ShutdownSocket(ctx_, *sockets_[i], which % 3);
      return;
    }
    ReleaseSocket(ctx_, *sockets_[i]);
    sockets_.erase(sockets_.begin() + static_cast<long>(i));
  }

  // Takes what the host says, checks that it is well formed, and learns the numbers of the connections from it.
  void Transmit() {
    bool more = true;
    for (int rounds = 0; more; ++rounds) {
      if (rounds > 10000) Fail("the host does not stop talking");
      more = PollTransmit(ctx_, *batch_);
      for (size_t i = 0; i < batch_->count; ++i) Learn(batch_->frames[i]);
      ReleaseTransmitted(ctx_, *batch_);
      DrainMailbox(ctx_);
    }
  }

  void Learn(const TxFrame& frame) {
    std::vector<std::byte> flat(frame.headers.begin(), frame.headers.begin() + frame.header_bytes);
    for (int i = 0; i < frame.piece_count; ++i) {
      const auto* from = static_cast<const std::byte*>(frame.pieces[i].iov_base);
      flat.insert(flat.end(), from, from + frame.pieces[i].iov_len);
    }
    const auto ethernet = EthernetView::Parse(flat);
    if (!ethernet) Fail("short frame");
    if (frame.vnet.gso_size == 0 && ethernet->payload().size() > box_->config.device.mtu) {
      std::fprintf(stderr, "%zu bytes, headers %d, ethertype %x\n", ethernet->payload().size(), frame.header_bytes,
                   ethernet->ethertype());
      Fail("frame beyond the MTU");
    }
    ConstBytes segment;
    if (ethernet->ethertype() == kEthertypeIpv4) {
      const auto ip = Ipv4View::Parse(ethernet->payload());
      if (!ip) Fail("malformed IPv4 packet");
      if (ip->protocol() != kProtocolTcp || ip->is_fragment()) return;
      segment = ip->payload();
    } else if (ethernet->ethertype() == kEthertypeIpv6) {
      const auto ip = Ipv6View::Parse(ethernet->payload());
      if (!ip) Fail("malformed IPv6 packet");
      if (ip->protocol() != kProtocolTcp) return;
      segment = ip->payload();
    } else {
      return;
    }
    const auto tcp = TcpView::Parse(segment);
    if (!tcp) Fail("malformed TCP segment");
    const size_t i = static_cast<size_t>(tcp->destination_port() - kPeerPort);
    if (i >= kFlows || tcp->rst()) return;
    Flow& flow = flows_[i];
    flow.own_port = tcp->source_port();
    flow.host_next = tcp->seq().raw() + tcp->sequence_length();
    if (tcp->has_ack()) flow.next = tcp->ack().raw();
  }

  void Finish() {
    for (Socket* s : sockets_) ReleaseSocket(ctx_, *s);
    sockets_.clear();
    ReleaseSocket(ctx_, *listener_);
    Transmit();
    for (int i = 0; NextDeadline(ctx_) != kNever; ++i) {
      if (i > 20000) Fail("timers without end");
      ctx_.now = std::max(ctx_.now, NextDeadline(ctx_));
      OnDeadline(ctx_);
      DrainMailbox(ctx_);
      Transmit();
    }
    if (shard_.connections.live() != 0) Fail("connection leaked");
    if (shard_.half_opens.live() != 0) Fail("half-open connection leaked");
    if (shard_.time_waits.live() != 0) Fail("TIME_WAIT record leaked");
    if (shard_.sockets.live() != 0) Fail("socket leaked");
    if (shard_.tx_segments.live() != 0) Fail("segment record leaked");
    if (shard_.bufs.bytes_taken() != 0) Fail("buffer leaked");
  }

  test::TestHost box_;
  Shard& shard_;
  Context ctx_;
  Socket* listener_ = nullptr;
  std::vector<Socket*> sockets_;
  std::array<Flow, kFlows> flows_;
  std::unique_ptr<TxBatch> batch_ = std::make_unique<TxBatch>();
};

}  // namespace
}  // namespace ustcp

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ustcp::World world;
  world.Run(ustcp::Script(data, size));
  return 0;
}
