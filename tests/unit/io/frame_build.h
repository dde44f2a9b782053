// Frames for the tests of the io layer, built and checked by code of their own so that a mistake in the code under test
// does not cancel out.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "stack/base/bytes.h"
#include "stack/base/frame.h"

namespace ustcp {

struct TcpFields {
  bool ipv6 = false;
  bool vlan = false;
  uint32_t seq = 0;
  uint32_t ack = 0;
  uint8_t flags = 0x10;  // ACK
  uint16_t window = 1000;
  size_t option_bytes = 0;
  size_t payload_bytes = 0;
  uint16_t source_port = 1234;
  uint16_t destination_port = 80;
  uint8_t ipv4_source[4] = {10, 9, 0, 2};
  uint8_t ipv4_destination[4] = {10, 9, 0, 1};
  uint8_t ether_destination[6] = {2, 0, 0, 0, 0, 1};
  uint8_t ether_source[6] = {2, 0, 0, 0, 0, 2};
};

using FrameBytes = std::vector<std::byte>;

// Ones' complement sum, one 16-bit word at a time.
inline uint16_t SumOf(const FrameBytes& f, size_t from, size_t to, uint32_t sum = 0) {
  for (size_t i = from; i < to; i += 2) {
    sum += std::to_integer<uint32_t>(f[i]) << 8;
    if (i + 1 < to) sum += std::to_integer<uint32_t>(f[i + 1]);
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return static_cast<uint16_t>(sum);
}

struct TcpOffsets {
  size_t ip, tcp, payload;
};

inline TcpOffsets OffsetsOf(const TcpFields& t) {
  size_t ip = t.vlan ? 18 : 14;
  size_t tcp = ip + (t.ipv6 ? 40 : 20);
  return {ip, tcp, tcp + 20 + t.option_bytes};
}

// The folded sum of the pseudo header, as it stands in the checksum field of a partially checksummed segment.
inline uint16_t PseudoSum(const FrameBytes& f, const TcpFields& t, size_t segment_bytes) {
  TcpOffsets at = OffsetsOf(t);
  uint32_t sum = 6 + static_cast<uint32_t>(segment_bytes);
  sum = (sum & 0xffff) + (sum >> 16);
  return t.ipv6 ? SumOf(f, at.ip + 8, at.ip + 40, sum) : SumOf(f, at.ip + 12, at.ip + 20, sum);
}

// Payload byte i is a function of i, so that pieces can be recognised. With `partial`, the checksum field holds the
// pseudo header's sum only; otherwise it is complete.
inline FrameBytes BuildTcp(const TcpFields& t, bool partial) {
  TcpOffsets at = OffsetsOf(t);
  FrameBytes f(at.payload + t.payload_bytes);
  std::memcpy(f.data(), t.ether_destination, 6);
  std::memcpy(f.data() + 6, t.ether_source, 6);
  if (t.vlan) {
    StoreBe16(&f[12], 0x8100);
    StoreBe16(&f[14], 5);
  }
  StoreBe16(&f[at.ip - 2], t.ipv6 ? 0x86dd : 0x0800);
  std::byte* ip = &f[at.ip];
  size_t segment = f.size() - at.tcp;
  if (t.ipv6) {
    Store8(ip, 0x60);
    StoreBe16(ip + 4, static_cast<uint16_t>(segment));
    Store8(ip + 6, 6);
    Store8(ip + 7, 64);
    for (int i = 8; i < 40; ++i) Store8(ip + i, static_cast<uint8_t>(i * 3));
  } else {
    Store8(ip, 0x45);
    StoreBe16(ip + 2, static_cast<uint16_t>(f.size() - at.ip));
    StoreBe16(ip + 4, 0xfffe);  // the identification wraps while pieces are numbered
    StoreBe16(ip + 6, 0x4000);
    Store8(ip + 8, 64);
    Store8(ip + 9, 6);
    std::memcpy(ip + 12, t.ipv4_source, 4);
    std::memcpy(ip + 16, t.ipv4_destination, 4);
    StoreBe16(ip + 10, static_cast<uint16_t>(~SumOf(f, at.ip, at.ip + 20)));
  }
  std::byte* tcp = &f[at.tcp];
  StoreBe16(tcp, t.source_port);
  StoreBe16(tcp + 2, t.destination_port);
  StoreBe32(tcp + 4, t.seq);
  StoreBe32(tcp + 8, t.ack);
  Store8(tcp + 12, static_cast<uint8_t>((20 + t.option_bytes) / 4 << 4));
  Store8(tcp + 13, t.flags);
  StoreBe16(tcp + 14, t.window);
  for (size_t i = 0; i < t.option_bytes; ++i) Store8(tcp + 20 + i, 1);
  for (size_t i = 0; i < t.payload_bytes; ++i) f[at.payload + i] = std::byte{static_cast<uint8_t>(i * 7 + i / 251)};
  uint16_t pseudo = PseudoSum(f, t, segment);
  StoreBe16(tcp + 16, partial ? pseudo : static_cast<uint16_t>(~SumOf(f, at.tcp, f.size(), pseudo)));
  return f;
}

inline VirtioNetHeader PartialChecksum(const TcpFields& t, uint16_t gso_size = 0) {
  VirtioNetHeader vnet;
  vnet.flags = VirtioNetHeader::kNeedsChecksum;
  vnet.checksum_start = static_cast<uint16_t>(OffsetsOf(t).tcp);
  vnet.checksum_offset = 16;
  vnet.header_length = static_cast<uint16_t>(OffsetsOf(t).payload);
  if (gso_size != 0) {
    vnet.gso_type = t.ipv6 ? VirtioNetHeader::kGsoTcpV6 : VirtioNetHeader::kGsoTcpV4;
    vnet.gso_size = gso_size;
  }
  return vnet;
}

// A transmit frame over `f`: headers copied, payload in `pieces` parts that point into f.
inline TxFrame AsTxFrame(FrameBytes& f, const TcpFields& t, const VirtioNetHeader& vnet, size_t pieces = 3) {
  TxFrame frame{};
  frame.vnet = vnet;
  size_t headers = OffsetsOf(t).payload;
  std::memcpy(frame.headers.data(), f.data(), headers);
  frame.header_bytes = static_cast<uint16_t>(headers);
  frame.payload_bytes = static_cast<uint32_t>(f.size() - headers);
  size_t at = headers;
  for (size_t i = 0; i < pieces && at < f.size(); ++i) {
    size_t n = i + 1 == pieces ? f.size() - at : (f.size() - headers) / pieces;
    frame.pieces[frame.piece_count++] = {f.data() + at, n};
    at += n;
  }
  return frame;
}

// Both checksums of a complete frame hold.
inline bool ChecksumsHold(const FrameBytes& f, const TcpFields& t) {
  TcpOffsets at = OffsetsOf(t);
  if (!t.ipv6 && SumOf(f, at.ip, at.ip + 20) != 0xffff) return false;
  return SumOf(f, at.tcp, f.size(), PseudoSum(f, t, f.size() - at.tcp)) == 0xffff;
}

}  // namespace ustcp
