#include "io/device/segment.h"

#include <cstring>

namespace ustcp {
namespace {

constexpr size_t kEthernet = 14;
constexpr size_t kTcpHeader = 20;
constexpr uint16_t kTypeIpv4 = 0x0800;
constexpr uint16_t kTypeIpv6 = 0x86dd;
constexpr uint16_t kTypeVlan = 0x8100;
constexpr uint8_t kProtocolTcp = 6;
constexpr uint8_t kFin = 0x01;
constexpr uint8_t kPsh = 0x08;
constexpr uint8_t kCwr = 0x80;

}  // namespace

uint32_t ChecksumAdd(uint32_t sum, ConstBytes bytes) noexcept {
  uint64_t total = sum;
  const std::byte* p = bytes.data();
  size_t n = bytes.size();
  for (; n >= 2; n -= 2, p += 2) total += LoadBe16(p);
  if (n == 1) total += static_cast<uint32_t>(Load8(p)) << 8;
  while (total >> 32 != 0) total = (total & 0xffffffff) + (total >> 32);
  return static_cast<uint32_t>(total);
}

uint16_t ChecksumFold(uint32_t sum) noexcept {
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

size_t FlattenFrame(const TxFrame& frame, Bytes out) noexcept {
  size_t total = frame.header_bytes;
  for (size_t i = 0; i < frame.piece_count; ++i) total += frame.pieces[i].iov_len;
  if (total > out.size()) return 0;
  std::memcpy(out.data(), frame.headers.data(), frame.header_bytes);
  size_t at = frame.header_bytes;
  for (size_t i = 0; i < frame.piece_count; ++i) {
    std::memcpy(out.data() + at, frame.pieces[i].iov_base, frame.pieces[i].iov_len);
    at += frame.pieces[i].iov_len;
  }
  return total;
}

bool CompleteChecksum(const VirtioNetHeader& vnet, Bytes frame) noexcept {
  if ((vnet.flags & VirtioNetHeader::kNeedsChecksum) == 0) return true;
  size_t start = vnet.checksum_start;
  size_t field = start + vnet.checksum_offset;
  if (start > frame.size() || field + 2 > frame.size()) return false;
  // The field holds the folded pseudo-header sum already, so summing everything from `start` completes it.
  uint32_t sum = ChecksumAdd(0, frame.subspan(start));
  StoreBe16(frame.data() + field, static_cast<uint16_t>(~ChecksumFold(sum)));
  return true;
}

FrameSegmenter::FrameSegmenter(const VirtioNetHeader& vnet, ConstBytes frame) noexcept : vnet_(vnet), frame_(frame) {
  uint8_t type = vnet.gso_type & static_cast<uint8_t>(~VirtioNetHeader::kGsoEcn);
  if (type == VirtioNetHeader::kGsoNone) {
    size_t field = static_cast<size_t>(vnet.checksum_start) + vnet.checksum_offset;
    ok_ = (vnet.flags & VirtioNetHeader::kNeedsChecksum) == 0 || field + 2 <= frame.size();
    return;
  }
  cut_ = true;
  if (vnet.gso_size == 0 || frame.size() < kEthernet) return;
  network_offset_ = kEthernet;
  uint16_t ethertype = LoadBe16(frame.data() + 12);
  if (ethertype == kTypeVlan && frame.size() >= kEthernet + 4) {
    ethertype = LoadBe16(frame.data() + 16);
    network_offset_ += 4;
  }
  const std::byte* ip = frame.data() + network_offset_;
  size_t left = frame.size() - network_offset_;
  if (type == VirtioNetHeader::kGsoTcpV4 && ethertype == kTypeIpv4 && left >= 20) {
    size_t header = (Load8(ip) & 0x0f) * 4u;
    if (header < 20 || Load8(ip + 9) != kProtocolTcp) return;
    transport_offset_ = network_offset_ + header;
  } else if (type == VirtioNetHeader::kGsoTcpV6 && ethertype == kTypeIpv6 && left >= 40) {
    ipv6_ = true;
    if (Load8(ip + 6) != kProtocolTcp) return;
    transport_offset_ = network_offset_ + 40;
  } else {
    return;
  }
  if (transport_offset_ + kTcpHeader > frame.size()) return;
  size_t tcp_header = (Load8(frame.data() + transport_offset_ + 12) >> 4) * 4u;
  header_bytes_ = transport_offset_ + tcp_header;
  ok_ = tcp_header >= kTcpHeader && header_bytes_ <= frame.size();
}

size_t FrameSegmenter::Next(Bytes out) noexcept {
  if (!ok_ || done_) return 0;
  if (!cut_) {
    if (out.size() < frame_.size()) return 0;
    done_ = true;
    std::memcpy(out.data(), frame_.data(), frame_.size());
    CompleteChecksum(vnet_, out.first(frame_.size()));
    return frame_.size();
  }
  size_t payload_bytes = frame_.size() - header_bytes_;
  size_t left = payload_bytes - position_;
  size_t n = left < vnet_.gso_size ? left : vnet_.gso_size;
  size_t total = header_bytes_ + n;
  if (out.size() < total) return 0;
  bool last = position_ + n == payload_bytes;
  std::memcpy(out.data(), frame_.data(), header_bytes_);
  std::memcpy(out.data() + header_bytes_, frame_.data() + header_bytes_ + position_, n);

  std::byte* ip = out.data() + network_offset_;
  std::byte* tcp = out.data() + transport_offset_;
  size_t segment_bytes = total - transport_offset_;
  uint32_t pseudo;
  if (ipv6_) {
    StoreBe16(ip + 4, static_cast<uint16_t>(segment_bytes));
    pseudo = ChecksumAdd(0, ConstBytes(ip + 8, 32));
  } else {
    StoreBe16(ip + 2, static_cast<uint16_t>(total - network_offset_));
    StoreBe16(ip + 4, static_cast<uint16_t>(LoadBe16(ip + 4) + index_));
    StoreBe16(ip + 10, 0);
    ConstBytes header(ip, transport_offset_ - network_offset_);
    StoreBe16(ip + 10, static_cast<uint16_t>(~ChecksumFold(ChecksumAdd(0, header))));
    pseudo = ChecksumAdd(0, ConstBytes(ip + 12, 8));
  }
  // Sequence numbers go on; FIN and PSH belong to the last piece, CWR to the first (RFC 3168 6.1.2: once).
  StoreBe32(tcp + 4, LoadBe32(tcp + 4) + static_cast<uint32_t>(position_));
  uint8_t flags = Load8(tcp + 13);
  if (!last) flags &= static_cast<uint8_t>(~(kFin | kPsh));
  if (index_ > 0) flags &= static_cast<uint8_t>(~kCwr);
  Store8(tcp + 13, flags);
  StoreBe16(tcp + 16, 0);
  uint32_t sum = pseudo + kProtocolTcp + static_cast<uint32_t>(segment_bytes);
  sum = ChecksumAdd(sum, ConstBytes(tcp, segment_bytes));
  StoreBe16(tcp + 16, static_cast<uint16_t>(~ChecksumFold(sum)));

  position_ += n;
  ++index_;
  done_ = last;
  return total;
}

}  // namespace ustcp
