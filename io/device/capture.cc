#include "io/device/capture.h"

#include <string.h>
#include <time.h>

#include <cerrno>

#include "io/base/clock.h"
#include "io/base/owned_fds.h"
#include "io/base/report.h"
#include "io/base/sys.h"
#include "io/base/trusted_file.h"
#include "io/device/segment.h"

namespace ustcp {
namespace {

// The file format of pcap-savefile(5), in this machine's byte order.
struct FileHeader {
  uint32_t magic = 0xa1b23c4d;  // times in nanoseconds
  uint16_t major = 2;
  uint16_t minor = 4;
  int32_t zone = 0;
  uint32_t accuracy = 0;
  uint32_t snap_bytes = 0;
  uint32_t link_type = 1;  // Ethernet
};
static_assert(sizeof(FileHeader) == 24);

struct RecordHeader {
  uint32_t seconds;
  uint32_t nanoseconds;
  uint32_t kept_bytes;
  uint32_t frame_bytes;
};
static_assert(sizeof(RecordHeader) == 16);

constexpr size_t kMaxRecordBytes = sizeof(RecordHeader) + kMaxFrameBytes + TxFrame::kMaxHeaderBytes;

}  // namespace

IoError Capture::Open(const char* path, const CaptureOptions& options) noexcept {
  int fd = -1;
  if (IoError e = OpenPrivateFile(path, PrivateFile::kTruncate, &fd))
    return MakeError(e.code, "no capture: %.200s", e.message);
  return OpenFd(fd, options);
}

IoError Capture::OpenFd(int fd, const CaptureOptions& options) noexcept {
  Close();
  static_assert(kBufferBytes >= 2 * kMaxRecordBytes);
  fd = OwnedFds::Adopt(fd, OwnedFdKind::kShared);
  if (fd < 0) return MakeError(-fd, "no descriptor left for the capture file: raise the limit on open files");
  void* p = sys::Map(nullptr, kBufferBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (sys::MapFailed(p)) {
    OwnedFds::Close(fd);
    return MakeError(ENOMEM, "no memory for the capture: raise the limit on address space");
  }
  fd_ = fd;
  buffer_ = static_cast<std::byte*>(p);
  options_ = options;
  error_ = 0;
  frames_ = left_out_ = 0;
  timespec wall;
  clock_gettime(CLOCK_REALTIME, &wall);
  wall_offset_ns_ = static_cast<int64_t>(wall.tv_sec) * 1'000'000'000 + wall.tv_nsec - NanosOf(MonotonicNow());
  FileHeader header;
  header.snap_bytes = options.snap_bytes;
  memcpy(buffer_, &header, sizeof header);
  used_ = file_bytes_ = sizeof header;
  return {};
}

// Makes room for a record and writes its header. Null when the frame is to be left out.
std::byte* Capture::BeginRecord(size_t frame_bytes, Instant now, size_t* kept) noexcept {
  if (fd_ < 0) return nullptr;
  *kept = frame_bytes < options_.snap_bytes ? frame_bytes : options_.snap_bytes;
  size_t record = sizeof(RecordHeader) + *kept;
  // The whole frame is built in the buffer, and cut afterwards.
  size_t room = sizeof(RecordHeader) + frame_bytes;
  if (error_ != 0 || room > kMaxRecordBytes || file_bytes_ + record > options_.max_bytes) {
    ++left_out_;
    return nullptr;
  }
  if (used_ + room > kBufferBytes) Flush();
  int64_t wall = NanosOf(now) + wall_offset_ns_;
  RecordHeader header{static_cast<uint32_t>(wall / 1'000'000'000), static_cast<uint32_t>(wall % 1'000'000'000),
                      static_cast<uint32_t>(*kept), static_cast<uint32_t>(frame_bytes)};
  memcpy(buffer_ + used_, &header, sizeof header);
  file_bytes_ += record;
  ++frames_;
  std::byte* at = buffer_ + used_ + sizeof header;
  used_ += record;
  return at;
}

void Capture::OnReceive(const RxFrame& frame, Instant now) noexcept {
  size_t kept = 0;
  std::byte* at = BeginRecord(frame.bytes.size(), now, &kept);
  if (at == nullptr) return;
  memcpy(at, frame.bytes.data(), frame.bytes.size());
  CompleteChecksum(frame.vnet, {at, frame.bytes.size()});
}

void Capture::OnTransmit(const TxFrame& frame, Instant now) noexcept {
  size_t total = frame.header_bytes + frame.payload_bytes;
  size_t kept = 0;
  std::byte* at = BeginRecord(total, now, &kept);
  if (at == nullptr) return;
  FlattenFrame(frame, {at, total});
  CompleteChecksum(frame.vnet, {at, total});
}

void Capture::Flush() noexcept {
  if (fd_ < 0) return;
  size_t done = 0;
  while (done < used_ && error_ == 0) {
    ssize_t n = sys::Write(fd_, buffer_ + done, used_ - done);
    if (n == -EINTR) continue;
    if (n <= 0)
      error_ = n < 0 ? static_cast<int>(-n) : EIO;
    else
      done += static_cast<size_t>(n);
  }
  used_ = 0;
}

void Capture::Close() noexcept {
  if (fd_ < 0) return;
  Flush();
  OwnedFds::Close(fd_);
  sys::Unmap(buffer_, kBufferBytes);
  fd_ = -1;
  buffer_ = nullptr;
}

}  // namespace ustcp
