// Writes frames to a capture file (pcap with nanoseconds, link type Ethernet). Works without libpcap, which cannot be
// linked into the preloaded object. Partial checksums are completed in the file; TSO and merged frames stay whole, as a
// capture on a device with offloads shows them. Not a hot path: one buffer, written out when full, on Flush and at the
// end.
#pragma once

#include <cstddef>
#include <cstdint>

#include "io/device/tap.h"
#include "stack/base/frame.h"
#include "stack/time/time.h"

namespace ustcp {

struct CaptureOptions {
  uint32_t snap_bytes = 262144;     // bytes kept of each frame
  uint64_t max_bytes = 1ull << 30;  // the file stops growing here; what comes later is counted only
};

class Capture {
 public:
  Capture() = default;
  ~Capture() { Close(); }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  // Creates or truncates the file, which has to be a private one (io/base/trusted_file.h). The descriptor is moved high and listed (io/base/owned_fds.h).
  IoError Open(const char* path, const CaptureOptions& options) noexcept;
  // Writes to a descriptor the caller opened and hands over.
  IoError OpenFd(int fd, const CaptureOptions& options) noexcept;
  bool is_open() const noexcept { return fd_ >= 0; }

  // `now` is a monotonic instant; the file shows wall-clock time, by the offset between both when it was opened.
  void OnReceive(const RxFrame& frame, Instant now) noexcept;
  void OnTransmit(const TxFrame& frame, Instant now) noexcept;
  void Flush() noexcept;
  void Close() noexcept;

  uint64_t frames_written() const noexcept { return frames_; }
  uint64_t frames_left_out() const noexcept { return left_out_; }
  // errno number of the write that failed and ended the capture; 0 while it is well.
  int error() const noexcept { return error_; }

 private:
  std::byte* BeginRecord(size_t frame_bytes, Instant now, size_t* kept) noexcept;

  static constexpr size_t kBufferBytes = 512 * 1024;

  int fd_ = -1;
  int error_ = 0;
  CaptureOptions options_;
  int64_t wall_offset_ns_ = 0;
  std::byte* buffer_ = nullptr;  // a mapping of its own
  size_t used_ = 0;
  uint64_t file_bytes_ = 0;
  uint64_t frames_ = 0;
  uint64_t left_out_ = 0;
};

}  // namespace ustcp
