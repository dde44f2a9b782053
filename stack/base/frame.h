// Frames as they cross the seam between the stack and a device. Segmentation and checksum offload are part of the
// model: a frame handed over by the device may be a merged one of up to 64 KiB with a partial checksum, and a frame the
// stack hands out may ask the device to cut it and to fill in the checksum (virtio 1.2, 5.1.6; linux/virtio_net.h).
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "stack/base/bytes.h"

namespace ustcp {

struct Buf;
struct TupleNode;

// The header in front of every frame on a TAP with IFF_VNET_HDR and a header size of 10 bytes, little endian.
struct [[gnu::packed]] VirtioNetHeader {
  static constexpr uint8_t kNeedsChecksum = 1;
  static constexpr uint8_t kDataValid = 2;
  static constexpr uint8_t kGsoNone = 0;
  static constexpr uint8_t kGsoTcpV4 = 1;
  static constexpr uint8_t kGsoTcpV6 = 4;
  static constexpr uint8_t kGsoEcn = 0x80;

  uint8_t flags = 0;
  uint8_t gso_type = kGsoNone;
  uint16_t header_length = 0;    // bytes of all headers, a hint for segmentation
  uint16_t gso_size = 0;         // payload bytes per segment
  uint16_t checksum_start = 0;   // from the start of the Ethernet header
  uint16_t checksum_offset = 0;  // from checksum_start
};
static_assert(sizeof(VirtioNetHeader) == 10);

// The largest frame a TAP can deliver: 64 KiB of IP packet plus an Ethernet header with one VLAN tag.
inline constexpr size_t kMaxFrameBytes = 65535 + 18;

// A received frame. `bytes` begin at the Ethernet header.
struct RxFrame {
  VirtioNetHeader vnet;
  Bytes bytes;
  // The arena buffer that holds `bytes`, or null where the caller keeps them (tests, replay): then the stack copies what
  // it wants to keep. When set, the stack may take the buffer: it then sets `buffer` to null, and the caller must not
  // touch the bytes any more.
  Buf* buffer = nullptr;
  // What the first look at the frame found in the table of connections. Only a hint: its slot may serve another one by now.
  TupleNode* node = nullptr;
};

// A frame to transmit: virtio header and protocol headers in one array, payload gathered from arena memory. The payload
// pointers stay valid until the shard's lock is dropped.
struct TxFrame {
  static constexpr size_t kMaxHeaderBytes = 14 + 40 + 60;  // Ethernet, IPv6, TCP with options
  static constexpr size_t kMaxPieces = 20;

  VirtioNetHeader vnet;
  std::array<std::byte, kMaxHeaderBytes> headers;
  uint16_t header_bytes = 0;  // used bytes of `headers`
  uint16_t piece_count = 0;
  uint32_t payload_bytes = 0;  // sum over the pieces
  std::array<iovec, kMaxPieces> pieces;
  // An arena buffer whose bytes the pieces point to and that only this frame uses (replies, queued frames); freed by
  // ReleaseTransmitted (stack/stack.h) once the batch was written. Null for data gathered from a send queue.
  Buf* owned = nullptr;
};

// Frames of one turn. Memory belongs to the driver; reused for every turn.
struct TxBatch {
  static constexpr size_t kCapacity = 64;
  size_t count = 0;
  std::array<TxFrame, kCapacity> frames;

  bool full() const { return count == kCapacity; }
};

// What a device can do, and its link parameters.
struct DeviceInfo {
  std::array<uint8_t, 6> mac{};   // the host's own address on this link
  uint32_t mtu = 1500;            // bytes of IP packet
  bool checksum_offload = false;  // partial checksums accepted on transmit, delivered on receive
  bool tso4 = false;
  bool tso6 = false;
};

}  // namespace ustcp
