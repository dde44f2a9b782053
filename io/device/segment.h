// Software segmentation: what a device with TSO does to a frame, for devices without and for tests. Also completes
// partial checksums.
#pragma once

#include <cstddef>
#include <cstdint>

#include "stack/base/bytes.h"
#include "stack/base/frame.h"

namespace ustcp {

// The RFC 1071 sum of `bytes`, folded to 16 bits, not complemented, added to `sum` (of an even number of bytes before).
uint32_t ChecksumAdd(uint32_t sum, ConstBytes bytes) noexcept;
uint16_t ChecksumFold(uint32_t sum) noexcept;

// Flattens a frame into `out`, Ethernet header first. Returns the bytes written; 0 when it does not fit.
size_t FlattenFrame(const TxFrame& frame, Bytes out) noexcept;

// Fills in the checksum that `vnet` leaves to the device. False when the offsets lie outside the frame: nothing is
// written.
bool CompleteChecksum(const VirtioNetHeader& vnet, Bytes frame) noexcept;

// Cuts one flattened frame (Ethernet header first, one VLAN tag allowed) as its virtio header asks: each piece gets the
// headers, its share of the payload and complete checksums. A frame that asks for no segmentation comes out once.
//   FrameSegmenter segmenter(vnet, frame);
//   while (size_t n = segmenter.Next(scratch)) ...
// ok() is false, and nothing comes out, when the frame is not what its header says (not TCP over the IP version named,
// offsets outside). Scratch memory must hold the headers and gso_size bytes.
class FrameSegmenter {
 public:
  FrameSegmenter(const VirtioNetHeader& vnet, ConstBytes frame) noexcept;
  bool ok() const noexcept { return ok_; }
  // The next piece, built in `out`; its size, or 0 at the end or when `out` is too small.
  size_t Next(Bytes out) noexcept;

 private:
  VirtioNetHeader vnet_;
  ConstBytes frame_;
  size_t network_offset_ = 0;    // of the IP header
  size_t transport_offset_ = 0;  // of the TCP header
  size_t header_bytes_ = 0;      // up to the payload
  size_t position_ = 0;          // payload handed out so far
  uint16_t index_ = 0;           // pieces handed out so far
  bool ipv6_ = false;
  bool cut_ = false;
  bool done_ = false;
  bool ok_ = false;
};

}  // namespace ustcp
