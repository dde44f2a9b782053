// FrameSegmenter and CompleteChecksum over arbitrary virtio headers and frames: no access outside, pieces within bounds,
// every payload byte once. The input is the 10-byte virtio header followed by the frame.
#include <cstdint>
#include <cstring>
#include <memory>

#include "io/device/segment.h"
#include "stack/base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ustcp;
  VirtioNetHeader vnet;
  if (size < sizeof vnet) return 0;
  std::memcpy(&vnet, data, sizeof vnet);
  size_t n = size - sizeof vnet;
  // Exact sizes, so that the address sanitizer sees a step over the edge.
  auto frame = std::make_unique<std::byte[]>(n);
  std::memcpy(frame.get(), data + sizeof vnet, n);
  CompleteChecksum(vnet, {frame.get(), n});

  FrameSegmenter segmenter(vnet, {frame.get(), n});
  size_t room = n + 1;
  auto scratch = std::make_unique<std::byte[]>(room);
  size_t pieces = 0;
  while (size_t piece = segmenter.Next({scratch.get(), room})) {
    USTCP_CHECK(segmenter.ok() && piece <= n);
    ++pieces;
  }
  USTCP_CHECK(pieces <= n + 1);
  return 0;
}
